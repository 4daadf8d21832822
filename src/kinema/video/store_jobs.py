"""The part of many videos that one machine stores, checked before anything is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from kinema.errors import UsageError
from kinema.video.packed import store_path


class StoreJob(Protocol):
    """A video of which a store is wanted."""

    @property
    def id(self) -> str:
        """Names the store."""

    @property
    def path(self) -> Path:
        """The video."""


AnyJob = TypeVar("AnyJob")
Job = TypeVar("Job", bound=StoreJob)


def nth_part(jobs: Sequence[AnyJob], shard: tuple[int, int]) -> Sequence[AnyJob]:
    """Return the i-th of n parts of the jobs, `shard` being (i, n), from 0.

    Raises:
        UsageError: no such part.
    """
    part, parts = shard
    if not 0 <= part < parts:
        raise UsageError(f"There is no part {part} of {parts}: parts count from 0 to {parts - 1}.")
    return jobs[part::parts]


def checked_part(jobs: Sequence[Job], out: Path, shard: tuple[int, int]) -> Sequence[Job]:
    """Return a part of the jobs as `nth_part` does, all of them checked.

    Raises:
        UsageError: no such part, an id that occurs twice or is no path, or a store that would
            replace one of the videos.
    """
    mine = nth_part(jobs, shard)
    ids = [job.id for job in jobs]
    if len(set(ids)) < len(ids):
        doubled = next(name for name in ids if ids.count(name) > 1)
        raise UsageError(f"The video id '{doubled}' occurs twice: every video needs its own.")
    sources = {job.path.resolve() for job in jobs}
    for name in ids:
        path = store_path(out, name)
        if path.resolve() in sources:
            raise UsageError(
                f"{path} is one of the videos: its store would replace it. "
                "Choose another output folder."
            )
    return mine
