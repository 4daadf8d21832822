"""Flow jobs on many machines: every video is a task of a Ray cluster.

The machines share the disk that the videos and the flow are on, and have Kinema installed.
"""

import dataclasses
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kinema.console import say
from kinema.errors import KinemaError
from kinema.flow.job import FlowJob, FlowOptions, Outcome, run_job
from kinema.workers import use_one_thread

_RETRIES = 2  # of a task whose worker or machine dies
_PATIENCE_SECONDS = 10.0  # Ray itself would end the whole process where nobody answers
_WAITING_PER_CPU = 2  # tasks given to the cluster ahead of time


def run_jobs_on_ray(
    jobs: Sequence[FlowJob], out: Path, options: FlowOptions, *, address: str
) -> Generator[Outcome, None, None]:
    """Run all jobs on a Ray cluster and yield what became of each, as they finish.

    A task whose worker or machine dies is done again, twice at most, and then given up.

    Args:
        jobs: the videos, on a disk that all machines share.
        out: folder of the stores, on such a disk.
        options: how flow is computed and stored.
        address: "host:port" or "auto" (the cluster that runs on this machine), or "local" for a
            new one on this machine alone.

    Raises:
        KinemaError: Ray is not installed, or there is no cluster at this address.
    """
    ray = _ray()
    was_running = ray.is_initialized()
    if not was_running:
        _connect(ray, address)
    try:
        yield from _run(ray, deque(jobs), out.absolute(), options)
    finally:
        if not was_running:
            ray.shutdown()


def _run(
    ray: ModuleType, queue: deque[FlowJob], out: Path, options: FlowOptions
) -> Iterator[Outcome]:
    cpus, gpus = (ray.cluster_resources().get(name, 0.0) for name in ("CPU", "GPU"))
    say(f"Ray: {len(ray.nodes())} machines, {cpus:.0f} cores, {gpus:.0f} GPUs.")
    share = min(1.0, int(gpus / cpus * 1e4) / 1e4) if cpus and options.uses_gpu else 0.0
    task = ray.remote(_work).options(
        num_cpus=1, num_gpus=share, max_retries=_RETRIES, retry_exceptions=False
    )
    running: dict[Any, FlowJob] = {}
    try:
        while queue or running:
            while queue and len(running) < max(1.0, cpus) * _WAITING_PER_CPU:
                job = queue.popleft()
                sent = dataclasses.replace(job, path=job.path.absolute())
                running[task.remote(sent, out, options)] = job
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                yield _outcome(ray, reference, running.pop(reference))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _work(job: FlowJob, out: Path, options: FlowOptions) -> Outcome:
    use_one_thread()
    return run_job(job, out, options)


def _outcome(ray: ModuleType, reference: Any, job: FlowJob) -> Outcome:  # noqa: ANN401
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"the process that worked on it died {_RETRIES + 1} times ({lines[0]})"
        return Outcome(id=job.id, failure=reason)
    return outcome


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise KinemaError(
            "Extraction on many machines needs Ray: install it with `pip install kinema[ray]` on "
            "every machine, or give every machine its part with --shard."
        ) from error
    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, address: str) -> None:
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdecimal() and "//" not in address:
            socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:  # Ray's ConnectionError is an OSError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KinemaError(
            f"There is no Ray cluster at '{address}' ({reason}). Start one with "
            "`ray start --head`, and give its host:port, 'auto' on one of its machines, or 'local'."
        ) from error
