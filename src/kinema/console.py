"""What the package says: work in progress on standard error, results on standard output."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_QUIET_INTERVAL_SECONDS = 30.0
_UNBOUNDED_WIDTH = 100_000
_SHORTEST_PATH = 24
_LONGEST_TITLE = 32


def say(text: str) -> None:
    """Write one line for the user to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Write a result to standard output, once where `torchrun` started many processes."""
    if _is_first_process():
        sys.stdout.write(text + "\n")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, paths: bool = False
) -> None:
    """Write rows as a table to standard output.

    A terminal (or COLUMNS) bounds the width; in a pipe every row is one line.

    Args:
        title: a line above the table; empty for none.
        columns: their names; all empty for a table without a header.
        rows: one text per column.
        paths: the first column holds paths, which are cut in front where the width is too small.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not _is_first_process():
        return
    rows = list(rows)
    bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if bounded else _UNBOUNDED_WIDTH, highlight=False)
    if paths:
        rows = _with_short_paths(columns, rows, console.width)
    grid = Table(show_header=any(columns), box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        grid.add_column(Text(name), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(grid)


def _with_short_paths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[Sequence[str]]:
    widest = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    room = max(width - sum(widest[1:]) - 2 * len(widest), _SHORTEST_PATH)
    return [(path if len(path) <= room else f"…{path[1 - room :]}", *rest) for path, *rest in rows]


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    what = what if len(what) <= _LONGEST_TITLE else f"{what[: _LONGEST_TITLE - 1]}…"
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
