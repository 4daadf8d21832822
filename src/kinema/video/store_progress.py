"""The progress of work on many videos: a bar with a rate, and an estimate for all of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kinema.console import progress, say
from kinema.errors import KinemaError
from kinema.video.outcomes import VideoOutcome

Outcome = TypeVar("Outcome", bound=VideoOutcome)


class _Measured(Protocol):
    @property
    def failure(self) -> str: ...

    @property
    def bytes(self) -> int: ...

    @property
    def seconds(self) -> float: ...


Measured = TypeVar("Measured", bound=_Measured)
Counted = TypeVar("Counted")


@dataclass(frozen=True, kw_only=True)
class Tally(Generic[Counted]):
    """What is counted of the outcomes."""

    unit: str  # its name
    count: Callable[[Counted], int]  # how many an outcome has


def watched(
    outcomes: Iterable[Outcome], total: int, *, what: str, tally: Tally[Outcome]
) -> Iterator[Outcome]:
    """Yield the outcomes and show the progress.

    Args:
        outcomes: as they come.
        total: how many will come.
        what: is being done; the title of the bar.
        tally: what the rate is of.

    Raises:
        KinemaError: the disk is full.
    """
    done, started = 0, time.monotonic()
    with progress(total, what) as advance:
        for outcome in outcomes:
            if outcome.is_disk_full:
                raise KinemaError(outcome.failure)
            yield outcome
            done += tally.count(outcome)
            advance(note=f"{done / (time.monotonic() - started):.0f} {tally.unit}/s")


def with_estimate(
    outcomes: Iterable[Measured], known: Sequence[int], *, workers: int, tally: Tally[Measured]
) -> Iterator[Measured]:
    """Yield the outcomes, and say what all will cost when each worker has done one on average.

    Args:
        outcomes: as they come.
        known: how many units each of all videos has; 0: not known.
        workers: processes that share the work.
        tally: the unit.
    """
    measured: list[Measured] = []
    for outcome in outcomes:
        yield outcome
        if len(measured) < workers < len(known) and not outcome.failure:
            measured.append(outcome)
            if len(measured) == workers:
                say(estimate(measured, known, workers=workers, tally=tally))


def estimate(
    measured: Sequence[Measured], known: Sequence[int], *, workers: int, tally: Tally[Measured]
) -> str:
    """Return how long and how large all videos will be if they are like the `measured` ones."""
    units = sum(tally.count(item) for item in measured)
    all_units = sum(known) if min(known) > 0 else len(known) * units / len(measured)
    minutes = sum(item.seconds for item in measured) / units * all_units / workers / 60
    megabytes = sum(item.bytes for item in measured) / units * all_units / 1e6
    return (
        f"Estimate: {len(known)} videos, {all_units:.0f} {tally.unit}, about {minutes:.1f} minutes "
        f"and {megabytes:.1f} MB, if all are like the first {len(measured)} "
        f"({units} {tally.unit}, measured)."
    )
