"""Frames by number, whatever they are kept in: a video file or a folder of numbered images.

Shapes: T frames, H height, W width, C channels.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.video.reader import VideoReader

_NUMBERED = re.compile(r"(.*?)(\d+)(\.(?:jpe?g|png|bmp|webp|tiff?))", re.IGNORECASE)


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
    """Open a video file or a folder of numbered images.

    Raises:
        KinemaError: see `VideoReader` and `ImageFolder`.
    """
    path = Path(path)
    return ImageFolder(path) if path.is_dir() else VideoReader(path)


class ImageFolder:
    """RGB frames from a folder of numbered images; frame 0 is the image numbered 0 or else 1.

    Any naming with a number before the suffix is understood: img_00001.jpg, image_0001.jpg,
    frame000001.jpg, 00001.png. Optical flow in the same folder (flow_x_00001.jpg) is left alone.

    Raises:
        KinemaError: no images, more than one kind of name, or a number that is missing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._names = _numbered_names(self.path)
        self._size: tuple[int, int] | None = None

    @property
    def num_frames(self) -> int:
        """How many images there are."""
        return len(self._names)

    @property
    def height(self) -> int:
        """Height of the first image in pixels."""
        return self._first_size()[0]

    @property
    def width(self) -> int:
        """Width of the first image in pixels."""
        return self._first_size()[1]

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames `indices`, in any order and with repeats, as (T, H, W, 3) RGB.

        Raises:
            KinemaError: a frame number is out of range, or an image is unreadable or of another
                size than one before it.
        """
        images = [self._image(int(i)) for i in indices]
        if self._size is None and images:
            self._size = images[0].shape[0], images[0].shape[1]
        height, width = self._first_size()
        for i, image in zip(indices, images, strict=True):
            if image.shape[:2] != (height, width):
                raise KinemaError(
                    f"{self.path / self._names[i]} is {image.shape[1]}x{image.shape[0]} pixels, "
                    f"another image {width}x{height}: all must have one size."
                )
        return np.asarray(images, dtype=np.uint8).reshape(len(images), height, width, 3)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _first_size(self) -> tuple[int, int]:
        if self._size is None:
            height, width, _ = self._image(0).shape
            self._size = height, width
        return self._size

    def _image(self, i: int) -> NDArray[np.uint8]:
        if not 0 <= i < self.num_frames:
            raise KinemaError(
                f"{self.path} has no frame {i}: its {self.num_frames} frames are numbered "
                f"0 to {self.num_frames - 1}."
            )
        path = self.path / self._names[i]
        try:
            image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error) as error:
            raise KinemaError(f"{path} cannot be read as an image: {error}") from error
        if image is None:
            raise KinemaError(f"{path} cannot be read as an image: it is damaged.")
        return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _numbered_names(folder: Path) -> list[str]:
    """Return the image names of a folder in the order of their numbers, without a gap."""
    if not folder.is_dir():
        raise KinemaError(f"{folder} is not a folder of images.")
    kinds: dict[tuple[str, str], dict[int, str]] = {}
    for name in sorted(entry.name for entry in os.scandir(folder)):
        match = _NUMBERED.fullmatch(name)
        if match is not None:
            prefix, number, suffix = match.groups()
            names = kinds.setdefault((prefix, suffix), {})
            if int(number) in names:
                raise KinemaError(
                    f"{folder} has two images {int(number)}: {names[int(number)]} "
                    f"and {name}. Take one away."
                )
            names[int(number)] = name
    images = {kind: names for kind, names in kinds.items() if not kind[0].startswith("flow")}
    if not images:
        raise KinemaError(f"{folder} has no numbered images, such as img_00001.jpg, in it.")
    if len(images) > 1:
        examples = ", ".join(min(names.values()) for names in images.values())
        raise KinemaError(
            f"{folder} has images of {len(images)} kinds ({examples}): keep one kind in a folder."
        )
    return _without_gaps(folder, next(iter(images.values())))


def _without_gaps(folder: Path, names: dict[int, str]) -> list[str]:
    first, last = min(names), max(names)
    for number in range(min(first, 1), last + 1):
        if number not in names:
            missing = _renumbered(names[last if number < first else number - 1], number)
            raise KinemaError(
                f"{folder / missing} is missing: images must be numbered from 0 or 1 to "
                f"{last} without a gap. Extract the frames of this video again."
            )
    return [names[number] for number in sorted(names)]


def _renumbered(name: str, number: int) -> str:
    match = _NUMBERED.fullmatch(name)
    prefix, digits, suffix = match.groups() if match else ("", "", "")
    return f"{prefix}{number:0{len(digits)}d}{suffix}"
