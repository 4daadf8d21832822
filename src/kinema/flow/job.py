"""One video to its stored flow: what a worker process does."""

import hashlib
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinema import __version__
from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.flow.formats.sinks import open_sink
from kinema.flow.options import STORE, FlowOptions
from kinema.flow.outputs import written_bytes
from kinema.flow.sinks import AdaptiveStoreSink, FlowSink, StoreSink
from kinema.flow.source_pairs import Shares, flow_size, stream_flow
from kinema.flow.store import flow_path
from kinema.video.frames import FrameSource
from kinema.video.images import ImageFrames, archive_above
from kinema.video.outcomes import FAULTS, VideoOutcome
from kinema.video.segment import FrameRange, open_segment

__all__ = ["FlowJob", "FlowOptions", "Outcome", "run_job", "store_flow"]

_UNFINISHED = re.compile(r"\.(.+)\.[^.]+\.part(\.[^.]+|)")  # see `kinema.files.replacing`


@dataclass(frozen=True, kw_only=True)
class FlowJob:
    """A video whose flow is wanted."""

    id: str  # names the store: <out>/<id>.mp4
    path: Path  # a video file, or a folder of images
    num_frames: int = 0  # where known: makes the estimate better, and is checked; 0: unknown
    segment: FrameRange | None = None  # only this part of the video


@dataclass(frozen=True, kw_only=True)
class Outcome(VideoOutcome):
    """What became of a video: a store, or the reason why there is none."""

    pairs: int = 0
    bytes: int = 0
    shares: Shares = field(default_factory=Shares)

    @property
    def seconds(self) -> float:
        """Time that the video took on one core."""
        return self.shares.total


def run_job(job: FlowJob, out: Path, options: FlowOptions) -> Outcome:
    """Make the store of one video; whatever is wrong with the video becomes the reason."""
    shares = Shares()
    try:
        pairs = store_flow(job, out, options, shares=shares)
        num_bytes = written_bytes(out, job.id, options)
    except FAULTS as error:
        return _failed(job, error)
    return Outcome(id=job.id, pairs=pairs, bytes=num_bytes, shares=shares)


def _failed(job: FlowJob, error: Exception) -> Outcome:
    outcome = Outcome.failed(job.id, error)
    if not (outcome.is_disk_full and isinstance(error, OSError)):
        return outcome
    reason = (
        f"No space left on the disk while storing the flow of {job.path}: nothing half-written "
        "is left. Free some space and run the same command again."
    )
    return replace(outcome, failure=reason)


def store_flow(
    job: FlowJob, out: Path, options: FlowOptions, *, shares: Shares | None = None
) -> int:
    """Compute the flow of a video, streamed, and store it in `out`; return the number of pairs.

    Raises:
        KinemaError: the video cannot be read, is too short, changes its picture size, or the disk
            is full.
    """
    shares, started = shares or Shares(), time.monotonic()
    with shares.decoding():
        source = open_segment(job.path, job.segment)
    with closing(source), _open_sink(job, out, options, source, shares) as sink:
        on_frame = sink.write_frame if sink.wants_frames else None
        for flow_2HW in stream_flow(source, options, shares=shares, on_frame=on_frame):
            sink.write_pair(flow_2HW)
        if not sink.num_pairs:
            raise KinemaError(_too_short(job, options))
    shares.write = time.monotonic() - started - shares.decode - shares.flow
    return sink.num_pairs


def _open_sink(
    job: FlowJob, out: Path, options: FlowOptions, source: FrameSource, shares: Shares
) -> FlowSink:
    if options.format != STORE:
        return open_sink(
            out, job.id, name=options.format, bound=options.bound, stride=options.stride
        )
    with shares.decoding():
        height, width = flow_size(source, options)
        sha256, num_bytes = fingerprint(job.path)
    metadata = {
        **options.identity(),
        "kinema": __version__,
        "source": job.path.name,
        "source_sha256": sha256,
        "source_bytes": num_bytes,
        **({"segment": list(job.segment)} if job.segment else {}),
    }
    make = AdaptiveStoreSink if options.adaptive else StoreSink
    return make(
        flow_path(out, job.id),
        height=height,
        width=width,
        metadata=metadata,
        quality=options.quality,
        fps=float(getattr(source, "fps", 25.0)),
    )


def _too_short(job: FlowJob, options: FlowOptions) -> str:
    if abs(options.stride) == 1:
        return f"{job.path} has only one frame: flow needs two at least."
    return (
        f"{job.path} has too few frames: flow at stride {options.stride} needs "
        f"{abs(options.stride) + 1} at least."
    )


def fingerprint(path: Path) -> tuple[str, int]:
    """Return SHA-256 and number of bytes of a video, or of a folder's images in order."""
    if path.is_file():
        return sha256_of(path), source_bytes(path)
    digest = hashlib.sha256()
    if archive_above(path):
        with closing(ImageFrames(path)) as frames:
            for i in range(frames.num_frames):
                digest.update(frames.shelf.load(i))
        return digest.hexdigest(), source_bytes(path)
    for item in _images(path):
        digest.update(f"{item.name} {sha256_of(item)}\n".encode())
    return digest.hexdigest(), source_bytes(path)


def source_bytes(path: Path) -> int:
    """Return the number of bytes of a video, or of a folder's images; 0 where it is missing.

    For a place in an archive, those of the archive.
    """
    path = archive_above(path) or path
    if path.is_dir():
        return sum(item.stat().st_size for item in _images(path))
    return path.stat().st_size if path.exists() else 0


def _images(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_file())


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what killed processes left unfinished of these files and folders, and nothing else."""
    folders: dict[Path, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        for item in folder.iterdir() if folder.is_dir() else ():
            match = _UNFINISHED.fullmatch(item.name)
            if not match or "".join(match.groups()) not in names:
                continue
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)
