"""An index as lists in text: TSN, two columns, TF-slim, mmaction2, UCF101, HMDB51, Kinetics."""

import csv
import io
import pickle
import re
from collections import defaultdict
from pathlib import Path

from kinema.datasets.export_rows import Content, Rows, check_names, check_places, name_of
from kinema.datasets.index import Video
from kinema.errors import KinemaError
from kinema.video.images import is_images

_SAMPLES = 5  # of the TF-slim lists: images per video
_STACK = 10  # and flow images around each
_CLIP = re.compile(r"(.+)_(\d{6})_(\d{6})")


def _class_index(rows: Rows) -> str:
    return "".join(f"{i} {name}\n" for i, name in enumerate(rows.index.classes, start=1))


def tsn(rows: Rows) -> dict[str, Content]:
    """Return ``path number-of-images class`` from 0, for frames and (one fewer) for flow."""
    files: dict[str, Content] = {"classInd.txt": _class_index(rows)}
    check_places([rows.images(video) for video in rows.index.videos], what="tsn")
    for split, part, videos in rows.parts():
        for stream, fewer in (("rgb", 0), ("flow", 1)):
            files[f"{part}_{stream}_split{split}.txt"] = "".join(
                f"{rows.images(video)} {video.num_frames - fewer} {rows.number(video)}\n"
                for video in videos
            )
    return files


def two_column(rows: Rows) -> dict[str, Content]:
    """Return ``path class`` from 1."""
    files: dict[str, Content] = {"classInd.txt": _class_index(rows)}
    check_places([rows.images(video) for video in rows.index.videos], what="two-column")
    for split, part, videos in rows.parts():
        files[f"{part}list{split:02d}_with_labels.txt"] = "".join(
            f"{rows.images(video)} {rows.number(video) + 1}\n" for video in videos
        )
    return files


def mmaction2(rows: Rows) -> dict[str, Content]:
    """Return ``video class`` from 0; of images ``folder number-of-images class``."""
    files: dict[str, Content] = {
        "label_map.txt": "".join(f"{name}\n" for name in rows.index.classes)
    }
    are_images = bool(rows.root) or all(is_images(video.path) for video in rows.index.videos)
    kind = "rawframes" if are_images else "videos"
    check_places([rows.place(video) for video in rows.index.videos], what="mmaction2")
    for split, part, videos in rows.parts():
        files[f"{part}_split_{split}_{kind}.txt"] = "".join(
            f"{rows.place(video)} {f'{video.num_frames} ' if are_images else ''}"
            f"{rows.number(video)}\n"
            for video in videos
        )
    return files


def slim(rows: Rows) -> dict[str, Content]:
    """Return five images per video, and ten flow images around each, x then y; class from 0.

    Images are ``<path>/00001.jpg``, flow ``x/<id>/frame000001.jpg`` and ``y/<id>/…`` below the
    root, numbered from 1.
    """
    files: dict[str, Content] = {"classInd.txt": _class_index(rows)}
    check_places([rows.images(video) for video in rows.index.videos], what="slim")
    for split, part, videos in rows.parts():
        files[f"{part}_rgb_split{split}.txt"] = "".join(
            f"{_slim_frames(rows.images(video), video)} {rows.number(video)}\n" for video in videos
        )
        files[f"{part}_flow_split{split}.txt"] = "".join(
            f"{_slim_flow(rows, video)} {rows.number(video)}\n" for video in videos
        )
    return files


