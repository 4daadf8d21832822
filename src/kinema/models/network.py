"""The network: one 2D or 3D backbone over a video's snippets, and a consensus of them.

Shapes: B videos, N snippets, T images per snippet, C channels, H and W pixels, K classes.
"""

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn

from kinema.config import ModelConfig, Normalise, TemporalHead
from kinema.errors import KinemaError, UsageError
from kinema.models.backbones import create_backbone
from kinema.models.clip_backbones import create_clip_backbone, is_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.consensus import (
    JOINING,
    Reads,
    build_consensus,
    consensus_reads,
    consensus_width,
)
from kinema.models.feature_maps import drop_classifier, keep_up_to_map, map_positions
from kinema.models.freezing import batch_norms, part_before
from kinema.models.hidden_flow import HiddenFlow, check_hidden
from kinema.models.modality import Modality, get_modality
from kinema.models.temporal_heads import build_temporal_head
from kinema.models.temporal_shift import TemporalShift, add_shift
from kinema.models.tle import TemporalLinearEncoding


class SnippetNetwork(nn.Module):
    """Scores of videos from uint8 snippets; everything after uint8 happens on its own device.

    `backbone` keeps timm's split (``forward_features``, ``forward_head``); `feature_dim` is the
    width before its classifier. A 2D backbone sees the images of a snippet as one image of T * C
    channels, a 3D one sees them in time.

    Args:
        backbone: network with logits (or what the consensus takes) as output.
        modality: what the images are.
        stack: images per snippet after the modality's own preparation.
        consensus: (B, N, what it reads) -> (B, K).
        reads: what the consensus takes of every snippet: outputs (K), features before the
            classifier (D), or the feature map (positions, channels).
        normalise: rule for `Modality.prepare`.
        is_clip: the backbone is 3D, (B, C, T, H, W).
        input_bn: BatchNorm without scale and shift on the input channels, behind `prepare`
            (epsilon 0.001 and momentum 0.99, as in the Keras system of Elkomy).

    `joined` says how many snippets the network must see together; 1: each by itself.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        modality: Modality,
        stack: int,
        consensus: nn.Module,
        reads: Reads = "outputs",
        normalise: Normalise = "standard",
        is_clip: bool = False,
        input_bn: bool = False,
    ) -> None:
        super().__init__()
        self.modality, self.stack, self.normalise = modality, stack, normalise
        self.is_clip, self.reads, self.joined = is_clip, reads, 1
        self._shift: TemporalShift | None = None
        self.input_bn: nn.Module = nn.Identity()
        if input_bn:
            channels = modality.channels_per_image if is_clip else modality.input_channels(stack)
            kind = nn.BatchNorm3d if is_clip else nn.BatchNorm2d
            self.input_bn = kind(channels, eps=1e-3, momentum=0.01, affine=False)
        self.backbone, self.consensus = backbone, consensus
        self.hidden: HiddenFlow | None = None
        # A tuple: torch does not register them a second time.
        self._frozen: tuple[nn.Module, ...] = ()

    @property
    def snippet_shape(self) -> tuple[int, int]:
        """Images and channels of a snippet as they are read, (T, C)."""
        if self.hidden:
            return self.stack + 1, 3
        return self.modality.images_read(self.stack), self.modality.channels_per_image

    @property
    def feature_dim(self) -> int:
        """Width of the features before the classifier."""
        return cast(int, self.backbone.head_hidden_size)

    def freeze(
        self, layers: tuple[nn.Module, ...], parameters: tuple[nn.Parameter, ...] = ()
    ) -> None:
        """Let layers keep their statistics and parameters, also under ``train()``.

        Args:
            layers: those of the backbone.
            parameters: others that stay as they are and belong to none of these.
        """
        self._frozen = layers
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.train(self.training)

    def join(self, num_snippets: int, *, shift: TemporalShift | None = None) -> None:
        """Say that the network relates the snippets of a video (TSM, TRN, fusion over time).

        Args:
            num_snippets: how many it sees together.
            shift: what shifts channels between them inside the backbone (TSM).
        """
        self.joined, self._shift = num_snippets, shift

    def see_rgb(self, hidden: HiddenFlow) -> None:
        """Let a network of flow estimate it itself, from RGB frames (one more than pairs)."""
        self.hidden = hidden

    def train(self, mode: bool = True) -> "SnippetNetwork":
        """Set training or evaluation mode; frozen layers stay frozen."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval().requires_grad_(False)
        return self

    def channels_last(self) -> None:
        """Lay the weights out with the channels innermost, which convolutions compute fastest."""
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self.parameters():
            if parameter.ndim in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])

    def snippet_logits(self, x_BNTCHW: Tensor) -> Tensor:
        """Return what the consensus reads of every snippet: logits (B, N, K), unless it is another.

        Args:
            x_BNTCHW: uint8 images, T and C of `snippet_shape`.

        Raises:
            KinemaError: T or C is not what the network was made for.
        """
        self._check(x_BNTCHW)
        x_BNTCHW = x_BNTCHW.to(next(self.parameters()).device, non_blocking=True)
        images_BNTCHW = self.hidden(x_BNTCHW) if self.hidden else x_BNTCHW
        x = self.modality.prepare(images_BNTCHW, normalise=self.normalise)
        num_videos, num_snippets = x.shape[:2]
        x = x.flatten(0, 1)
        if self._shift:
            self._shift.num_snippets = num_snippets
        x_folded = self.input_bn(x.transpose(1, 2) if self.is_clip else x.flatten(1, 2))
        found = self._read(x_folded)
        return found.reshape(num_videos, num_snippets, *found.shape[1:])

    def _read(self, x_folded: Tensor) -> Tensor:
        if self.reads == "maps":
            return map_positions(self.backbone, x_folded)
        if self.reads == "features":
            found = self.backbone.forward_features(x_folded)  # type: ignore[operator]
            found = self.backbone.forward_head(found, pre_logits=True)  # type: ignore[operator]
        else:
            found = self.backbone(x_folded)
        return cast(Tensor, found).flatten(1)

    def forward(self, x_BNTCHW: Tensor) -> Tensor:
        """Return the logits of the videos after the consensus, (B, K)."""
        out: Tensor = self.consensus(self.snippet_logits(x_BNTCHW))
        return out

    def _check(self, x_BNTCHW: Tensor) -> None:
        extra = 1 if self.hidden else self.modality.extra_frames
        images: int | str
        images, channels = self.snippet_shape
        fits = x_BNTCHW.ndim == 6 and x_BNTCHW.shape[3] == channels
        if self.is_clip:  # of any length, if the backbone can
            images = "T"
            fits = fits and x_BNTCHW.shape[2] > extra
        else:
            fits = fits and x_BNTCHW.shape[2] == images
        if not fits:
            raise KinemaError(
                f"This {self.modality.name} network takes {images} images of {channels} channels "
                f"per snippet, (B, N, {images}, {channels}, H, W), but was given "
                f"{tuple(x_BNTCHW.shape)}: use the modality and stack that it was made for."
            )


