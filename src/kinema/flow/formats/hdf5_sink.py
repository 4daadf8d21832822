"""Writes flow as floats into one HDF5 file per video, as denseflow does."""

from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kinema.files import replacing
from kinema.flow.formats.staging import remove_leftovers, whole_folders
from kinema.flow.formats.target import Part, Target
from kinema.video.hdf5_file import GuardedDisk, hdf5_library, writing_hdf5
from kinema.video.image_bytes import encode_frame


class Hdf5Sink:
    """One video as ``<id>.h5``, and its frames as images; see `kinema.flow.sinks.FlowSink`.

    The file has a data set (H, W) of float32, pixels, for x and for y of each pair. It appears
    after the frames: where it is, all is.

    Raises:
        KinemaError: h5py is not installed.
    """

    def __init__(self, target: Target) -> None:
        self.wants_frames, self.num_pairs, self._num_frames = target.frames, 0, 0
        self._target = target
        hdf5_library()

    def __enter__(self) -> "Hdf5Sink":
        remove_leftovers(self._target.hdf5_path())
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._target.hdf5_path()))
            if self.wants_frames:
                group = self._target.group("frames")
                self._folder = stack.enter_context(whole_folders([group]))[group.folder]
            self._disk = stack.enter_context(GuardedDisk(temporary, "w+"))
            self._file = stack.enter_context(writing_hdf5(self._disk))
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
