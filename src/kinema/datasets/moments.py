"""Moments in Time: trainingSet.csv, validationSet.csv and moments_categories.txt."""

from collections.abc import Iterator

from kinema.datasets.list_files import ListFolder, check_label, part_in_name, rows
from kinema.datasets.named import Entry, Lists, id_part, key_of, unique
from kinema.errors import KinemaError

_CATEGORIES = r"moments_categories\.txt"
_EXAMPLE = "clapping/yt-1_2.mp4,clapping"


def is_moments(folder: ListFolder) -> bool:
    """Tell whether a folder holds moments_categories.txt."""
    return bool(folder.matching(_CATEGORIES))


def read_moments(folder: ListFolder) -> Lists:
    """Read the categories (``name,number``) and the lists (``class/video.mp4,class``, and more).

    Raises:
        KinemaError: a line with another number of columns, a number that is none or is there
            twice, an unknown class.
    """
    path = folder.one(_CATEGORIES, "the class names")
    names: dict[int, str] = {}
    for where, (name, number) in rows(path, delimiter=",", columns=(2,), example="clapping,7"):
        if not number.isdigit() or int(number) in names:
            raise KinemaError(f"{where}: '{number}' is not a class number of its own.")
        names[int(number)] = name
    classes = [names[number] for number in sorted(names)]
    return Lists(entries=unique(_entries(folder, classes)), classes=tuple(classes))


def _entries(folder: ListFolder, classes: list[str]) -> Iterator[Entry]:
    known = dict.fromkeys(classes)
    for path in folder.matching(r"(training|validation|testing)set\.csv"):
        for where, values in rows(path, delimiter=",", columns=(2, 3, 4), example=_EXAMPLE):
            key = key_of(values[0])
            yield Entry(
                id="/".join(id_part(part) for part in key.split("/")),
                label=check_label(values[1], known, where=where),
                splits=(part_in_name(path),),
                keys=(key,),
            )
