"""Something-Something V1 and Jester: frame folders named by number, CSV files separated by ;."""

from collections.abc import Iterator

from kinema.datasets.list_files import ListFolder, check_label, part_in_name, read_lines, rows
from kinema.datasets.named import Entry, Lists, unique

_SOMETHING = r"something-something-v1.*"
_JESTER = r"(20bn-)?jester.*"


def is_something_v1(folder: ListFolder) -> bool:
    """Tell whether a folder holds something-something-v1-labels.csv."""
    return bool(folder.matching(_SOMETHING + r"labels\.csv"))


def is_jester(folder: ListFolder) -> bool:
    """Tell whether a folder holds jester-v1-labels.csv."""
    return bool(folder.matching(_JESTER + r"labels\.csv"))


def read_something_v1(folder: ListFolder) -> Lists:
    """Read the lists of Something-Something V1; see `_read`."""
    return _read(folder, _SOMETHING)


def read_jester(folder: ListFolder) -> Lists:
    """Read the lists of Jester; see `_read`."""
    return _read(folder, _JESTER)


def _read(folder: ListFolder, prefix: str) -> Lists:
    """Read labels (one per line, in order) and train, validation and test (``id;label``).

    Lines without a label, as those of the test part, are videos to leave out.

    Raises:
        KinemaError: no file of labels, a line with another number of columns, an unknown class.
    """
    labels = read_lines(folder.one(prefix + r"labels\.csv", "the class names"))
    return Lists(entries=unique(_entries(folder, prefix, labels)), classes=tuple(labels))


def _entries(folder: ListFolder, prefix: str, labels: list[str]) -> Iterator[Entry]:
    known = dict.fromkeys(labels)
    for path in folder.matching(prefix + r"(train|validation|test)\.csv"):
        example = f"34870;{labels[0]}"
        for where, values in rows(path, delimiter=";", columns=(1, 2), example=example):
            label = values[1] if len(values) == 2 else ""
            yield Entry(
                id=values[0],
                label=check_label(label, known, where=where) if label else "",
                splits=(part_in_name(path),),
                keys=(values[0],),
            )
