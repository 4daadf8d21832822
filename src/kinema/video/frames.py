"""Frames by number, whatever they are kept in: a video file, or numbered images.

Shapes: T frames, H height, W width, C channels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.video.images import ImageFrames, is_images
from kinema.video.reader import VideoReader


class FrameSource(Protocol):
    """Anything that gives frames by number."""

    @property
    def num_frames(self) -> int:
        """How many frames there are, numbered from 0."""

    @property
    def height(self) -> int:
        """Height in pixels."""

    @property
    def width(self) -> int:
        """Width in pixels."""

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames `indices`, in any order and with repeats, as (T, H, W, C)."""

    def close(self) -> None:
        """Give back files and memory."""


def open_frames(path: Path | str) -> FrameSource:
    """Open a video file, or numbered images in a folder, a zip archive or an HDF5 file.

    Raises:
        KinemaError: see `VideoReader` and `ImageFrames`.
    """
    path = Path(path)
    return ImageFrames(path) if is_images(path) else VideoReader(path)
