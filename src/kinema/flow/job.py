"""One video to one flow store: what a worker process does."""

import errno
import glob
import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kinema import __version__
from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.flow.algorithms import compute, gray_from_rgb, parameters
from kinema.flow.encoding import DEFAULT_BOUND, encode
from kinema.flow.store import FlowWriter, Quality, flow_path
from kinema.video.frames import FrameSource, open_frames
from kinema.video.reader import VideoReader
from kinema.video.sizes import shrunk_size

STORE_FORMAT = 1
_CHUNK_PAIRS = 16  # computed at once: bounds the memory


@dataclass(frozen=True, kw_only=True)
class FlowJob:
    """A video whose flow is wanted."""

    id: str  # names the store: <out>/<id>.mp4
    path: Path  # a video file, or a folder of images
    num_frames: int = 0  # where known: makes the estimate better, and is checked; 0: unknown


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How flow is computed and stored."""

    algorithm: str = "dis"  # a name of `kinema.flow.algorithms`
    bound: float = DEFAULT_BOUND  # pixels per frame at the ends of the uint8 scale
    size: str = "none"  # frames are resized to this before: "WxH", "short:S" or "none"
    quality: Quality = "standard"  # or "lossless"

    def identity(self) -> dict[str, Any]:
        """Return what decides the content of a store, as stores and manifests record it."""
        return {
            "format": STORE_FORMAT,
            "algorithm": self.algorithm,
            "parameters": parameters(self.algorithm),
            "bound": self.bound,
            "size": self.size,
            "quality": self.quality,
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a video: a store, or the reason why there is none."""

    id: str
    pairs: int = 0
    bytes: int = 0
    seconds: float = 0.0  # on one core
    failure: str = ""
    is_disk_full: bool = False


def run_job(job: FlowJob, out: Path, options: FlowOptions) -> Outcome:
    """Make the store of one video; whatever is wrong with the video becomes the reason."""
    started = time.monotonic()
    try:
        path = flow_path(out, job.id)
        pairs = store_flow(job, path, options)
    except (KinemaError, OSError, MemoryError, av.FFmpegError, cv2.error) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        return Outcome(
            id=job.id,
            failure=str(error) or type(error).__name__,
            is_disk_full=isinstance(cause, OSError) and cause.errno == errno.ENOSPC,
        )
    seconds = time.monotonic() - started
    return Outcome(id=job.id, pairs=pairs, bytes=path.stat().st_size, seconds=seconds)


def store_flow(job: FlowJob, path: Path, options: FlowOptions) -> int:
    """Compute the flow of a video, streamed, and store it; return the number of pairs.

    Raises:
        KinemaError: the video cannot be read, has one frame, or the disk is full.
    """
    remove_leftovers(path)
    with closing(open_frames(job.path)) as source:
        pairs = _encoded_pairs(source, options)
        first = next(pairs, None)
        if first is None:
            raise KinemaError(f"{job.path} has only one frame: flow needs two at least.")
        sha256, source_bytes = fingerprint(job.path)
        metadata = {
            **options.identity(),
            "kinema": __version__,
            "source": job.path.name,
            "source_sha256": sha256,
            "source_bytes": source_bytes,
        }
        height, width = first.shape[:2]
        with FlowWriter(
            path,
            width=width,
            height=height,
            metadata=metadata,
            quality=options.quality,
            fps=float(getattr(source, "fps", 25.0)),
        ) as writer:
            writer.write(first)
            for pair_HW2 in pairs:
                writer.write(pair_HW2)
    return writer.num_pairs


def _encoded_pairs(source: FrameSource, options: FlowOptions) -> Iterator[NDArray[np.uint8]]:
    size = shrunk_size(options.size, height=source.height, width=source.width)
    gray: list[NDArray[np.uint8]] = []

    def flush() -> Iterator[NDArray[np.uint8]]:
        flow = compute(np.stack(gray), algorithm=options.algorithm)
        yield from encode(flow, bound=options.bound)
        del gray[:-1]

    for frame_HWC in _stream(source):
        gray.append(gray_from_rgb(frame_HWC[None], size=size)[0])
        if len(gray) > _CHUNK_PAIRS:
            yield from flush()
    if gray:
        yield from flush()


def _stream(source: FrameSource) -> Iterator[NDArray[np.uint8]]:
    if isinstance(source, VideoReader):
        yield from source.stream()
    else:
        for index in range(source.num_frames):
            yield source.read([index])[0]


def fingerprint(path: Path) -> tuple[str, int]:
    """Return SHA-256 and number of bytes of a video, or of a folder's images in order."""
    if path.is_file():
        return sha256_of(path), source_bytes(path)
    digest = hashlib.sha256()
    for item in _images(path):
        digest.update(f"{item.name} {sha256_of(item)}\n".encode())
    return digest.hexdigest(), source_bytes(path)


def source_bytes(path: Path) -> int:
    """Return the number of bytes of a video, or of a folder's images; 0 where it is missing."""
    if path.is_dir():
        return sum(item.stat().st_size for item in _images(path))
    return path.stat().st_size if path.exists() else 0


def _images(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_file())


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files that a killed process left beside a store."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.part{path.suffix}"):
        leftover.unlink(missing_ok=True)
