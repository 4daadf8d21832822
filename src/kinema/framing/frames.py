"""The frames of many videos as images in one folder: on all cores, in parts, resumed."""

import functools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.console import say
from kinema.flow.job import remove_leftovers
from kinema.framing.job import FrameJob, FrameOutcome, run_job
from kinema.framing.manifest import (
    check_places,
    counted,
    pin_settings,
    whole_images,
    write_manifest,
)
from kinema.framing.options import FrameOptions
from kinema.video.hdf5_file import hdf5_library
from kinema.video.store_jobs import nth_part
from kinema.video.store_progress import Tally, watched
from kinema.workers import Workers

__all__ = ["FrameJob", "FrameOptions", "FrameSummary", "write_frames"]

_IMAGES: Tally[FrameOutcome] = Tally(unit="images", count=lambda outcome: outcome.frames)


@dataclass(frozen=True, kw_only=True)
class FrameSummary:
    """What is there after a run."""

    videos: int  # with all their images, those of an earlier run included
    kept: int  # of an earlier run
    frames: int  # written now
    seconds: float  # taken now
    failures: tuple[tuple[str, str], ...]  # id and reason of the videos without images

    def describe(self) -> str:
        """Return the summary as lines for the terminal."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.videos} videos written ({self.kept} of them before); "
            f"{self.frames} images in {self.seconds:.0f} s ({rate:.0f} images/s)."
        ]
        lines += [f"failed: {video}: {reason}" for video, reason in self.failures]
        return "\n".join(lines)


def write_frames(
    jobs: Sequence[FrameJob],
    out: Path,
    *,
    options: FrameOptions | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> FrameSummary:
    """Write the frames of many videos as images, in the layout of an older system.

    May be stopped or killed at any moment: the images of a video are all there or none, and the
    same call goes on where it stopped. Videos are never changed or removed. A video that fails
    costs only itself.

    Args:
        jobs: the videos.
        out: folder to write to.
        options: layout, size, rate, kind of image.
        workers: processes; None takes one per core.
        shard: (i, n): take the i-th of n parts of the jobs, from 0, for many machines.

    Raises:
        UsageError: an unknown layout, size, format or shard; two videos with one place; `out` is
            the folder of the videos themselves.
        KinemaError: the folder was made with other settings, the disk is full, or h5py is needed
            and not installed.
    """
    options = options or FrameOptions()
    options.check()
    if options.where.kind == "hdf5":
        hdf5_library()
    mine = nth_part(jobs, shard)
    check_places(jobs, out, options)
    started = time.monotonic()
    places = [job.place(out, options) for job in mine]
    remove_leftovers(places)
    pin_settings(out, options)
    whole = {job.id: whole_images(job, out, options) for job in mine}
    pending = [job for job in mine if not whole[job.id]]
    workers = workers or os.cpu_count() or 1
    say(
        f"Frames: {len(pending)} videos to do, {len(mine) - len(pending)} already done "
        f"(layout {options.layout}, size {options.size}, {options.format}, "
        f"{min(workers, max(1, len(pending)))} processes)."
    )
    try:
        outcomes = list(_run(pending, out, options, workers))
    finally:
        remove_leftovers(places)
    whole.update({item.id: item.frames for item in outcomes})
    held = counted(out) | whole
    write_manifest(out, options, {video: count for video, count in held.items() if count})
    failures = tuple((item.id, item.failure) for item in outcomes if item.failure)
    return FrameSummary(
        videos=len(mine) - len(failures),
        kept=len(mine) - len(pending),
        frames=sum(item.frames for item in outcomes),
        seconds=time.monotonic() - started,
        failures=failures,
    )


def _run(
    pending: Sequence[FrameJob], out: Path, options: FrameOptions, workers: int
) -> Iterator[FrameOutcome]:
    """Yield the outcomes, show the progress, and stop when the disk is full."""
    work = functools.partial(run_job, out=out, options=options)
    outcomes = Workers(work, give_up=_given_up, processes=workers).run(pending)
    return watched(outcomes, len(pending), what="frames", tally=_IMAGES)


def _given_up(job: FrameJob, reason: str) -> FrameOutcome:
    return FrameOutcome(id=job.id, failure=reason)
