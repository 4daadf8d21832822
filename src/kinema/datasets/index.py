"""The index: one row per video, the only thing that the rest of the package knows of a data set.

`index.csv` holds the rows, `classes.txt` the class names in order; a label's number is its
position there.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import KinemaError
from kinema.files import replacing, write_text
from kinema.video.images import is_there

INDEX_FILE = "index.csv"
CLASSES_FILE = "classes.txt"
PARTS = ("train", "val", "test")
_COLUMNS = (
    "id",
    "path",
    "label",
    "split",
    "group",
    "num_frames",
    "fps",
    "width",
    "height",
    "keyframe_interval",
    "sha256",
)
_OPTIONAL = frozenset({"sha256"})  # an index made by other means may lack these
_SEGMENT = ("segment_start", "segment_end")


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of the index."""

    id: str  # path from the data folder without suffix, "/" between folders
    path: Path  # absolute
    label: str
    split: str  # "train", "val", "test", or "" where the first official split leaves it out
    group: str = ""  # what must never be on both sides of a split: a person, a scene, a source
    num_frames: int  # of the segment, where there is one
    fps: float  # average
    width: int  # pixels, as shown (after rotation)
    height: int
    keyframe_interval: float  # mean number of frames from one keyframe to the next
    segment_start: int | None = None  # first frame, where only a part of the video is meant
    segment_end: int | None = None  # the frame after the last
    splits: tuple[str, ...] = ()  # part in each official split, where there are several
    sha256: str = ""  # of the file's bytes

    @property
    def segment(self) -> tuple[int, int] | None:
        """First frame and the one after the last; None for the whole video."""
        if self.segment_start is None or self.segment_end is None:
            return None
        return self.segment_start, self.segment_end


