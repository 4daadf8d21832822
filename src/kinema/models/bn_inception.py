"""BN-Inception (Inception v2), the backbone of TSN, with the layer names of its Caffe model.

Source: Ioffe and Szegedy, arXiv 1502.03167, figure 5, as trained for TSN (Wang et al., arXiv
1608.00859). The published ImageNet and TSN weights carry these layer names, so they fit without a
key map. Input in training: BGR, 0..255 less (104, 117, 128).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Output channels of the convolutions of one block; 0 where the block has no such branch.

    Blocks without a 1x1 branch halve the grid: stride 2 in the last convolution of each branch
    and in the pooling, whose output is passed on without projection.
    """

    name: str
    c1x1: int
    c3x3_reduce: int
    c3x3: int
    double_reduce: int
    double: int
    pool: Literal["average", "max"]
    projection: int

    @property
    def stride(self) -> int:
        return 1 if self.c1x1 else 2

    def out_channels(self, in_channels: int) -> int:
        return self.c1x1 + self.c3x3 + self.double + (self.projection or in_channels)


def _block(name: str, *c: int, pool: Literal["average", "max"] = "average") -> _Block:
    return _Block(
        name=name,
        c1x1=c[0],
        c3x3_reduce=c[1],
        c3x3=c[2],
        double_reduce=c[3],
        double=c[4],
        pool=pool,
        projection=c[5],
    )


_BLOCKS = (  # 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3 (both), pooling projection
    _block("3a", 64, 64, 64, 64, 96, 32),
    _block("3b", 64, 64, 96, 64, 96, 64),
    _block("3c", 0, 128, 160, 64, 96, 0, pool="max"),
    _block("4a", 224, 64, 96, 96, 128, 128),
    _block("4b", 192, 96, 128, 96, 128, 128),
    _block("4c", 160, 128, 160, 128, 160, 128),
    _block("4d", 96, 128, 192, 160, 192, 128),
    _block("4e", 0, 128, 192, 192, 256, 0, pool="max"),
    _block("5a", 352, 192, 320, 160, 224, 128),
    _block("5b", 352, 192, 320, 192, 224, 128, pool="max"),
)
_STEM_CHANNELS = 192


class BNInception(nn.Module):
    """BN-Inception: 10.3 M parameters before the classifier, 1024 features.

    Sides of 224 and all multiples of 32 work; a side that leaves an odd grid before a halving
    block does not, as in Caffe.
    """

    num_blocks = len(_BLOCKS)

    def __init__(self, *, in_channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", in_channels, 64, kernel=7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, kernel=1)
        self._add("conv2_3x3", 64, _STEM_CHANNELS, kernel=3)
        channels = _STEM_CHANNELS
        for block in _BLOCKS:
            channels = self._add_block(block, channels)
        self.num_features = self.head_hidden_size = channels
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def _add(self, name: str, before: int, after: int, *, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.add_module(name, conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(after))

    def _add_block(self, block: _Block, channels: int) -> int:
        prefix = f"inception_{block.name}_"
        if block.c1x1:
            self._add(prefix + "1x1", channels, block.c1x1, kernel=1)
        self._add(prefix + "3x3_reduce", channels, block.c3x3_reduce, kernel=1)
        self._add(prefix + "3x3", block.c3x3_reduce, block.c3x3, kernel=3, stride=block.stride)
        self._add(prefix + "double_3x3_reduce", channels, block.double_reduce, kernel=1)
        self._add(prefix + "double_3x3_1", block.double_reduce, block.double, kernel=3)
        double_2 = prefix + "double_3x3_2"
        self._add(double_2, block.double, block.double, kernel=3, stride=block.stride)
        if block.projection:
            self._add(prefix + "pool_proj", channels, block.projection, kernel=1)
        return block.out_channels(channels)

    def _conv(self, name: str, x: Tensor) -> Tensor:
        normalised = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return functional.relu(normalised, inplace=True)

    def _chain(self, prefix: str, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self._conv(prefix + name, x)
        return x

    def run_block(self, block: _Block, x: Tensor) -> Tensor:
        """Run one of the ten inception blocks; their layers lie flat in this module."""
        if block.stride == 2 and (x.shape[-1] % 2 or x.shape[-2] % 2):
            raise KinemaError(
                f"bn_inception has an odd grid of {x.shape[-2]}x{x.shape[-1]} before block "
                f"{block.name}: choose a data.crop that is a multiple of 32, such as 224."
            )
        prefix = f"inception_{block.name}_"
        branches = [self._conv(prefix + "1x1", x)] if block.c1x1 else []
        branches.append(self._chain(prefix, ("3x3_reduce", "3x3"), x))
        double = ("double_3x3_reduce", "double_3x3_1", "double_3x3_2")
        branches.append(self._chain(prefix, double, x))
        pooled = _pool(block, x)
        branches.append(self._conv(prefix + "pool_proj", pooled) if block.projection else pooled)
        return torch.cat(branches, 1)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 1024, H/32, W/32)."""
        x = _halve(self._conv("conv1_7x7_s2", x_BCHW))
        x = _halve(self._chain("", ("conv2_3x3_reduce", "conv2_3x3"), x))
        for block in _BLOCKS:
            x = self.run_block(block, x)
        return x

    def forward_head(self, x_BFHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the pooled features (B, F) with `pre_logits`."""
        pooled: Tensor = self.drop(x_BFHW.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCHW))


def _halve(x: Tensor) -> Tensor:
    """Max pooling of Caffe: no padding, the last window may hang over (ceil mode)."""
    return functional.max_pool2d(x, 3, stride=2, ceil_mode=True)


def _pool(block: _Block, x: Tensor) -> Tensor:
    if block.stride == 2:
        return _halve(x)
    if block.pool == "max":
        return functional.max_pool2d(x, 3, stride=1, padding=1)
    return functional.avg_pool2d(x, 3, stride=1, padding=1)
