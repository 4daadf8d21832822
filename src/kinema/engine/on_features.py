"""Training of a consensus on stored features: the frozen networks before it are not run.

The checkpoint is that of the whole network, as if it had seen the videos.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.config import Config
from kinema.data.feature_clips import FeatureClips, open_features
from kinema.data.items import ClipItem
from kinema.engine.checkpoint import read_info, weights_hash
from kinema.errors import UsageError
from kinema.models.video_network import VideoNetwork
from kinema.streams import has_second, stream_configs

_VIDEOS_TOGETHER = 64
# What decides the images of a snippet, and so the features.
_OF_IMAGES = (
    "modality",
    "stack",
    "interval",
    "short",
    "spread",
    "fps",
    "resize",
    "crop",
    "flow_algorithm",
    "flow_bound",
    "flow_stride",
    "flow_gray",
    "flow_warp",
)


def check_on_features(config: Config) -> None:
    """Refuse settings that stored features cannot follow.

    Raises:
        UsageError: says which.
    """
    model, augment = config.model, config.augment
    if model.finetune_from != "consensus":
        raise UsageError(
            "data.features trains the consensus alone: set model.finetune_from=consensus, and "
            "model.weights to the checkpoint that the features were extracted with."
        )
    if has_second(config) and config.second.fusion != "features":
        raise UsageError(
            f"data.features with two streams is for second.fusion=features, not "
            f"{config.second.fusion}."
        )
    for section, own in zip(("model", "second"), stream_configs(config), strict=False):
        if not Path(own.model.weights).is_file():
            raise UsageError(
                f"{section}.weights={own.model.weights}: give the checkpoint file that the "
                f"{own.data.modality} features were extracted with."
            )
        _check_same_images(own)
    if augment.mixup or augment.cutmix or augment.repeats > 1:
        raise UsageError(
            "data.features are stored as they are: augment.mixup, cutmix and repeats cannot be "
            "applied to them. Extract several random passes instead (--augment --passes)."
        )


def _check_same_images(config: Config) -> None:
    """Refuse other images than those of the network that the features are of."""
    path, data = Path(config.model.weights), config.data
    known = read_info(path).config.data
    for name in _OF_IMAGES:
        if getattr(data, name) != getattr(known, name):
            raise UsageError(
                f"The {data.modality} features are of {path}, which sees images with "
                f"{name}={getattr(known, name)}, not {getattr(data, name)}: set the same "
                f"(data.{name}, or second.{name} of a second stream)."
            )


def feature_clips(config: Config, items: Sequence[ClipItem], part: str) -> FeatureClips:
    """Return the stored features of a part as clips.

    Raises:
        KinemaError: they are not there, or do not fit.
    """
    streams = [
        open_features(
            Path(config.data.features),
            own.data.modality,
            part,
            checkpoint=weights_hash(Path(own.model.weights)),
        )
        for own in stream_configs(config)
    ]
    return FeatureClips(
        streams,
        [item.id for item in items],
        num_segments=config.data.num_segments,
        seed=config.train.seed,
    )


def learning_part(network: VideoNetwork) -> nn.Module:
    """Return what is trained on features: (B, N, D) -> (B, K)."""
    return network.consensus


@torch.inference_mode()
def feature_logits(head: nn.Module, clips: FeatureClips, *, device: torch.device) -> Tensor:
    """Return the logits of all videos, the mean over their views, (len, K)."""
    was_training = head.training
    head.eval()
    found = []
    for first in range(0, len(clips), _VIDEOS_TOGETHER):
        rows = range(first, min(first + _VIDEOS_TOGETHER, len(clips)))
        x_MVND = torch.stack([clips.views(row) for row in rows]).to(device)
        logits = head(x_MVND.flatten(0, 1)).float()
        found.append(logits.reshape(*x_MVND.shape[:2], -1).mean(1).cpu())
    head.train(was_training)
    return torch.cat(found)
