"""An archive that was cut in pieces (``x.zip.001``, ``x.zip.002``, …), read as one file."""

import io
import re
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError

_PART = re.compile(r"(.*\.)(\d+)")


class SplitFile(io.RawIOBase):
    """The pieces one after the other, as one seekable file; nothing is copied or unpacked.

    Args:
        parts: the pieces in order.

    Raises:
        KinemaError: a piece cannot be opened.
    """

    def __init__(self, parts: list[Path]) -> None:
        self.name = str(parts[0])
        self._position = 0
        try:
            self._files = [part.open("rb") for part in parts]
        except OSError as error:
            raise KinemaError(f"{error.filename} cannot be read: {error.strerror}.") from error
        self._starts = [0]
        for file in self._files:
            self._starts.append(self._starts[-1] + file.seek(0, io.SEEK_END))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place in the whole."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the whole."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Fill `buffer` as far as the present piece goes; return how many bytes."""
        view = memoryview(buffer).cast("B")
        for file, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if start <= self._position < end:
                file.seek(self._position - start)
                count = file.readinto(view[: end - self._position])
                self._position += count
                return count
        return 0

    def close(self) -> None:
        """Close all pieces."""
        for file in self._files:
            file.close()
        super().close()


def is_first_part(path: Path) -> bool:
    """Return whether a file is named like the first of many pieces."""
    if ".zip." not in path.name.lower():
        return False
    match = _PART.fullmatch(path.name)
    return match is not None and int(match[2]) == 1


def split_parts(first: Path) -> list[Path]:
    """Return all pieces of a cut archive in order, those that lie beside the first one.

    Raises:
        KinemaError: `first` is not a first piece, or one between others is missing.
    """
    match = _PART.fullmatch(first.name)
    if match is None or int(match[2]) != 1:
        raise KinemaError(
            f"{first} is not the first piece of a cut archive: give the one that ends in .001."
        )
    stem, digits = match.groups()
    found = {}
    for path in first.parent.iterdir():
        other = _PART.fullmatch(path.name)
        if other and other[1] == stem and len(other[2]) == len(digits):
            found[int(other[2])] = path
    for number in range(1, max(found, default=1) + 1):
        if number not in found:
            raise KinemaError(
                f"{first.with_name(f'{stem}{number:0{len(digits)}d}')} is missing: the archive "
                f"{stem[:-1]} has pieces up to number {max(found, default=1)}. "
                "Download it into the same folder."
            )
    return [found[number] for number in sorted(found)]


def open_split_zip(first: Path) -> io.BufferedReader:
    """Open a plain archive that was cut in pieces, as one seekable file for `zipfile.ZipFile`.

    Args:
        first: the piece ``….zip.001``; the others lie beside it.

    Raises:
        KinemaError: a piece is missing between others, or cannot be read.
    """
    return io.BufferedReader(SplitFile(split_parts(first)))
