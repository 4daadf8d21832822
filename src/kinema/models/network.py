"""From a configuration to the network of one stream, without any weights."""

import dataclasses
from typing import cast

import torch
from torch import nn

from kinema.config import ModelConfig, TemporalHead
from kinema.errors import KinemaError, UsageError
from kinema.models.backbones import create_backbone
from kinema.models.clip_backbones import create_clip_backbone, is_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.consensus import (
    JOINING,
    build_consensus,
    consensus_reads,
    consensus_width,
)
from kinema.models.feature_maps import drop_classifier, keep_up_to_map
from kinema.models.freezing import batch_norms, part_before
from kinema.models.hidden_flow import HiddenFlow, check_hidden
from kinema.models.modality import Modality, get_modality
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.temporal_heads import build_temporal_head
from kinema.models.temporal_shift import TemporalShift, add_shift
from kinema.models.tle import TemporalLinearEncoding


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
    check_hidden(model, modality=modality, stack=stack, crop=crop)
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
    if model.motion_loss:
        network.keep_flow_loss()
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
    example = example_input(
        images, stack=stack, crop=crop, is_clip=is_clip_backbone(model.backbone)
    )
    return TemporalLinearEncoding(
        keep_up_to_map(backbone, example),
        num_classes=num_classes,
        aggregate=model.tle_aggregate,
        encoding=model.tle_encoding,
        dim=model.tle_dim,
        dropout=dropout,
    )


def example_input(images: Modality, *, stack: int, crop: int, is_clip: bool) -> torch.Tensor:
    """Return an input of a backbone on torch's meta device: a shape without values."""
    if is_clip:
        return torch.zeros((1, images.channels_per_image, stack, crop, crop), device="meta")
    return torch.zeros((1, images.input_channels(stack), crop, crop), device="meta")


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