def build_network(
    model: ModelConfig,
    *,
    modality: str,
    stack: int,
    num_classes: int,
    num_segments: int | None = None,
    crop: int = 224,
) -> SnippetNetwork:
    """Build the network of a configuration, without fetching or reading any weights.

    The backbone starts as its authors initialise it; `kinema.weights.pretrained.initialise` puts
    weights in. With ``normalise=standard``, rgb takes the mean and std that the backbone's
    published weights were trained with (ImageNet's, but for some such as Xception's 0.5).

    Args:
        model: the section `model` of a configuration.
        modality: rgb, flow or rgbdiff.
        stack: images per snippet.
        num_classes: outputs.
        num_segments: snippets per video in training; needed for ``consensus=weighted`` and for
            networks that see several snippets together.
        crop: side of the images, pixels; networks with position embeddings are built for it.

    Raises:
        UsageError: an unknown backbone or modality, or settings that this backbone has not.
        KinemaError: values that do not go together.
    """
    images = get_modality(modality)
    _check_stack(model, stack)
    check_hidden(model, modality=modality, stack=stack)
    if model.motion:  # a network of flow, that sees RGB
        images, stack = get_modality("flow"), stack - 1
    outputs = consensus_width(model.consensus, num_classes=num_classes)
    backbone = _backbone(model, images, stack=stack, outputs=outputs, crop=crop)
    consensus = _consensus(
        model, backbone, images=images, stack=stack, crop=crop, sizes=(num_segments, num_classes)
    )
    published = getattr(backbone, "pretrained_cfg", {})
    if images.name == "rgb" and published.get("mean") and published.get("std"):
        mean, std = tuple(published["mean"]), tuple(published["std"])
        images = dataclasses.replace(images, mean=mean, std=std)
    network = SnippetNetwork(
        backbone=backbone,
        modality=images,
        stack=stack,
        consensus=consensus,
        reads=consensus_reads(model.consensus),
        normalise=model.normalise,
        is_clip=is_clip_backbone(model.backbone),
        input_bn=model.input_bn,
    )
    if model.motion:
        network.see_rgb(HiddenFlow(model.motion))
    num_snippets = num_segments or 1
    shift = _shift(model, backbone, num_snippets)
    network.join(joined_snippets(model, num_snippets), shift=shift)
    if model.finetune_from == "consensus":
        network.freeze(_all_before_consensus(network))
    else:
        layers, parameters = _frozen(model, backbone)
        if network.hidden and model.finetune_from:  # it comes before all of the backbone
            layers = (network.hidden, *layers)
        network.freeze(layers, parameters)
    return network


