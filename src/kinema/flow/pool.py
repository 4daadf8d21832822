"""Flow jobs on all cores, and on all GPUs for an algorithm that uses them."""

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from kinema.flow.device import visible_gpus
from kinema.flow.job import FlowJob, FlowOptions, Outcome, run_job
from kinema.workers import Workers


def run_jobs(
    jobs: Sequence[FlowJob], out: Path, options: FlowOptions, *, workers: int
) -> Generator[Outcome, None, None]:
    """Run all jobs in `workers` processes and yield what became of each, as they finish.

    Where there are GPUs and the algorithm uses one, worker i of n GPUs sees GPU i % n alone.
    """
    gpus = visible_gpus() if options.uses_gpu else ()
    pool = Workers(
        partial(run_job, out=out, options=options),
        give_up=_given_up,
        processes=workers,
        environments=[{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus],
    )
    return pool.run(jobs)


def _given_up(job: FlowJob, reason: str) -> Outcome:
    return Outcome(id=job.id, failure=reason)
