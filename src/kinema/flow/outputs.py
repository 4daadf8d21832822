"""Where the flow of a video lies in the asked format, and whether it is there."""

from collections.abc import Iterator
from pathlib import Path

from kinema.flow.formats.names import find_layout
from kinema.flow.formats.target import Part, Target
from kinema.flow.options import STORE, FlowOptions
from kinema.flow.store import flow_path

_PARTS: tuple[Part, ...] = ("x", "y", "frames")


def output_paths(out: Path, video_id: str, options: FlowOptions) -> list[Path]:
    """Return the store of a video, or the folders and files of an older tool's layout.

    Raises:
        UsageError: the id would lead out of the folder.
    """
    path = flow_path(out, video_id)
    if options.format == STORE:
        return [path]
    target = _target(out, video_id, options)
    folders = {target.group(part).folder for part in _PARTS}
    return [*sorted(folders), *([target.hdf5_path()] if target.layout.kind == "hdf5" else [])]


def written_bytes(out: Path, video_id: str, options: FlowOptions) -> int:
    """Return the size of all files of a video in its format."""
    return sum(path.stat().st_size for path in _files(out, video_id, options))


def _files(out: Path, video_id: str, options: FlowOptions) -> Iterator[Path]:
    if options.format == STORE:
        yield flow_path(out, video_id)
        return
    target = _target(out, video_id, options)
    parts = _PARTS
    if target.layout.kind == "hdf5":
        yield target.hdf5_path()
        parts = ("frames",)
    elif target.layout.kind == "png":
        parts = ("x", "frames")  # y is in the images of x
    for part in parts:
        group = target.group(part)
        yield from (group.folder / name for name in group.names())


def _target(out: Path, video_id: str, options: FlowOptions) -> Target:
    layout = find_layout(options.format, stride=options.stride)
    return Target(out=out, video_id=video_id, layout=layout, stride=options.stride)
