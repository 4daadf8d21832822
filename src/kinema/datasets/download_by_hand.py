"""Data sets behind a licence page: what a person fetches there, then checked, joined, unpacked."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from kinema.console import say
from kinema.datasets.archives import DamagedArchiveError, explained
from kinema.datasets.download_sources import ByHand, DataSet
from kinema.datasets.download_state import DownloadState
from kinema.datasets.unpack import unpack, unpack_stream
from kinema.errors import KinemaError

_ZIP_MARK = b"PK\x03\x04"
_Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True, kw_only=True)
class HandReport:
    """What was unpacked; `steps` is what must be fetched first, in lines."""

    messages: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def unpack_by_hand(known: DataSet, hand: ByHand, out: Path, state: DownloadState) -> HandReport:
    """Check, join and unpack what was fetched by hand into `out`; nothing of it is removed.

    Raises:
        KinemaError: a piece between others is missing, or the pieces are cut short or damaged.
    """
    pieces_there = state.is_done("videos") or bool(_pieces(hand, out))
    labels = [path for pattern in hand.labels for path in sorted(out.glob(pattern))]
    if not (pieces_there and labels):
        return HandReport(steps=_steps(known, hand, out, bool(pieces_there), bool(labels)))
    messages = []
    for path in labels:
        if path.suffix == ".zip" and not state.is_done(path.name):
            state.add(path.name, unpack(path, out))
            messages.append(f"Unpacked {path.name}.")
    if not state.is_done("videos"):
        numbers = sorted(_pieces(hand, out))
        _check_numbers(hand, numbers, out)
        say(f"Unpacking {len(numbers)} pieces of {known.title}: this may take hours.")
        with _joined(hand, out) as stream:
            try:
                count = unpack_stream(stream, f"{known.title} ({len(numbers)} pieces)", out)
            except DamagedArchiveError as error:
                raise KinemaError(
                    f"{error} Number {numbers[-1]:02d} is the last piece in {out}: see on the page "
                    "whether there are more, and whether the sizes are those given there."
                ) from error
        state.add("videos", count)
        messages.append(f"Unpacked {count} files from {len(numbers)} pieces.")
    return HandReport(messages=tuple(messages))


def _steps(
    known: DataSet, hand: ByHand, out: Path, has_pieces: bool, has_labels: bool
) -> tuple[str, ...]:
    lacking = [
        text for text, there in zip(hand.what, (has_pieces, has_labels), strict=True) if not there
    ]
    size = f" (about {known.gigabytes:g} GB)" if known.gigabytes else ""
    return (
        f"{known.title}{size} can be fetched only by hand, for its terms must be agreed to:",
        f"1. Open {hand.page}, register, and agree to the terms ({known.terms}).",
        f"2. Fetch into {out}, without unpacking:",
        *(f"   - {text}" for text in lacking),
        f"3. Run again: kinema download {known.name} -o {out}",
        "It checks the pieces, joins and unpacks them.",
    )


def _pieces(hand: ByHand, out: Path) -> dict[int, _Opener]:
    """Return what opens each piece, by number: a file, or what lies in a zip of pieces."""
    expression = re.compile(hand.pieces)
    found: dict[int, _Opener] = {}
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        match = expression.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        with path.open("rb") as handle:
            is_zip = handle.read(len(_ZIP_MARK)) == _ZIP_MARK
        if is_zip:
            found.update(_zipped_pieces(path, expression))
        else:
            found.setdefault(int(match[1]), _open_file(path))
    return found


def _zipped_pieces(path: Path, expression: re.Pattern[str]) -> dict[int, _Opener]:
    found: dict[int, _Opener] = {}
    with explained(path.name), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            match = expression.fullmatch(PurePosixPath(name).name)
            if match:
                found[int(match[1])] = _open_member(path, name)
    return found


def _open_file(path: Path) -> _Opener:
    return lambda: path.open("rb")


def _open_member(path: Path, name: str) -> _Opener:
    return lambda: zipfile.ZipFile(path).open(name)


def _check_numbers(hand: ByHand, numbers: list[int], out: Path) -> None:
    missing = [number for number in range(numbers[-1] + 1) if number not in numbers]
    if missing:
        names = ", ".join(f"{number:02d}" for number in missing[:5])
        raise KinemaError(
            f"Of the pieces in {out} the numbers {names}{', …' if len(missing) > 5 else ''} are "
            f"missing (0 to {numbers[-1]} are needed at least). Fetch them from {hand.page}."
        )


@contextmanager
def _joined(hand: ByHand, out: Path) -> Iterator[BinaryIO]:
    """Open all pieces one after the other as one stream."""
    openers = [opener for _, opener in sorted(_pieces(hand, out).items())]
    with ExitStack() as stack:
        yield cast("BinaryIO", io.BufferedReader(stack.enter_context(_Chain(openers))))


class _Chain(io.RawIOBase):
    """Streams one after the other; each is opened when it is needed."""

    def __init__(self, openers: list[_Opener]) -> None:
        self._left = list(openers)
        self._now: IO[bytes] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Fill `buffer` from the present stream, or the next ones."""
        view = memoryview(buffer).cast("B")
        while True:
            if self._now is None:
                if not self._left:
                    return 0
                self._now = self._left.pop(0)()
            block = self._now.read(len(view))
            if block:
                view[: len(block)] = block
                return len(block)
            self._now.close()
            self._now = None
