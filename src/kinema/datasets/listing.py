"""What a data set's adapter returns: which video belongs to which class, before it is opened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.layouts import archive_videos, holds_frames, is_frames_file, without_inner
from kinema.datasets.span import Span
from kinema.errors import KinemaError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".3gp", ".ts",
    ".ogv",
})
# fmt: on
_PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One video as the data set lists it."""

    id: str
    path: Path
    label: str
    split: str = ""  # "" where the data set gives no split
    group: str = ""
    splits: tuple[str, ...] = ()  # part in each official split
    span: Span | None = None  # the part of the video that is meant; None: all of it
    claimed_frames: int = 0  # as a list says; 0: it says none


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All videos that a data set lists and that are present."""

    videos: tuple[Listed, ...]
    classes: tuple[str, ...]
    rejected: tuple[tuple[Path, str], ...] = ()  # file and reason
    absent: int = 0  # videos of the official lists that are not there
    messages: tuple[str, ...] = ()
    # (train, test) of each official split, as its lists name them; empty: no official lists
    official_counts: tuple[tuple[int, int], ...] = ()


def part_name(name: str) -> str:
    """Return ``train``, ``val`` or ``test`` for any usual name of a part, else an empty string."""
    return _PART_NAMES.get(name.strip().lower(), "")


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video; hidden files are not."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder` by name, without hidden ones; links are followed."""
    return [path for path in (folder / name for name in _names(folder)) if path.is_dir()]


def video_files(folder: Path, *, skip: Path | None = None) -> list[Path]:
    """Return all videos below `folder` by path, links followed, hidden files and folders left out.

    A video is a file, or a folder, a zip archive or an HDF5 file with its frames as images.

    Args:
        folder: where to look; or an archive, whose folders with images are returned.
        skip: a folder that is left out.
    """
    if folder.is_file():
        return archive_videos(folder)
    return sorted(_walk(folder, skip, frozenset()))


def _walk(folder: Path, skip: Path | None, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link to a folder that holds it
        return
    names = _names(folder)
    if holds_frames(folder, names, video_suffixes=VIDEO_SUFFIXES):
        yield folder
        return
    with os.scandir(folder) as entries:  # tells folders without asking for each
        folders = {entry.name for entry in entries if entry.is_dir()}
    for name in names:
        path = folder / name
        if name in folders:
            if path != skip:
                yield from _walk(path, skip, above | {real})
        elif is_video(path) or is_frames_file(path):
            yield path


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError as error:
        raise KinemaError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def id_of(relative: Path, *, is_folder: bool = False) -> str:
    """Return the id of a video: its path from the data folder, without suffix and ``..``.

    Folders that belong to a layout of frames are left out; one with the frames of a video has no
    suffix.
    """
    relative = without_inner(relative)
    parts = [part for part in relative.parts if part not in ("..", relative.anchor)]
    return "/".join([*parts[:-1], parts[-1] if is_folder else relative.stem])


def stem_of(path: Path) -> str:
    """Return the name of a video without its suffix, which a folder of frames does not have."""
    return path.stem if path.is_file() else path.name
