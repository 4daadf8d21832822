"""The lists that belong to foreign score files: which video each row is, and the classes.

Names of videos differ between systems (`v_` before, `.avi` behind, HandStand or Handstand), so
they are compared by `key`.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.files import read_json
from kinema.scores import listed

_VIDEO_SUFFIX = re.compile(r"\.(avi|mp4|mkv|webm|mov|mpg|mpeg|m4v|wmv|flv)$", re.IGNORECASE)
_UCF_NAME = re.compile(r"(?:v_)?(.+)_g\d+_c\d+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """The videos of a list.

    Attributes:
        paths: as written in the list.
        ids: relative paths without the suffix; of absolute paths the last part.
        labels: int64, -1 unknown.
        complete: every video of the list must have scores (a table of labels may hold more).
    """

    paths: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    complete: bool = True


def key(name: str) -> str:
    """Return what the names of one video have in common in all systems."""
    return _VIDEO_SUFFIX.sub("", PurePosixPath(name).name).casefold().removeprefix("v_")


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names in order: one per line, `number name` per line, or JSON with `labels`.

    Raises:
        KinemaError: an empty list.
    """
    if path.suffix == ".json":
        content = read_json(path)
        names = content.get("labels", []) if isinstance(content, dict) else content
    else:
        names = _lines(path)
        numbered = [line.split(maxsplit=1) for line in names]
        if all(len(pair) == 2 and pair[0].isdigit() for pair in numbered):
            names = [name for _, name in sorted((int(n), name) for n, name in numbered)]
    if not names:
        raise KinemaError(f"{path} holds no class names.")
    return tuple(str(name) for name in names)


def read_listing(path: Path, *, classes: tuple[str, ...]) -> Listing:
    """Read a list of videos.

    Lines are ``path``, ``path label`` or ``path number-of-frames label``. A label is a class
    name or a number: with three columns from 0, with two from 0 or 1, whichever fits all lines.
    Without labels they follow from the names where these hold the class (`Class/video`,
    `v_Class_g01_c01`). A JSON annotation file (``database``) serves as a table of labels.

    Raises:
        KinemaError: an empty list, or labels that cannot be understood.
    """
    if path.suffix == ".json":
        return _annotations(path, classes)
    lines = _lines(path)
    if not lines:
        raise KinemaError(f"{path} lists no video.")
    paths, words, base = _columns(lines, classes)
    if words is None:
        labels = [label_from_name(name, classes=classes) for name in paths]
    elif all(word in classes for word in words):
        labels = [classes.index(word) for word in words]
    else:
        labels = _numbered([int(word) for word in words], base, len(classes), path)
    return Listing(
        paths=tuple(paths),
        ids=tuple(_id_of(name) for name in paths),
        labels=np.array(labels, np.int64),
    )


def label_from_name(name: str, *, classes: tuple[str, ...]) -> int:
    """Return the label that a video's folder or UCF101-like name says, -1 if it says none."""
    position = {name.casefold(): i for i, name in enumerate(classes)}
    path = PurePosixPath(_VIDEO_SUFFIX.sub("", name))
    match = _UCF_NAME.fullmatch(path.name)
    names = (path.parent.name, match[1] if match else "")
    return next((position[name.casefold()] for name in names if name.casefold() in position), -1)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise KinemaError(f"There is no list {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KinemaError(f"{path} is not a text file.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _columns(
    lines: list[str], classes: tuple[str, ...]
) -> tuple[list[str], list[str] | None, int | None]:
    """Split the lines: paths, labels as text (None without), first number of a class if known."""
    three = [line.rsplit(maxsplit=2) for line in lines]
    if all(len(part) == 3 and _whole(part[1]) and _whole(part[2]) for part in three):
        return [part[0] for part in three], [part[2] for part in three], 0
    two = [line.rsplit(maxsplit=1) for line in lines]
    if all(len(part) == 2 for part in two):
        words = [part[1] for part in two]
        if all(map(_whole, words)) or all(word in classes for word in words):
            return [part[0] for part in two], words, None
    return lines, None, None


def _whole(word: str) -> bool:
    return word.removeprefix("-").isdigit()


def _numbered(numbers: list[int], base: int | None, num_classes: int, path: Path) -> list[int]:
    low, high = min(numbers), max(numbers)
    fits = [start for start in (0, 1) if low >= start and high < start + num_classes]
    if base is not None:
        fits = [start for start in fits if start == base]
    if len(fits) != 1:
        why = "no numbering of them fits" if not fits else "they may count from 0 or from 1"
        raise KinemaError(
            f"The labels in {path} run from {low} to {high} with {num_classes} classes: {why}. "
            "Write class names instead of numbers."
        )
    return [number - fits[0] for number in numbers]


def _id_of(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return _VIDEO_SUFFIX.sub("", path.name if path.is_absolute() else str(path))


def _annotations(path: Path, classes: tuple[str, ...]) -> Listing:
    """Read ``{"database": {id: {"annotations": {"label": name}}}}`` (ActivityNet's form)."""
    content: Any = read_json(path)
    try:
        names = {
            video: entry["annotations"]["label"]
            for video, entry in content["database"].items()
            if entry.get("annotations")
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise KinemaError(f"{path} is JSON, but has no 'database' of annotations.") from error
    if unknown := sorted(set(names.values()) - set(classes)):
        raise KinemaError(f"{path} names classes that are not known: {listed(unknown)}.")
    return Listing(
        paths=tuple(names),
        ids=tuple(names),
        labels=np.array([classes.index(label) for label in names.values()], np.int64),
        complete=False,
    )
