"""Decoded images of small data sets, kept in memory that all loading processes share."""

import mmap
import multiprocessing
from typing import Any

import numpy as np

from kinema.data.transforms import Images

_FIELDS = 5  # of the table: 1 + offset (0: absent), then the four dimensions


class FrameCache:
    """Whole videos as resized uint8 images, first come, first kept, up to a number of bytes.

    The memory is shared with processes that are forked from this one; a copy that is sent to a
    process by pickling is empty and stays so. Memory is taken when it is first written to.
    """

    def __init__(self, num_videos: int, *, num_bytes: int) -> None:
        self._num_videos, self._num_bytes = num_videos, num_bytes
        self._memory = np.frombuffer(mmap.mmap(-1, max(num_bytes, 1)), np.uint8)
        # One row per video, and a last one whose first field is the number of bytes given out.
        table = mmap.mmap(-1, (num_videos + 1) * _FIELDS * 8)
        self._table = np.frombuffer(table, np.int64).reshape(num_videos + 1, _FIELDS)
        self._lock = multiprocessing.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"num_videos": self._num_videos}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["num_videos"], num_bytes=0)  # type: ignore[misc]

    def get(self, row: int) -> Images | None:
        """Return the images of a video, or None; they must not be written to."""
        place, *shape = self._table[row].tolist()
        return self._view(place - 1, shape) if place else None

    def reserve(self, shape: tuple[int, int, int, int]) -> Images | None:
        """Return memory for the images of one video, to be filled, or None where none is left."""
        size = int(np.prod(shape))
        with self._lock:
            offset = int(self._table[-1, 0])
            if offset + size > self._num_bytes:
                return None
            self._table[-1, 0] = offset + size
        return self._view(offset, list(shape))

    def publish(self, row: int, images: Images) -> None:
        """Let all processes see the images that were filled into reserved memory."""
        offset = images.__array_interface__["data"][0] - self._memory.__array_interface__["data"][0]
        with self._lock:
            self._table[row, 1:] = images.shape
            self._table[row, 0] = offset + 1

    def _view(self, offset: int, shape: list[int]) -> Images:
        size = int(np.prod(shape))
        return self._memory[offset : offset + size].reshape(shape)
