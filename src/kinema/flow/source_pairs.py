"""The flow of one video as floats: what extraction stores and live flow gives are both from here.

Pair t leads from frame t to frame t + s at stride s. With a negative stride it leads from frame
t - s back to frame t. Either way N frames give N - |s| pairs, in pixels of the asked size per |s|
frames.

Shapes: T pairs or frames, H, W, C channels; flow has 2 channels, x (to the right) and y (down).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.algorithms import compute, gray_from_rgb, resized
from kinema.flow.options import MOTION_VECTORS, FlowOptions, parameters_of
from kinema.video.frames import FrameSource
from kinema.video.reader import VideoReader
from kinema.video.segment import Segment, stream_frames
from kinema.video.sizes import shrunk_size

CHUNK_PAIRS = 16  # computed at once: bounds the memory
_BATCH_BYTES = 64 * 1024**2  # of flow computed at once where a GPU does it
OnFrame = Callable[[NDArray[np.uint8]], None]


@dataclass(kw_only=True)
class Shares:
    """Where the time of a video went: seconds on one core."""

    decode: float = 0.0  # reading, decoding, resizing, gray
    flow: float = 0.0
    write: float = 0.0  # encoding as 8 bits and as a file

    def __add__(self, other: "Shares") -> "Shares":
        return Shares(
            decode=self.decode + other.decode,
            flow=self.flow + other.flow,
            write=self.write + other.write,
        )

    @property
    def total(self) -> float:
        """Seconds altogether."""
        return self.decode + self.flow + self.write

    def describe(self) -> str:
        """Return the shares in per cent."""
        parts = ("decoding", self.decode), ("flow", self.flow), ("writing", self.write)
        return ", ".join(f"{name} {100 * part / self.total:.0f} %" for name, part in parts)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Count the time of a ``with`` block as decoding."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.decode += time.monotonic() - started

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the time of a ``with`` block as flow."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.flow += time.monotonic() - started


def flow_size(source: FrameSource, options: FlowOptions) -> tuple[int, int]:
    """Return (height, width) of the flow of a video."""
    return shrunk_size(options.size, height=source.height, width=source.width)


def stream_flow(
    source: FrameSource,
    options: FlowOptions,
    *,
    shares: Shares | None = None,
    on_frame: OnFrame | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield every pair (2, H, W) of a video in order, in memory that its length does not grow.

    Args:
        source: the frames.
        options: algorithm, stride, size and so on.
        shares: where the time is added to.
        on_frame: gets every frame (H, W, 3), resized, before the pairs that end in it.

    Raises:
        KinemaError: the video is damaged or changes its picture size, or it is no video file and
            motion vectors are wanted.
    """
    shares = shares or Shares()
    if options.algorithm == MOTION_VECTORS:
        return _stream_vectors(source, options, shares, on_frame)
    return _stream_computed(source, options, shares, on_frame)


def _stream_computed(
    source: FrameSource, options: FlowOptions, shares: Shares, on_frame: OnFrame | None
) -> Iterator[NDArray[np.float32]]:
    reach, size = abs(options.stride), flow_size(source, options)
    chunk_pairs = CHUNK_PAIRS
    if options.uses_gpu:
        chunk_pairs = max(CHUNK_PAIRS, _BATCH_BYTES // (8 * size[0] * size[1]))
    chunk_pairs = -(-chunk_pairs // options.window) * options.window
    window: list[NDArray[np.uint8]] = []

    def flush() -> Iterator[NDArray[np.float32]]:
        with shares.computing():
            flow_T2HW = flow_between(np.stack(window), options)
        del window[: len(flow_T2HW)]
        yield from flow_T2HW

    for frame_HWC in _timed(_stream_frames(source), shares):
        with shares.decoding():
            window.append(gray_frames(frame_HWC[None], options, size)[0])
        if on_frame:
            on_frame(resized(frame_HWC, *size))
        if len(window) == reach + chunk_pairs:
            yield from flush()
    if len(window) > reach:
        yield from flush()


def _stream_vectors(
    source: FrameSource, options: FlowOptions, shares: Shares, on_frame: OnFrame | None
) -> Iterator[NDArray[np.float32]]:
    from kinema.flow.motion_vectors import resize_flow

    size = flow_size(source, options)
    frames = _stream_frames(source) if on_frame else iter(())

    def pass_frame() -> None:
        if on_frame:
            for frame_HWC in islice(frames, 1):
                on_frame(resized(frame_HWC, *size))

    pass_frame()
    for vectors_2HW in _timed(_vectors(source, options), shares):
        pass_frame()
        with shares.computing():
            flow_2HW = resize_flow(vectors_2HW, *size)
        yield flow_2HW


def _vectors(source: FrameSource, options: FlowOptions) -> Iterator[NDArray[np.float32]]:
    from kinema.flow.motion_vectors import MotionVectors

    vectors = MotionVectors(video_file(source), **parameters_of(options.algorithm)).stream()
    if isinstance(source, Segment):
        return islice(vectors, source.start, source.start + source.num_frames - 1)
    return vectors


def video_file(source: FrameSource) -> Path:
    """Return the video file that frames are read from.

    Raises:
        KinemaError: they are not from a video file.
    """
    frames = source.frames if isinstance(source, Segment) else source
    if isinstance(frames, VideoReader):
        return frames.path
    raise KinemaError(
        f"{_name(source)} is not a video file: motion vectors are in compressed videos only. "
        "Choose another algorithm, such as dis or tvl1."
    )


def _name(source: FrameSource) -> str:
    return str(getattr(source, "path", "The video"))


def _timed(items: Iterator[Any], shares: Shares) -> Iterator[Any]:
    """Yield the items and count the time that they take as decoding."""
    end = object()
    while True:
        with shares.decoding():
            item = next(items, end)
        if item is end:
            return
        yield item


def _stream_frames(source: FrameSource) -> Iterator[NDArray[np.uint8]]:
    size = source.height, source.width
    for index, frame_HWC in enumerate(stream_frames(source)):
        check_size(source, frame_HWC, index, size=size)
        yield frame_HWC


def check_size(
    source: FrameSource, frame_HWC: NDArray[np.uint8], index: int, *, size: tuple[int, int]
) -> None:
    """Refuse a frame of another size than the video's first one.

    Raises:
        KinemaError: names the frame and the sizes.
    """
    height, width = frame_HWC.shape[:2]
    if (height, width) != size:
        raise KinemaError(
            f"{_name(source)} changes its picture size at frame {index}, from "
            f"{size[1]}x{size[0]} to {width}x{height}. Encode it anew with one size."
        )


def gray_frames(
    frames_THWC: NDArray[np.uint8], options: FlowOptions, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the gray frames (T, H, W) of `size` (height, width) that flow is computed from."""
    if options.gray == "after":
        return gray_from_rgb(frames_THWC, size=size)
    return gray_from_rgb(gray_from_rgb(frames_THWC)[..., None], size=size)


def flow_between(gray_THW: NDArray[np.uint8], options: FlowOptions) -> NDArray[np.float32]:
    """Return the flow (T - |s|, 2, H, W) of frames that are one after the other, at stride s.

    Every s-th frame is a sequence of its own for the algorithm, backwards for a negative stride.
    """
    reach = abs(options.stride)
    if options.stride == 1:
        return _compute(gray_THW, options)
    flow_T2HW = np.empty((max(0, len(gray_THW) - reach), 2, *gray_THW.shape[1:]), np.float32)
    for first in range(min(reach, len(flow_T2HW))):
        track = gray_THW[first::reach][:: 1 if options.stride > 0 else -1]
        flow = _compute(np.ascontiguousarray(track), options)
        flow_T2HW[first::reach] = flow[:: 1 if options.stride > 0 else -1]
    return flow_T2HW


def _compute(gray_THW: NDArray[np.uint8], options: FlowOptions) -> NDArray[np.float32]:
    algorithm = partial(compute, algorithm=options.algorithm, weights=options.weights)
    if options.warp:
        from kinema.flow.warped import warped

        return warped(gray_THW, algorithm=algorithm)
    return algorithm(gray_THW)


class PairSource(Protocol):
    """Gives any pairs of a video."""

    def pairs(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the pairs `first` to `last` (T, 2, H, W)."""


class ComputedPairs:
    """Pairs computed from the frames that they lie between; the latest gray frames are kept.

    Args:
        source: the frames.
        options: algorithm, stride, size and so on.
    """

    def __init__(self, source: FrameSource, options: FlowOptions) -> None:
        self._source, self._options = source, options
        self._size = flow_size(source, options)
        self._native = source.height, source.width
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def pairs(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the pairs `first` to `last` (T, 2, H, W).

        Raises:
            KinemaError: a frame cannot be read, or has another size than the first one.
        """
        window, before = self._options.window, 0
        if window > 1:  # whole windows, which begin where those of the whole video do
            before = first % window
            last_of_window = last - last % window + window - 1
            end = min(last_of_window, self._source.num_frames - 2)
            frames = range(first - before, end + 2)
        else:
            frames = range(first, last + abs(self._options.stride) + 1)
        missing = [index for index in frames if index not in self._kept]
        if missing:
            rgb_THWC = self._source.read(missing)
            check_size(self._source, rgb_THWC[0], missing[0], size=self._native)
            gray_THW = gray_frames(rgb_THWC, self._options, self._size)
            self._kept.update(zip(missing, gray_THW, strict=True))
        flow_T2HW = flow_between(np.stack([self._kept[index] for index in frames]), self._options)
        kept = frames[-max(abs(self._options.stride), window) :]
        self._kept = {index: self._kept[index].copy() for index in kept}
        return flow_T2HW[before : before + last - first + 1]


class VectorPairs:
    """Pairs from the motion vectors of a video file, which are read from its beginning.

    Args:
        source: the frames.
        options: algorithm and size.

    Raises:
        KinemaError: the frames are not from a video file.
    """

    def __init__(self, source: FrameSource, options: FlowOptions) -> None:
        video_file(source)
        self._source, self._options = source, options
        self._stream = stream_flow(source, options)
        self._next = 0

    def pairs(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the pairs `first` to `last` (T, 2, H, W); backwards, it begins anew.

        Raises:
            KinemaError: the file is damaged.
        """
        if first < self._next:
            self._stream, self._next = stream_flow(self._source, self._options), 0
        pairs = list(islice(self._stream, first - self._next, last + 1 - self._next))
        self._next = last + 1
        if len(pairs) != last + 1 - first:
            raise KinemaError(
                f"{_name(self._source)} has no motion vectors for pair {first + len(pairs)}: the "
                "file is damaged."
            )
        return np.stack(pairs)
