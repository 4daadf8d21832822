"""The text files of a data set that say what its videos are: where they lie, how they are read."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.datasets.listing import subfolders
from kinema.errors import KinemaError
from kinema.files import read_json

_SUFFIXES = (".csv", ".json", ".pickle", ".pkl", ".txt")
_MOST_SUBFOLDERS = 1000  # more of them are videos, and not looked into
_PART = re.compile(r"train|val|test|holdout")
_HEAD_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class ListFolder:
    """A folder and the names of the lists in it."""

    path: Path
    names: tuple[str, ...]  # sorted

    def matching(self, pattern: str) -> list[Path]:
        """Return the files whose whole name fits a regular expression, in any letter case."""
        wanted = re.compile(pattern, re.IGNORECASE)
        return [self.path / name for name in self.names if wanted.fullmatch(name)]

    def whole(self) -> "ListFolder":
        """Return the same folder with all its lists, where only one of them was given."""
        return ListFolder(path=self.path, names=_names(self.path))

    def one(self, pattern: str, what: str) -> Path:
        """Return the file whose name fits.

        Raises:
            KinemaError: there is none, or several.
        """
        found = self.matching(pattern)
        if len(found) != 1:
            state = f"has {len(found)} of them ({found[0].name} …)" if found else "has none"
            raise KinemaError(f"One file is needed with {what}, but {self.path} {state}.")
        return found[0]


def list_folders(place: Path) -> list[ListFolder]:
    """Return `place` and the folders directly in it that hold text files; a file alone is one."""
    if place.is_file():
        return [ListFolder(path=place.parent, names=(place.name,))]
    below = subfolders(place)
    folders = [place, *(below if len(below) <= _MOST_SUBFOLDERS else [])]
    found = [ListFolder(path=folder, names=_names(folder)) for folder in folders]
    return [folder for folder in found if folder.names]


def _names(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return tuple(sorted(name for name in names if name.lower().endswith(_SUFFIXES)))


def part_in_name(path: Path) -> str:
    """Return ``train``, ``val`` or ``test`` where a file's name says one of them, else ""."""
    found = set(_PART.findall(path.stem.lower()))
    part = found.pop() if len(found) == 1 else ""
    return "test" if part == "holdout" else part


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not empty, stripped.

    Raises:
        KinemaError: it cannot be read as text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KinemaError(f"The list {path} cannot be read as UTF-8 text: {error}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def head(path: Path) -> str:
    """Return the beginning of a text file, to see what it is."""
    with path.open("rb") as handle:
        return handle.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")


def header(path: Path) -> tuple[str, ...]:
    """Return the columns that the first line of a CSV names, in lower case."""
    first = head(path).partition("\n")[0]
    return tuple(name.strip().strip('"').lower() for name in first.split(","))


def rows(
    path: Path, *, delimiter: str, columns: Sequence[int], example: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield (place for messages, values) of every line of a CSV without a header.

    Args:
        path: the file.
        delimiter: between the columns.
        columns: numbers of columns that are possible.
        example: a correct line, for the message.

    Raises:
        KinemaError: a line has another number of columns.
    """
    for number, line in enumerate(read_lines(path), start=1):
        values = [value.strip() for value in next(csv.reader([line], delimiter=delimiter))]
        if len(values) not in columns:
            raise KinemaError(
                f"{path} line {number} has {len(values)} columns, needed are "
                f"{' or '.join(map(str, columns))}, as in '{example}'."
            )
        yield f"{path} line {number}", values


def read_records(path: Path, *, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Return a JSON list of objects.

    Raises:
        KinemaError: it is something else, or an object lacks one of the fields.
    """
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise KinemaError(f"{path} is not a JSON list of objects.")
    for number, item in enumerate(content, start=1):
        lacking = [name for name in fields if name not in item]
        if lacking:
            raise KinemaError(f"{path}: object {number} lacks '{lacking[0]}', it has {[*item]}.")
    return content


def check_label(label: str, classes: Sequence[str] | dict[str, Any], *, where: str) -> str:
    """Return a label that is one of the classes.

    Raises:
        KinemaError: it is not.
    """
    if label not in classes:
        raise KinemaError(
            f"{where}: the class '{label}' is not among the {len(classes)} of the data set. Take "
            "all lists from the same source."
        )
    return label
