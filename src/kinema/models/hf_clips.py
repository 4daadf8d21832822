"""Video transformers of the library transformers, with timm's interface and their own layer names.

The library is optional (extra ``hf``) and loaded where a network is built. VideoMAE: arXiv
2203.12602; TimeSformer: 2102.05095; ViViT: 2103.15691; V-JEPA 2: 2506.09985.

Shapes: B clips, C channels, T images, H and W pixels, F features, K classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from kinema.errors import KinemaError, UsageError
from kinema.models.clip_network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINETICS_MEAN,
    KINETICS_STD,
    describe_input,
)
from kinema.models.clip_shape import ClipShape

HUB = "hf:"  # a backbone hf:ORG/NAME is a checkpoint of the hub
_HALF = (0.5, 0.5, 0.5)
# What the libraries' configurations call the three numbers that a shape gives.
_CHANNELS = ("num_channels", "in_chans")
_FRAMES = ("num_frames", "frames_per_clip")
_SIDE = ("image_size", "crop_size")


@dataclass(frozen=True, kw_only=True)
class HubNetwork:
    """A published checkpoint: where it is, and what is needed to build it without fetching."""

    repository: str
    kind: str  # model type of transformers
    frames: int
    size: int
    data: str  # what its weights were trained for
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    config: Mapping[str, Any] = field(default_factory=dict)  # where not as by default


def _videomae(size: str, width: int, layers: int, heads: int) -> HubNetwork:
    return HubNetwork(
        repository=f"MCG-NJU/videomae-{size}-finetuned-kinetics",
        kind="videomae",
        frames=16,
        size=224,
        data="Kinetics-400",
        config={
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
        },
    )


HUB_NETWORKS: dict[str, HubNetwork] = {
    "videomae_small": _videomae("small", 384, 12, 6),
    "videomae_base": _videomae("base", 768, 12, 12),
    "videomae_large": _videomae("large", 1024, 24, 16),
    "videomae_huge": _videomae("huge", 1280, 32, 16),
    "timesformer_base": HubNetwork(
        repository="facebook/timesformer-base-finetuned-k400",
        kind="timesformer",
        frames=8,
        size=224,
        data="Kinetics-400",
        mean=KINETICS_MEAN,
        std=KINETICS_STD,
    ),
    "vivit_base": HubNetwork(
        repository="google/vivit-b-16x2-kinetics400",
        kind="vivit",
        frames=32,
        size=224,
        data="Kinetics-400",
        mean=_HALF,
        std=_HALF,
    ),
    "vjepa2_large": HubNetwork(
        repository="facebook/vjepa2-vitl-fpc16-256-ssv2",
        kind="vjepa2",
        frames=16,
        size=256,
        data="SSv2",
    ),
}
WITH_DROP_PATH = ("timesformer_base", "vjepa2_large")


class HubClips(nn.Module):
    """A network for video classification; its layers keep their names, the classifier is new.

    Args:
        whole: of transformers, with the number of classes that is wanted.
        shape: what it was built for.
        mean: of the RGB images of its published weights.
        std: likewise.
        name: for messages.
        usual: images and side of the images that its published weights saw.
    """

    def __init__(
        self,
        whole: nn.Module,
        shape: ClipShape,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        name: str,
        usual: tuple[int, int],
    ) -> None:
        super().__init__()
        classifier = getattr(whole, "classifier", None)
        if not isinstance(classifier, nn.Linear):
            raise UsageError(f"'{name}' is no network for video classification that is known here.")
        whole.classifier = nn.Identity()
        if hasattr(whole, "vjepa2"):  # its predictor has no part in classification
            cast(nn.Module, whole.vjepa2).predictor = nn.Identity()
        self._whole = (whole,)  # a tuple: its layers are registered below, by their own names
        for child, layer in whole.named_children():
            if child != "classifier":
                self.add_module(child, layer)
        self.drop = nn.Dropout(shape.dropout)
        self.classifier = classifier
        self.head_hidden_size = classifier.in_features
        self._name, self._size = name, (shape.in_channels, shape.frames, shape.size, shape.size)
        first = next(
            child
            for child, layer in self.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Conv3d)
        )
        frames, side = usual
        self.pretrained_cfg = {
            **describe_input(mean=mean, std=std, first_conv=first),
            "input_size": (3, frames, side, side),
        }

    def train(self, mode: bool = True) -> "HubClips":
        """Set training or evaluation mode, also of the network that calls the layers."""
        self._whole[0].training = mode
        super().train(mode)
        return self

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the features before the classifier, (B, F)."""
        if tuple(x_BCTHW.shape[1:]) != self._size:
            channels, frames, side, _ = self._size
            raise KinemaError(
                f"This '{self._name}' takes {frames} images of {channels} channels and {side} x "
                f"{side} pixels, but was given {tuple(x_BCTHW.shape[1:])} (channels, images, "
                "height, width): use square crops of the size that it was made for."
            )
        whole = self._whole[0]
        inputs = {cast(str, whole.main_input_name): x_BCTHW.transpose(1, 2)}
        features: Tensor = whole(**inputs).logits
        return features

    def forward_head(self, x_BF: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the features (B, F) with `pre_logits`."""
        dropped: Tensor = self.drop(x_BF)
        return dropped if pre_logits else self.classifier(dropped)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.classifier

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCTHW))


def short_name(name: str, shape: ClipShape, /) -> HubClips:
    """Build a network of `HUB_NETWORKS` without fetching anything.

    Raises:
        KinemaError: transformers is absent, or a size that the network cannot have.
    """
    published = HUB_NETWORKS[name]
    sizes = {key: published.frames for key in _FRAMES} | {key: published.size for key in _SIDE}
    config = transformers(name).AutoConfig.for_model(published.kind, **published.config)
    _set(config, sizes)
    return _build(name, config, shape, mean=published.mean, std=published.std)


def from_hub(name: str, shape: ClipShape, /) -> HubClips:
    """Build the network of a checkpoint ``hf:ORG/NAME`` (or ``hf:FOLDER``), without its weights.

    Raises:
        KinemaError: transformers is absent, the checkpoint is out of reach, or it is of
            another kind.
    """
    library = transformers(name)
    repository = name.removeprefix(HUB)
    try:
        config = library.AutoConfig.from_pretrained(repository)
        mean, std = _preprocessing(library, repository)
    except (OSError, ValueError) as error:
        raise out_of_reach(name, error) from error
    return _build(name, config, shape, mean=mean, std=std)


def transformers(name: str) -> ModuleType:
    """Return the library.

    Raises:
        KinemaError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise KinemaError(
            f"The network '{name}' needs transformers: pip install 'kinema[hf]'."
        ) from error


def out_of_reach(name: str, error: Exception) -> KinemaError:
    """Return the error for a checkpoint that cannot be had."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return KinemaError(
        f"The checkpoint of '{name}' is not in the cache and could not be fetched ({first}). Check "
        "the name; without a network, fetch it elsewhere and give model.backbone=hf:FOLDER, or "
        f"choose one of {', '.join(HUB_NETWORKS)} with model.pretrained=false."
    )


def _build(
    name: str,
    config: Any,  # noqa: ANN401
    shape: ClipShape,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> HubClips:
    _check_size(name, config, shape)
    usual = (_get(config, _FRAMES, shape.frames), _get(config, _SIDE, shape.size))
    values = (shape.in_channels, shape.frames, shape.size)
    for keys, value in zip((_CHANNELS, _FRAMES, _SIDE), values, strict=True):
        _set(config, dict.fromkeys(keys, value))
    config.num_labels = shape.num_classes
    if shape.drop_path:
        config.drop_path_rate = shape.drop_path
    library = transformers(name)
    try:
        whole = library.AutoModelForVideoClassification.from_config(config)
    except ValueError as error:
        raise UsageError(
            f"'{name}' is of the kind '{config.model_type}', which transformers does not use for "
            "video classification: choose a checkpoint of videomae, timesformer, vivit or vjepa2."
        ) from error
    return HubClips(whole, shape, mean=mean, std=std, name=name, usual=usual)


def _set(config: Any, values: Mapping[str, Any]) -> None:  # noqa: ANN401
    for key, value in values.items():
        if hasattr(config, key):
            setattr(config, key, value)


def _get(config: Any, keys: tuple[str, ...], otherwise: int) -> int:  # noqa: ANN401
    found = [getattr(config, key) for key in keys if hasattr(config, key)]
    return int(found[0]) if found and isinstance(found[0], int) else otherwise


def _check_size(name: str, config: Any, shape: ClipShape) -> None:  # noqa: ANN401
    tube = getattr(config, "tubelet_size", 1)
    time, side = (tube[0], tube[1]) if isinstance(tube, list | tuple) else (tube, 0)
    side = side or getattr(config, "patch_size", 16)
    if shape.frames % time or shape.size % side:
        raise KinemaError(
            f"'{name}' cannot be built for {shape.frames} images of {shape.size} pixels: it takes "
            f"a multiple of {time} images (data.stack) with a side that {side} divides "
            "(data.crop)."
        )


def _preprocessing(
    library: ModuleType, repository: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std, for images of 0 to 1, from the image processor's configuration."""
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = library.utils.cached_file(
            repository, name, _raise_exceptions_for_missing_entries=False
        )
        if path:
            said = json.loads(Path(path).read_text(encoding="utf-8"))
            return mean_and_std(said)
    return IMAGENET_MEAN, IMAGENET_STD


def mean_and_std(said: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for images of 0 to 1 from an image processor's settings.

    A scale other than 1/255, and ViViT's shift by -1 (`offset`), are part of them.
    """
    normalises = said.get("do_normalize", True)
    mean = tuple(said.get("image_mean", IMAGENET_MEAN)) if normalises else (0.0, 0.0, 0.0)
    std = tuple(said.get("image_std", IMAGENET_STD)) if normalises else (1.0, 1.0, 1.0)
    shift = 1.0 if said.get("offset") else 0.0
    scale = 255 * said.get("rescale_factor", 1 / 127.5 if shift else 1 / 255)
    return tuple((shift + value) / scale for value in mean), tuple(value / scale for value in std)


HF_CLIPS = {name: partial(short_name, name) for name in HUB_NETWORKS}
