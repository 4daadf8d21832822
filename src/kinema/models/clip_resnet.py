"""3D ResNets with torchvision's layer names: I3D-ResNet, C2D and SlowOnly.

A 2D ResNet whose first convolutions of some blocks also see neighbours in time; stride in time
only by an optional pooling. Sources: Wang et al., arXiv 1711.07971, table 1 (C2D, I3D);
Feichtenhofer et al., arXiv 1812.03982, table 1 (the slow pathway).

Shapes: B clips, C channels, T images, H and W pixels.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from kinema.models.clip_network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINETICS_MEAN,
    KINETICS_STD,
    ClipNetwork,
    describe_input,
    start_weights,
)
from kinema.models.clip_shape import ClipShape, check_frames
from kinema.models.nonlocal_block import NonlocalBlock, nonlocal_form, nonlocal_places

BLOCKS: dict[int, tuple[int, ...]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4  # channels out of a bottleneck by those inside


@dataclass(frozen=True, kw_only=True)
class ResNetPlan:
    """Sizes of a ResNet in time; in space it is the 2D ResNet of the same blocks."""

    blocks: tuple[int, ...]  # per stage
    stem_kernel: int  # in time
    kernels: tuple[tuple[int, ...], ...]  # in time, of each stage's blocks in turn, repeated
    pool_time: bool = False  # halve the images behind the first stage
    zero_last: bool = True  # the last BatchNorm of each block starts with scale 0
    width: int = 64
    fused: int = 0  # channels that another pathway adds behind the stem; behind the stages more


_I3D = ResNetPlan(
    blocks=BLOCKS[50],
    stem_kernel=5,
    kernels=((3,), (3, 1), (3, 1), (1, 3)),
    pool_time=True,
    zero_last=False,
)
_C2D = ResNetPlan(blocks=BLOCKS[50], stem_kernel=1, kernels=((1,),) * 4, pool_time=True)
SLOW = ResNetPlan(blocks=BLOCKS[50], stem_kernel=1, kernels=((1,), (1,), (3,), (3,)))


class ClipBottleneck(nn.Module):
    """(t,1,1), (1,3,3) with the stride, (1,1,1), and an optional non-local block behind."""

    def __init__(self, before: int, width: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        after = width * EXPANSION
        self.conv1 = nn.Conv3d(
            before, width, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(after),
            )
        self.nonlocal_block: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, rectified, through the non-local block."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        result: Tensor = self.nonlocal_block(self.relu(out + self.downsample(x)))
        return result


def resnet_layers(plan: ResNetPlan, *, in_channels: int) -> dict[str, nn.Module]:
    """Return the layers by torchvision's names, in the order of the forward pass, drawn anew."""
    stem = nn.Conv3d(
        in_channels,
        plan.width,
        (plan.stem_kernel, 7, 7),
        stride=(1, 2, 2),
        padding=(plan.stem_kernel // 2, 3, 3),
        bias=False,
    )
    layers: dict[str, nn.Module] = {
        "conv1": stem,
        "bn1": nn.BatchNorm3d(plan.width),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    }
    before, fused = plan.width, plan.fused
    for stage, (count, kernels) in enumerate(zip(plan.blocks, plan.kernels, strict=True)):
        width = plan.width * 2**stage
        blocks = [
            ClipBottleneck(
                width * EXPANSION if i else before + fused,
                width,
                kernel=kernels[i % len(kernels)],
                stride=2 if stage and not i else 1,
            )
            for i in range(count)
        ]
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
        before = width * EXPANSION
        fused = plan.fused * EXPANSION * 2**stage
        if plan.pool_time and not stage:
            layers["maxpool2"] = nn.MaxPool3d((2, 1, 1))
    _start(layers, zero_last=plan.zero_last)
    return layers


def _start(layers: dict[str, nn.Module], *, zero_last: bool) -> None:
    for layer in layers.values():
        start_weights(layer)
        for module in layer.modules():
            if zero_last and isinstance(module, ClipBottleneck):
                nn.init.zeros_(module.bn3.weight)


class ClipResNet(ClipNetwork):
    """A 3D ResNet, 2048 features.

    Args:
        plan: its sizes.
        shape: what it is built for; channels, classes, dropout and non-local blocks are used.
        mean: of the RGB images of its published weights.
        std: likewise.
    """

    def __init__(
        self,
        plan: ResNetPlan,
        shape: ClipShape,
        *,
        mean: tuple[float, ...] = KINETICS_MEAN,
        std: tuple[float, ...] = KINETICS_STD,
    ) -> None:
        super().__init__()
        layers = resnet_layers(plan, in_channels=shape.in_channels)
        self._order = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.add_head(
            plan.width * 8 * EXPANSION, num_classes=shape.num_classes, dropout=shape.dropout
        )
        start_weights(self.fc)
        self._add_nonlocal(plan, shape)
        self.pretrained_cfg = describe_input(mean=mean, std=std, first_conv="conv1")

    def _add_nonlocal(self, plan: ResNetPlan, shape: ClipShape) -> None:
        places = nonlocal_places(plan.blocks, total=shape.nonlocal_blocks)
        for stage, chosen in enumerate(places):
            channels = plan.width * EXPANSION * 2**stage
            for i in chosen:
                self.get_submodule(f"layer{stage + 1}.{i}").nonlocal_block = NonlocalBlock(
                    channels, form=nonlocal_form(shape.nonlocal_form), inner=channels // 2
                )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 2048, T or T // 2, H/32, W/32)."""
        x = x_BCTHW
        for name in self._order:
            x = self.get_submodule(name)(x)
        return x


def i3d_resnet50(shape: ClipShape, /) -> ClipResNet:
    """I3D-ResNet50 with the temporal kernels of Wang et al.: 28.04 M parameters, 400 classes."""
    check_frames("i3d_resnet50", shape, at_least=2)
    return ClipResNet(_I3D, shape, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def i3d_resnet101(shape: ClipShape, /) -> ClipResNet:
    """I3D-ResNet101, temporal kernels as for 50 layers."""
    check_frames("i3d_resnet101", shape, at_least=2)
    plan = replace(_I3D, blocks=BLOCKS[101])
    return ClipResNet(plan, shape, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def c2d_resnet50(shape: ClipShape, /) -> ClipResNet:
    """C2D: no convolution in time, one pooling; 24.33 M parameters with 400 classes."""
    check_frames("c2d_resnet50", shape, at_least=2)
    return ClipResNet(_C2D, shape)


def slowonly_resnet50(shape: ClipShape, /) -> ClipResNet:
    """The slow pathway alone, 50 layers: 32.45 M parameters with 400 classes."""
    return ClipResNet(SLOW, shape)


def slowonly_resnet101(shape: ClipShape, /) -> ClipResNet:
    """The slow pathway alone, 101 layers."""
    return ClipResNet(replace(SLOW, blocks=BLOCKS[101]), shape)
