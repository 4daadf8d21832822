"""Images of one video at the size that clips are cut from, out of its file or out of the cache."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from kinema.data.cache import FrameCache
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.rates import Resampled, resampled_count
from kinema.data.sources import open_source
from kinema.data.transforms import Images, resize_to
from kinema.errors import KinemaError
from kinema.video.sizes import parse_size, target_size

_FILL_IMAGES = 32  # read at a time when a whole video is put into the cache


class ResizedVideo(Protocol):
    """Images of one size, read by their indices; the size is that of the resized images."""

    num_frames: int
    height: int
    width: int

    def read(self, indices: Sequence[int]) -> Images:
        """Return new images (T, height, width, C) of these indices."""


class _File:
    """Images that are decoded and resized when they are read; errors name the video."""

    def __init__(self, item: ClipItem, spec: ClipSpec) -> None:
        self._item = item
        try:
            step = rate_step(item, spec)
            source = open_source(item, spec)
        except (KinemaError, OSError) as error:
            raise self._unreadable(error) from error
        self._source = Resampled(source, step=step) if step != 1 else source
        self.num_frames = self._source.num_frames
        if self.num_frames < 1:
            self.close()
            raise self._unreadable("it is too short, there is no image for this stream")
        self.height, self.width = self._size(spec.resize)

    def _size(self, text: str) -> tuple[int, int]:
        size = parse_size(text)
        if isinstance(size, tuple):  # the video's own size can cost the decoding of a frame
            return size[1], size[0]
        return target_size(text, height=self._source.height, width=self._source.width)

    def read(self, indices: Sequence[int]) -> Images:
        try:
            images = self._source.read(indices)
        except (KinemaError, OSError) as error:
            raise self._unreadable(error) from error
        return resize_to(images, self.height, self.width)

    def close(self) -> None:
        self._source.close()

    def _unreadable(self, reason: object) -> KinemaError:
        path = self._item.path
        where = "" if str(path) in str(reason) else f" ({path})"
        return KinemaError(f"The video '{self._item.id}'{where} cannot be read: {reason}")


def rate_step(item: ClipItem, spec: ClipSpec) -> float:
    """Return how many of the video's images pass from one image at the asked rate to the next.

    Raises:
        KinemaError: another rate is asked for, but the video's own is not known.
    """
    if not spec.fps:
        return 1.0
    if not item.fps:
        raise KinemaError(
            f"images are asked for at {spec.fps:g} per second (data.fps), but the rate of this "
            "video is not known: give it when the index is made, or set data.fps=0"
        )
    return item.fps / spec.fps


def stream_length(item: ClipItem, spec: ClipSpec) -> int:
    """Return how many images the stream of a video has by its index, without opening it."""
    pairs = item.num_frames - (abs(spec.flow_stride) if spec.stream == "flow" else 0)
    return resampled_count(max(pairs, 0), step=rate_step(item, spec))


class _Kept:
    """The images of a whole video in memory, planar."""

    def __init__(self, images_TCHW: Images) -> None:
        self._images_TCHW = images_TCHW
        self.num_frames, _, self.height, self.width = images_TCHW.shape

    def read(self, indices: Sequence[int]) -> Images:
        return np.moveaxis(self._images_TCHW[list(indices)], 1, 3)


class ClipReader:
    """Opens the videos of a list by their position; the last one stays open until the next.

    Args:
        items: the videos.
        spec: what is read from them.
        cache_bytes: memory for the images of whole videos, shared by forked processes.
    """

    def __init__(self, items: Sequence[ClipItem], spec: ClipSpec, *, cache_bytes: int) -> None:
        self._items, self._spec = items, spec
        self._cache = FrameCache(len(items), num_bytes=cache_bytes) if cache_bytes else None
        self._open: tuple[int, int, _File] | None = None  # process, position, file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def open(self, row: int) -> ResizedVideo:
        """Return the images of the video at this position.

        Raises:
            KinemaError: the video has vanished or cannot be read; the message names it.
        """
        kept = self._cache.get(row) if self._cache else None
        if kept is not None:
            return _Kept(kept)
        if self._open and self._open[:2] == (os.getpid(), row):
            return self._open[2]
        self.close()
        file = _File(self._items[row], self._spec)
        kept = self._keep(row, file)
        if kept is not None:
            file.close()
            return _Kept(kept)
        self._open = (os.getpid(), row, file)
        return file

    def close(self) -> None:
        """Close the video that is open, unless it was opened by the process before a fork."""
        if self._open and self._open[0] == os.getpid():
            self._open[2].close()
        self._open = None

    def _keep(self, row: int, file: _File) -> Images | None:
        """Read a whole video into the cache; None where there is no room for it."""
        if self._cache is None:
            return None
        channels = 3 if self._spec.stream == "rgb" else 2
        images = self._cache.reserve((file.num_frames, channels, file.height, file.width))
        if images is None:
            return None
        for begin in range(0, file.num_frames, _FILL_IMAGES):
            end = min(begin + _FILL_IMAGES, file.num_frames)
            images[begin:end] = np.moveaxis(file.read(range(begin, end)), 3, 1)
        self._cache.publish(row, images)
        return images
