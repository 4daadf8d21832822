"""Flow jobs on all cores: a worker process that dies costs one video, not the run."""

import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import cv2

from kinema.flow.job import FlowJob, FlowOptions, Outcome, run_job


def run_jobs(
    jobs: Sequence[FlowJob], out: Path, options: FlowOptions, *, workers: int
) -> Iterator[Outcome]:
    """Run all jobs in `workers` processes and yield what became of each, as they finish.

    When a worker dies (killed, out of memory, crashed), the jobs that were being worked on are
    done again, each alone; the one that dies again is given up.
    """
    queue = deque(jobs)
    while queue:
        suspects = yield from _run_until_death(queue, out, options, workers=workers)
        for job in suspects:
            if (yield from _run_until_death(deque([job]), out, options, workers=1)):
                reason = "the process that worked on it died twice (crashed, or out of memory)"
                yield Outcome(id=job.id, failure=reason)


def _run_until_death(
    queue: deque[FlowJob], out: Path, options: FlowOptions, *, workers: int
) -> Generator[Outcome, None, list[FlowJob]]:
    """Take jobs from `queue` until it is empty or a worker dies; return the jobs that died."""
    died: list[FlowJob] = []
    running: dict[Future[Outcome], FlowJob] = {}
    with ProcessPoolExecutor(
        min(workers, len(queue)), mp_context=get_context("spawn"), initializer=_start_worker
    ) as pool:
        while running or (queue and not died):
            while queue and not died and len(running) < workers:
                try:
                    future = pool.submit(run_job, queue[0], out, options)
                except BrokenProcessPool:
                    died.append(queue.popleft())
                else:
                    running[future] = queue.popleft()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    died.append(job)
    return died


def _start_worker() -> None:
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # torch, where it is imported, reads it
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and silently
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when the one that started it has ended, however that ended."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
