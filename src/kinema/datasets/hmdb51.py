"""HMDB51 with its official split files: CLASS_test_split1.txt, … 2, … 3."""

import re
from pathlib import Path

from kinema.datasets.listing import Listing
from kinema.datasets.official import Named, lists_folder, match, merge_splits
from kinema.errors import KinemaError
from kinema.score_formats.listing import read_classes

_FILE = re.compile(r"^(?P<label>.+)_test_split(?P<number>[1-9])\.txt$")
_PARTS = {"0": "", "1": "train", "2": "test"}
# SOURCE_CLASS_visible-body_camera_people_view_quality_number
_ATTRIBUTES = r"_[a-z]_[a-z]{2}_np\d+_[a-z]{2}_[a-z]{3}_\d+$"


def hmdb51_lists(folder: Path) -> Path | None:
    """Return the folder with the split files: `folder` or one directly in it, or None."""
    return lists_folder(folder, "*_test_split1.txt")


def list_hmdb51(data: Path, lists: Path, *, skip: Path) -> Listing:
    """List HMDB51: the videos flat or in class folders anywhere below `data`.

    Classes are in the order of a ``class_list.txt`` beside the split files, by which TSN and the
    very deep two-stream networks number them; else sorted by name. The lines of a split file are
    ``name.avi 1`` (train), 2 (test) or 0 (not in this split). The group is the source film within
    the class.

    Args:
        data: absolute path of the folder with the videos.
        lists: folder with the split files.
        skip: a folder in `data` that is left out.

    Raises:
        KinemaError: a split file is missing or has a wrong line, `class_list.txt` has other
            classes, or no listed video is there.
    """
    files: dict[int, dict[str, Path]] = {}
    for path in sorted(lists.glob("*_test_split?.txt")):
        if found := _FILE.match(path.name):
            files.setdefault(int(found["number"]), {})[found["label"]] = path
    numbers = sorted(files)
    classes = sorted(files[1])
    for number in numbers:
        lacking = sorted(set(classes) ^ set(files[number]))
        if lacking or numbers != list(range(1, len(numbers) + 1)):
            name = f"{(lacking or classes)[0]}_test_split*.txt"
            raise KinemaError(
                f"Split files are missing in {lists}: {name} is not there for every split of "
                f"{', '.join(map(str, numbers))}. Take all files from the same archive."
            )
    parts = [
        {key: part for label in classes for key, part in _split(files[number][label], label)}
        for number in numbers
    ]
    named = [
        Named(label=label, stem=stem, group=_group(label, stem), splits=tuple(splits))
        for (label, stem), splits in merge_splits(parts).items()
    ]
    return match(data, named, _in_order(classes, lists / "class_list.txt"), skip=skip)


def _in_order(classes: list[str], path: Path) -> list[str]:
    if not path.is_file():
        return classes
    ordered = list(read_classes(path))
    if sorted(ordered) != classes:
        other = sorted(set(ordered) ^ set(classes))
        raise KinemaError(
            f"{path} does not list each class of the split files once: '{(other or ordered)[0]}' "
            "is too much or too little. Correct it, or remove it to sort the classes by name."
        )
    return ordered


def _split(path: Path, label: str) -> list[tuple[tuple[str, str], str]]:
    entries = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line.strip():
            continue
        name, number = (*line.rsplit(maxsplit=1), "")[:2]
        if number not in _PARTS:
            raise KinemaError(
                f"{path}: '{line.strip()}' is not a line like 'name.avi 1' with 0, 1 or 2."
            )
        entries.append(((label, Path(name).stem), _PARTS[number]))
    return entries


def _group(label: str, stem: str) -> str:
    source = re.sub(f"_{re.escape(label)}{_ATTRIBUTES}", "", stem)
    return f"{label}/{source}"
