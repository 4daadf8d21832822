"""RGB frames from numbered images: in a folder, in a zip archive or in an HDF5 file.

Shapes: T frames, H height, W width, 3 channels.
"""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.video.hdf5_file import HDF5_SUFFIXES, ListShelf
from kinema.video.image_bytes import decode_image
from kinema.video.shelves import Key, Series, Shelf, archive_series, folder_shelves
from kinema.video.split_zip import is_first_part, split_parts

HDF5_LIST = "video"  # of Hara's 3D-ResNets
FRAMES_ARCHIVE = "img.zip"  # of dense_flow, beside flow_x.zip and flow_y.zip
COUNT_FILE = "n_frames"  # of Hara's 3D-ResNets, beside the images
_FLOW_NAMES = frozenset({"x", "y", "u", "v"})
Images = TypeVar("Images")  # of one kind, opened or not


class ImageFrames:
    """RGB frames from numbered images; frame 0 is the image numbered 0 or else 1.

    Any naming with a number before the suffix is understood: img_00001.jpg, image_0001.jpg,
    frame000001.jpg, 00001.png. Optical flow beside them (flow_x_00001.jpg) is left alone.

    Args:
        path: a folder of images or with an ``img.zip``; a zip archive of one video, whole or the
            first of its pieces; a folder in an archive, as ``all.zip/jpegs_256/v_1``; an HDF5 file
            with a list ``video``.

    Raises:
        KinemaError: no images, more than one kind of name, a number that is missing, fewer or more
            images than the file ``n_frames`` beside them says, or a damaged archive.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.shelf = _shelf(self.path)
        try:
            _check_numbers(self.shelf)
        except KinemaError:
            self.shelf.close()
            raise
        self._size: tuple[int, int] | None = None

    @property
    def num_frames(self) -> int:
        """How many images there are."""
        return len(self.shelf.numbers)

    @property
    def height(self) -> int:
        """Height of the first image in pixels."""
        return self._first_size()[0]

    @property
    def width(self) -> int:
        """Width of the first image in pixels."""
        return self._first_size()[1]

    def name(self, i: int) -> str:
        """Return where the image of a frame lies, for messages."""
        return f"{self.shelf.where}/{self.shelf.name(self.shelf.numbers[i])}"

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
                    f"{self.name(i)} is {image.shape[1]}x{image.shape[0]} pixels, "
                    f"another image {width}x{height}: all must have one size."
                )
        return np.asarray(images, dtype=np.uint8).reshape(len(images), height, width, 3)

    def close(self) -> None:
        """Close the archive, where there is one."""
        self.shelf.close()

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
        image = decode_image(self.shelf.load(i), what=self.name(i), flags=cv2.IMREAD_COLOR)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def is_images(path: Path) -> bool:
    """Tell from the name, and from what is there, that frames are images and no video file."""
    if path.suffix.lower() in (".zip", *HDF5_SUFFIXES) or is_first_part(path):
        return True
    return not path.is_file() and (path.is_dir() or archive_above(path) is not None)


def is_there(path: Path) -> bool:
    """Tell whether a video is there: a file, a folder, or a place in an archive that is there."""
    return path.exists() or archive_above(path) is not None


def archive_above(path: Path) -> Path | None:
    """Return the archive that a path such as ``all.zip/jpegs_256/v_1`` leads into, or None."""
    for parent in path.parents:
        if (parent.suffix.lower() == ".zip" or is_first_part(parent)) and parent.is_file():
            return parent
    return None


def rgb_kinds(kinds: Mapping[Key, Images]) -> dict[Key, Images]:
    """Return those kinds of images in a folder that are frames and no optical flow.

    Flow is known by its name: flow_x_00001.jpg, or x_00001.jpg beside images of other names.
    """
    rest = {key: kinds[key] for key in kinds if not key.prefix.lower().startswith("flow")}
    others = {key: rest[key] for key in rest if key.prefix.lower().rstrip("_-") not in _FLOW_NAMES}
    return others or rest


def _shelf(path: Path) -> Shelf:
    """Return the images of a video, wherever they lie."""
    if path.is_dir():
        return _folder_shelf(path)
    if path.suffix.lower() in HDF5_SUFFIXES:
        if not path.is_file():
            raise KinemaError(f"{path} does not exist.")
        return ListShelf(path, HDF5_LIST)
    if path.is_file():
        return _archive_shelf(path, path)
    archive = archive_above(path)
    if archive is None:
        raise KinemaError(f"{path} does not exist: it is not a folder of images.")
    inside = path.relative_to(archive).as_posix()
    kinds = archive_folders(archive).get(inside, {})
    if not kinds:
        raise KinemaError(f"{archive} has no folder {inside} with numbered images in it.")
    return _only(_shelves(kinds), path)


def _folder_shelf(folder: Path) -> Shelf:
    try:
        names = os.listdir(folder)  # noqa: PTH208  names alone: folders hold thousands
    except OSError as error:
        raise KinemaError(f"{folder} cannot be read: {error.strerror}.") from error
    kinds = rgb_kinds(folder_shelves(folder, names))
    if not kinds and FRAMES_ARCHIVE in names:
        return _archive_shelf(folder / FRAMES_ARCHIVE, folder)
    shelf = _only(kinds, folder)
    if COUNT_FILE in names:
        _check_count(shelf, folder / COUNT_FILE)
    return shelf


def _archive_shelf(archive: Path, path: Path) -> Shelf:
    folders = {name: rgb_kinds(kinds) for name, kinds in archive_folders(archive).items()}
    folders = {name: kinds for name, kinds in folders.items() if kinds}
    if len(folders) > 1:
        raise KinemaError(
            f"{archive} has images in {len(folders)} folders ({', '.join(sorted(folders)[:3])} …): "
            f"it is no single video. Give one of them, as {archive / min(folders)}."
        )
    return _only(_shelves(next(iter(folders.values()), {})), path)


def _shelves(kinds: Mapping[Key, Series]) -> dict[Key, Shelf]:
    return {key: series.shelf() for key, series in rgb_kinds(kinds).items()}


def archive_folders(archive: Path) -> dict[str, dict[Key, Series]]:
    """Return the kinds of numbered images in every folder of an archive, read once.

    Raises:
        KinemaError: it is no whole zip archive.
    """
    try:
        parts = split_parts(archive) if is_first_part(archive) else [archive]
        states = tuple((part.stat().st_size, part.stat().st_mtime_ns) for part in parts)
    except OSError as error:
        raise KinemaError(f"{archive} cannot be read: {error.strerror}.") from error
    return _archive_folders(archive, states)


@lru_cache(maxsize=2)  # that of a whole data set takes long to read, and is asked for per video
def _archive_folders(
    archive: Path, states: tuple[tuple[int, int], ...]
) -> dict[str, dict[Key, Series]]:
    return archive_series(archive)


def _only(kinds: Mapping[Key, Shelf], where: Path) -> Shelf:
    if not kinds:
        what = "is a folder that has" if where.is_dir() else "has"
        raise KinemaError(f"{where} {what} no numbered images, such as img_00001.jpg, in it.")
    if len(kinds) > 1:
        examples = ", ".join(sorted(shelf.name(shelf.numbers[0]) for shelf in kinds.values()))
        raise KinemaError(
            f"{where} has images of {len(kinds)} kinds ({examples}): keep one kind in a folder."
        )
    return next(iter(kinds.values()))


def _check_numbers(shelf: Shelf) -> None:
    """Refuse a gap, and numbers that begin later than at 1."""
    if not shelf.numbers:
        raise KinemaError(f"{shelf.where} has no images in it.")
    first, last = min(shelf.numbers[0], 1), shelf.numbers[-1]
    if last - first + 1 == len(shelf.numbers):
        return
    present = set(shelf.numbers)
    missing = next(number for number in range(first, last + 1) if number not in present)
    raise KinemaError(
        f"{shelf.where}/{shelf.name(missing)} is missing: images must be numbered from 0 or 1 to "
        f"{last} without a gap, and {len(shelf.numbers)} are there. "
        "Extract the frames of this video again."
    )


def _check_count(shelf: Shelf, path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if text == str(len(shelf.numbers)):
        return
    first, last = (shelf.name(shelf.numbers[i]) for i in (0, -1))
    raise KinemaError(
        f"{path} says '{text[:20]}' images, but there are {len(shelf.numbers)} ({first} to {last})."
        " Extract the frames of this video again."
    )
