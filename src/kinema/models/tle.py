"""Temporal Linear Encoding (Diba et al., arXiv 1611.06678): one descriptor of all snippets' maps.

Shapes: B videos, N snippets, P positions of a feature map, C channels, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from kinema.config import TleAggregate, TleEncoding
from kinema.errors import KinemaError
from kinema.models.bilinear import (
    SKETCH_DIM,
    BilinearPooling,
    TensorSketch,
    signed_sqrt,
    unit_length,
)
from kinema.models.precision import at_least_float32, full_precision


@dataclass(frozen=True, kw_only=True)
class MapShape:
    """Of the feature map of one snippet."""

    positions: int
    channels: int


class FullyConnected(nn.Module):
    """One layer over a whole map, with ReLU: it belongs to maps of one size, (B, `dim`)."""

    def __init__(self, shape: MapShape, *, dim: int) -> None:
        super().__init__()
        self._positions, self.out_features = shape.positions, dim
        self.fc = nn.Linear(shape.positions * shape.channels, dim)

    def forward(self, x_BPC: Tensor) -> Tensor:
        """Return the descriptors, (B, D)."""
        if x_BPC.shape[1] != self._positions:
            raise KinemaError(
                f"model.tle_encoding=fc was built for feature maps of {self._positions} positions, "
                f"but was given {x_BPC.shape[1]}: use images of the size and number of training, "
                "or model.tle_encoding=sketch, which takes any."
            )
        out: Tensor = self.fc(x_BPC.flatten(1)).relu()
        return out


class TemporalLinearEncoding(nn.Module):
    """Element by element aggregation, encoding, signed square root, L2, dropout, classifier.

    The order of the snippets is not seen, and any number of them is possible; with the product
    the usual 3 keep their scale best.

    Args:
        shape: of one snippet's map.
        num_classes: K.
        aggregate: over the snippets: product (the paper's best), sum or max.
        encoding: over the positions: sketch, bilinear (C * C values) or fc (maps of one size).
        dim: values of sketch and fc.
        dropout: before the classifier.
    """

    def __init__(
        self,
        shape: MapShape,
        *,
        num_classes: int,
        aggregate: TleAggregate = "product",
        encoding: TleEncoding = "sketch",
        dim: int = SKETCH_DIM,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise KinemaError(f"model.tle_dim={dim} is not possible: it must be at least 1.")
        self._aggregate = _AGGREGATES[aggregate]
        self.encoding: BilinearPooling | TensorSketch | FullyConnected
        if encoding == "sketch":
            self.encoding = TensorSketch(shape.channels, dim=dim)
        elif encoding == "bilinear":
            self.encoding = BilinearPooling(shape.channels)
        else:
            self.encoding = FullyConnected(shape, dim=dim)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(self.encoding.out_features, num_classes)

    def forward(self, x_BNPC: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        with full_precision(x_BNPC.device):
            encoded_BD = self.encoding(self._aggregate(at_least_float32(x_BNPC)))
            encoded_BD = unit_length(signed_sqrt(encoded_BD))
        out: Tensor = self.fc(self.drop(encoded_BD))
        return out


def _product(x_BNPC: Tensor) -> Tensor:
    # Not torch.prod, whose gradient looks for zeros, which maps behind a ReLU are full of.
    return reduce(torch.mul, x_BNPC.unbind(1))


def _sum(x_BNPC: Tensor) -> Tensor:
    return x_BNPC.sum(1)


def _max(x_BNPC: Tensor) -> Tensor:
    return x_BNPC.amax(1)


_AGGREGATES: dict[TleAggregate, Callable[[Tensor], Tensor]] = {
    "product": _product,
    "sum": _sum,
    "max": _max,
}
