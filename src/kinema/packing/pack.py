"""The frames of many videos into one folder: on all cores, in parts, resumed, verified."""

import functools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.console import say, track
from kinema.errors import KinemaError
from kinema.flow.job import remove_leftovers
from kinema.packing.job import PackJob, PackOptions, PackOutcome, run_job
from kinema.packing.manifest import pending_jobs, pin_settings, write_manifest
from kinema.video.packed import store_path
from kinema.video.rgb_store import FrameQuality, RgbStore
from kinema.video.store_jobs import checked_part
from kinema.video.store_progress import Tally, watched, with_estimate
from kinema.workers import Workers

__all__ = ["PackJob", "PackSummary", "pack", "verify_pack"]

FRAMES: Tally[PackOutcome] = Tally(unit="frames", count=lambda outcome: outcome.frames)


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What a packing left behind."""

    videos: int  # with a whole store, those of an earlier run included
    kept: int  # of an earlier run
    frames: int  # stored now
    seconds: float  # taken now
    bytes: int  # of all stores of these videos
    failures: tuple[tuple[str, str], ...]  # id and reason of the videos without a store

    def describe(self) -> str:
        """Return the summary as lines for the terminal."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.videos} videos stored ({self.kept} of them before), {self.bytes / 1e6:.1f} MB; "
            f"{self.frames} frames in {self.seconds:.0f} s ({rate:.0f} frames/s)."
        ]
        lines += [f"failed: {video}: {reason}" for video, reason in self.failures]
        return "\n".join(lines)


def pack(
    jobs: Sequence[PackJob],
    out: Path,
    *,
    short_side: int | None = 256,
    quality: FrameQuality = "standard",
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> PackSummary:
    """Store the frames of many videos for reading at random: ``out/<id>.mp4``, and a manifest.

    May be stopped or killed at any moment: a store is whole or absent, and the same call goes on
    where it stopped. Memory does not grow with the length of a video. A video that fails costs
    only itself.

    Args:
        jobs: the videos.
        out: folder of the stores.
        short_side: larger frames are shrunk to it, pixels; None keeps the native size.
        quality: "lossless" keeps every bit in about twelve times as many bytes.
        workers: processes; None takes one per core.
        shard: (i, n): take the i-th of n parts of the jobs, from 0, for many machines.

    Raises:
        UsageError: unknown quality, size or shard; an id that occurs twice or is no path; `out`
            is the folder of the videos themselves.
        KinemaError: the folder holds something else or frames stored with other settings, or the
            disk is full.
    """
    options = PackOptions(short_side=short_side, quality=quality)
    options.check()
    mine = checked_part(jobs, out, shard)
    started = time.monotonic()
    ours = [store_path(out, job.id) for job in mine]
    remove_leftovers(ours)
    pin_settings(out, options)
    pending = pending_jobs(mine, out, options)
    workers = workers or os.cpu_count() or 1
    say(
        f"Packing: {len(pending)} videos to do, {len(mine) - len(pending)} already done "
        f"(size {options.size}, quality {quality}, "
        f"{min(workers, max(1, len(pending)))} processes)."
    )
    try:
        outcomes = list(_run(pending, out, options, workers))
    finally:
        remove_leftovers(ours)
    write_manifest(out, options)
    failures = tuple((item.id, item.failure) for item in outcomes if item.failure)
    failed = {video for video, _ in failures}
    whole = [store_path(out, job.id) for job in mine if job.id not in failed]
    return PackSummary(
        videos=len(whole),
        kept=len(mine) - len(pending),
        frames=sum(item.frames for item in outcomes),
        seconds=time.monotonic() - started,
        bytes=sum(path.stat().st_size for path in whole),
        failures=failures,
    )


def _run(
    pending: Sequence[PackJob], out: Path, options: PackOptions, workers: int
) -> Iterator[PackOutcome]:
    """Yield the outcomes, show progress and an estimate, and stop when the disk is full."""
    work = functools.partial(run_job, out=out, options=options)
    outcomes = Workers(work, give_up=_given_up, processes=workers).run(pending)
    known = [job.num_frames for job in pending]
    measured = with_estimate(outcomes, known, workers=workers, tally=FRAMES)
    return watched(measured, len(pending), what="pack", tally=FRAMES)


def _given_up(job: PackJob, reason: str) -> PackOutcome:
    return PackOutcome(id=job.id, failure=reason)


def verify_pack(jobs: Sequence[PackJob], out: Path) -> tuple[tuple[str, str], ...]:
    """Check that every video has a whole store that decodes; return (id, reason) of the bad ones.

    Checked are the checksum, the number of frames (against the video's where the job knows them)
    and the decoding of every frame.
    """
    reasons = (
        (job.id, _fault(job, store_path(out, job.id)))
        for job in track(jobs, total=len(jobs), what="verify")
    )
    return tuple((video, reason) for video, reason in reasons if reason)


def _fault(job: PackJob, path: Path) -> str:
    try:
        store = RgbStore(path)
        store.verify()
    except KinemaError as error:
        return str(error)
    if job.num_frames and store.num_frames != job.num_frames:
        return f"{path} has {store.num_frames} frames, the video {job.num_frames}."
    return ""
