"""Fusion over time: names of heads that turn the features of a video's snippets into its scores.

Every head is a module (B, N, D) -> (B, K): B videos, N snippets, D features per snippet, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kinema.config import TemporalHead
from kinema.errors import KinemaError, UsageError
from kinema.models.attention_heads import AttentionPooling, TransformerHead
from kinema.models.head_shape import HeadShape
from kinema.models.keras_gru import GRUAttention
from kinema.models.recurrent_heads import SegmentLSTM, StackedLSTM
from kinema.models.temporal_conv import TemporalConv, TemporalInception


@dataclass(frozen=True, kw_only=True)
class _Kind:
    build: Callable[[HeadShape], nn.Module]
    width: int  # unless another is asked for
    layers: int = 0  # likewise; 0: their number is part of the design


_KINDS: dict[TemporalHead, _Kind] = {
    "gru-attention": _Kind(build=GRUAttention, width=128),
    "lstm": _Kind(build=StackedLSTM, width=512, layers=2),
    "ts-lstm": _Kind(build=SegmentLSTM, width=512, layers=1),
    "temporal-inception": _Kind(build=TemporalInception, width=1024),
    "temporal-conv": _Kind(build=TemporalConv, width=256, layers=2),
    "transformer": _Kind(build=TransformerHead, width=256, layers=2),
    "attention": _Kind(build=AttentionPooling, width=256),
}
TEMPORAL_HEADS: tuple[TemporalHead, ...] = tuple(_KINDS)


def build_temporal_head(
    name: TemporalHead,
    *,
    features: int,
    num_classes: int,
    num_segments: int,
    width: int = 0,
    layers: int = 0,
    dropout: float = 0.5,
) -> nn.Module:
    """Return a head (B, N, D) -> (B, K) of random weights; it takes any N.

    Args:
        name: one of `TEMPORAL_HEADS`.
        features: D.
        num_classes: K.
        num_segments: snippets per video in training, 2 or more; learned positions are theirs.
        width: of the hidden layers; 0: the head's own default.
        layers: recurrent, convolutional or encoder layers; 0: the head's own default.
        dropout: probability.

    Raises:
        UsageError: layers for a head whose number of layers is fixed.
        KinemaError: values that are not possible.
    """
    kind = _KINDS[name]
    if layers and not kind.layers:
        with_layers = ", ".join(name for name, other in _KINDS.items() if other.layers)
        raise UsageError(
            f"model.temporal_layers={layers} is not for model.consensus={name}, whose layers are "
            f"fixed: set it to 0, or choose {with_layers}."
        )
    if width < 0 or layers < 0 or (width == 1 and name == "gru-attention"):
        raise KinemaError(
            f"model.temporal_width={width} with model.temporal_layers={layers} is not possible: "
            "give positive numbers (gru-attention: a width of 2 or more), or 0 for the usual ones."
        )
    if not 0 <= dropout < 1:
        raise KinemaError(f"model.dropout={dropout} is not possible: give a value in [0, 1).")
    return kind.build(
        HeadShape(
            features=features,
            num_classes=num_classes,
            num_segments=num_segments,
            width=width or kind.width,
            layers=layers or kind.layers,
            dropout=dropout,
        )
    )
