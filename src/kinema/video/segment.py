"""A part of a video, numbered from 0 as if it were a video of its own.

Shapes: T frames, H height, W width, C channels.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.video.frames import FrameSource, open_frames
from kinema.video.reader import VideoReader

FrameRange = tuple[int, int]  # first frame, and the one after the last


def open_segment(path: Path | str, segment: FrameRange | None = None) -> FrameSource:
    """Open a video, or a part of it; see `kinema.video.frames.open_frames`.

    Args:
        path: a video file, or images.
        segment: first frame and the one after the last, from 0; None for the whole video.

    Raises:
        KinemaError: it cannot be opened, or the segment is not within it.
    """
    frames = open_frames(path)
    if segment is None:
        return frames
    try:
        return Segment(frames, segment, path=Path(path))
    except KinemaError:
        frames.close()
        raise


class Segment:
    """The frames of a video from `start` on, without those from `end` on.

    Attributes:
        frames: the whole video; closed together with this.
        path: of the video.
        start: the frame of the video that is frame 0 here.
        num_frames: how many frames there are, numbered from 0.

    Raises:
        KinemaError: the segment is empty, or not within the video.
    """

    def __init__(self, frames: FrameSource, segment: FrameRange, *, path: Path) -> None:
        start, end = segment
        if not 0 <= start < end <= frames.num_frames:
            raise KinemaError(
                f"{path} has the frames 0 to {frames.num_frames - 1}: the segment from {start} up "
                f"to {end} is not within it. Make the index again with `kinema index`."
            )
        self.frames, self.path = frames, path
        self.start, self.num_frames = start, end - start
        fps = getattr(frames, "fps", None)
        if fps is not None:  # images have no rate: callers then take their own
            self.fps = float(fps)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.frames.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.frames.width

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames `indices`, counted from the start of the segment, as (T, H, W, C).

        Raises:
            KinemaError: a frame number is outside the segment, or the video is damaged.
        """
        for i in indices:
            if not 0 <= int(i) < self.num_frames:
                raise KinemaError(
                    f"The segment of {self.path} has no frame {int(i)}: its {self.num_frames} "
                    f"frames are numbered 0 to {self.num_frames - 1}."
                )
        return self.frames.read([self.start + int(i) for i in indices])

    def close(self) -> None:
        """Close the video."""
        self.frames.close()


def stream_frames(source: FrameSource) -> Iterator[NDArray[np.uint8]]:
    """Yield all frames (H, W, C) of a video or segment in order, decoded once where it is a file.

    Raises:
        KinemaError: the file is damaged.
    """
    start, count, frames = 0, source.num_frames, source
    if isinstance(source, Segment):
        start, frames = source.start, source.frames
    if isinstance(frames, VideoReader):
        yield from islice(frames.stream(start), count)
        return
    for i in range(start, start + count):
        yield frames.read([i])[0]
