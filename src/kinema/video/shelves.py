"""Numbered images of one kind, in a folder or in an archive: frames, or a component of flow."""

import os
import re
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from kinema.errors import KinemaError
from kinema.video.zip_index import Member, list_members, open_archive, read_member

_NAME = re.compile(r"(.*?)(?:([pm])(\d+)_)?(\d+)(\.(?:jpe?g|png|bmp|webp|tiff?))", re.IGNORECASE)
_FIELDS = 5  # of an image in an archive: number, offset, size, method, checksum


class Key(NamedTuple):
    """What names of one kind have in common."""

    prefix: str
    mark: str  # of the stride, such as "p2_"
    suffix: str

    @property
    def stride(self) -> int:
        """The stride that the names tell; 1 where they tell none."""
        if not self.mark:
            return 1
        return int(self.mark[1:-1]) * (1 if self.mark[0].lower() == "p" else -1)


class Shelf(Protocol):
    """Images of one kind, in the order of their numbers."""

    where: str  # folder or archive, for messages
    numbers: list[int]

    def name(self, number: int) -> str:
        """Return how the image of a number is called, or would be."""

    def load(self, position: int) -> bytes:
        """Return the file at a position, counted from 0.

        Raises:
            KinemaError: it cannot be read.
        """

    def close(self) -> None:
        """Give back open files."""


class Series(Protocol):
    """The promise of a shelf: little memory until it is opened."""

    key: Key
    where: str

    @property
    def count(self) -> int:
        """How many images there are."""

    @property
    def first(self) -> int:
        """The lowest number."""

    def shelf(self) -> Shelf:
        """Return the images.

        Raises:
            KinemaError: they are gone.
        """


def key_of(name: str) -> tuple[Key, int] | None:
    """Return kind and number of an image's file name, None where it is not a numbered image."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    prefix, sign, stride, number, suffix = match.groups()
    return Key(prefix, f"{sign}{stride}_" if sign else "", suffix), int(number)


def _like(example: str, number: int) -> str:
    """Return the name of an image with another number, with as many digits as in the example."""
    stem, dot, suffix = example.rpartition(".")
    digits = re.search(r"\d*$", stem)
    width = len(digits[0]) if digits else 0
    return f"{stem[: len(stem) - width]}{number:0{width}d}{dot}{suffix}"


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


class FolderSeries:
    """Images of one kind in a folder."""

    def __init__(self, folder: Path, key: Key, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        self.folder, self.key, self.where = folder, key, str(folder)
        self._count, self._first = len(numbers), min(numbers)

    @property
    def count(self) -> int:
        """How many images there were when the folder was searched."""
        return self._count

    @property
    def first(self) -> int:
        """The lowest number."""
        return self._first

    def shelf(self) -> "FolderShelf":
        """Return the images that are in the folder now."""
        try:
            names = _names(self.folder)
        except OSError as error:
            raise KinemaError(f"{self.folder} cannot be read: {error.strerror}.") from error
        shelf = folder_shelves(self.folder, names).get(self.key)
        if shelf is None:
            images = f"{self.key.prefix}*{self.key.suffix}"
            raise KinemaError(f"{self.folder} has no images {images} any more.")
        return shelf


def folder_series(folder: Path, names: Iterable[str] | None = None) -> dict[Key, FolderSeries]:
    """Return the kinds of numbered images in a folder; none where there is no such folder."""
    if names is None:
        names = _names(folder) if folder.is_dir() else ()
    found: dict[Key, array[int]] = {}
    for name in names:
        keyed = key_of(name)
        if keyed:
            found.setdefault(keyed[0], array("q")).append(keyed[1])
    return {key: FolderSeries(folder, key, numbers) for key, numbers in found.items()}


def folder_shelves(folder: Path, names: Iterable[str]) -> dict[Key, "FolderShelf"]:
    """Return the images of every kind in a folder.

    Args:
        folder: where they are.
        names: of everything in it.

    Raises:
        KinemaError: two images of one kind have one number.
    """
    found: dict[Key, dict[int, str]] = {}
    for name in names:
        keyed = key_of(name)
        if keyed is None:
            continue
        key, number = keyed
        held = found.setdefault(key, {})
        if number in held:
            first, second = sorted((held[number], name))
            raise KinemaError(
                f"{folder} has two images {number}: {first} and {second}. Take one away."
            )
        held[number] = name
    return {key: FolderShelf(folder, held) for key, held in found.items()}


class FolderShelf:
    """See `Shelf`."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.where, self._folder, self._names = str(folder), folder, names
        self.numbers = sorted(names)

    def name(self, number: int) -> str:
        """Return how the image of a number is called, or would be."""
        return self._names.get(number) or _like(next(iter(self._names.values())), number)

    def load(self, position: int) -> bytes:
        """Return the file at a position."""
        path = self._folder / self._names[self.numbers[position]]
        try:
            return path.read_bytes()
        except OSError as error:
            raise KinemaError(f"{path} cannot be read: {error.strerror}.") from error

    def close(self) -> None:
        """Nothing is held open."""


class ArchiveSeries:
    """Images of one kind in one folder of an archive: 40 bytes each."""

    def __init__(self, archive: Path, folder: str, key: Key, example: str) -> None:
        self.archive, self.key, self.example = archive, key, example
        self.where = f"{archive}:{folder}" if folder else str(archive)
        self.members = array("q")

    def add(self, number: int, member: Member) -> None:
        """Note one image."""
        self.members.extend((number, *member))

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.members) // _FIELDS

    @property
    def first(self) -> int:
        """The lowest number."""
        return min(self.members[::_FIELDS])

    def shelf(self) -> "ArchiveShelf":
        """Return the images; opens the archive when the first is read."""
        return ArchiveShelf(self)


class ArchiveShelf:
    """See `Shelf`.

    Raises:
        KinemaError: two images have one number.
    """

    def __init__(self, series: ArchiveSeries) -> None:
        self.where, self._series = series.where, series
        self._file: BinaryIO | None = None
        numbers = series.members[::_FIELDS]
        self._order = sorted(range(len(numbers)), key=numbers.__getitem__)
        self.numbers = sorted(numbers)
        if len(set(numbers)) < len(numbers):
            raise KinemaError(f"{self.where} has two images of one number. Take one away.")

    def name(self, number: int) -> str:
        """Return how the image of a number is called, or would be."""
        return _like(self._series.example, number)

    def load(self, position: int) -> bytes:
        """Return the file at a position."""
        if self._file is None:
            self._file = open_archive(self._series.archive)
        start = _FIELDS * self._order[position]
        member = Member(*self._series.members[start + 1 : start + _FIELDS])
        what = f"{self.where}/{self.name(self.numbers[position])}"
        return read_member(self._file, member, what=what)

    def close(self) -> None:
        """Close the archive."""
        if self._file is not None:
            self._file.close()
            self._file = None


def archive_series(archive: Path) -> dict[str, dict[Key, Series]]:
    """Return the kinds of numbered images in every folder of an archive, by folder.

    Raises:
        KinemaError: it is no whole zip archive.
    """
    folders: dict[str, dict[Key, Series]] = {}
    found: dict[tuple[str, Key], ArchiveSeries] = {}
    with open_archive(archive) as file:
        for path, member in list_members(file, archive):
            folder, _, name = path.replace("\\", "/").rpartition("/")
            keyed = key_of(name)
            if keyed is None:
                continue
            place = folder, keyed[0]
            if place not in found:
                found[place] = ArchiveSeries(archive, folder, keyed[0], name)
                folders.setdefault(folder, {})[keyed[0]] = found[place]
            found[place].add(keyed[1], member)
    return folders
