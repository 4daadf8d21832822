"""The flow of many videos into one folder: on all cores, in parts, resumed, verified."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kinema.console import say, track
from kinema.errors import KinemaError
from kinema.flow.job import FlowJob, FlowOptions, Outcome, remove_leftovers
from kinema.flow.manifest import (
    MANIFEST,
    is_there,
    pending_jobs,
    pin_settings,
    stored_options,
    write_manifest,
)
from kinema.flow.options import STORE
from kinema.flow.outputs import output_paths
from kinema.flow.pool import run_jobs
from kinema.flow.ray_pool import run_jobs_on_ray
from kinema.flow.source_pairs import Shares
from kinema.flow.store import FlowStore, flow_path
from kinema.video.store_jobs import checked_part
from kinema.video.store_progress import Tally, watched, with_estimate

__all__ = ["FlowJob", "FlowOptions", "FlowSummary", "extract_flow", "verify_flow"]

PAIRS: Tally[Outcome] = Tally(unit="pairs", count=lambda outcome: outcome.pairs)


@dataclass(frozen=True, kw_only=True)
class FlowSummary:
    """What an extraction left behind."""

    videos: int  # with a whole store, those of an earlier run included
    kept: int  # of an earlier run
    pairs: int  # computed now
    seconds: float  # taken now
    bytes: int  # written now
    shares: Shares  # of the videos computed now: seconds, all cores together
    failures: tuple[tuple[str, str], ...]  # id and reason of the videos without a store

    def describe(self) -> str:
        """Return the summary as lines for the terminal."""
        rate = self.pairs / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.videos} videos stored ({self.kept} of them before); "
            f"{self.pairs} pairs, {self.bytes / 1e6:.1f} MB in {self.seconds:.0f} s "
            f"({rate:.0f} pairs/s)."
        ]
        if self.pairs:
            lines.append(f"Time: {self.shares.describe()}.")
        lines += [f"failed: {video}: {reason}" for video, reason in self.failures]
        return "\n".join(lines)


def extract_flow(
    jobs: Sequence[FlowJob],
    out: Path,
    *,
    options: FlowOptions | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    ray: str = "",
) -> FlowSummary:
    """Compute and store the flow of many videos: ``out/<id>.mp4`` each, and a manifest.

    May be stopped or killed at any moment: a store is whole or absent, and the same call goes on
    where it stopped. Memory does not grow with the length of a video. A video that fails costs
    only itself.

    Args:
        jobs: the videos.
        out: folder of the stores.
        options: algorithm, bound, size and so on.
        workers: processes; None takes one per core.
        shard: (i, n): take the i-th of n parts of the jobs, from 0, for many machines.
        ray: run on the Ray cluster at this address ("host:port", "auto" or "local") instead of
            in processes of this machine; every machine must see the same disk. Empty: no Ray.

    Raises:
        UsageError: unknown algorithm, size or shard; an id that occurs twice or is no path.
        KinemaError: the folder holds flow made with other settings, the disk is full, or there is
            no Ray.
    """
    options = options or FlowOptions()
    options.check()
    mine = checked_part(jobs, out, shard)
    started = time.monotonic()
    ours = [out / MANIFEST]
    ours += [path for job in mine for path in output_paths(out, job.id, options)]
    remove_leftovers(ours)
    pin_settings(out, options)
    pending = pending_jobs(mine, out, options)
    workers = workers or os.cpu_count() or 1
    say(
        f"Flow: {len(pending)} videos to do, {len(mine) - len(pending)} already done "
        f"({options.describe()}, "
        f"{f'Ray at {ray}' if ray else f'{min(workers, max(1, len(pending)))} processes'})."
    )
    if ray:
        running = run_jobs_on_ray(pending, out, options, address=ray)
    else:
        running = run_jobs(pending, out, options, workers=workers)
    try:
        with closing(running):
            outcomes = list(_watched(running, pending, options, workers))
    finally:
        remove_leftovers(ours)
    write_manifest(out, options)
    failures = tuple((item.id, item.failure) for item in outcomes if item.failure)
    return FlowSummary(
        videos=len(mine) - len(failures),
        kept=len(mine) - len(pending),
        pairs=sum(item.pairs for item in outcomes),
        seconds=time.monotonic() - started,
        bytes=sum(item.bytes for item in outcomes),
        shares=sum((item.shares for item in outcomes), Shares()),
        failures=failures,
    )


def _watched(
    running: Iterator[Outcome], pending: Sequence[FlowJob], options: FlowOptions, workers: int
) -> Iterator[Outcome]:
    """Yield the outcomes, show progress and an estimate, and stop when the disk is full."""
    known = [options.num_pairs(job.num_frames) for job in pending]
    measured = with_estimate(running, known, workers=workers, tally=PAIRS)
    return watched(measured, len(pending), what="flow", tally=PAIRS)


def verify_flow(jobs: Sequence[FlowJob], out: Path) -> tuple[tuple[str, str], ...]:
    """Check that every video has a whole store that decodes; return (id, reason) of the bad ones.

    Checked are the checksum, the number of pairs (against the video's frames where the job knows
    them) and the decoding of every pair. In an older tool's layout, it is the number of files.
    """
    has_manifest = (out / MANIFEST).exists()
    options = stored_options(out) if has_manifest else FlowOptions()
    reasons = (
        (job.id, _fault(job, out, options)) for job in track(jobs, total=len(jobs), what="verify")
    )
    return tuple((video, reason) for video, reason in reasons if reason)


def _fault(job: FlowJob, out: Path, options: FlowOptions) -> str:
    if options.format != STORE:
        whole = is_there(job, out, options)
        return "" if whole else f"Files of it are missing in {out}, format {options.format}."
    path = flow_path(out, job.id)
    try:
        store = FlowStore(path)
        store.verify()
    except KinemaError as error:
        return str(error)
    if job.num_frames and store.num_frames != FlowOptions.from_identity(store.metadata).num_pairs(
        job.num_frames
    ):
        return f"{path} has {store.num_frames} pairs, the video {job.num_frames} frames."
    return ""
