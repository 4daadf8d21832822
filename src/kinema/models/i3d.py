"""I3D: Inception-v1 inflated to three dimensions, with the unit names of DeepMind's kinetics-i3d.

Source: Carreira and Zisserman, arXiv 1705.07750, figure 3, and its published TensorFlow code, whose
variables these names follow ("/" becomes ".").

Shapes: B clips, C channels, T images, H and W pixels, P positions after pooling, K classes.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.models.clip_network import describe_input
from kinema.models.clip_shape import ClipShape

_Three = tuple[int, int, int]

# Output channels: 1x1, then reduce and 3x3 of two branches, then the pooling's projection.
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOLS: dict[str, tuple[str, _Three, _Three]] = {  # by the block that they come before
    "Conv3d_2b_1x1": ("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis: before, and behind where one more may go.

    As much as makes the output ceil(size / stride) long.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad(x: Tensor, kernel: _Three, stride: _Three, *, value: float = 0.0) -> Tensor:
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        pads += same_padding(size, kernel=k, stride=s)  # F.pad begins with the last axis
    return functional.pad(x, pads, value=value) if any(pads) else x


class SamePool(nn.Module):
    """Max pooling with SAME padding, which never wins."""

    def __init__(self, kernel: _Three, stride: _Three) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima, sizes divided by the stride and rounded up."""
        padded = _pad(x, self.kernel, self.stride, value=float("-inf"))
        return functional.max_pool3d(padded, self.kernel, self.stride)


class ShiftOnlyBatchNorm(nn.BatchNorm3d):
    """BatchNorm with a learned shift and no scale, epsilon 0.001, as Sonnet's in I3D."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """Start again; there may be no scale to set."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)


class Unit3D(nn.Module):
    """Convolution with SAME padding, BatchNorm, ReLU."""

    def __init__(
        self, before: int, after: int, *, kernel: _Three = (1, 1, 1), stride: _Three = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.conv_3d = nn.Conv3d(before, after, kernel, stride=stride, bias=False)
        fan_in = before * kernel[0] * kernel[1] * kernel[2]
        std = fan_in**-0.5  # Sonnet's rule
        nn.init.trunc_normal_(self.conv_3d.weight, std=std, a=-2 * std, b=2 * std)
        self.batch_norm = ShiftOnlyBatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map, sizes divided by the stride and rounded up."""
        conv = self.conv_3d
        padded = _pad(x, cast(_Three, conv.kernel_size), cast(_Three, conv.stride))
        return functional.relu(self.batch_norm(conv(padded)), inplace=True)


class Mixed(nn.Module):
    """Inception block of four branches."""

    def __init__(self, before: int, channels: tuple[int, ...], *, last_3x3: str) -> None:
        super().__init__()
        c0, reduce1, c1, reduce2, c2, c3 = channels
        self.Branch_0 = nn.Sequential()
        self.Branch_0.add_module("Conv3d_0a_1x1", Unit3D(before, c0))
        self.Branch_1 = nn.Sequential()
        self.Branch_1.add_module("Conv3d_0a_1x1", Unit3D(before, reduce1))
        self.Branch_1.add_module("Conv3d_0b_3x3", Unit3D(reduce1, c1, kernel=(3, 3, 3)))
        self.Branch_2 = nn.Sequential()
        self.Branch_2.add_module("Conv3d_0a_1x1", Unit3D(before, reduce2))
        self.Branch_2.add_module(last_3x3, Unit3D(reduce2, c2, kernel=(3, 3, 3)))
        self.Branch_3 = nn.Sequential()
        self.Branch_3.add_module("MaxPool3d_0a_3x3", SamePool((3, 3, 3), (1, 1, 1)))
        self.Branch_3.add_module("Conv3d_0b_1x1", Unit3D(before, c3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' channels side by side."""
        return torch.cat(
            [self.Branch_0(x), self.Branch_1(x), self.Branch_2(x), self.Branch_3(x)], 1
        )


class InceptionI3D(nn.Module):
    """12.7 M parameters with 400 classes, 1024 features; any number and size of images.

    Average pooling (2, 7, 7) of stride 1 (less where the feature map is smaller), dropout,
    classifier, mean over what is left: for 224 pixels this is the published head.
    """

    def __init__(self, shape: ClipShape, /) -> None:
        super().__init__()
        self._order: list[str] = []
        self._add(
            "Conv3d_1a_7x7", Unit3D(shape.in_channels, 64, kernel=(7, 7, 7), stride=(2, 2, 2))
        )
        self._add("Conv3d_2b_1x1", Unit3D(64, 64))
        self._add("Conv3d_2c_3x3", Unit3D(64, 192, kernel=(3, 3, 3)))
        channels = 192
        for name, table in _MIXED.items():
            # The published variables of Mixed_5b have this slip in one name.
            last_3x3 = "Conv3d_0a_3x3" if name == "Mixed_5b" else "Conv3d_0b_3x3"
            self._add(name, Mixed(channels, table, last_3x3=last_3x3))
            channels = table[0] + table[2] + table[4] + table[5]
        self.head_hidden_size = channels
        self.drop = nn.Dropout(shape.dropout)
        self.logits = nn.Linear(channels, shape.num_classes)
        nn.init.trunc_normal_(self.logits.weight, std=channels**-0.5)
        nn.init.zeros_(self.logits.bias)
        self.pretrained_cfg = describe_input(
            mean=(0.5,) * 3, std=(0.5,) * 3, first_conv="Conv3d_1a_7x7.conv_3d"
        )

    def _add(self, name: str, block: nn.Module) -> None:
        if name in _POOLS:
            pool, kernel, stride = _POOLS[name]
            self.add_module(pool, SamePool(kernel, stride))
            self._order.append(pool)
        self.add_module(name, block)
        self._order.append(name)

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the output of Mixed_5c, (B, 1024, T/8, H/32, W/32), each rounded up."""
        x = x_BCTHW
        for name in self._order:
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, x_BFTHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the pooled features (B, F) with `pre_logits`."""
        kernel = [min(k, size) for k, size in zip((2, 7, 7), x_BFTHW.shape[2:], strict=True)]
        pooled_BPF = functional.avg_pool3d(x_BFTHW, kernel, stride=1).flatten(2).transpose(1, 2)
        dropped_BPF: Tensor = self.drop(pooled_BPF)
        return dropped_BPF.mean(1) if pre_logits else self.logits(dropped_BPF).mean(1)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.logits

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCTHW))
