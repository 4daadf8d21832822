"""An index written as the lists of older tools, so that data prepared here feeds them too."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from kinema.datasets.export_json import activitynet, hara
from kinema.datasets.export_lists import (
    frame_count,
    hmdb51,
    kinetics,
    mmaction2,
    slim,
    tsn,
    two_column,
    ucf101,
)
from kinema.datasets.export_rows import Content, Rows
from kinema.datasets.index import Index
from kinema.datasets.names import ListFormat
from kinema.errors import KinemaError, UsageError, did_you_mean
from kinema.files import replacing

_WRITERS: dict[ListFormat, Callable[[Rows], dict[str, Content]]] = {
    "tsn": tsn,
    "two-column": two_column,
    "slim": slim,
    "mmaction2": mmaction2,
    "activitynet": activitynet,
    "hara": hara,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics": kinetics,
    "frame-count": frame_count,
}
# Where the images of each tool are, by the names of `kinema frames`.
_LAYOUTS: dict[ListFormat, str] = {
    "tsn": "tsn",
    "two-column": "zhu-test",
    "slim": "slim",
    "mmaction2": "denseflow",
}
_WITH_SEGMENTS = frozenset({"activitynet", "hara"})


def export_index(index: Index, out: Path, *, format: ListFormat, root: str = "") -> list[Path]:
    """Write the lists of an index in the form of an older tool; return the files.

    Args:
        index: the videos.
        out: folder to write to.
        format: which tool's.
        root: folder where `kinema frames` wrote the images in the tool's layout (`_LAYOUTS`).
            Empty: the videos themselves, or ids alone where the tool reads images.

    Raises:
        UsageError: there is no such format.
        KinemaError: the format cannot say what the index says; nothing is written.
    """
    if format not in get_args(ListFormat):
        raise UsageError(
            f"There is no list format '{format}': choose one of {', '.join(get_args(ListFormat))}."
            f"{did_you_mean(format, get_args(ListFormat))}"
        )
    segments = [video.id for video in index.videos if video.segment]
    if segments and not root and format not in _WITH_SEGMENTS:
        raise KinemaError(
            f"Lists of the form {format} name whole videos, but {len(segments)} rows are segments, "
            f"the first is '{segments[0]}'. Write their images with `kinema frames` and give that "
            f"folder (--root FOLDER), or take --format {' or '.join(sorted(_WITH_SEGMENTS))}."
        )
    rows = Rows(index=index, root=root, layout=_LAYOUTS.get(format, "hara"))
    contents = _WRITERS[format](rows)
    paths = []
    for name, content in contents.items():
        path = out / name
        with replacing(path) as temporary:
            data = content if isinstance(content, bytes) else content.encode("utf-8")
            temporary.write_bytes(data)
        paths.append(path)
    return paths
