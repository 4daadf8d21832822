"""Lists of older tools: TSN, two columns, TF-slim, mmaction2; one file per part and split."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kinema.datasets.list_files import ListFolder, part_in_name
from kinema.datasets.lists_lines import (
    Form,
    Line,
    first_number,
    is_slim,
    numbers_after_path,
    parse,
)
from kinema.datasets.named import Entry, Lists, key_of
from kinema.errors import KinemaError
from kinema.score_formats.listing import read_classes

_CLASS_FILES = (
    r"(.*class_?ind|class_?list|class_?names?|classes|labels?|label_map.*|categor.*)\.txt"
)
_SPLIT = re.compile(r"(?:split|list)_?0*([1-9])")


@dataclass(frozen=True)
class _Mention:
    """A line, and what the name of its file says."""

    line: Line
    part: str
    split: int


def has_tsn(folder: ListFolder) -> bool:
    """Tell whether there are lists with two numbers behind the path."""
    return any(numbers_after_path(path) == 2 for path in _files(folder))


def has_slim(folder: ListFolder) -> bool:
    """Tell whether there are lists of image files."""
    return any(is_slim(path) for path in _files(folder))


def has_two_columns(folder: ListFolder) -> bool:
    """Tell whether there are lists with one number behind the path."""
    return any(numbers_after_path(path) == 1 and not is_slim(path) for path in _files(folder))


def has_mmaction2(folder: ListFolder) -> bool:
    """Tell whether there are lists with one or two numbers behind the path."""
    return has_two_columns(folder) or has_tsn(folder)


def counts_from_zero(folder: ListFolder) -> bool:
    """Tell whether the classes of two-column lists surely count from 0."""
    return has_two_columns(folder) and first_number(_two_columns(folder)) == 0


def counts_from_one(folder: ListFolder) -> bool:
    """Tell whether the classes of two-column lists surely count from 1.

    Raises:
        KinemaError: that cannot be known.
    """
    if not has_two_columns(folder):
        return False
    names = _class_names(folder)
    largest = max(line.number for line in _two_columns(folder))
    if largest != len(names):
        raise KinemaError(
            f"The lists in {folder.path} have the class numbers 1 to {largest}: it is not known "
            "whether the first class is 0 or 1. Say --dataset mmaction2 (from 0) or --dataset "
            "two-column (from 1), or put a list of all class names (classInd.txt) beside them."
        )
    return True


def _two_columns(folder: ListFolder) -> list[Line]:
    files = [path for path in _files(folder) if numbers_after_path(path) == 1]
    return [line for path in files for line in parse(path, "two-column")]


def read_tsn(folder: ListFolder) -> Lists:
    """Read ``path number-of-frames class`` with classes from 0 (TSN, very deep two-stream)."""
    return _read(folder, "tsn")


def read_two_column(folder: ListFolder) -> Lists:
    """Read ``path class`` with classes from 1 (as UCF101's own training lists)."""
    return _read(folder, "two-column")


def read_slim(folder: ListFolder) -> Lists:
    """Read ``image … image class`` with classes from 0: a line per video, RGB or flow images."""
    return _read(folder, "slim")


def read_mmaction2(folder: ListFolder) -> Lists:
    """Read ``path class`` or ``path number-of-frames class`` with classes from 0."""
    return _read(folder, "mmaction2")


def _read(folder: ListFolder, form: Form) -> Lists:
    """Read all lists of a folder; the names of the files say which part and split they are.

    Lists of frames and of flow name the same videos. Class names are those of a file such as
    ``classInd.txt`` beside the lists, else class_000, class_001 and so on.

    Raises:
        KinemaError: a line of another form, an unknown class, or a video in two parts or classes.
    """
    mentions: dict[str, list[_Mention]] = defaultdict(list)
    for is_flow in (False, True):  # their numbers of images are not those of frames: they are last
        some = [
            mention
            for path in _files(folder)
            if ("flow" in path.name.lower()) == is_flow
            for mention in _mentions(path, form)
        ]
        paths = [one.line.video for one in some]
        ids = _ids_of_flow(paths, list(mentions)) if is_flow else _ids(paths)
        for video, mention in zip(ids, some, strict=True):
            mentions[video].append(mention)
    base = 1 if form == "two-column" else 0
    every = [mention for some in mentions.values() for mention in some]
    known = _class_names(folder)
    names = known or _numbered([mention.line.number for mention in every], base)
    splits = sorted({mention.split for mention in every})
    entries = [
        _entry(video, some, [_label(one, names, base) for one in some], splits)
        for video, some in mentions.items()
    ]
    said = () if known else ("No file gives class names: the classes are class_000 and so on.",)
    return Lists(entries=tuple(entries), classes=tuple(names), messages=said)


def _files(folder: ListFolder) -> list[Path]:
    return [path for path in folder.matching(r".*\.txt") if part_in_name(path)]


def _mentions(path: Path, form: Form) -> list[_Mention]:
    found = _SPLIT.search(path.stem.lower())
    number = int(found[1]) if found else 1
    return [_Mention(line, part_in_name(path), number) for line in parse(path, form)]


def _ids(videos: Sequence[str]) -> list[str]:
    """Return the paths of videos without what leads to all of them, on whatever machine."""
    paths = [PurePosixPath(key_of(video)) for video in videos]
    common = 0
    for level in zip(*(path.parent.parts for path in paths), strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return ["/".join(path.parts[common:]) for path in paths]


def _ids_of_flow(videos: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the ids that the lists of frames gave to the same videos; else as `_ids`."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for video in known:
        by_name[PurePosixPath(video).name].append(video)
    found = []
    for video, own in zip(videos, _ids(videos), strict=True):
        path = f"/{key_of(video)}"
        same = by_name[PurePosixPath(path).name]
        found.append(next((name for name in same if path.endswith(f"/{name}")), own))
    return found


def _class_names(folder: ListFolder) -> tuple[str, ...]:
    found = folder.whole().matching(_CLASS_FILES)
    return read_classes(found[0]) if found else ()


def _numbered(numbers: Sequence[int], base: int) -> tuple[str, ...]:
    return tuple(f"class_{i:03d}" for i in range(max(numbers, default=0) + 1 - base))


def _label(mention: _Mention, names: Sequence[str], base: int) -> str:
    number = mention.line.number
    if not base <= number < len(names) + base:
        raise KinemaError(
            f"{mention.line.where}: the class {number} is not among the {len(names)} of the list "
            f"of names ({base} to {len(names) - 1 + base}). Take all lists from the same source."
        )
    return names[number - base]


def _entry(
    video: str, mentions: Sequence[_Mention], labels: Sequence[str], splits: Sequence[int]
) -> Entry:
    """Return what all lines on one video say."""
    first = mentions[0]
    parts: dict[int, str] = {}
    for mention, label in zip(mentions, labels, strict=True):
        if label != labels[0] or parts.setdefault(mention.split, mention.part) != mention.part:
            raise KinemaError(
                f"{mention.line.where}: '{video}' is class '{label}' in {mention.part} here, but "
                f"class '{labels[0]}' in {first.part} in {first.line.where}. Keep one of the lines."
            )
    return Entry(
        id=video,
        label=labels[0],
        splits=tuple(parts.get(number, "") for number in splits),
        keys=(key_of(first.line.video),),
        claimed_frames=first.line.num_frames,
    )
