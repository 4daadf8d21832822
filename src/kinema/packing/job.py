"""One video to one RGB store: what a worker process does."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kinema import __version__
from kinema.errors import KinemaError, UsageError
from kinema.flow.job import fingerprint
from kinema.video.outcomes import FAULTS, VideoOutcome
from kinema.video.packed import store_path
from kinema.video.rgb_store import FrameQuality, RgbWriter, check_quality
from kinema.video.segment import FrameRange, open_segment, stream_frames
from kinema.video.sizes import shrunk_size

STORE_FORMAT = "rgb 1"  # no number alone: a folder of stored flow is told apart by it


@dataclass(frozen=True, kw_only=True)
class PackJob:
    """A video whose frames are wanted."""

    id: str  # names the store: <out>/<id>.mp4
    path: Path  # a video file, or a folder of images
    num_frames: int = 0  # where known: makes the estimate better, and is checked; 0: unknown
    segment: FrameRange | None = None  # only this part of the video


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How frames are stored."""

    short_side: int | None = 256  # larger frames are shrunk to it; None: native size
    quality: FrameQuality = "standard"  # or "lossless"

    @property
    def size(self) -> str:
        """The rule as `kinema.video.sizes` writes it."""
        return "none" if self.short_side is None else f"short:{self.short_side}"

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: says what is allowed.
        """
        check_quality(self.quality)
        if self.short_side is not None and self.short_side < 1:
            raise UsageError(
                f"The short side must be a positive number of pixels, not {self.short_side}."
            )

    def identity(self) -> dict[str, Any]:
        """Return what decides the content of a store, as stores and manifests record it."""
        return {"format": STORE_FORMAT, "size": self.size, "quality": self.quality}


@dataclass(frozen=True, kw_only=True)
class PackOutcome(VideoOutcome):
    """What became of a video: a store, or the reason why there is none."""

    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0  # on one core


def run_job(job: PackJob, *, out: Path, options: PackOptions) -> PackOutcome:
    """Make the store of one video; whatever is wrong with the video becomes the reason."""
    started = time.monotonic()
    try:
        path = store_path(out, job.id)
        frames = pack_video(job.path, path, options=options, segment=job.segment)
        num_bytes = path.stat().st_size
    except FAULTS as error:
        return PackOutcome.failed(job.id, error)
    seconds = time.monotonic() - started
    return PackOutcome(id=job.id, frames=frames, bytes=num_bytes, seconds=seconds)


def pack_video(
    source: Path, path: Path, *, options: PackOptions, segment: FrameRange | None = None
) -> int:
    """Store the frames of a video, of images or of a part of either, streamed; return their number.

    Raises:
        KinemaError: the video cannot be read or changes its picture size, or the disk is full.
    """
    with closing(open_segment(source, segment)) as frames:
        native = frames.height, frames.width
        height, width = shrunk_size(options.size, height=native[0], width=native[1])
        sha256, num_bytes = fingerprint(source)
        metadata = {
            **options.identity(),
            "kinema": __version__,
            "source": source.name,
            "source_sha256": sha256,
            "source_bytes": num_bytes,
            **({"segment": list(segment)} if segment else {}),
        }
        with RgbWriter(
            path,
            width=width,
            height=height,
            metadata=metadata,
            quality=options.quality,
            fps=float(getattr(frames, "fps", 0.0)),
        ) as writer:
            for image in stream_frames(frames):
                if image.shape[:2] != native:
                    raise KinemaError(
                        f"{source} changes its picture size at frame {writer.num_frames}, from "
                        f"{native[1]}x{native[0]} to {image.shape[1]}x{image.shape[0]}. "
                        "Encode it anew with one size."
                    )
                if native != (height, width):
                    shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                    image = np.asarray(shrunk, np.uint8)
                writer.write(image)
    return writer.num_frames
