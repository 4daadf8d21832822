"""Opens what takes a video's flow in the layout of an older tool, and tells what is complete."""

import re
import zipfile
from pathlib import Path

from kinema.flow.formats.hdf5_sink import Hdf5Sink
from kinema.flow.formats.image_sink import ImageSink
from kinema.flow.formats.names import find_layout
from kinema.flow.formats.target import Part, Target
from kinema.flow.sinks import FlowSink
from kinema.flow.store import flow_path
from kinema.video.hdf5_file import hdf5_library


def open_sink(
    out: Path,
    video_id: str,
    *,
    name: str,
    bound: float | None = None,
    stride: int = 1,
    frames: bool = True,
) -> FlowSink:
    """Return a sink that writes one video as an older tool would.

    It appears whole or not at all, and replaces what an earlier run left of it. At a stride above
    1, dense_flow and gpu_flow look at every s-th frame only, so only every s-th pair is written.

    Args:
        out: folder of all videos.
        video_id: path of the video's folder in it (or in ``x`` and ``y`` in it).
        name: of the layout, see `kinema.flow.formats.names.LAYOUTS`.
        bound: pixels at the ends of the uint8 scale; None takes the tool's own. The layouts
            ``denseflow-png`` and ``denseflow-h5`` keep every vector and need none.
        stride: from which the flow is.
        frames: whether the frames are written too, as the tool does.

    Raises:
        UsageError: there is no such layout, it cannot hold the stride, or the id is no path.
        KinemaError: HDF5 is asked for and h5py is not installed.
    """
    target = _target(out, video_id, name=name, stride=stride, frames=frames)
    if target.layout.kind == "hdf5":
        return Hdf5Sink(target)
    return ImageSink(target, bound=target.layout.bound if bound is None else bound)


def is_complete(
    out: Path,
    video_id: str,
    num_pairs: int,
    *,
    name: str,
    stride: int = 1,
    frames: bool = True,
) -> bool:
    """Return whether a video is there with all its files, by their number.

    Args:
        out: folder of all videos.
        video_id: path of the video's folder in it.
        num_pairs: that the video has at this stride; 0: unknown, at least one and as many of each
            kind as go together.
        name: of the layout.
        stride: of the flow.
        frames: whether frames must be there too.

    Raises:
        UsageError: see `open_sink`.
        KinemaError: HDF5 is asked for and h5py is not installed.
    """
    target = _target(out, video_id, name=name, stride=stride, frames=frames)
    layout = target.layout
    num_x, num_y = (_count(target, part) for part in ("x", "y"))
    wanted = layout.num_stored(num_pairs, stride) if num_pairs else max(num_y, 1)
    if not num_x == num_y == wanted:
        return False
    return not frames or _count(target, "frames") == layout.num_frames(wanted, stride)


def _target(out: Path, video_id: str, *, name: str, stride: int, frames: bool) -> Target:
    layout = find_layout(name, stride=stride)
    flow_path(out, video_id)  # refuses an id that leads out of the folder
    return Target(out=out, video_id=video_id, layout=layout, stride=stride, frames=frames)


def _count(target: Target, part: Part) -> int:
    if target.layout.kind == "hdf5" and part != "frames":
        return _count_data_sets(target, part)
    names = target.group(part).names()
    if target.layout.kind != "zip":
        return len(names)
    return sum(_count_members(target.group(part).folder / name) for name in names)


def _count_members(archive: Path) -> int:
    try:
        with zipfile.ZipFile(archive) as members:
            return len(members.infolist())
    except (zipfile.BadZipFile, OSError):
        return 0


def _count_data_sets(target: Target, part: Part) -> int:
    example = target.pair_name(part, 0) or ""
    pattern = re.compile(re.sub(r"\d+$", r"\\d+", example))
    if not target.hdf5_path().is_file():
        return 0
    try:
        with hdf5_library().File(target.hdf5_path(), "r") as file:
            return sum(pattern.fullmatch(name) is not None for name in file)
    except OSError:
        return 0