@dataclass(frozen=True, kw_only=True)
class Index:
    """Videos and class names.

    Raises:
        KinemaError: an id or a class is there twice, a label is not a class, a part has an
            unknown name, or the videos differ in their number of official splits.
    """

    videos: tuple[Video, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _refuse_doubles("class", self.classes)
        _refuse_doubles("id", [video.id for video in self.videos])
        known = set(self.classes)
        num_splits = len(self.videos[0].splits) if self.videos else 0
        for video in self.videos:
            if video.label not in known:
                raise KinemaError(
                    f"The label '{video.label}' of video '{video.id}' is not one of the "
                    f"{len(known)} classes. Add it to {CLASSES_FILE} or correct the row."
                )
            for part in (video.split, *video.splits):
                if part and part not in PARTS:
                    raise KinemaError(
                        f"The part '{part}' of video '{video.id}' is not one of "
                        f"{', '.join(PARTS)}. Correct the row."
                    )
            if len(video.splits) != num_splits:
                raise KinemaError(
                    f"Video '{video.id}' has {len(video.splits)} official splits, the first "
                    f"video has {num_splits}: all rows must have the same columns."
                )

    def part(self, split: str, *, official: int = 1) -> tuple[Video, ...]:
        """Return the videos of ``train``, ``val`` or ``test``, in the order of the index.

        Args:
            split: the part's name.
            official: which of the official splits, from 1, where there are several.

        Raises:
            KinemaError: no such part or no such official split.
        """
        if split not in PARTS:
            raise KinemaError(f"There is no part '{split}': choose one of {', '.join(PARTS)}.")
        num_splits = max(1, len(self.videos[0].splits)) if self.videos else 1
        if not 1 <= official <= num_splits:
            raise KinemaError(
                f"There is no official split {official}: this index has {num_splits}. "
                f"Set data.official_split to 1{f'..{num_splits}' if num_splits > 1 else ''}."
            )
        return tuple(
            video
            for video in self.videos
            if (video.splits[official - 1] if video.splits else video.split) == split
        )


def _refuse_doubles(what: str, names: Sequence[str]) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise KinemaError(
            f"The {what} '{doubled[0]}' is there {names.count(doubled[0])} times"
            f"{f' (and {len(doubled) - 1} others too)' if len(doubled) > 1 else ''}: "
            f"each {what} must be there once. Rename or remove the others."
        )


def write_index(index: Index, folder: Path) -> None:
    """Write `index.csv` and `classes.txt` into `folder`, each whole or not at all.

    The paths of videos below `folder` are written relative to it, all others absolute.
    """
    classes = "".join(name + "\n" for name in index.classes)
    write_text(folder / CLASSES_FILE, classes, unless_equal=True)
    has_segments = any(video.segment_start is not None for video in index.videos)
    num_splits = len(index.videos[0].splits) if index.videos else 0
    split_columns = [f"split{k}" for k in range(1, num_splits + 1)]
    columns = [*_COLUMNS, *(_SEGMENT if has_segments else ()), *split_columns]
    root = f"{absolute(folder).as_posix().rstrip('/')}/"
    with (
        replacing(folder / INDEX_FILE, unless_equal=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        for video in index.videos:
            row = dict(vars(video))
            row["path"] = video.path.as_posix().removeprefix(root)
            row["fps"] = f"{video.fps:.6g}"
            row["keyframe_interval"] = f"{video.keyframe_interval:.6g}"
            row.update(zip(split_columns, video.splits, strict=True))
            writer.writerow([row[name] for name in columns])


def read_index(folder: Path) -> Index:
    """Read `index.csv` and `classes.txt` from `folder`.

    Raises:
        KinemaError: a file or a column is missing, or a value is wrong; names file and line.
    """
    path = folder / INDEX_FILE
    if folder.is_file():
        raise KinemaError(f"{folder} is a file: give the folder that `kinema index` made.")
    if not path.is_file():
        raise KinemaError(
            f"There is no index in {folder} ({INDEX_FILE} is missing): "
            f"make one with `kinema index DATA -o {folder}`."
        )
    classes_path = folder / CLASSES_FILE
    if not classes_path.is_file():
        raise KinemaError(
            f"{classes_path} is missing beside {INDEX_FILE}: "
            f"make the index again with `kinema index DATA -o {folder}`."
        )
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        columns = reader.fieldnames or []
        missing = [name for name in _COLUMNS if name not in columns and name not in _OPTIONAL]
        if missing:
            raise KinemaError(
                f"{path} lacks the columns {', '.join(missing)}: it is not an index made by "
                f"Kinema. Make one from it with `kinema index {folder} -o OUT`."
            )
        videos = tuple(_video(row, folder, f"{path} line {reader.line_num}") for row in reader)
    try:
        return Index(videos=videos, classes=read_classes(classes_path))
    except KinemaError as error:
        raise KinemaError(f"{path}: {error}") from error


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names of a file with one name per line."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def absolute(path: Path) -> Path:
    """Return `path` as an absolute path without ``..``; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute keeps "..", resolve follows links


def _video(row: Mapping[str, str | None], folder: Path, where: str) -> Video:
    values = {name: (value or "").strip() for name, value in row.items() if name}
    splits: list[str] = []
    while f"split{len(splits) + 1}" in values:
        splits.append(values[f"split{len(splits) + 1}"])
    return Video(
        id=values["id"],
        path=absolute(folder / values["path"]),
        label=values["label"],
        split=values["split"],
        group=values["group"],
        num_frames=int(_number(values, "num_frames", where)),
        fps=_number(values, "fps", where),
        width=int(_number(values, "width", where)),
        height=int(_number(values, "height", where)),
        keyframe_interval=_number(values, "keyframe_interval", where),
        **_segment(values, where),
        splits=tuple(splits),
        sha256=values.get("sha256", ""),
    )


def _segment(values: Mapping[str, str], where: str) -> dict[str, int | None]:
    found = [int(_number(values, name, where)) if values.get(name) else None for name in _SEGMENT]
    start, end = found
    if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
        raise KinemaError(
            f"{where}: the segment from '{values[_SEGMENT[0]]}' to '{values[_SEGMENT[1]]}' is no "
            "part of a video. Give the first frame and the one after the last, or neither."
        )
    return dict(zip(_SEGMENT, found, strict=True))


def _number(values: Mapping[str, str], column: str, where: str) -> float:
    try:
        number = float(values[column])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise KinemaError(
            f"{where}: the column {column} holds '{values[column]}', which is not a number. "
            "Make the index again with `kinema index`."
        )
    return number


def check_files(index: Index) -> None:
    """Make sure that every video of the index is still there.

    Raises:
        KinemaError: some are not; names the first and says how many.
    """
    gone = [video.path for video in index.videos if not is_there(video.path)]
    if gone:
        raise KinemaError(
            f"{len(gone)} of {len(index.videos)} videos of the index are no longer there, the "
            f"first is {gone[0]}. Put them back, or run `kinema index` again without them."
        )
