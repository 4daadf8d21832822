"""What the package says while it works: lines and progress bars on standard error."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_QUIET_INTERVAL_SECONDS = 30.0


def say(text: str) -> None:
    """Write one line for the user to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows as a table to standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    has_header = any(columns)
    grid = Table(title=title or None, title_justify="left", show_header=has_header, box=None)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    Console().print(grid)


@contextmanager
def progress(total: int, what: str, *, show: bool = True) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and time left; yields ``advance(steps=1, note="")``.

    Without a terminal, one line is written every half minute instead of a bar.
    """
    if not show:
        yield lambda steps=1, note="": None
    elif sys.stderr.isatty():
        with _bar(total, what) as advance:
            yield advance
    else:
        yield _Lines(total, what)


@contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeLeft(),
        TextColumn("{task.fields[note]}"),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total, rate="", note="")

        def advance(steps: int = 1, note: str = "") -> None:
            done = bars.tasks[0].completed + steps
            rate = done / max(time.monotonic() - started, 1e-6)
            bars.update(task, advance=steps, rate=f"{rate:.1f}/s", note=note)

        yield advance


class _Lines:
    """Progress for logs: a line now and then."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what, self._done = total, what, 0
        self._started = self._last = time.monotonic()

    def __call__(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last < _QUIET_INTERVAL_SECONDS:
            return
        self._last = now
        rate = self._done / (now - self._started)
        left_seconds = (self._total - self._done) / rate
        say(
            f"{self._what}: {self._done}/{self._total}, {rate:.1f}/s, "
            f"{left_seconds:.0f} s left {note}".rstrip()
        )


def track(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    with progress(total, what) as advance:
        for item in items:
            yield item
            advance()
