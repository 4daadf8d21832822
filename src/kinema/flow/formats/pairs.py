"""Old flow images decoded to Kinema's encoding, pair by pair.

Shapes: H, W, 2 components: x (to the right), then y (down).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.encoding import encode
from kinema.flow.formats.quantise import dequantise, dequantise_png, to_kinema
from kinema.video.image_bytes import decode_image
from kinema.video.shelves import Shelf


class Pairs(Protocol):
    """All pairs of one video."""

    def __len__(self) -> int:
        """Return how many there are."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a pair (2, H, W) in Kinema's encoding.

        Raises:
            KinemaError: it cannot be read.
        """

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes that the pairs are read from, in order."""

    def span(self) -> str:
        """Return the first and the last by name, for messages."""

    def close(self) -> None:
        """Give back open files."""


def fingerprint(pairs: Pairs) -> tuple[str, int]:
    """Return SHA-256 and number of all bytes that the pairs are read from."""
    digest, size = hashlib.sha256(), 0
    for data in pairs.contents():
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size


class ImagePairs:
    """Pairs of gray images.

    Args:
        x: images of the x component.
        y: images of the y component.
        bound: pixels at the ends of the result.
        first: the highest number that the first pair may have.
        ranges: what the darkest and brightest level stand for where that is no bound: (N, 4) of
            lowest x, highest x, lowest y, highest y, in pixels.

    Raises:
        KinemaError: a number is missing, or x and y are not equally many.
    """

    def __init__(
        self,
        x: Shelf,
        y: Shelf,
        *,
        bound: float,
        first: int = 1,
        ranges: NDArray[np.float32] | None = None,
    ) -> None:
        check_numbers(x, y, first)
        self._shelves, self._bound, self._ranges = (x, y), bound, ranges
        self._table = to_kinema()
        if ranges is not None and len(ranges) != len(x.numbers):
            raise KinemaError(
                f"The .bin file beside {x.where} is for {len(ranges)} pairs, but there are "
                f"{len(x.numbers)}. Extract the flow of this video again."
            )

    def __len__(self) -> int:
        return len(self._shelves[0].numbers)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a pair (2, H, W)."""
        x_HW, y_HW = (self._levels(shelf, index) for shelf in self._shelves)
        if x_HW.shape != y_HW.shape:
            raise KinemaError(
                f"{_called(self._shelves[0], index)} is {x_HW.shape[1]}x{x_HW.shape[0]} pixels, "
                f"{_called(self._shelves[1], index)} {y_HW.shape[1]}x{y_HW.shape[0]}: "
                "both must have one size."
            )
        if self._ranges is None:
            return np.stack([cv2.LUT(levels, self._table) for levels in (x_HW, y_HW)])
        low_x, high_x, low_y, high_y = (float(value) for value in self._ranges[index])
        x_motion = dequantise(x_HW, low=low_x, high=high_x)
        y_motion = dequantise(y_HW, low=low_y, high=high_y)
        pair_HW2 = encode(np.stack((x_motion, y_motion))[None], bound=self._bound)[0]
        return np.moveaxis(pair_HW2, 2, 0)

    def _levels(self, shelf: Shelf, index: int) -> NDArray[np.uint8]:
        data = shelf.load(index)
        return decode_image(data, what=_called(shelf, index), flags=cv2.IMREAD_GRAYSCALE)

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of all files, x before y."""
        for index in range(len(self)):
            for shelf in self._shelves:
                yield shelf.load(index)

    def span(self) -> str:
        """Return the first and the last x component by name."""
        return _span(self._shelves[0])

    def close(self) -> None:
        """Give back open files."""
        for shelf in self._shelves:
            shelf.close()


class PngPairs:
    """Pairs in denseflow's png, each with bounds of its own.

    Args:
        shelf: the images.
        bound: pixels at the ends of the result; longer motion is cut.
        first: the highest number that the first pair may have.

    Raises:
        KinemaError: a number is missing.
    """

    def __init__(self, shelf: Shelf, *, bound: float, first: int = 1) -> None:
        check_numbers(shelf, shelf, first)
        self._shelf, self._bound = shelf, bound

    def __len__(self) -> int:
        return len(self._shelf.numbers)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a pair (2, H, W)."""
        what = _called(self._shelf, index)
        picture = decode_image(self._shelf.load(index), what=what, flags=cv2.IMREAD_COLOR)
        pair_HW2 = encode(dequantise_png(picture)[None], bound=self._bound)[0]
        return np.moveaxis(pair_HW2, 2, 0)

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of all files."""
        return (self._shelf.load(index) for index in range(len(self)))

    def span(self) -> str:
        """Return the first and the last by name."""
        return _span(self._shelf)

    def close(self) -> None:
        """Give back open files."""
        self._shelf.close()


def check_numbers(x: Shelf, y: Shelf, first: int) -> None:
    """Refuse numbers with gaps, a wrong beginning, or that x and y do not share.

    Raises:
        KinemaError: says which image is missing, and what there is.
    """
    if not (x.numbers and y.numbers):
        raise KinemaError(f"{x.where} holds no flow: extract the flow of this video again.")
    start = min(first, x.numbers[0], y.numbers[0])
    last = max(x.numbers[-1], y.numbers[-1])
    for shelf in (x, y):
        present = set(shelf.numbers)
        missing = next((number for number in range(start, last + 1) if number not in present), None)
        if missing is not None:
            have = f"x has {len(x.numbers)} images and y {len(y.numbers)}"
            if x is y:
                have = f"there are {len(x.numbers)} images"
            raise KinemaError(
                f"{shelf.where}/{shelf.name(missing)} is missing: the pairs are numbered from "
                f"{start} to {last}, but {have}. Extract the flow of this video again."
            )


def read_ranges(path: Path, bound: float) -> NDArray[np.float32] | None:
    """Return the scales that gpu_flow keeps in ``<video>.bin``; None where all are the bound.

    Raises:
        KinemaError: the file is damaged.
    """
    if not path.is_file():
        return None
    numbers = np.fromfile(path, np.float32)
    if len(numbers) % 4 or not np.isfinite(numbers).all():
        raise KinemaError(f"{path} is damaged: it does not hold four numbers for each pair.")
    ranges = numbers.reshape(-1, 4)
    usual = np.array((-bound, bound, -bound, bound), np.float32)
    return None if (ranges == usual).all() else ranges


def _span(shelf: Shelf) -> str:
    return f"{_called(shelf, 0)} to {shelf.name(shelf.numbers[-1])}"


def _called(shelf: Shelf, index: int) -> str:
    return f"{shelf.where}/{shelf.name(shelf.numbers[index])}"
