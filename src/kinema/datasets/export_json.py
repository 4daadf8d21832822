"""An index as JSON in the form of ActivityNet, and in that of Hara's 3D-ResNets."""

import json
from collections import defaultdict
from typing import Any

from kinema.datasets.export_rows import Content, Rows, check_names, name_of
from kinema.datasets.index import Video
from kinema.errors import KinemaError

_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


def activitynet(rows: Rows) -> dict[str, Content]:
    """Return a file per split: videos with their segments in seconds."""
    files: dict[str, dict[str, Any]] = _databases(rows, "activitynet")
    by_path: dict[tuple[str, object], str] = {}
    for split, part, videos in rows.parts():
        database = files[_name(rows, "activitynet", split)]["database"]
        for video in videos:
            key = name_of(video) if not video.segment else _key(video)
            known = by_path.setdefault((_name(rows, "activitynet", split), key), str(video.path))
            if known != str(video.path):
                raise KinemaError(
                    f"{known} and {video.path} have the same name, but activitynet knows a video "
                    "by its name alone. Rename one of the files and make the index again."
                )
            entry = database.setdefault(key, {"subset": _SUBSETS[part], "annotations": []})
            if entry["subset"] != _SUBSETS[part]:
                raise KinemaError(
                    f"{video.path} has segments in two parts, but activitynet puts a whole video "
                    "into one. Give the videos a group and make the index again."
                )
            entry["annotations"].append(_annotation(video))
    return {name: _text(content) for name, content in files.items()}


def _key(video: Video) -> str:
    """Return the name of a segment's file, without the ``v_`` that the id does not have."""
    stem = video.path.stem
    return stem if name_of(video).startswith(stem) else stem.removeprefix("v_")


def _annotation(video: Video) -> dict[str, Any]:
    found: dict[str, Any] = {"label": video.label}
    if video.fps:
        start, end = video.segment or (0, video.num_frames)
        found["segment"] = [start / video.fps, end / video.fps]
    elif video.segment:
        raise KinemaError(
            f"'{video.id}' is a segment of images, whose rate is not known, but activitynet has "
            "seconds. Take --format hara, which has frames."
        )
    return found


def hara(rows: Rows) -> dict[str, Content]:
    """Return a file per split: videos with one annotation, its segment in frames from 1."""
    check_names(rows.index.videos, what="hara")
    files = _databases(rows, "hara")
    for split, part, videos in rows.parts():
        database = files[_name(rows, "hara", split)]["database"]
        for video in videos:
            if video.segment and not rows.root and name_of(video) != video.path.stem:
                raise KinemaError(
                    f"'{video.id}' is a segment of {video.path.name}, but hara finds a video by "
                    "its name alone. Write images with `kinema frames` and give that folder "
                    "(--root FOLDER), or take --format activitynet."
                )
            whole = (0, video.num_frames)
            start, end = whole if rows.root else (video.segment or whole)
            database[name_of(video)] = {
                "subset": _SUBSETS[part],
                "annotations": {"label": video.label, "segment": [start + 1, end + 1]},
            }
    return {name: _text(content) for name, content in files.items()}


def _databases(rows: Rows, format: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for split in range(1, rows.num_splits + 1):
        found[_name(rows, format, split)] = {"labels": [*rows.index.classes], "database": {}}
    return found


def _name(rows: Rows, format: str, split: int) -> str:
    return f"{format}_{split:02d}.json" if rows.num_splits > 1 else f"{format}.json"


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
