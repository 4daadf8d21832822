"""A small MotionNet that is fast on a CPU: gray frames, every pair by itself, coarse to fine.

It has the losses and the scales of the paper's network, but looks for motion the way of PWC-Net
(Sun et al., CVPR 2018): features of both frames are compared within a small window around the
motion that the coarser scale has found. So it learns from few videos, and motion of any length is
within its reach.

Shapes: B clips, T frames, P pairs of all clips, C channels, H, W; flow has 2 channels.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.flow.backward_warp import warp

_WIDTHS = (12, 24, 32, 48, 64)  # of the features at 1/2 to 1/32
_REACH = (0, 2, 3, 3, 3)  # pixels of the scale that motion is looked for in; 0: not at all
_HIDDEN = (16, 32, 48, 48, 48)
_SLOPE = 0.1


class TinyMotionNet(nn.Module):
    """Flow of neighbouring frames by one network for all pairs; 0.35 million parameters.

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
                    *_conv(compared + width + 2, hidden),
                    *_conv(hidden, hidden),
                    nn.Conv2d(hidden, 2, 3, padding=1),
                )
            )
            previous = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                nn.init.zeros_(cast(Tensor, module.bias))
        for decoder in self.decoder:  # begins with almost no motion
            nn.init.normal_(cast(nn.Sequential, decoder)[-1].weight, std=1e-2)  # type: ignore[arg-type]

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return flow (B, T-1, 2, h, w) at 1/2, 1/4, … 1/32, in pixels of the scale.

        Raises:
            KinemaError: the frames are not gray, or only one.
        """
        num_clips, num_frames = frames_BTCHW.shape[:2]
        if num_frames < 2 or frames_BTCHW.shape[2] != 1:
            raise KinemaError(
                "The small MotionNet takes two gray frames at least, (B, T, 1, H, W), but was "
                f"given {tuple(frames_BTCHW.shape)}."
            )
        x, levels = (frames_BTCHW.flatten(0, 1) - 0.45) * 4, []
        for layer in self.encoder:
            x = layer(x)
            levels.append(x.view(num_clips, num_frames, *x.shape[1:]))
        flow_P2HW, flows = _no_motion(levels[-1]), []
        for scale in reversed(range(len(levels))):
            if scale < len(levels) - 1:
                flow_P2HW = 2 * functional.interpolate(
                    flow_P2HW, scale_factor=2, mode="bilinear", align_corners=False
                )
            flow_P2HW = self._refined(scale, levels[scale], flow_P2HW)
            flows.append(flow_P2HW.view(num_clips, num_frames - 1, *flow_P2HW.shape[1:]))
        return flows[::-1]

    def _refined(self, scale: int, features_BTCHW: Tensor, flow_P2HW: Tensor) -> Tensor:
        first, second = features_BTCHW[:, :-1].flatten(0, 1), features_BTCHW[:, 1:].flatten(0, 1)
        second = warp(second.float(), flow_P2HW.float())
        reach = _REACH[scale]
        compared = correlation(first, second, reach=reach) if reach else first - second
        x = torch.cat([compared.to(first.dtype), first, flow_P2HW.to(first.dtype)], dim=1)
        change: Tensor = self.decoder[scale](x)
        return flow_P2HW + change.float()


def correlation(first_PCHW: Tensor, second_PCHW: Tensor, *, reach: int) -> Tensor:
    """Compare every pixel with those around its place in another map, (P, (2 reach + 1)^2, H, W).

    Features are brought to the length 1 before, so the values are cosines; rows of places first.
    """
    height, width = first_PCHW.shape[2:]
    first = functional.normalize(first_PCHW.float(), dim=1)
    second = functional.pad(functional.normalize(second_PCHW.float(), dim=1), (reach,) * 4)
    rows = [
        (first * second[:, :, dy : dy + height, dx : dx + width]).sum(1)
        for dy in range(2 * reach + 1)
        for dx in range(2 * reach + 1)
    ]
    return torch.stack(rows, dim=1)


def _no_motion(features_BTCHW: Tensor) -> Tensor:
    num_clips, num_frames, _, height, width = features_BTCHW.shape
    return torch.zeros(num_clips * (num_frames - 1), 2, height, width, device=features_BTCHW.device)


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )
