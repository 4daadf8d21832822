"""Reading video files, exact to the frame: any frames in any order, or all in sequence.

Frame i is the i-th frame that decoding the file from its beginning gives, whatever timestamps,
frame counts or indexes the container carries.

Shapes: T frames, H height, W width, C channels (3, RGB).
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.video.container import open_video
from kinema.video.decoder import (
    CountingDecoder,
    Decoder,
    IndexedDecoder,
    IndexMismatchError,
    count_frames,
)
from kinema.video.packet_index import build_index


class VideoReader:
    """Reads frames of one video file as RGB; a context manager.

    Rotation in the file's metadata is applied, in steps of 90 degrees.

    Args:
        path: a file in any format that FFmpeg reads.
        threads: of the decoder; one is best where many videos are read at once.

    Raises:
        KinemaError: the file is missing, empty, damaged, no video, audio only or has no frames.
    """

    def __init__(self, path: Path | str, *, threads: int = 1) -> None:
        self.path = Path(path)
        self._threads = threads
        self._num_frames: int | None = None
        self._size: tuple[int, int] | None = None
        video = open_video(self.path, threads=threads)
        self.fps = _frames_per_second(video.stream)
        self.claimed_frames = video.stream.frames
        self._decoder: Decoder
        try:
            self._index = build_index(video)
        except FFmpegError as error:
            video.container.close()
            raise self._damaged("its container cannot be read to the end", error) from error
        if self._index is not None:
            self._decoder = IndexedDecoder(video, self._index)
        else:
            video.container.close()
            self._decoder = CountingDecoder(self.path, threads=threads)

    @property
    def is_indexed(self) -> bool:
        """Whether single frames are found without decoding everything before them."""
        return self._index is not None

    @property
    def num_frames(self) -> int:
        """The number of frames; without an index, everything is decoded once to know it."""
        if self._index is not None:
            return len(self._index.packet_of)
        if self._num_frames is None:
            try:
                self._num_frames = count_frames(self.path, threads=self._threads)
            except FFmpegError as error:
                raise self._damaged("it cannot be decoded to the end", error) from error
        return self._num_frames

    @property
    def keyframes(self) -> NDArray[np.int64]:
        """Numbers of the frames where decoding can start; more of them make reading quicker."""
        starts = self._index.start_frames if self._index is not None else [0]
        return np.asarray(starts, dtype=np.int64)

    @property
    def height(self) -> int:
        """Height in pixels, after rotation."""
        return self._first_size()[0]

    @property
    def width(self) -> int:
        """Width in pixels, after rotation."""
        return self._first_size()[1]

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames `indices`, in any order and with repeats, as (T, H, W, 3) RGB.

        Raises:
            KinemaError: a frame number is out of range, or the file is damaged.
        """
        places: dict[int, list[int]] = {}
        for place, i in enumerate(indices):
            places.setdefault(int(i), []).append(place)
        frames_THWC: NDArray[np.uint8] | None = None
        for i in sorted(places):
            image = to_rgb(self._frame(i, wanted=places))
            if frames_THWC is None:
                frames_THWC = np.empty((len(indices), *image.shape), dtype=np.uint8)
            if image.shape != frames_THWC.shape[1:]:
                raise KinemaError(
                    f"{self.path} changes its picture size at frame {i}, from "
                    f"{frames_THWC.shape[2]}x{frames_THWC.shape[1]} to "
                    f"{image.shape[1]}x{image.shape[0]}. Encode it anew with one size."
                )
            frames_THWC[places[i]] = image
        if frames_THWC is None:
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        return frames_THWC

    def stream(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yield all frames from number `start` on, each as (H, W, 3) RGB."""
        for frame in self.decode(start):
            yield to_rgb(frame)

    def decode(self, start: int = 0) -> Iterator[VideoFrame]:
        """Yield all frames from number `start` on as they are decoded: no RGB, not rotated."""
        i = start
        while (frame := self._decode(i, wanted=None)) is not None:
            yield frame
            i += 1

    def close(self) -> None:
        """Give back the file and the memory."""
        self._decoder.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _first_size(self) -> tuple[int, int]:
        if self._size is None:
            frame = self._frame(0, wanted=(0,))  # not converted to RGB, which takes longest of all
            size = frame.height, frame.width
            self._size = size[::-1] if round(frame.rotation / 90) % 2 else size
        return self._size

    def _frame(self, i: int, *, wanted: Container[int]) -> VideoFrame:
        frame = self._decode(i, wanted=wanted) if i >= 0 else None
        if frame is not None:
            return frame
        if self.num_frames == 0:
            raise KinemaError(f"{self.path} has no frames: nothing in it can be decoded.")
        raise KinemaError(
            f"{self.path} has no frame {i}: its {self.num_frames} frames are numbered "
            f"0 to {self.num_frames - 1}."
        )

    def _decode(self, i: int, *, wanted: Container[int] | None) -> VideoFrame | None:
        try:
            return self._decoder.frame(i, wanted=wanted)
        except IndexMismatchError:
            self._decoder.close()
            self._index = None
            self._decoder = CountingDecoder(self.path, threads=self._threads)
            return self._decode(i, wanted=wanted)
        except FFmpegError as error:
            raise self._damaged(f"frame {i} cannot be decoded", error) from error

    def _damaged(self, what: str, error: FFmpegError) -> KinemaError:
        return KinemaError(f"{self.path} is damaged: {what} ({error.strerror}).")


def to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return a decoded frame as (H, W, 3) RGB, turned as its metadata says.

    Colour matrix and range are those the frame is tagged with; BT.601, limited range, if untagged.
    """
    image = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    quarter_turns = round(frame.rotation / 90) % 4
    return np.rot90(image, quarter_turns) if quarter_turns else image


def _frames_per_second(stream: VideoStream) -> float:
    """Return the mean rate of a stream; 0.0 where the container knows none."""
    mean, guessed = float(stream.average_rate or 0), float(stream.guessed_rate or 0)
    # Frames that all carry the same time give a mean rate far above that of the codec's clock.
    return guessed if mean == 0 or 0 < 2 * guessed < mean else mean
