"""What the doctor says of an index: one finding is a sentence on the data and one on what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kinema.datasets.index import Index, Video

Level = Literal["problem", "warning", "note"]
_OF_ONE = {"have": "has", "are": "is", "were": "was", "lie": "lies", "claim": "claims"}
LEVELS: tuple[Level, ...] = ("problem", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about the data."""

    level: Level  # a problem makes results wrong
    topic: str  # one word
    text: str
    advice: str = ""
    examples: tuple[str, ...] = ()  # ids of videos


def splits_of(index: Index) -> list[tuple[str, list[str]]]:
    """Return name and parts (one per video) of each official split, or of the only one."""
    count = len(index.videos[0].splits) if index.videos else 0
    if count == 0:
        return [("the split", [video.split for video in index.videos])]
    return [(f"split {k + 1}", [video.splits[k] for video in index.videos]) for k in range(count)]


def parts_of(index: Index) -> dict[str, tuple[str, ...]]:
    """Return the parts of each video, one for each split, by id."""
    columns = zip(*(parts for _, parts in splits_of(index)), strict=True)
    return dict(zip(ids(index.videos), columns, strict=True))


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names in quotes, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def many(number: int, what: str, verb: str = "") -> str:
    """Return ``1 video`` or ``7 videos``; `what` is the plural, so is the verb after it."""
    if number == 1:
        what = what[:-2] if what.endswith("sses") else what.removesuffix("s")
        verb = _OF_ONE.get(verb, verb)
    return " ".join(filter(None, (str(number), what, verb)))


def ids(videos: Sequence[Video]) -> tuple[str, ...]:
    """Return the ids of videos."""
    return tuple(video.id for video in videos)
