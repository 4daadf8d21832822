"""Something-Something V2: webm files named by number, JSON lists, labels with placeholders."""

from collections.abc import Iterator
from pathlib import Path

from kinema.datasets.list_files import ListFolder, check_label, part_in_name, read_records, rows
from kinema.datasets.named import Entry, Lists, unique
from kinema.errors import KinemaError
from kinema.files import read_json

_PREFIX = r"(something-something-v2-)?"


def is_something_v2(folder: ListFolder) -> bool:
    """Tell whether a folder holds the JSON lists of Something-Something V2."""
    if folder.matching(r"something-something-v2-labels\.json"):
        return True
    return {"labels.json", "train.json", "validation.json"} <= set(folder.names)


def read_something_v2(folder: ListFolder) -> Lists:
    """Read labels (``{"name": "number"}``), train, validation, test, and the answers of the test.

    A label is the template without its brackets: "Moving [something] up" is "Moving something
    up". Videos of the test part are left out unless ``test-answers.csv`` is there.

    Raises:
        KinemaError: a file has another form, or a template is not among the labels.
    """
    path = folder.one(_PREFIX + r"labels\.json", "the class names")
    numbers = read_json(path)
    if not isinstance(numbers, dict) or not all(str(n).isdigit() for n in numbers.values()):
        raise KinemaError(f'{path} is not a table of names and numbers, as {{"Name": "0"}}.')
    classes = sorted(numbers, key=lambda name: int(numbers[name]))
    known = dict.fromkeys(classes)
    return Lists(entries=unique(_entries(folder, known)), classes=tuple(classes))


def _entries(folder: ListFolder, known: dict[str, None]) -> Iterator[Entry]:
    answers = _answers(folder)
    for path in folder.matching(_PREFIX + r"(train|validation|test)\.json"):
        for number, item in enumerate(read_records(path, fields=("id",)), start=1):
            name = str(item["id"])
            template = str(item.get("template") or item.get("label") or answers.get(name, ""))
            label = template.replace("[", "").replace("]", "")
            if label:
                check_label(label, known, where=f"{path} object {number}")
            yield Entry(id=name, label=label, splits=(part_in_name(path),), keys=(name,))


def _answers(folder: ListFolder) -> dict[str, str]:
    found: list[Path] = folder.matching(_PREFIX + r"test-answers\.csv")
    example = "1420;Moving something up"
    return {
        values[0]: values[1]
        for path in found
        for _, values in rows(path, delimiter=";", columns=(2,), example=example)
    }
