"""Modalities as values: what the images of a stream are and how they become a network's input.

Shapes: B videos, N snippets, T images per snippet, C channels, H and W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kinema.config import Normalise
from kinema.errors import UsageError, did_you_mean

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_MEAN_STD = 0.226  # mean of the three: for channels that are no colours
_FLOW_ZERO = 128.0  # the uint8 value that stands for no motion


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of input.

    `mean` and `std` are for images scaled to 0..1, `caffe_mean` is for 0..255 (in BGR order for
    colours). `negated_channels` are those of one image that change their sign in a mirror.
    `extra_frames` are read beyond the stack: differences need one frame more.
    """

    name: str
    stream: Literal["rgb", "flow"]
    channels_per_image: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    caffe_mean: tuple[float, ...]
    negated_channels: tuple[int, ...] = ()
    extra_frames: int = 0

    def input_channels(self, stack: int) -> int:
        """Return how many channels a network sees for `stack` images."""
        return stack * self.channels_per_image

    def images_read(self, stack: int) -> int:
        """Return how many images of the stream one snippet takes."""
        return stack + self.extra_frames

    def prepare(self, x_BNTCHW: Tensor, *, normalise: Normalise) -> Tensor:
        """Turn images of 0..255 into the network's float32 input, on their own device.

        - ``standard``: ``(x/255 - mean) / std``. Flow is zero at 128; the differences of
          ``rgbdiff`` have no mean, and 0.226 as standard deviation.
        - ``unit``: ``x/255``, nothing else.
        - ``caffe``: 0..255 less ``caffe_mean``, colours in BGR order.

        `rgbdiff` takes frame t+1 less frame t first, so T frames become T-1 images
        (tsn-pytorch: differences of the unnormalised frames, which is ``caffe`` here for
        BN-Inception and ``unit`` for its other networks).

        Args:
            x_BNTCHW: uint8 (or float with the same scale), RGB or flow channels.
            normalise: the rule.

        Returns:
            (B, N, T', C, H, W) with T' = T - `extra_frames`.
        """
        if normalise == "caffe" and self.channels_per_image == 3:
            x_BNTCHW = x_BNTCHW.flip(3)
        x = x_BNTCHW.float()
        if self.extra_frames:
            x = x[:, :, 1:] - x[:, :, :-1]
        scale, offset = self._scale_and_offset(normalise)
        return torch.addcmul(_per_channel(offset, x), x, _per_channel(scale, x))

    def _scale_and_offset(self, normalise: Normalise) -> tuple[list[float], list[float]]:
        if normalise == "caffe":
            return [1.0] * self.channels_per_image, [-mean for mean in self.caffe_mean]
        if normalise == "unit":
            return [1 / 255] * self.channels_per_image, [0.0] * self.channels_per_image
        return (
            [1 / (255 * std) for std in self.std],
            [-mean / std for mean, std in zip(self.mean, self.std, strict=True)],
        )


def _per_channel(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).reshape(-1, 1, 1)


MODALITIES: dict[str, Modality] = {
    "rgb": Modality(
        name="rgb",
        stream="rgb",
        channels_per_image=3,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        caffe_mean=(104.0, 117.0, 128.0),
    ),
    "flow": Modality(
        name="flow",
        stream="flow",
        channels_per_image=2,
        mean=(_FLOW_ZERO / 255,) * 2,
        std=(_MEAN_STD,) * 2,
        caffe_mean=(_FLOW_ZERO,) * 2,
        negated_channels=(0,),
    ),
    "rgbdiff": Modality(
        name="rgbdiff",
        stream="rgb",
        channels_per_image=3,
        mean=(0.0,) * 3,
        std=(_MEAN_STD,) * 3,
        caffe_mean=(0.0,) * 3,
        extra_frames=1,
    ),
}


def get_modality(name: str) -> Modality:
    """Return a modality of the table.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in MODALITIES:
        raise UsageError(
            f"Unknown modality '{name}'.{did_you_mean(name, MODALITIES)} "
            f"Choose {', '.join(MODALITIES)}."
        )
    return MODALITIES[name]
