"""HDF5 files of images: read one by one, written whole or not at all.

Hara's 3D-ResNets keep a video as a list ``video`` of whole JPEG files, flow as ``video_u`` and
``video_v``.
"""

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kinema.errors import KinemaError

HDF5_SUFFIXES = (".hdf5", ".h5")


def hdf5_library() -> ModuleType:
    """Return h5py.

    Raises:
        KinemaError: it is not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise KinemaError(
            "HDF5 files need h5py, which is not installed: pip install 'kinema[hdf5]'."
        ) from error


def open_hdf5_file(path: Path) -> Any:  # noqa: ANN401
    """Return the open file of h5py.

    Raises:
        KinemaError: h5py is not installed, or the file is missing, cut off or damaged.
    """
    library = hdf5_library()
    try:
        return library.File(path, "r")
    except OSError as error:
        raise KinemaError(f"{path} cannot be read as an HDF5 file: {error}.") from error


class ListShelf:
    """A list of whole image files in HDF5; see `kinema.video.shelves.Shelf`.

    Raises:
        KinemaError: h5py is not installed, the file is damaged, or has no such list.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.where, self._name, self._file = f"{path}:{name}", name, open_hdf5_file(path)
        if name not in self._file:
            held = ", ".join(sorted(self._file)) or "nothing"
            self._file.close()
            raise KinemaError(f"{path} has no list '{name}' of images in it, but {held}.")
        self.numbers = list(range(len(self._file[name])))

    def name(self, number: int) -> str:
        """Return how the image of a number is called: the number."""
        return str(number)

    def load(self, position: int) -> bytes:
        """Return the file at a position.

        Raises:
            KinemaError: the file is damaged there.
        """
        try:
            return np.asarray(self._file[self._name][position], np.uint8).tobytes()
        except OSError as error:
            raise KinemaError(f"{self.where}/{position} is damaged: {error}.") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def list_length(path: Path, name: str) -> int:
    """Return how many images a list holds; 0 where the file has no such list.

    Raises:
        KinemaError: h5py is not installed, or the file is damaged.
    """
    with open_hdf5_file(path) as file:
        return len(file[name]) if name in file else 0


class GuardedDisk(io.FileIO):
    """A file that keeps the error of a full disk: the HDF5 library itself crashes on it."""

    _error: OSError | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401
        """Write, or note why not."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self._error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Truncate, or note why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
        return size or 0

    def check(self) -> None:
        """Raise the error that was kept."""
        if self._error is not None:
            raise self._error


@contextmanager
def writing_hdf5(disk: GuardedDisk) -> Iterator[Any]:
    """Yield a new file of h5py on a disk; `GuardedDisk.check` while writing stops early.

    Raises:
        OSError: the disk is full.
        KinemaError: h5py is not installed.
    """
    with hdf5_library().File(disk, "w") as file:
        yield file
    disk.check()
