"""From a configuration to its network, of one stream or of two; without any weights."""

import copy
from typing import cast

from torch import Tensor, nn

from kinema.config import Config, TemporalHead
from kinema.errors import UsageError
from kinema.models.bilinear import BilinearPooling, TensorSketch
from kinema.models.consensus import consensus_reads
from kinema.models.feature_maps import keep_up_to, keep_up_to_map
from kinema.models.network import build_network, example_input
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.stream_fusion import BilinearFusion, MapFusion, PooledHead, up_to_layer
from kinema.models.temporal_heads import build_temporal_head
from kinema.models.two_streams import FeatureStreams, MapStreams, ScoreStreams, TwoStreamNetwork
from kinema.streams import has_second, second_stream

VideoNetwork = SnippetNetwork | TwoStreamNetwork


def build_video_network(config: Config, *, num_classes: int) -> VideoNetwork:
    """Build the network of a configuration; a teacher is no part of it.

    Raises:
        UsageError: settings that do not go together.
        KinemaError: streams that do not fit each other.
    """
    first = _stream(config, num_classes)
    if not has_second(config):
        return first
    other, fusion = second_stream(config), config.second.fusion
    second = _stream(other, num_classes)
    if fusion == "scores":
        return ScoreStreams(
            first,
            second,
            adds=config.second.loss != "each",
            features=config.second.distil == "features",
        )
    if fusion == "features":
        return _feature_streams(config, first, second, num_classes)
    return _map_streams(config, other, first, second, num_classes)


def _stream(config: Config, num_classes: int) -> SnippetNetwork:
    return build_network(
        config.model,
        modality=config.data.modality,
        stack=config.data.stack,
        num_classes=num_classes,
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )


def _feature_streams(
    config: Config, first: SnippetNetwork, second: SnippetNetwork, num_classes: int
) -> FeatureStreams:
    model = config.model
    if consensus_reads(model.consensus) != "features":
        raise UsageError(
            f"second.fusion=features puts the features of both streams into one consensus over "
            f"time, but model.consensus={model.consensus}: choose one such as gru-attention or "
            "transformer."
        )
    for stream in (first, second):  # each has built a head for itself
        stream.consensus = nn.Identity()
    head = build_temporal_head(
        cast(TemporalHead, model.consensus),
        features=first.feature_dim + second.feature_dim,
        num_classes=num_classes,
        num_segments=config.data.num_segments,
        width=model.temporal_width,
        layers=model.temporal_layers,
        dropout=model.dropout[-1] if model.dropout else 0.0,
    )
    return FeatureStreams(first, second, head=head, num_segments=config.data.num_segments)


def _map_streams(
    config: Config,
    other: Config,
    first: SnippetNetwork,
    second: SnippetNetwork,
    num_classes: int,
) -> MapStreams:
    """Join two towers; layers that nothing needs any more are removed."""
    settings, model = config.second, config.model
    layer, kind = settings.layer, settings.fusion
    channels = [
        _map_channels(stream, own, layer=layer)
        for stream, own in ((first, config), (second, other))
    ]
    both = settings.keep == "both"
    if not both:
        _cut(second, other, layer=layer)
    dropout = model.dropout[-1] if model.dropout else 0.0
    head: nn.Module | None = None
    if kind == "bilinear":
        if channels[0] != channels[1]:
            raise UsageError(
                f"second.fusion=bilinear needs as many channels in both maps, but there are "
                f"{channels[0]} and {channels[1]}: use the same backbone for both streams."
            )
        encoding: BilinearPooling | TensorSketch = TensorSketch(channels[0], dim=model.tle_dim)
        if model.tle_encoding == "bilinear":
            encoding = BilinearPooling(channels[0])
        fusion: MapFusion | BilinearFusion = BilinearFusion(encoding)
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoding.out_features, num_classes))
    else:
        assert kind in ("sum", "max", "concat", "conv")
        over_time = settings.pool == "3d"
        fusion = MapFusion(
            kind, channels=(channels[0], channels[1]), over_time=over_time, is_clip=first.is_clip
        )
        if kind == "concat":
            head = PooledHead(fusion.out_channels, num_classes=num_classes, dropout=dropout)
    if head is not None:
        _cut(first, config, layer="")
    network = MapStreams(first, second, fusion=fusion, layer=layer, keeps_both=both, head=head)
    if settings.pool == "3d" and not first.is_clip:
        network.joined = config.data.num_segments
    return network


def _map_channels(stream: SnippetNetwork, config: Config, *, layer: str) -> int:
    """Return the channels of the map behind a layer.

    Raises:
        UsageError: there is no such layer, or it has no map.
    """
    shadow = copy.deepcopy(stream.backbone).to("meta").eval()
    if layer and layer not in dict(shadow.named_modules()):
        children = ", ".join(name for name, _ in shadow.named_children())
        raise UsageError(
            f"second.layer={layer}: {config.model.backbone} has no such layer. Choose one of "
            f"{children}, or one inside of them."
        )
    found = up_to_layer(shadow, _example(stream, config), layer=layer)
    if found.ndim != (5 if stream.is_clip else 4) or found.shape[-1] == stream.feature_dim:
        raise UsageError(
            "Only feature maps of convolutional networks can be fused; "
            f"{config.model.backbone} has none behind {layer or 'its last layer'}: choose another "
            "backbone, another second.layer, or second.fusion=features."
        )
    return found.shape[1]


def _cut(stream: SnippetNetwork, config: Config, *, layer: str) -> None:
    example = _example(stream, config)
    if not layer:
        keep_up_to_map(stream.backbone, example)
        return
    keep_up_to(
        stream.backbone, example, read=lambda network, x: up_to_layer(network, x, layer=layer)
    )


def _example(stream: SnippetNetwork, config: Config) -> Tensor:
    stack = config.data.stack
    return example_input(
        stream.modality, stack=stack, crop=config.data.crop, is_clip=stream.is_clip
    )
