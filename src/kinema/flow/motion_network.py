"""MotionNet: estimates the flow between frames that are one after the other, at five scales.

Zhu et al., Hidden Two-Stream Convolutional Networks for Action Recognition (ACCV 2018). The paper's
network is here, and the table of names; the small one is in `kinema.flow.motion_tiny`.

Shapes: B clips, T frames, C channels, H, W; flow has 2 channels, x (to the right) and y (down).
"""

from collections.abc import Callable, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError, UsageError, did_you_mean
from kinema.flow.motion_tiny import TinyMotionNet

SCALES = 5  # of flow: 1/2 to 1/32 of the frames
_COARSEST = 32  # sides are brought to multiples of this
_FRAMES = 11  # of the paper's network: 10 pairs
_PIXELS = 20.0  # an output of 1 stands for so many pixels of the frames
_SLOPE = 0.1
_LUMA = (0.299, 0.587, 0.114)  # BT.601, as OpenCV makes gray


class MotionNetwork(Protocol):
    """What both networks have."""

    channels: int  # 1: gray frames; 3: RGB
    frames: int  # that are seen together; 2: every pair by itself

    def __call__(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return flow (B, T-1, 2, h, w) at every scale, the finest first, pixels of the scale."""

    def encode(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return feature maps, the finest first: (B, T, C, h, w), or (B, C, h, w) of all frames."""

    def decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the flow that follows from the feature maps."""


class MotionNet(nn.Module):
    """The paper's network: an encoder and decoder like FlowNet's over 11 RGB frames.

    42 million parameters. Frames are 0 to 1, their sides multiples of 32.
    """

    channels, frames = 3, _FRAMES

    def __init__(self) -> None:
        super().__init__()
        outputs = 2 * (_FRAMES - 1)
        widths = (64, 128, 256, 512, 512, 1024)
        self.encoder = nn.ModuleList()
        previous = 3 * _FRAMES
        for level, width in enumerate(widths):
            stride = 2 if level else 1
            self.encoder.append(nn.Sequential(_conv(previous, width, stride), _conv(width, width)))
            previous = width
        self.predict = nn.ModuleList([nn.Conv2d(previous, outputs, 3, padding=1)])
        self.widen, self.upsample, self.smooth = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for skip, width in zip(widths[-2:0:-1], (512, 256, 128, 64), strict=True):
            self.widen.append(nn.ConvTranspose2d(previous, width, 4, stride=2, padding=1))
            self.upsample.append(nn.ConvTranspose2d(outputs, outputs, 4, stride=2, padding=1))
            self.smooth.append(nn.Conv2d(skip + width + outputs, width, 3, padding=1))
            self.predict.append(nn.Conv2d(width, outputs, 3, padding=1))
            previous = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                nn.init.zeros_(cast(Tensor, module.bias))
        for module in self.predict:  # begins with almost no motion
            nn.init.normal_(cast(nn.Conv2d, module).weight, std=1e-3)

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return flow (B, 10, 2, h, w) at 1/2, 1/4, … 1/32, in pixels of the scale.

        Raises:
            KinemaError: there are not 11 RGB frames.
        """
        return self.decode(self.encode(frames_BTCHW))

    def encode(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Return the features (B, C, h, w) of all frames together at 1, 1/2, … 1/32.

        Raises:
            KinemaError: there are not 11 RGB frames.
        """
        if frames_BTCHW.shape[1:3] != (_FRAMES, 3):
            raise KinemaError(
                f"MotionNet takes {_FRAMES} RGB frames, (B, {_FRAMES}, 3, H, W), but was given "
                f"{tuple(frames_BTCHW.shape)}: use data.frames={_FRAMES}."
            )
        x, maps = frames_BTCHW.flatten(1, 2) - 0.45, []
        for layer in self.encoder:
            x = layer(x)
            maps.append(x)
        return maps

    def decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the flow of `forward` from the features of `encode`."""
        x = maps[-1]
        outputs = [self.predict[0](x)]
        for step, skip in enumerate(reversed(maps[1:-1])):
            wide = functional.leaky_relu(self.widen[step](x), _SLOPE)
            up = self.upsample[step](outputs[-1])
            x = self.smooth[step](torch.cat([skip, wide, up], dim=1))
            outputs.append(self.predict[step + 1](x))
        return [
            output.view(-1, _FRAMES - 1, 2, *output.shape[2:]) * (_PIXELS / 2 ** (scale + 1))
            for scale, output in enumerate(reversed(outputs))
        ]


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "motionnet": MotionNet,
    "motionnet-tiny": TinyMotionNet,
}


def build_motion_network(name: str) -> nn.Module:
    """Return a new network that estimates flow.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in NETWORKS:
        raise UsageError(
            f"There is no network '{name}' for motion.{did_you_mean(name, NETWORKS)} "
            f"Known: {', '.join(NETWORKS)}."
        )
    return NETWORKS[name]()


def motion_input(network: nn.Module, frames_BTCHW: Tensor) -> Tensor:
    """Return RGB or gray frames with as many channels as the network takes.

    RGB becomes gray by BT.601; a gray frame is given to an RGB network three times.
    """
    channels = cast(MotionNetwork, network).channels
    if frames_BTCHW.shape[2] == channels:
        return frames_BTCHW
    if channels == 3:
        return frames_BTCHW.expand(-1, -1, 3, -1, -1)
    weights = torch.tensor(_LUMA, dtype=frames_BTCHW.dtype, device=frames_BTCHW.device)
    return (frames_BTCHW * weights.view(-1, 1, 1)).sum(2, keepdim=True)


def widened(frames_BTCHW: Tensor) -> Tensor:
    """Widen frames to sides that are multiples of 32, by their border pixels."""
    height, width = frames_BTCHW.shape[3:]
    extra = (-width % _COARSEST, -height % _COARSEST)
    if not any(extra):
        return frames_BTCHW
    flat = functional.pad(frames_BTCHW.flatten(0, 1), (0, extra[0], 0, extra[1]), mode="replicate")
    return flat.view(*frames_BTCHW.shape[:2], *flat.shape[1:])


def full_flow(network: nn.Module, frames_BTCHW: Tensor) -> Tensor:
    """Return the flow (B, T-1, 2, H, W) of frames of 0 to 1, RGB or gray, in their own pixels.

    Sides that are no multiples of 32 are widened by their border pixels for the network.
    """
    height, width = frames_BTCHW.shape[3:]
    x_BTCHW = widened(motion_input(network, frames_BTCHW))
    return at_frame_size(network(x_BTCHW)[0], height=height, width=width)


def at_frame_size(finest_BT2HW: Tensor, *, height: int, width: int) -> Tensor:
    """Return the finest flow of a network (half the size) at the frames' size, in their pixels."""
    finest = finest_BT2HW.float()
    flat = functional.interpolate(
        finest.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False
    )
    return 2 * flat[:, :, :height, :width].reshape(*finest.shape[:3], height, width)
