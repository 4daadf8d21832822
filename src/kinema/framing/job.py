"""One video to its images: what a worker process does."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.algorithms import resized
from kinema.framing.options import FrameOptions
from kinema.framing.sinks import open_sink
from kinema.video.frames import FrameSource
from kinema.video.image_bytes import encode_frame
from kinema.video.outcomes import FAULTS, VideoOutcome
from kinema.video.reader import VideoReader
from kinema.video.segment import FrameRange, Segment, open_segment, stream_frames

_CHUNK_FRAMES = 16  # read at once where the source is no video file: bounds the memory


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """A video whose images are wanted."""

    id: str  # its path, as in an index
    path: Path  # a video file, or images
    label: str = ""  # its class, where that is known
    num_frames: int = 0  # where known; 0: unknown
    fps: float = 0.0  # where known; 0: the file says
    segment: FrameRange | None = None  # only this part of the video

    @property
    def video(self) -> str:
        """The name of the video."""
        return PurePosixPath(self.id).name

    @property
    def folder(self) -> str:
        """The folder of its class, with what the id has around it: parts, groups."""
        parent = PurePosixPath(self.id).parent
        label = self.label.replace("/", "_")
        if not label or label in parent.parts:
            return "" if str(parent) == "." else parent.as_posix()
        return label

    def place(self, out: Path, options: FrameOptions) -> Path:
        """Return the folder or the HDF5 file that its images go to."""
        return options.where.place(out, folder=self.folder, video=self.video)


@dataclass(frozen=True, kw_only=True)
class FrameOutcome(VideoOutcome):
    """What became of a video: its images, or the reason why there are none."""

    frames: int = 0
    seconds: float = 0.0  # on one core


def run_job(job: FrameJob, *, out: Path, options: FrameOptions) -> FrameOutcome:
    """Make the images of one video; whatever is wrong with the video becomes the reason."""
    started = time.monotonic()
    try:
        frames = write_video(job, out, options)
    except FAULTS as error:
        return FrameOutcome.failed(job.id, error)
    return FrameOutcome(id=job.id, frames=frames, seconds=time.monotonic() - started)


def write_video(job: FrameJob, out: Path, options: FrameOptions) -> int:
    """Write the images of one video, streamed; return their number.

    Raises:
        KinemaError: the video cannot be read, changes its picture size or has no known rate where
            one is asked for; the disk is full.
    """
    with closing(open_segment(job.path, job.segment)) as frames:
        chosen = chosen_frames(job, frames, options)
        if not chosen:
            raise KinemaError(f"{job.path} has no frames: nothing in it can be decoded.")
        native = frames.height, frames.width
        size = options.target_size(height=native[0], width=native[1])
        place = job.place(out, options)
        with open_sink(place, video=job.video, num_frames=len(chosen), options=options) as put:
            for index, image in _stream(frames, chosen):
                if image.shape[:2] != native:
                    raise KinemaError(
                        f"{job.path} changes its picture size at frame {index}, from "
                        f"{native[1]}x{native[0]} to {image.shape[1]}x{image.shape[0]}. "
                        "Encode it anew with one size."
                    )
                put(encode_frame(resized(image, *size), options.suffix, quality=options.quality))
    return len(chosen)


def chosen_frames(job: FrameJob, frames: FrameSource, options: FrameOptions) -> list[int]:
    """Return which frames of an open video are taken.

    Raises:
        KinemaError: its rate is needed and not known.
    """
    fps = job.fps or float(getattr(frames, "fps", 0.0))
    try:
        return options.chosen(frames.num_frames, fps)
    except KinemaError as error:
        raise KinemaError(f"{job.path}: {error}") from error


def _stream(frames: FrameSource, chosen: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (number, image) of frames in rising order, repeats among them."""
    whole = frames.frames if isinstance(frames, Segment) else frames
    if not isinstance(whole, VideoReader):
        for start in range(0, len(chosen), _CHUNK_FRAMES):
            part = chosen[start : start + _CHUNK_FRAMES]
            yield from zip(part, frames.read(part), strict=True)
        return
    place = 0
    for index, image in enumerate(stream_frames(frames)):
        while place < len(chosen) and chosen[place] == index:
            yield index, image
            place += 1
        if place == len(chosen):
            return
    raise KinemaError(
        f"{whole.path} ends after {place} of {len(chosen)} frames. Copy or download it again."
    )