def _centres(count: int) -> list[int]:
    interval = count // _SAMPLES
    return [min(max(1, interval // 2 + k * interval), count) for k in range(_SAMPLES)]


def _slim_frames(folder: str, video: Video) -> str:
    return " ".join(f"{folder}/{i:05d}.jpg" for i in _centres(video.num_frames))


def _slim_flow(rows: Rows, video: Video) -> str:
    count = max(1, video.num_frames - 1)
    numbers = [
        min(max(1, centre - _STACK // 2 + i), count)
        for centre in _centres(count)
        for i in range(_STACK)
    ]
    folders = [rows.below(Path(rows.root, axis), video).as_posix() for axis in ("x", "y")]
    return " ".join(f"{folder}/frame{i:06d}.jpg" for folder in folders for i in numbers)


def _two_parts(rows: Rows) -> dict[tuple[int, str], list[Video]]:
    """Return the videos of train and test of each split, for lists that know no validation.

    Videos held out for validation belong to training again; without a test part, they are it.
    """
    found: dict[tuple[int, str], list[Video]] = defaultdict(list)
    names = {(split, part) for split, part, _ in rows.parts()}
    for split, part, videos in rows.parts():
        of_val = "train" if (split, "test") in names else "test"
        found[split, of_val if part == "val" else part] += videos
    return found


def ucf101(rows: Rows) -> dict[str, Content]:
    """Return classInd.txt, trainlistNN.txt (``Class/video.avi class``) and testlistNN.txt."""
    check_names(rows.index.videos, what="ucf101", with_label=True)
    names = [f"{video.label}/{_file(video)}" for video in rows.index.videos]
    check_places(names, what="ucf101")
    files: dict[str, Content] = {"classInd.txt": _class_index(rows)}
    found = _two_parts(rows)
    for split in range(1, rows.num_splits + 1):
        for part in ("train", "test"):
            files[f"{part}list{split:02d}.txt"] = "".join(
                f"{video.label}/{_file(video)}"
                f"{f' {rows.number(video) + 1}' if part == 'train' else ''}\n"
                for video in found[split, part]
            )
    return files


def _file(video: Video) -> str:
    return f"{name_of(video)}{'.avi' if is_images(video.path) else video.path.suffix}"


def hmdb51(rows: Rows) -> dict[str, Content]:
    """Return ``CLASS_test_splitN.txt`` with ``video.avi`` and 1 (train), 2 (test) or 0."""
    check_names(rows.index.videos, what="hmdb51", with_label=True)
    check_places([name_of(video) for video in rows.index.videos], what="hmdb51")
    files: dict[str, Content] = {
        "class_list.txt": "".join(f"{name}\n" for name in rows.index.classes)
    }
    parts = {
        (split, video.id): "1" if part == "train" else "2"
        for (split, part), videos in _two_parts(rows).items()
        for video in videos
    }
    for split in range(1, rows.num_splits + 1):
        for label in rows.index.classes:
            files[f"{label}_test_split{split}.txt"] = "".join(
                f"{_file(video)} {parts.get((split, video.id), '0')}\n"
                for video in rows.index.videos
                if video.label == label
            )
    return files


def kinetics(rows: Rows) -> dict[str, Content]:
    """Return train.csv, validate.csv and test.csv; in a folder per split where there are several.

    Videos that are not called ``ID_START_END`` have their whole length as time.
    """
    files: dict[str, Content] = {}
    for split, part, videos in rows.parts():
        name = "validate" if part == "val" else part
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        for video in videos:
            found = _CLIP.fullmatch(name_of(video))
            seconds = round(video.num_frames / video.fps) if video.fps else 0
            row = (
                (found[1], int(found[2]), int(found[3])) if found else (name_of(video), 0, seconds)
            )
            writer.writerow((video.label, *row, name))
        folder = f"split{split}/" if rows.num_splits > 1 else ""
        files[f"{folder}{name}.csv"] = text.getvalue()
    return files


def frame_count(rows: Rows) -> dict[str, Content]:
    """Return ``frame_count.pickle``: ``video.avi`` to the number of flow images, for any Python."""
    check_names(rows.index.videos, what="frame-count")
    if not rows.index.videos:
        raise KinemaError("The index has no videos: there is nothing to count.")
    counts = {f"{name_of(video)}.avi": video.num_frames - 1 for video in rows.index.videos}
    return {"frame_count.pickle": pickle.dumps(counts, protocol=2)}
