"""X3D: a small network grown along time, space, width and depth.

Source: Feichtenhofer, arXiv 2004.04730, with the sizes of PySlowFast's configurations.

Shapes: B clips, C channels, T images, H and W pixels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.models.clip_network import (
    KINETICS_MEAN,
    KINETICS_STD,
    ClipNetwork,
    describe_input,
    start_weights,
)
from kinema.models.clip_shape import ClipShape

_WIDTHS, _DEPTHS = (24, 48, 96, 192), (1, 2, 5, 3)  # per stage; depths before the factor
_STEM, _LIN5 = 24, 2048
_BOTTLENECK = 2.25  # channels inside a block by those outside
_SQUEEZE = 1 / 16


class SqueezeExcite(nn.Module):
    """Scale the channels by what their means say (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _multiple_of_8(channels * _SQUEEZE)
        self.fc1 = nn.Conv3d(channels, inner, 1)
        self.fc2 = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled input."""
        scale = self.fc2(functional.relu(self.fc1(x.mean((2, 3, 4), keepdim=True))))
        return x * torch.sigmoid(scale)


class X3DBlock(nn.Module):
    """(1,1,1), depth-wise (3,3,3), squeeze and excitation, swish, (1,1,1)."""

    def __init__(self, before: int, after: int, *, stride: int, squeeze: bool) -> None:
        super().__init__()
        inner = int(after * _BOTTLENECK)
        self.conv1 = nn.Conv3d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(
            inner, inner, 3, stride=(1, stride, stride), padding=1, groups=inner, bias=False
        )
        self.bn2 = nn.BatchNorm3d(inner)
        self.se: nn.Module = SqueezeExcite(inner) if squeeze else nn.Identity()
        self.conv3 = nn.Conv3d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(after),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, rectified."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.silu(self.se(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        return functional.relu(out + self.downsample(x))


class X3D(ClipNetwork):
    """X3D of some depth, 2048 features; no stride in time.

    Args:
        shape: what it is built for.
        depth_factor: 2.2 for XS, S and M, which differ in their input only; 5 for L.
    """

    def __init__(self, shape: ClipShape, *, depth_factor: float) -> None:
        super().__init__()
        self.conv_xy = nn.Conv3d(
            shape.in_channels, _STEM, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        self.conv_t = nn.Conv3d(
            _STEM, _STEM, (5, 1, 1), padding=(2, 0, 0), groups=_STEM, bias=False
        )
        self.bn1 = nn.BatchNorm3d(_STEM)
        before = _STEM
        for stage, (after, depth) in enumerate(zip(_WIDTHS, _DEPTHS, strict=True)):
            blocks = [
                X3DBlock(after if i else before, after, stride=1 if i else 2, squeeze=i % 2 == 0)
                for i in range(math.ceil(depth * depth_factor))
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            before = after
        inner = int(before * _BOTTLENECK)
        self.conv5 = nn.Conv3d(before, inner, 1, bias=False)
        self.bn5 = nn.BatchNorm3d(inner)
        self.lin5 = nn.Conv3d(inner, _LIN5, 1, bias=False)
        self.add_head(_LIN5, num_classes=shape.num_classes, dropout=shape.dropout)
        start_weights(self)
        for module in self.modules():
            if isinstance(module, X3DBlock):
                nn.init.zeros_(module.bn3.weight)
        self.pretrained_cfg = describe_input(
            mean=KINETICS_MEAN, std=KINETICS_STD, first_conv="conv_xy"
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the feature map behind conv5, (B, 432, T, H/32, W/32)."""
        x = functional.relu(self.bn1(self.conv_t(self.conv_xy(x_BCTHW))))
        for stage in range(len(_WIDTHS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return functional.relu(self.bn5(self.conv5(x)))

    def forward_head(self, x_BFTHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the features (B, 2048) behind lin5 with `pre_logits`."""
        pooled = functional.relu(self.lin5(x_BFTHW.mean((2, 3, 4), keepdim=True)))
        return super().forward_head(pooled, pre_logits)


def _multiple_of_8(channels: float) -> int:
    """Round to a multiple of 8, 8 at least, and never to less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def x3d_xs(shape: ClipShape, /) -> X3D:
    """For 4 images of 160 (tests: 182) pixels: 3.79 M parameters with 400 classes."""
    return X3D(shape, depth_factor=2.2)


def x3d_s(shape: ClipShape, /) -> X3D:
    """For 13 images of 160 (tests: 182) pixels: the weights' shapes are those of XS."""
    return X3D(shape, depth_factor=2.2)


def x3d_m(shape: ClipShape, /) -> X3D:
    """For 16 images of 224 (tests: 256) pixels: the weights' shapes are those of XS."""
    return X3D(shape, depth_factor=2.2)


def x3d_l(shape: ClipShape, /) -> X3D:
    """For 16 images of 312 (tests: 356) pixels: 6.15 M parameters with 400 classes."""
    return X3D(shape, depth_factor=5.0)
