"""A small MotionNet that is fast on a CPU: gray frames, every pair by itself, coarse to fine.

It has the losses and the scales of the paper's network, but looks for motion the way of PWC-Net
(Sun et al., CVPR 2018): features of both frames are compared within a small window around the
motion that the coarser scale has found. So it learns from few videos, and motion of any length is
within its reach.

Shapes: B clips, T frames, P pairs of all clips, C channels, H, W; flow has 2 channels.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.flow.backward_warp import warp

_WIDTHS = (12, 24, 32, 48, 64)  # of the features at 1/2 to 1/32
_REACH = (0, 2, 3, 3, 3)  # pixels of the scale that motion is looked for in; 0: not at all
_HIDDEN = (16, 32, 48, 48, 48)
_PASSED = 8  # channels of findings that a scale hands to the next finer one
_SLOPE = 0.1


class TinyMotionNet(nn.Module):
    """Flow of neighbouring frames by one network for all pairs; 0.38 million parameters.

    Frames are gray, 0 to 1, their sides multiples of 32. A pair's flow is the same whatever the
    other frames are.
    """

    channels, frames = 1, 2

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        previous = 1
        for width, reach, hidden in zip(_WIDTHS, _REACH, _HIDDEN, strict=True):
            self.encoder.append(
                nn.Sequential(*_conv(previous, width, stride=2), *_conv(width, width))
            )
            compared = (2 * reach + 1) ** 2 if reach else width
            self.decoder.append(
                nn.Sequential(
                    *_conv(compared + width + 2 + _PASSED, hidden),
                    *_conv(hidden, hidden, dilation=2),
                    nn.Conv2d(hidden, 2 + _PASSED, 3, padding=1),
                )
            )
            previous = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                nn.init.zeros_(cast(Tensor, module.bias))
        for decoder in self.decoder:  # begins with almost no motion
            last = cast(nn.Conv2d, cast(nn.Sequential, decoder)[-1])
            nn.init.normal_(last.weight[:2], std=1e-2)

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return flow (B, T-1, 2, h, w) at 1/2, 1/4, … 1/32, in pixels of the scale.

        Raises:
            KinemaError: the frames are not gray, or only one.
        """
        return self.decode(self.encode(frames_BTCHW))

    def encode(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return the features of every frame at 1/2, 1/4, … 1/32, (B, T, C, h, w).

        Raises:
            KinemaError: the frames are not gray, or only one.
        """
        num_frames = frames_BTCHW.shape[1]
        if num_frames < 2 or frames_BTCHW.shape[2] != 1:
            raise KinemaError(
                "The small MotionNet takes two gray frames at least, (B, T, 1, H, W), but was "
                f"given {tuple(frames_BTCHW.shape)}."
            )
        x, maps = (frames_BTCHW.flatten(0, 1) - 0.45) * 4, []
        for layer in self.encoder:
            x = layer(x)
            maps.append(x.unflatten(0, (-1, num_frames)))
        return maps

    def decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the flow of `forward` from the features of `encode`."""
        num_clips, num_frames, _, height, width = maps[-1].shape
        num_pairs = num_clips * (num_frames - 1)
        known = torch.zeros(num_pairs, 2 + _PASSED, height, width, device=maps[-1].device)
        flows = []
        for scale in reversed(range(len(maps))):
            if scale < len(maps) - 1:
                known = functional.interpolate(
                    known, scale_factor=2, mode="bilinear", align_corners=False
                )
                known = torch.cat([2 * known[:, :2], known[:, 2:]], dim=1)
            known = self._refined(scale, maps[scale], known)
            flow_P2HW = known[:, :2]
            flows.append(flow_P2HW.reshape(num_clips, -1, *flow_P2HW.shape[1:]))
        return flows[::-1]

    def _refined(self, scale: int, features_BTCHW: Tensor, known_PCHW: Tensor) -> Tensor:
        """Return the flow of a scale, and what it hands on, from those of the coarser one."""
        first, second = features_BTCHW[:, :-1].flatten(0, 1), features_BTCHW[:, 1:].flatten(0, 1)
        flow_P2HW = known_PCHW[:, :2]
        second = warp(second.float(), flow_P2HW)
        reach = _REACH[scale]
        compared = correlation(first, second, reach=reach) if reach else first - second
        x = torch.cat([compared.to(first.dtype), first, known_PCHW.to(first.dtype)], dim=1)
        found: Tensor = self.decoder[scale](x).float()
        return torch.cat([flow_P2HW + found[:, :2], found[:, 2:]], dim=1)


def correlation(first_PCHW: Tensor, second_PCHW: Tensor, *, reach: int) -> Tensor:
    """Compare every pixel with those around its place in another map, (P, (2 reach + 1)^2, H, W).

    Features are brought to the length 1 before, so the values are cosines; rows of places first.
    """
    first = functional.normalize(first_PCHW.float(), dim=1)
    second = functional.normalize(second_PCHW.float(), dim=1)
    compared: Tensor = _Products.apply(first, second, reach)
    return compared


class _Products(torch.autograd.Function):
    """Products, summed over channels, of a map and another one shifted to every place around.

    By hand: autograd would fill a whole map with zeros for each of the places.
    """

    @staticmethod
    def forward(ctx: Any, first_PCHW: Tensor, second_PCHW: Tensor, reach: int) -> Tensor:  # noqa: ANN401
        second = functional.pad(second_PCHW, (reach,) * 4)
        ctx.save_for_backward(first_PCHW, second)
        ctx.reach = reach
        places = _places(first_PCHW, reach)
        return torch.stack([(first_PCHW * second[place]).sum(1) for place in places], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        first, second = ctx.saved_tensors
        to_first, to_second = torch.zeros_like(first), torch.zeros_like(second)
        places = _places(first, ctx.reach)
        for number, place in enumerate(places):
            grad_P1HW = gradients[0][:, number, None]
            to_first.addcmul_(grad_P1HW, second[place])
            to_second[place].addcmul_(grad_P1HW, first)
        return to_first, functional.pad(to_second, (-ctx.reach,) * 4), None


def _places(x_PCHW: Tensor, reach: int) -> list[tuple[slice, slice, slice, slice]]:
    """Return where a map lies in one that is wider by `reach`, shifted to every place around."""
    height, width = x_PCHW.shape[2:]
    everything, shifts = slice(None), range(2 * reach + 1)
    return [
        (everything, everything, slice(dy, dy + height), slice(dx, dx + width))
        for dy in shifts
        for dx in shifts
    ]


def _conv(
    in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )
