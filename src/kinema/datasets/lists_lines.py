"""One line of an older tool's list of videos, in each of the forms that there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from kinema.datasets.list_files import head, part_in_name, read_lines
from kinema.errors import KinemaError

Form = Literal["tsn", "two-column", "slim", "mmaction2"]
_IMAGES = (".jpg", ".jpeg", ".png")
_EXAMPLES: dict[Form, str] = {
    "tsn": "frames/v_Diving_g01_c01 120 25",
    "two-column": "frames/v_Diving_g01_c01 26",
    "slim": "Diving/v_1/00010.jpg … Diving/v_1/00090.jpg 25",
    "mmaction2": "Diving/v_Diving_g01_c01.avi 25",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a line says."""

    where: str  # for messages
    video: str  # path of the video, or of the folder of its images
    number: int  # class, as written
    num_frames: int = 0  # 0: it says none


def numbers_after_path(path: Path) -> int:
    """Return how many numbers stand behind the path in the first line of a list; 0: it is none."""
    words = _first_line(path).split() if part_in_name(path) else []
    count = 0
    while count < len(words) - 1 and words[-1 - count].isdigit():
        count += 1
    return count


def is_slim(path: Path) -> bool:
    """Tell whether a list has the form of TF-slim: image files, then a label."""
    if numbers_after_path(path) != 1:
        return False
    return _first_line(path).split()[0].lower().endswith(_IMAGES)


def _first_line(path: Path) -> str:
    return next((line for line in head(path).splitlines() if line.strip()), "")


def parse(path: Path, form: Form) -> list[Line]:
    """Read all lines of a list.

    Raises:
        KinemaError: a line has another form.
    """
    read = _slim if form == "slim" else _plain
    return [
        read(f"{path} line {number}", text, form)
        for number, text in enumerate(read_lines(path), start=1)
    ]


def _plain(where: str, text: str, form: Form) -> Line:
    columns = {"tsn": (3,), "two-column": (2,), "mmaction2": (2, 3)}[form]
    words = text.split()
    numbers: list[int] = []
    while len(words) > 1 and len(numbers) < max(columns) - 1 and words[-1].isdigit():
        numbers.insert(0, int(words.pop()))
    if len(numbers) + 1 not in columns:
        raise _wrong(where, text, form, f"has {len(text.split())} columns")
    # A path may contain spaces, but what is behind it are numbers alone.
    return Line(
        where=where,
        video=" ".join(words),
        number=numbers[-1],
        num_frames=numbers[0] if len(numbers) == 2 else 0,
    )


def _slim(where: str, text: str, form: Form) -> Line:
    *images, number = text.split()
    if not images or not number.isdigit():
        raise _wrong(where, text, form, "does not end in a class number")
    if not all(image.lower().endswith(_IMAGES) for image in images):
        raise _wrong(where, text, form, "names something that is no image")
    folders = {PurePosixPath(image.replace("\\", "/")).parent for image in images}
    if len({folder.name for folder in folders}) != 1:
        raise _wrong(where, text, form, "names images of several videos")
    return Line(where=where, video=str(min(folders)), number=int(number))


def _wrong(where: str, text: str, form: Form, fault: str) -> KinemaError:
    shown = text if len(text) <= 60 else f"{text[:57]}…"
    return KinemaError(
        f"{where}: '{shown}' {fault}; a line of the form {form} is as '{_EXAMPLES[form]}'."
    )


def first_number(lines: Sequence[Line]) -> int:
    """Return the smallest class number of all lines."""
    return min(line.number for line in lines)
