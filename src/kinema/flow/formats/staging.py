"""Folders that appear whole or not at all: files are written aside and moved at the end."""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Group:
    """Files of one kind in a folder."""

    folder: Path
    pattern: re.Pattern[str]  # of all their names

    def names(self, folder: Path | None = None) -> list[str]:
        """Return the names of this kind in the folder, or in another one; none if it is missing."""
        try:
            with os.scandir(folder or self.folder) as entries:
                return [entry.name for entry in entries if self.pattern.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []


@contextmanager
def whole_folders(groups: Sequence[Group]) -> Iterator[dict[Path, Path]]:
    """Yield a temporary folder for the folder of each group; at the end its files are moved.

    A folder that was not there appears in one step. In one that was there, files of these groups
    are replaced and others stay. On any error everything stays as it was. A process that is killed
    while it moves leaves too few files of the last group, which is removed first and moved last.

    Raises:
        KinemaError: the disk is full, or a folder cannot be written to.
    """
    temporaries = {
        group.folder: group.folder.with_name(f".{group.folder.name}.{os.getpid()}.part")
        for group in groups
    }
    try:
        for folder, temporary in temporaries.items():
            remove_leftovers(folder)
            temporary.mkdir(parents=True)
        yield temporaries
        _move(groups, temporaries)
    except OSError as error:
        raise explain(groups[-1].folder, error) from error
    finally:
        for temporary in temporaries.values():
            shutil.rmtree(temporary, ignore_errors=True)


def explain(path: Path, error: OSError) -> KinemaError:
    """Return what a user is told about an error of the disk."""
    if error.errno == errno.ENOSPC:
        return KinemaError(
            f"No space left on the disk while writing {path}: nothing half-written is left. "
            "Free some space and run the same command again."
        )
    return KinemaError(f"{path} cannot be written: {error.strerror or error}.")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of this folder, or of this file."""
    unfinished = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.part{re.escape(path.suffix)}")
    folder = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    for item in path.parent.iterdir() if path.parent.is_dir() else ():
        if folder.fullmatch(item.name) and item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif unfinished.fullmatch(item.name) and item.is_file():
            item.unlink(missing_ok=True)


def _move(groups: Sequence[Group], temporaries: dict[Path, Path]) -> None:
    for group in reversed(groups):
        for name in group.names():
            (group.folder / name).unlink()
    for group in groups:
        temporary = temporaries[group.folder]
        if temporary.exists() and not group.folder.exists():
            temporary.rename(group.folder)
        for name in group.names(temporary):
            (temporary / name).rename(group.folder / name)
