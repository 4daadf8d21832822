"""Attention over the features of a video's snippets.

Shapes: B videos, N snippets, D features per snippet, U units, K classes; A attention heads of
width W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.models.head_shape import HeadShape

_HEAD_UNITS = 64
_POSITIONS_STD = 0.2  # ten times that of vision transformers: visible on small data from the start


class Positions(nn.Module):
    """One learned vector for each of the training snippets' places, added to their features.

    For another number of snippets they are interpolated linearly between these places.
    """

    def __init__(self, num_segments: int, units: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_segments, units))
        nn.init.trunc_normal_(self.embedding, std=_POSITIONS_STD)

    def forward(self, x_BNU: Tensor) -> Tensor:
        """Return the features with their places, (B, N, U)."""
        places_SU: Tensor = self.embedding
        if x_BNU.shape[1] != len(places_SU):
            places_SU = functional.interpolate(
                places_SU.T[None], size=x_BNU.shape[1], mode="linear", align_corners=False
            )[0].T
        return x_BNU + places_SU


class _PlacedHead(nn.Module):
    """What the heads share: features to U units, and learned positions."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.drop = nn.Dropout(shape.dropout)
        self.first = nn.Linear(shape.features, shape.width)
        self.positions = Positions(shape.num_segments, shape.width)

    def placed(self, x_BND: Tensor) -> Tensor:
        """Return the features with their places, (B, N, U)."""
        out: Tensor = self.positions(self.first(self.drop(x_BND)))
        return out


class TransformerHead(_PlacedHead):
    """Features to U units, learned positions, Transformer encoder (norm first), mean, scores."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__(shape)
        units = shape.width
        layer = nn.TransformerEncoderLayer(
            units,
            _heads(units),
            dim_feedforward=4 * units,
            dropout=0.1,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(units)
        self.fc = nn.Linear(units, shape.num_classes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        x_BNU = self.encoder(self.placed(x_BND))
        out: Tensor = self.fc(self.norm(x_BNU).mean(1))
        return out


class AttentionPooling(_PlacedHead):
    """Features to U units, learned positions, multi-head attention of one learned query, scores."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__(shape)
        units = shape.width
        self.norm = nn.LayerNorm(units)
        heads = _heads(units)
        self.query = nn.Parameter(torch.empty(heads, 1, units // heads))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.keys_values = nn.Linear(units, 2 * units)
        self.merge = nn.Linear(units, units)
        self.fc = nn.Linear(units, shape.num_classes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        x_BNU = self.norm(self.placed(x_BND))
        heads, _, width = self.query.shape
        pairs = self.keys_values(x_BNU).reshape(*x_BNU.shape[:2], 2, heads, width)
        keys_BANW, values_BANW = pairs.permute(2, 0, 3, 1, 4)
        query_BA1W = self.query.to(keys_BANW.dtype).expand(len(x_BNU), -1, -1, -1)
        pooled = functional.scaled_dot_product_attention(query_BA1W, keys_BANW, values_BANW)
        out: Tensor = self.fc(self.merge(pooled.flatten(1)))
        return out


def _heads(units: int) -> int:
    heads = max(units // _HEAD_UNITS, 1)
    if units % heads:
        raise KinemaError(
            f"model.temporal_width={units} is not possible for attention: give a multiple of "
            f"{_HEAD_UNITS}, or less than {2 * _HEAD_UNITS}."
        )
    return heads
