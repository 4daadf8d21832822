"""Convolutional fusion: the feature maps of two towers become one.

Feichtenhofer, Pinz and Zisserman, Convolutional Two-Stream Network Fusion for Video Action
Recognition (CVPR 2016).

Shapes: M snippets of all videos, N snippets of a video, C channels, H, W; T of 3D networks.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.models.bilinear import BilinearPooling, TensorSketch, signed_sqrt, unit_length
from kinema.models.precision import at_least_float32, full_precision

MapKind = Literal["sum", "max", "concat", "conv"]
_NOISE = 0.01  # beside the identities that a fusing convolution begins with


class MapFusion(nn.Module):
    """Two maps of the same places to one.

    ``sum``, ``max`` and ``concat`` as they say; ``conv`` convolves the concatenation and begins
    as the sum. With pooling over time, the snippets of a video lie one after the other: the
    convolution is 3x3x3, and every value is the maximum of its 3x3x3 neighbours.

    Args:
        kind: how.
        channels: of both maps.
        over_time: pool (and convolve) over time too; 3D networks have a time of their own.
        is_clip: maps are those of a 3D network, (M, C, T, H, W).
    """

    def __init__(
        self, kind: MapKind, *, channels: tuple[int, int], over_time: bool, is_clip: bool
    ) -> None:
        super().__init__()
        self.kind, self.over_time, self.is_clip = kind, over_time, is_clip
        self.num_snippets = 1
        first, second = channels
        if kind in ("sum", "max") and first != second:
            raise KinemaError(
                f"second.fusion={kind} needs as many channels in both maps, but there are {first} "
                f"and {second}: use second.fusion=conv, or the same backbone for both streams."
            )
        self.out_channels = first + second if kind == "concat" else first
        self.conv: nn.Module = nn.Identity()
        if kind == "conv":
            side = 3 if over_time else 1
            convolution = nn.Conv3d if over_time or is_clip else nn.Conv2d
            self.conv = convolution(first + second, first, side, padding=side // 2)
            _begin_as_sum(cast(nn.Conv3d, self.conv), first, second)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the fused map, in the layout of the first.

        Raises:
            KinemaError: the maps have other sides.
        """
        if first.shape[2:] != second.shape[2:]:
            raise KinemaError(
                f"The maps of both streams have the sides {tuple(first.shape[2:])} and "
                f"{tuple(second.shape[2:])} where they meet: choose backbones (and second.layer) "
                "with maps of the same size."
            )
        lifted = self.over_time and not self.is_clip
        if lifted:
            first, second = self._lift(first), self._lift(second)
        fused = self._fuse(first, second)
        if self.over_time:
            fused = functional.max_pool3d(fused, 3, stride=1, padding=1)
        return fused.transpose(1, 2).flatten(0, 1) if lifted else fused

    def _fuse(self, first: Tensor, second: Tensor) -> Tensor:
        if self.kind == "sum":
            return first + second
        if self.kind == "max":
            return torch.maximum(first, second)
        both = torch.cat([first, second], dim=1)
        return cast(Tensor, self.conv(both))  # the identity for concat

    def _lift(self, x_MCHW: Tensor) -> Tensor:
        """Put the snippets of a video into time: (B, C, N, H, W)."""
        x_BNCHW = x_MCHW.reshape(-1, self.num_snippets, *x_MCHW.shape[1:])
        return x_BNCHW.transpose(1, 2)


@torch.no_grad()
def _begin_as_sum(conv: nn.Conv3d, first: int, second: int) -> None:
    nn.init.normal_(conv.weight, std=_NOISE / (first + second) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    centre = tuple(side // 2 for side in conv.weight.shape[2:])
    for channel in range(first):
        for source in (channel, first + channel)[: 1 + (channel < second)]:
            place = (channel, source, *centre)
            conv.weight[place] += 1.0


class BilinearFusion(nn.Module):
    """Outer products of two maps at the same places, summed: no map, but a descriptor (M, D).

    With signed square root and L2, as in bilinear networks (Lin et al. 2015).

    Args:
        encoding: of pairs of maps, (M, P, C) each.
    """

    def __init__(self, encoding: BilinearPooling | TensorSketch) -> None:
        super().__init__()
        self.encoding, self.num_snippets = encoding, 1

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the descriptors, (M, D)."""
        with full_precision(first.device):
            x_MPC, y_MPC = (at_least_float32(x).flatten(2).transpose(1, 2) for x in (first, second))
            return unit_length(signed_sqrt(self.encoding(x_MPC, y_MPC)))


class PooledHead(nn.Module):
    """Mean over the places of a map, dropout, classifier.

    Args:
        channels: of the map.
        num_classes: outputs.
        dropout: before the classifier.
    """

    def __init__(self, channels: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.drop, self.fc = nn.Dropout(dropout), nn.Linear(channels, num_classes)

    def forward(self, x_map: Tensor) -> Tensor:
        """Return logits, (M, K)."""
        out: Tensor = self.fc(self.drop(x_map.flatten(2).mean(2)))
        return out


class _ReachedError(Exception):
    """The layer that was asked for has run: nothing behind it is needed."""


def up_to_layer(backbone: nn.Module, x: Tensor, *, layer: str) -> Tensor:
    """Return what a layer puts out, without running those behind it.

    Args:
        backbone: the network.
        x: its input.
        layer: the layer's name; empty: the last feature map.
    """
    if not layer:
        return cast(Tensor, backbone.forward_features(x))  # type: ignore[operator]
    found: list[Tensor] = []

    def take(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output)
        raise _ReachedError

    handle = backbone.get_submodule(layer).register_forward_hook(take)
    try:
        backbone(x)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0]


def through_layer(
    backbone: nn.Module, x: Tensor, *, layer: str, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Run a network with the output of one layer changed on its way.

    Args:
        backbone: the network.
        x: its input.
        layer: the layer's name; empty: between the last feature map and the head.
        change: gets what the layer puts out, returns what the next one gets.
    """
    if not layer:
        x_map = backbone.forward_features(x)  # type: ignore[operator]
        return cast(Tensor, backbone.forward_head(change(x_map)))  # type: ignore[operator]

    def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return change(output)

    handle = backbone.get_submodule(layer).register_forward_hook(replace)
    try:
        return cast(Tensor, backbone(x))
    finally:
        handle.remove()
