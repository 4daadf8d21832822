"""Tells at once that nothing has changed since an index was made, however many videos it has.

Beside the index lies a stamp: one hash over the settings and over name, size and time of change of
every file below the data, and the report that was given. Comparing it opens no file of the data.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError
from kinema.files import read_json, write_json

_STAMP_FILE = "stamp.json"
# Folders of images have too many files to ask for each.
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def state_of(folders: Iterable[Path], *, settings: str, skip: Path) -> str:
    """Return a hash of everything that an index is made of; empty where that cannot be told.

    Args:
        folders: the data, and lists that lie elsewhere.
        settings: what else decides the result.
        skip: a folder that is left out.
    """
    digest = hashlib.sha256(settings.encode())
    for folder in folders:
        if not folder.is_dir():
            return ""
        for entry in _files(os.fspath(folder), os.fspath(skip), frozenset()):
            if entry.name.lower().endswith(_IMAGE_SUFFIXES):
                return ""
            state = entry.stat()
            line = f"{entry.path}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def remembered(folder: Path, state: str) -> dict[str, Any] | None:
    """Return the report of the index in a folder if it was made in this state and is untouched."""
    try:
        stamp = read_json(folder / _STAMP_FILE)
        is_same = stamp["state"] == state and stamp["files"] == _states(folder, stamp["files"])
        return dict(stamp["report"]) if is_same else None
    except (KinemaError, OSError, KeyError, TypeError, ValueError):
        return None


def remember(folder: Path, state: str, *, files: Sequence[str], report: dict[str, Any]) -> None:
    """Write the stamp of an index that has just been made.

    Args:
        folder: of the index.
        state: of the data before it was read.
        files: names of the files of the index.
        report: plain values, returned by `remembered`.
    """
    stamp = {"state": state, "files": _states(folder, files), "report": report}
    write_json(folder / _STAMP_FILE, stamp)


def _states(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    states = {name: (folder / name).stat() for name in names}
    return {name: [state.st_size, state.st_mtime_ns] for name, state in states.items()}


def _files(folder: str, skip: str, above: frozenset[str]) -> Iterator["os.DirEntry[str]"]:
    """Yield every file below a folder in a fixed order, links followed, hidden ones left out."""
    real = os.path.realpath(folder)
    if real in above or folder == skip:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry.path, skip, above | {real})
        else:
            yield entry
