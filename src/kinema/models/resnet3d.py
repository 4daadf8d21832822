"""3D ResNets and R(2+1)D of 10 to 200 layers that convolve and stride in time everywhere.

Source: Hara et al., arXiv 1711.09577 and 2004.04968, with the layer names of their published
weights (``conv1``, ``layer1.0.conv1``, ``downsample.0``; R(2+1)D: ``conv1_s`` in space and
``conv1_t`` in time, Tran et al., arXiv 1711.11248). Shortcuts of other widths are projections.

Shapes: B clips, C channels, T images, H and W pixels.
"""

from functools import partial

from torch import Tensor, nn

from kinema.models.clip_network import ClipNetwork, describe_input
from kinema.models.clip_shape import ClipShape

BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_DEEPEST_BASIC = 34  # deeper ones have bottlenecks
# Of Kinetics, which the published weights of 2020 were trained with.
_MEAN, _STD = (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)


def middle_channels(before: int, after: int, *, kernel: int = 3, time: int = 3) -> int:
    """Return the width between the parts of a (2+1)D convolution: parameters as for a full one."""
    full = before * after * kernel * kernel * time
    return full // (before * kernel * kernel + time * after)


class _Block(nn.Module):
    """The shortcut and the sum; `branch` is a subclass's."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self._shortcut: tuple[int, int, int] | None = None
        if stride != 1 or before != after:
            self._shortcut = (before, after, stride)

    def add_shortcut(self) -> None:
        """Append the projection; it comes last, as in the published files."""
        self.downsample: nn.Module = nn.Identity()
        if self._shortcut:
            before, after, stride = self._shortcut
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after)
            )

    def add(self, name: str, before: int, after: int, *, split: bool, stride: int = 1) -> None:
        """Append a 3x3x3 convolution with BatchNorm, or its parts in space and time."""
        if not split:
            self.add_module(
                f"conv{name}", nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False)
            )
            self.add_module(f"bn{name}", nn.BatchNorm3d(after))
            return
        middle = middle_channels(before, after)
        space = nn.Conv3d(
            before, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        time = nn.Conv3d(
            middle, after, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False
        )
        self.add_module(f"conv{name}_s", space)
        self.add_module(f"bn{name}_s", nn.BatchNorm3d(middle))
        self.add_module(f"conv{name}_t", time)
        self.add_module(f"bn{name}_t", nn.BatchNorm3d(after))

    def run(self, name: str, x: Tensor) -> Tensor:
        """Apply what `add` appended, without the last ReLU."""
        layers = self._modules
        if f"conv{name}" in layers:
            parts: tuple[str, ...] = (name,)
        else:
            parts = (f"{name}_s", f"{name}_t")
        for i, part in enumerate(parts):
            x = self.get_submodule(f"conv{part}")(self.relu(x) if i else x)
            x = self.get_submodule(f"bn{part}")(x)
        return x


class BasicBlock3D(_Block):
    """Two 3x3x3 convolutions, the first with the stride."""

    expansion = 1

    def __init__(self, before: int, width: int, *, stride: int = 1, split: bool = False) -> None:
        super().__init__(before, width, stride=stride)
        self.add("1", before, width, split=split, stride=stride)
        self.add("2", width, width, split=split)
        self.add_shortcut()

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, rectified."""
        out = self.run("2", self.relu(self.run("1", x)))
        result: Tensor = self.relu(out + self.downsample(x))
        return result


class Bottleneck3D(_Block):
    """1x1x1, 3x3x3 with the stride, 1x1x1."""

    expansion = 4

    def __init__(self, before: int, width: int, *, stride: int = 1, split: bool = False) -> None:
        after = width * self.expansion
        super().__init__(before, after, stride=stride)
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.add("2", width, width, split=split, stride=stride)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.add_shortcut()

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, rectified."""
        out = self.relu(self.run("2", self.relu(self.bn1(self.conv1(x)))))
        result: Tensor = self.relu(self.bn3(self.conv3(out)) + self.downsample(x))
        return result


class ResNet3D(ClipNetwork):
    """A ResNet of 3x3x3 convolutions: stride 2 in space at the stem, 2 in all at each stage.

    Images of 112 pixels and 16 of them are usual; one image and 16 pixels are enough.

    Args:
        shape: what it is built for; channels, classes and dropout are used.
        depth: a key of `BLOCKS`.
        split: R(2+1)D, every convolution in time and space is one in space and one in time.
    """

    def __init__(self, shape: ClipShape, /, *, depth: int, split: bool = False) -> None:
        super().__init__()
        self._add_stem(shape.in_channels, split=split)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        block = BasicBlock3D if depth <= _DEEPEST_BASIC else Bottleneck3D
        before = 64
        for stage, count in enumerate(BLOCKS[depth]):
            width = 64 * 2**stage
            blocks: list[nn.Module] = []
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(block(before, width, stride=stride, split=split))
                before = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.add_head(before, num_classes=shape.num_classes, dropout=shape.dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        first = "conv1_s" if split else "conv1"
        self.pretrained_cfg = describe_input(mean=_MEAN, std=_STD, first_conv=first)

    def _add_stem(self, channels: int, *, split: bool) -> None:
        if not split:
            self.conv1 = nn.Conv3d(channels, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
            self.bn1 = nn.BatchNorm3d(64)
            return
        # The width is that for three channels, so that all modalities have the same layers.
        middle = middle_channels(3, 64, kernel=7, time=7)
        self.conv1_s = nn.Conv3d(
            channels, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False
        )
        self.bn1_s = nn.BatchNorm3d(middle)
        self.conv1_t = nn.Conv3d(middle, 64, (7, 1, 1), padding=(3, 0, 0), bias=False)
        self.bn1_t = nn.BatchNorm3d(64)

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 512 or 2048, T/16, H/32, W/32), rounded up."""
        x = x_BCTHW
        for name, layer in self.named_children():
            if name in ("relu", "drop", "fc"):
                continue
            x = layer(x)
            if name.startswith("bn1"):
                x = self.relu(x)
        return x


RESNET3D = {f"resnet3d{depth}": partial(ResNet3D, depth=depth) for depth in BLOCKS}
RESNET2P1D = {f"resnet2p1d{depth}": partial(ResNet3D, depth=depth, split=True) for depth in BLOCKS}
