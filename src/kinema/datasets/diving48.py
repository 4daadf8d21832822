"""Diving48: JSON lists with vid_name, label and end_frame, and a vocabulary of dives."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kinema.datasets.list_files import ListFolder, part_in_name, read_records
from kinema.datasets.named import Entry, Lists, key_of, unique
from kinema.datasets.span import Span
from kinema.errors import KinemaError
from kinema.files import read_json

_LISTS = r"diving48.*(train|test).*\.json"
_NUMBERS = ("label", "start_frame", "end_frame")
_VOCABULARY = r"diving48.*vocab.*\.json"


def is_diving48(folder: ListFolder) -> bool:
    """Tell whether a folder holds Diving48_…_train.json."""
    return bool(folder.matching(_LISTS))


def read_diving48(folder: ListFolder) -> Lists:
    """Read the train and test lists; ``start_frame`` up to ``end_frame`` of each video is meant.

    Classes are the dives of the vocabulary, their four parts joined by ``_``; without that file
    they are class_000 and so on. The group is the film that the dive was cut from.

    Raises:
        KinemaError: an object lacks a field, or has a label that the vocabulary lacks.
    """
    objects = [
        (_checked(item, f"{path} object {number}"), f"{path} object {number}", part_in_name(path))
        for path in _files(folder)
        for number, item in enumerate(read_records(path, fields=("vid_name", "label")), start=1)
    ]
    vocabulary = folder.matching(_VOCABULARY)
    if vocabulary:
        classes = _dives(vocabulary[0])
    else:
        classes = [f"class_{i:03d}" for i in range(1 + max(item["label"] for item, *_ in objects))]
    return Lists(entries=unique(_entries(objects, classes)), classes=tuple(classes))


def _files(folder: ListFolder) -> list[Path]:
    """Return the lists; of both versions the second, whose labels were corrected."""
    found = folder.matching(_LISTS)
    return [path for path in found if "_v2_" in path.name.lower()] or found


def _checked(item: dict[str, Any], where: str) -> dict[str, Any]:
    wrong = [name for name in _NUMBERS if not isinstance(item.get(name, 0), int)]
    if wrong:
        raise KinemaError(f"{where}: {wrong[0]} is '{item[wrong[0]]}', not a whole number.")
    return item


def _dives(path: Path) -> list[str]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(dive, list) for dive in content):
        raise KinemaError(f"{path} is not a list of dives, each a list of its parts.")
    return ["_".join(map(str, dive)) for dive in content]


def _entries(
    objects: Sequence[tuple[dict[str, Any], str, str]], classes: Sequence[str]
) -> Iterator[Entry]:
    for item, where, part in objects:
        number, name = item["label"], str(item["vid_name"])
        if not 0 <= number < len(classes):
            raise KinemaError(
                f"{where}: the class {number} is not among the {len(classes)} of the data set "
                f"(0 to {len(classes) - 1}). Take all lists from the same source."
            )
        start, end = item.get("start_frame", 0), item.get("end_frame")
        yield Entry(
            id=name,
            label=classes[number],
            splits=(part,),
            keys=(key_of(name),),
            group=name.rpartition("_")[0],
            span=None if end is None else Span(start=start, end=end),
        )
