"""UCF101 with its official lists: classInd.txt, trainlist01.txt, testlist01.txt, … 02, 03."""

import re
from pathlib import Path

from kinema.datasets.listing import Listing
from kinema.datasets.official import Named, lists_folder, match, merge_splits
from kinema.errors import KinemaError

_GROUP = re.compile(r"_(g\d+)_c\d+$")


def ucf101_lists(folder: Path) -> Path | None:
    """Return the folder with the lists: `folder` or one directly in it, or None."""
    return lists_folder(folder, "trainlist01.txt")


def list_ucf101(data: Path, lists: Path, *, skip: Path) -> Listing:
    """List UCF101: the videos flat or in class folders anywhere below `data`.

    Class names and their order are those of `classInd.txt`. The group is the source video,
    ``CLASS_gNN``: no official split divides one.

    Args:
        data: absolute path of the folder with the videos.
        lists: folder with the official lists.
        skip: a folder in `data` that is left out.

    Raises:
        KinemaError: a list is missing or has a wrong line, or no listed video is there.
    """
    classes = _class_names(lists / "classInd.txt")
    parts = [_split(lists, k, classes) for k in _numbers(lists)]
    named = [
        Named(label=label, stem=stem, group=_group(label, stem), splits=tuple(splits))
        for (label, stem), splits in merge_splits(parts).items()
    ]
    return match(data, named, list(classes.values()), skip=skip)


def _numbers(lists: Path) -> list[int]:
    numbers: list[int] = []
    while (lists / f"trainlist{len(numbers) + 1:02}.txt").is_file():
        numbers.append(len(numbers) + 1)
    return numbers


def _group(label: str, stem: str) -> str:
    found = _GROUP.search(stem)
    return f"{label}_{found[1]}" if found else f"{label}_{stem}"


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KinemaError(
            f"The official list {path} cannot be read: {error}. UCF101 needs classInd.txt and, for "
            "each split, trainlistNN.txt and testlistNN.txt in one folder."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _class_names(path: Path) -> dict[str, str]:
    """Return case-folded name -> name, in the order of the numbers."""
    names: dict[int, str] = {}
    for line in _lines(path):
        number, name = (*line.split(maxsplit=1), "")[:2]
        if not (number.isdigit() and name):
            raise KinemaError(f"{path}: '{line}' is not a line like '1 ApplyEyeMakeup'.")
        names[int(number)] = name
    return {names[number].casefold(): names[number] for number in sorted(names)}


def _split(lists: Path, number: int, classes: dict[str, str]) -> dict[tuple[str, str], str]:
    """Return (label, stem) -> part of one official split."""
    found: dict[tuple[str, str], str] = {}
    position = {name: i for i, name in enumerate(classes.values(), start=1)}
    for part in ("train", "test"):
        path = lists / f"{part}list{number:02}.txt"
        for line in _lines(path):
            name, given = (*line.replace("\\", "/").split(maxsplit=1), "")[:2]
            folder, _, file = name.rpartition("/")
            label = classes.get(folder.casefold(), "")
            if not label:
                raise KinemaError(
                    f"{path}: the class '{folder}' of the line '{line}' is not in classInd.txt."
                )
            if given and given != str(position[label]):
                raise KinemaError(
                    f"{path}: the line '{line}' says class {given}, but classInd.txt has "
                    f"{label} as {position[label]}. Take all lists from the same source."
                )
            key = (label, Path(file).stem)
            if found.setdefault(key, part) != part:
                raise KinemaError(f"{path}: '{name}' is in the training list of this split too.")
    return found
