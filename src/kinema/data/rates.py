"""Images of a video at another rate, chosen as torchvision's video loader does."""

import math
from collections.abc import Sequence

from kinema.data.transforms import Images
from kinema.video.frames import FrameSource


def resampled_count(num_images: int, *, step: float) -> int:
    """Return how many of `num_images` images are taken.

    A whole step takes every step-th image; otherwise the count is that of whole new intervals.
    A video with images keeps at least one.

    Args:
        num_images: of the video.
        step: the video's rate over the new one.
    """
    if float(step).is_integer():
        return -(-num_images // int(step))
    return max(math.floor(num_images / step), min(num_images, 1))


def resampled_indices(indices: Sequence[int], *, step: float) -> list[int]:
    """Return the images of the video that stand for images at the new rate."""
    return [math.floor(index * step) for index in indices]


class Resampled:
    """A source of images whose numbers count at another rate.

    Flow keeps its vectors: they are those of the video's own neighbouring frames.
    """

    def __init__(self, source: FrameSource, *, step: float) -> None:
        self._source, self._step = source, step

    @property
    def num_frames(self) -> int:
        """How many images there are at the new rate."""
        return resampled_count(self._source.num_frames, step=self._step)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self._source.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self._source.width

    def read(self, indices: Sequence[int]) -> Images:
        """Return the images (T, H, W, C) of these numbers."""
        return self._source.read(resampled_indices(indices, step=self._step))

    def close(self) -> None:
        """Close the source."""
        self._source.close()
