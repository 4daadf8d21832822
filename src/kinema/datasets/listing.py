"""What a data set's adapter returns: which video belongs to which class, before it is opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    return [path for path in _entries(folder) if path.is_dir()]


def video_files(folder: Path, *, skip: Path | None = None) -> list[Path]:
    """Return all videos below `folder` by path, links followed, hidden files and folders left out.

    Args:
        folder: where to look.
        skip: a folder that is left out.
    """
    return sorted(_walk(folder, skip, frozenset()))


def _walk(folder: Path, skip: Path | None, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link to a folder that holds it
        return
    for path in _entries(folder):
        if path.is_dir():
            if path != skip:
                yield from _walk(path, skip, above | {real})
        elif is_video(path):
            yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise KinemaError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def id_of(relative: Path) -> str:
    """Return the id of a video: its path from the data folder, without suffix and ``..``."""
    parts = [part for part in relative.parts if part not in ("..", relative.anchor)]
    return "/".join([*parts[:-1], Path(parts[-1]).stem])
