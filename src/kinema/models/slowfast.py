"""SlowFast: a slow pathway of many channels and a fast one of many images.

Source: Feichtenhofer et al., arXiv 1812.03982, with the sizes of PySlowFast's configurations.

Shapes: B clips, C channels, T images, H and W pixels.
"""

from collections import OrderedDict
from dataclasses import replace

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
from kinema.models.clip_resnet import BLOCKS, EXPANSION, SLOW, ResNetPlan, resnet_layers
from kinema.models.clip_shape import ClipShape, check_frames

_BETA = 8  # the slow pathway has so many times the fast one's channels
_RATIO = 2  # channels of a lateral connection by those of the fast pathway
_STEPS = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}


class TwoPathways(nn.Module):
    """One step of both pathways; behind it the fast one's features join the slow one's."""

    def __init__(self, slow: nn.Module, fast: nn.Module, lateral: nn.Module | None) -> None:
        super().__init__()
        self.slow, self.fast, self.lateral = slow, fast, lateral

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the next step of each pathway takes."""
        slow, fast = self.slow(slow), self.fast(fast)
        if self.lateral is not None:
            slow = torch.cat([slow, self.lateral(fast)], 1)
        return slow, fast


class SlowFast(ClipNetwork):
    """Both pathways, 2048 + 256 features.

    The network takes the fast pathway's images; the slow pathway takes every `alpha`-th of them,
    beginning with the first, where the strided lateral convolutions look too. (PySlowFast spreads
    the slow images evenly from the first to the last image instead.)

    Args:
        depth: 50 or 101.
        shape: what it is built for.
        alpha: images of the fast pathway by those of the slow one.
        lateral_kernel: size in time of the lateral convolutions.
    """

    def __init__(self, depth: int, shape: ClipShape, *, alpha: int, lateral_kernel: int) -> None:
        super().__init__()
        self.alpha = alpha
        width = SLOW.width // _BETA
        slow = replace(SLOW, blocks=BLOCKS[depth], fused=width * _RATIO)
        fast = ResNetPlan(
            blocks=BLOCKS[depth], stem_kernel=5, kernels=((3,),) * len(BLOCKS[depth]), width=width
        )
        slow_layers = resnet_layers(slow, in_channels=shape.in_channels)
        fast_layers = resnet_layers(fast, in_channels=shape.in_channels)
        channels = width
        for step, names in _STEPS.items():
            lateral = None
            if step != "layer4":
                lateral = _lateral(channels, alpha=alpha, kernel=lateral_kernel)
                channels *= EXPANSION if step == "stem" else 2
            pathways = (_chain(slow_layers, names), _chain(fast_layers, names))
            self.add_module(step, TwoPathways(*pathways, lateral))
        self.add_head(
            (SLOW.width + width) * 8 * EXPANSION,
            num_classes=shape.num_classes,
            dropout=shape.dropout,
        )
        start_weights(self.fc)
        self.pretrained_cfg = describe_input(
            mean=KINETICS_MEAN, std=KINETICS_STD, first_conv=("stem.slow.conv1", "stem.fast.conv1")
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return both last feature maps as one, (B, 2048 + 256, T / alpha, H/32, W/32).

        The fast one is averaged over the images of each slow one, so that the mean over time is
        the same for both.
        """
        slow, fast = x_BCTHW[:, :, :: self.alpha], x_BCTHW
        for step in _STEPS:
            slow, fast = self.get_submodule(step)(slow, fast)
        fast = functional.adaptive_avg_pool3d(fast, (slow.shape[2], None, None))
        return torch.cat([slow, fast], 1)


def _chain(layers: dict[str, nn.Module], names: tuple[str, ...]) -> nn.Module:
    if len(names) == 1:
        return layers[names[0]]
    return nn.Sequential(OrderedDict((name, layers[name]) for name in names))


def _lateral(channels: int, *, alpha: int, kernel: int) -> nn.Sequential:
    lateral = nn.Sequential(
        nn.Conv3d(
            channels,
            channels * _RATIO,
            (kernel, 1, 1),
            stride=(alpha, 1, 1),
            padding=(kernel // 2, 0, 0),
            bias=False,
        ),
        nn.BatchNorm3d(channels * _RATIO),
        nn.ReLU(inplace=True),
    )
    start_weights(lateral)
    return lateral


def slowfast_4x16_resnet50(shape: ClipShape, /) -> SlowFast:
    """4 slow of 32 images: 34.48 M parameters with 400 classes."""
    check_frames("slowfast_4x16_resnet50", shape, at_least=8)
    return SlowFast(50, shape, alpha=8, lateral_kernel=5)


def slowfast_8x8_resnet50(shape: ClipShape, /) -> SlowFast:
    """8 slow of 32 images: 34.57 M parameters with 400 classes."""
    check_frames("slowfast_8x8_resnet50", shape, at_least=4)
    return SlowFast(50, shape, alpha=4, lateral_kernel=7)


def slowfast_4x16_resnet101(shape: ClipShape, /) -> SlowFast:
    """4 slow of 32 images, 101 layers: 62.83 M parameters with 400 classes."""
    check_frames("slowfast_4x16_resnet101", shape, at_least=8)
    return SlowFast(101, shape, alpha=8, lateral_kernel=5)


def slowfast_8x8_resnet101(shape: ClipShape, /) -> SlowFast:
    """8 slow of 32 images, 101 layers: 62.83 M parameters with 400 classes."""
    check_frames("slowfast_8x8_resnet101", shape, at_least=4)
    return SlowFast(101, shape, alpha=4, lateral_kernel=5)