def _check_stack(model: ModelConfig, stack: int) -> None:
    if stack < 1:
        raise KinemaError(f"data.stack={stack} is not possible: a snippet has at least 1 image.")
    if stack < 2 and is_clip_backbone(model.backbone):
        raise UsageError(
            f"'{model.backbone}' is a 3D network, but data.stack={stack}: a clip has at least 2 "
            "images (16 are usual)."
        )


def joined_snippets(model: ModelConfig, num_segments: int) -> int:
    """Return how many snippets of a video the network must see together, else 1."""
    return num_segments if model.shift != "none" or model.consensus in JOINING else 1


def _backbone(
    model: ModelConfig, images: Modality, *, stack: int, outputs: int, crop: int
) -> nn.Module:
    dropout = model.dropout
    if consensus_reads(model.consensus) != "outputs":  # the last value is the consensus's
        dropout = (*dropout[:-1], 0.0) if len(dropout) > 1 else ()
    if is_clip_backbone(model.backbone):
        shape = ClipShape(
            in_channels=images.channels_per_image,
            num_classes=outputs,
            frames=stack,
            size=crop,
            drop_path=model.drop_path,
            nonlocal_blocks=model.nonlocal_blocks,
            nonlocal_form=model.nonlocal_form,
        )
        return create_clip_backbone(model.backbone, shape, dropout=dropout)
    _refuse_clip_settings(model)
    return create_backbone(
        model.backbone,
        in_channels=images.input_channels(stack),
        num_classes=outputs,
        dropout=dropout,
        drop_path=model.drop_path,
    )


def _consensus(
    model: ModelConfig,
    backbone: nn.Module,
    *,
    images: Modality,
    stack: int,
    crop: int,
    sizes: tuple[int | None, int],
) -> nn.Module:
    """Return the consensus; `backbone` loses what it has no use for. `sizes`: segments, classes."""
    num_segments, num_classes = sizes
    reads = consensus_reads(model.consensus)
    if reads == "outputs":
        return build_consensus(
            model.consensus, topk=model.topk, num_segments=num_segments, num_classes=num_classes
        )
    if num_segments is None or num_segments < 2:
        raise KinemaError(
            f"model.consensus={model.consensus} sees the snippets of a video together, but "
            f"data.num_segments={num_segments}: set it to 2 or more."
        )
    dropout = model.dropout[-1] if model.dropout else 0.0
    if reads == "features":
        drop_classifier(backbone)
        return build_temporal_head(
            cast(TemporalHead, model.consensus),
            features=cast(int, backbone.head_hidden_size),
            num_classes=num_classes,
            num_segments=num_segments,
            width=model.temporal_width,
            layers=model.temporal_layers,
            dropout=dropout,
        )
    if is_clip_backbone(model.backbone):
        shape: tuple[int, ...] = (1, images.channels_per_image, stack, crop, crop)
    else:
        shape = (1, images.input_channels(stack), crop, crop)
    return TemporalLinearEncoding(
        keep_up_to_map(backbone, torch.zeros(shape, device="meta")),
        num_classes=num_classes,
        aggregate=model.tle_aggregate,
        encoding=model.tle_encoding,
        dim=model.tle_dim,
        dropout=dropout,
    )


def _refuse_clip_settings(model: ModelConfig) -> None:
    if model.nonlocal_blocks:
        raise UsageError(
            f"model.nonlocal_blocks={model.nonlocal_blocks} is for 3D ResNets, "
            f"'{model.backbone}' is a 2D network: set model.nonlocal_blocks=0."
        )


def _shift(model: ModelConfig, backbone: nn.Module, num_snippets: int) -> TemporalShift | None:
    if model.shift == "none":
        return None
    return add_shift(
        backbone,
        name=model.backbone,
        place=model.shift,
        div=model.shift_div,
        num_snippets=num_snippets,
    )


def _all_before_consensus(network: SnippetNetwork) -> tuple[nn.Module, ...]:
    if not any(True for _ in network.consensus.parameters()):
        raise UsageError(
            "model.finetune_from=consensus is for a consensus that learns, such as gru-attention "
            "or tle: choose one with model.consensus, or name a layer of the backbone."
        )
    before = (network.input_bn, network.backbone)
    return (network.hidden, *before) if network.hidden else before


def _frozen(
    model: ModelConfig, backbone: nn.Module
) -> tuple[tuple[nn.Module, ...], tuple[nn.Parameter, ...]]:
    """Return the layers, and the parameters of no layer, that training leaves as they are."""
    layers: list[nn.Module] = []
    parameters: tuple[nn.Parameter, ...] = ()
    if model.freeze_bn or model.partial_bn:
        layers += batch_norms(backbone)[0 if model.freeze_bn else 1 :]
    if model.finetune_from:
        before, parameters = part_before(backbone, model.finetune_from)
        layers += before
    return tuple(layers), parameters
