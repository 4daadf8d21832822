"""One function for many jobs on all cores: a process that dies costs one job, not the run."""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2

from kinema.errors import KinemaError

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

Job = TypeVar("Job")
Result = TypeVar("Result")
_DIED_TWICE = "the process that worked on it died twice (crashed, or out of memory)"


class Workers(Generic[Job, Result]):
    """Processes that compute with one thread each.

    Args:
        work: what is done with a job; a function that can be pickled.
        give_up: makes the result of a job that cannot be done from the job and the reason.
        processes: how many.
        environments: worker i sees the variables of environment i % n besides its own.
    """

    def __init__(
        self,
        work: Callable[[Job], Result],
        *,
        give_up: Callable[[Job, str], Result],
        processes: int,
        environments: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._work, self._give_up, self._processes = work, give_up, processes
        self._environments = tuple(environments)

    def run(self, jobs: Sequence[Job]) -> Generator[Result, None, None]:
        """Do all jobs and yield the results as they come.

        When a worker dies (killed, out of memory, crashed), the jobs that were being worked on are
        done again, each alone; the one that dies again is given up.

        Raises:
            KinemaError: no worker can start at all.
        """
        queue = deque(jobs)
        while queue:
            for suspect in (yield from self._until_death(queue, self._processes)):
                if (yield from self._until_death(deque([suspect]), 1)):
                    _check_that_workers_start()
                    yield self._give_up(suspect, _DIED_TWICE)

    def _until_death(self, queue: deque[Job], processes: int) -> Generator[Result, None, list[Job]]:
        """Take jobs from `queue` until it is empty or a worker dies; return the jobs that died."""
        died: list[Job] = []
        running: dict[Future[Result], Job] = {}
        context = get_context("spawn")
        with ProcessPoolExecutor(
            min(processes, len(queue)),
            mp_context=context,
            initializer=_start_worker,
            initargs=(context.Value("i", 0), self._environments),
        ) as pool:
            while running or (queue and not died):
                while queue and not died and len(running) < processes:
                    try:
                        future = pool.submit(self._work, queue[0])
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


def _check_that_workers_start() -> None:
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise KinemaError(
            "No worker process can start. A Python script that calls Kinema must be a file, with "
            "its own work below `if __name__ == '__main__':`."
        ) from error


def use_one_thread() -> None:
    """Let this process compute with one thread: there are as many processes as cores."""
    cv2.setNumThreads(1)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # read when torch or numba is imported
        os.environ[name] = "1"
    if "torch" in sys.modules:  # a script of the user's own, which spawned processes import again
        sys.modules["torch"].set_num_threads(1)


def _start_worker(
    next_number: "Synchronized[int]", environments: Sequence[Mapping[str, str]]
) -> None:
    use_one_thread()
    with next_number.get_lock():
        number, next_number.value = next_number.value, next_number.value + 1
    if environments:
        os.environ.update(environments[number % len(environments)])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and silently
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when the one that started it has ended, however that ended."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
