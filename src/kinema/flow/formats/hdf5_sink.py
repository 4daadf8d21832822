"""Writes flow as floats into one HDF5 file per video, as denseflow does."""

import importlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.files import replacing
from kinema.flow.formats.image_sink import encode_frame
from kinema.flow.formats.staging import remove_leftovers, whole_folders
from kinema.flow.formats.target import Part, Target


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


class Hdf5Sink:
    """One video as ``<id>.h5``, and its frames as images; see `kinema.flow.sinks.FlowSink`.

    The file has a data set (H, W) of float32, pixels, for x and for y of each pair. It appears
    after the frames: where it is, all is.

    Raises:
        KinemaError: h5py is not installed.
    """

    def __init__(self, target: Target) -> None:
        self.wants_frames, self.num_pairs, self._num_frames = target.frames, 0, 0
        self._target, self._library = target, hdf5_library()

    def __enter__(self) -> "Hdf5Sink":
        remove_leftovers(self._target.hdf5_path())
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._target.hdf5_path()))
            if self.wants_frames:
                group = self._target.group("frames")
                self._folder = stack.enter_context(whole_folders([group]))[group.folder]
            self._disk = stack.enter_context(_Disk(temporary, "w+"))
            self._file = stack.enter_context(_writing(self._library, self._disk))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write_frame(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Write the next RGB frame.

        Raises:
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        name = self._target.frame_name(self._num_frames)
        self._num_frames += 1
        if name and self.wants_frames:
            (self._folder / name).write_bytes(encode_frame(frame_HWC))

    def write_pair(self, flow_2HW: NDArray[np.float32]) -> None:
        """Write the next pair.

        Raises:
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        parts: tuple[Part, ...] = ("x", "y")
        for part, plane_HW in zip(parts, flow_2HW, strict=True):
            name = self._target.pair_name(part, self.num_pairs)
            self._file.create_dataset(name, data=np.asarray(plane_HW, np.float32))
        self._disk.check()
        self.num_pairs += 1


class _Disk(io.FileIO):
    """A file that keeps the error of a full disk: the HDF5 library itself crashes on it."""

    _error: OSError | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self._error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
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
def _writing(library: ModuleType, disk: _Disk) -> Iterator[Any]:
    with library.File(disk, "w") as file:
        yield file
    disk.check()
