"""TSM: 2D ResNets see neighbours in time by shifting channels (Lin et al., arXiv 1811.08383).

Shapes: B videos, N snippets, C channels, H and W pixels.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kinema.errors import KinemaError, UsageError

_STAGES = ("layer1", "layer2", "layer3", "layer4")
_DEEP_STAGE = 23  # blocks of the third stage from which on every second block shifts


def shift_channels(x_BNCHW: Tensor, *, div: int) -> Tensor:
    """Move the first C // div channels one snippet back, the next C // div one snippet on.

    A snippet thus gets channels of the one after it and of the one before it. What comes in at
    the ends of the video is 0; what goes out is lost.
    """
    fold = x_BNCHW.shape[2] // div
    sizes = [fold, fold, x_BNCHW.shape[2] - 2 * fold]
    from_next, from_last, kept = torch.split(x_BNCHW, sizes, dim=2)
    nothing = torch.zeros_like(from_next[:, :1])
    return torch.cat(
        [
            torch.cat([from_next[:, 1:], nothing], 1),
            torch.cat([nothing, from_last[:, :-1]], 1),
            kept,
        ],
        2,
    )


class TemporalShift:
    """The shift before some layers of a network; it runs as their hook, so names stay as they are.

    `num_snippets` is N of the images that come next: the network sets it before each forward.
    """

    def __init__(self, *, div: int, num_snippets: int) -> None:
        self.div, self.num_snippets = div, num_snippets

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Shift a layer's input (B * N, C, H, W)."""
        x_BNCHW = args[0].reshape(-1, self.num_snippets, *args[0].shape[1:])
        return (shift_channels(x_BNCHW, div=self.div).flatten(0, 1), *args[1:])


def add_shift(
    backbone: nn.Module,
    *,
    name: str,
    place: Literal["residual", "inplace"],
    div: int,
    num_snippets: int,
) -> TemporalShift:
    """Let a ResNet of timm or torchvision shift, and return what holds its number of snippets.

    Args:
        backbone: the network, changed in place.
        name: its name, for messages.
        place: ``residual`` shifts what enters the branch of each residual block (of every second
            block where the third stage has 23 or more, as in ResNet-101), the shortcut keeps its
            own image; ``inplace`` shifts what enters every block, shortcut too.
        div: one part of this many goes each way.
        num_snippets: N in training.

    Raises:
        KinemaError: `div` below 2.
        UsageError: the network is no ResNet.
    """
    if div < 2:
        raise KinemaError(
            f"model.shift_div={div} is not possible: two parts are shifted, so choose 2 or more "
            "(the published networks have 8)."
        )
    stages = [getattr(backbone, stage, None) for stage in _STAGES]
    blocks = [
        list(stage.children()) if isinstance(stage, nn.Sequential) else [] for stage in stages
    ]
    if not all(stage and all(_is_2d(block) for block in stage) for stage in blocks):
        raise UsageError(
            f"model.shift={place} is for ResNets, '{name}' has no residual blocks of their kind: "
            "set model.shift=none, or choose resnet18, resnet50 or another ResNet."
        )
    every = 2 if place == "residual" and len(blocks[2]) >= _DEEP_STAGE else 1
    shift = TemporalShift(div=div, num_snippets=num_snippets)
    for stage in blocks:
        for block in stage[::every]:
            layer = block.get_submodule("conv1") if place == "residual" else block
            layer.register_forward_pre_hook(shift)
    return shift


def _is_2d(block: nn.Module) -> bool:
    return isinstance(getattr(block, "conv1", None), nn.Conv2d)
