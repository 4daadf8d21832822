"""JSON in the form of ActivityNet: a `database` of videos with subset and annotations.

Two dialects: ActivityNet itself has a list of annotations per video, with segments in seconds;
Hara's 3D-ResNets (and its descendants) have one annotation, with a segment in frames from 1.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinema.datasets.list_files import ListFolder, check_label, head
from kinema.datasets.listing import part_name
from kinema.datasets.named import Entry, Lists, key_of, unique
from kinema.datasets.span import Span
from kinema.errors import KinemaError
from kinema.files import read_json


def is_activitynet(folder: ListFolder) -> bool:
    """Tell whether a folder holds JSON files with a `database`."""
    return bool(_files(folder))


def read_activitynet(folder: ListFolder) -> Lists:
    """Read one JSON file, or one per split where the names differ in a number alone.

    Classes are those of ``labels``, else the leaves of ``taxonomy``, else sorted by name. A video
    with several annotations gives a row for each. Videos without annotation are left out.

    Raises:
        KinemaError: several files that are not splits of one data set, an object of another form,
            an unknown class, or several labels for one segment.
    """
    files = _files(folder)
    if len({path.stem.rstrip("0123456789") for path in files}) > 1:
        raise KinemaError(
            f"{folder.path} holds {len(files)} lists of different names "
            f"({', '.join(path.name for path in files[:3])}): give one of them (--splits FILE)."
        )
    contents = [_content(path) for path in files]
    classes = _classes(contents[0]) or sorted(
        {
            _label(item, path)
            for path, content in zip(files, contents, strict=True)
            for video in content["database"].values()
            for item in _annotations(video)[0]
        }
    )
    known = dict.fromkeys(classes)
    merged: dict[str, list[Entry | None]] = {}
    for k, (path, content) in enumerate(zip(files, contents, strict=True)):
        for entry in _entries(content["database"], path, known):
            merged.setdefault(entry.id, [None] * len(files))[k] = entry
    entries = unique(_merge(found) for found in merged.values())
    return Lists(entries=entries, classes=tuple(classes))


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not all(isinstance(v, dict) for v in database.values()):
        raise KinemaError(
            f"{path}: 'database' is not a table of videos, each with subset and annotations."
        )
    return dict(content)


def _files(folder: ListFolder) -> list[Path]:
    return [path for path in folder.matching(r".*\.json") if '"database"' in head(path)]


def _classes(content: Mapping[str, Any]) -> list[str]:
    if content.get("labels"):
        return [str(name) for name in content["labels"]]
    nodes = content.get("taxonomy") or []
    parents = {node.get("parentId") for node in nodes}
    return sorted(str(node["nodeName"]) for node in nodes if node.get("nodeId") not in parents)


def _annotations(video: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], bool]:
    """Return the annotations of a video, and whether they are Hara's."""
    found = video.get("annotations") or []
    if isinstance(found, dict):
        return ([found] if found.get("label") else []), True
    return list(found), False


def _label(item: Mapping[str, Any], where: object) -> str:
    label = item.get("label")
    if isinstance(label, list):
        raise KinemaError(
            f"{where}: an annotation has {len(label)} labels. Training with several labels per "
            "video is not supported yet."
        )
    if not label:
        raise KinemaError(f"{where}: an annotation has no 'label', it has {[*item]}.")
    return str(label)


def _entries(database: Mapping[str, Any], path: Path, known: dict[str, None]) -> Iterator[Entry]:
    for name, video in database.items():
        where = f"{path}, video '{name}'"
        part = part_name(str(video.get("subset", "")))
        if not part:
            raise KinemaError(
                f"{where}: the subset '{video.get('subset')}' is not one of training, validation, "
                "testing."
            )
        found, is_frames = _annotations(video)
        keys = (key_of(name), f"v_{key_of(name)}")
        if not found:
            yield Entry(id=key_of(name), label="", splits=(part,), keys=keys)
        for number, item in enumerate(found, start=1):
            label = check_label(_label(item, where), known, where=where)
            prefix = (f"{label}/{key}" for key in keys) if is_frames else keys
            yield Entry(
                id=key_of(name) + (f"_{number:02d}" if len(found) > 1 else ""),
                label=label,
                splits=(part,),
                keys=tuple(prefix),
                span=_span(item.get("segment"), is_frames=is_frames, where=where),
            )


def _span(segment: object, *, is_frames: bool, where: str) -> Span | None:
    if segment is None:
        return None
    numbers = segment if isinstance(segment, list) else []
    if len(numbers) != 2 or not all(isinstance(value, int | float) for value in numbers):
        raise KinemaError(f"{where}: the segment {segment} is not a pair of start and end.")
    start, end = numbers
    if is_frames:  # numbered from 1
        return Span(start=start - 1, end=end - 1)
    return Span(start=start, end=end, unit="seconds")


def _merge(found: list[Entry | None]) -> Entry:
    """Return one entry with its part in each split."""
    there = [entry for entry in found if entry is not None]
    first = next((entry for entry in there if entry.label), there[0])
    splits = tuple(entry.splits[0] if entry else "" for entry in found)
    return Entry(id=first.id, label=first.label, splits=splits, keys=first.keys, span=first.span)
