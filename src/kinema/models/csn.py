"""Channel-separated networks: 3D ResNets whose 3x3x3 convolutions are depth-wise.

Source: Tran et al., arXiv 1904.02811, with the layers and names of VMZ, which are those of
torchvision's video ResNets.

Shapes: B clips, C channels, T images, H and W pixels.
"""

from torch import Tensor, nn

from kinema.models.clip_network import (
    KINETICS_MEAN,
    KINETICS_STD,
    ClipNetwork,
    describe_input,
    start_weights,
)
from kinema.models.clip_shape import ClipShape

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_EXPANSION = 4
_EPSILON = 1e-3  # of every BatchNorm


class CSNBlock(nn.Module):
    """1x1x1, depth-wise 3x3x3 with the stride in time and space, 1x1x1.

    `preserved`: a 1x1x1 convolution before the depth-wise one keeps the interaction of channels
    that a full 3x3x3 convolution had (ip-CSN); without it is ir-CSN.
    """

    def __init__(self, before: int, width: int, *, stride: int, preserved: bool) -> None:
        super().__init__()
        after = width * _EXPANSION
        depthwise: nn.Module = nn.Conv3d(
            width, width, 3, stride=stride, padding=1, groups=width, bias=False
        )
        if preserved:
            interaction = nn.Conv3d(width, width, 1, bias=False)
            depthwise = nn.Sequential(interaction, _norm(width), depthwise)
        self.conv1 = nn.Sequential(
            nn.Conv3d(before, width, 1, bias=False), _norm(width), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(depthwise, _norm(width), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(nn.Conv3d(width, after, 1, bias=False), _norm(after))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), _norm(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, rectified."""
        out: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))
        return out


class CSN(ClipNetwork):
    """A channel-separated ResNet, 2048 features; strides of 8 in time and 32 in space.

    Args:
        depth: 50, 101 or 152.
        shape: what it is built for.
        preserved: interaction-preserved blocks (ip-CSN) instead of interaction-reduced ones.
    """

    def __init__(self, depth: int, shape: ClipShape, *, preserved: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(
                shape.in_channels, 64, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False
            ),
            _norm(64),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )
        before = 64
        for stage, count in enumerate(_BLOCKS[depth]):
            width = 64 * 2**stage
            blocks = []
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(CSNBlock(before, width, stride=stride, preserved=preserved))
                before = width * _EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.add_head(before, num_classes=shape.num_classes, dropout=shape.dropout)
        start_weights(self)
        self.pretrained_cfg = describe_input(
            mean=KINETICS_MEAN, std=KINETICS_STD, first_conv="stem.0"
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 2048, T/8, H/32, W/32), each rounded up."""
        x: Tensor = self.stem(x_BCTHW)
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=_EPSILON)


def ircsn_resnet50(shape: ClipShape, /) -> CSN:
    """Interaction-reduced, 50 layers."""
    return CSN(50, shape, preserved=False)


def ircsn_resnet101(shape: ClipShape, /) -> CSN:
    """Interaction-reduced, 101 layers: 22.21 M parameters with 400 classes."""
    return CSN(101, shape, preserved=False)


def ircsn_resnet152(shape: ClipShape, /) -> CSN:
    """Interaction-reduced, 152 layers."""
    return CSN(152, shape, preserved=False)


def ipcsn_resnet50(shape: ClipShape, /) -> CSN:
    """Interaction-preserved, 50 layers."""
    return CSN(50, shape, preserved=True)
