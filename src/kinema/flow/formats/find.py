"""Finds the videos whose flow lies below a folder or in an archive, whatever layout it has."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from kinema.errors import KinemaError
from kinema.flow.formats.videos import (
    Kinds,
    OldVideo,
    bad_video,
    by_stride,
    doubled,
    hdf5_videos,
    image_video,
    png_video,
    zip_video,
)
from kinema.video.shelves import Series, archive_series, folder_series
from kinema.video.split_zip import is_first_part

_COUNTERPARTS = {"x": "y", "u": "v", "flow_x": "flow_y", "flow_u": "flow_v"}
_EITHER = {**_COUNTERPARTS, **{y: x for x, y in _COUNTERPARTS.items()}}
_HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """Folders on a disk or in an archive."""

    start: PurePosixPath  # what is searched
    look: Callable[[PurePosixPath], Kinds]  # returns the images in a folder
    exists: Callable[[PurePosixPath], bool]


@dataclass(frozen=True, kw_only=True)
class _Apart:
    """A place that has one component only, by the name of a folder above it."""

    id: str  # of the video
    layout: str
    is_x: bool
    others: Mapping[int, Series]  # the other component, by stride


def find_videos(source: Path) -> Iterator[OldVideo]:
    """Yield all videos with stored flow below a folder, in an archive or in an HDF5 file.

    The layout is known from the names: x and y in one folder, in ``x`` and ``y`` or ``u`` and
    ``v`` above or below the folders of the videos, in ``flow_x.zip`` and ``flow_y.zip``, in one
    png or in HDF5; numbered from 0 or 1. Plain frames are left alone. A video that has several
    strides is given once for each. One that is incomplete says so when it is opened.

    Args:
        source: the folder; a zip archive, or the first piece of one that was cut; an HDF5 file.

    Raises:
        KinemaError: there is no such place, a folder cannot be read, or the archive is damaged.
    """
    if source.is_dir():
        yield from _in_folder(source)
    elif not source.is_file():
        raise KinemaError(f"There is no folder or file {source}.")
    elif source.suffix.lower() in _HDF5:
        yield from hdf5_videos(source, source.stem)
    elif source.suffix.lower() == ".zip" or is_first_part(source):
        yield from _in_archive(source)
    else:
        raise KinemaError(
            f"{source} is not stored flow: give a folder, a .zip, the first piece .zip.001 of a "
            "cut one, or an HDF5 file."
        )


def pair_of_folders(x: Path, y: Path) -> OldVideo:
    """Return the video whose components lie in two folders, whatever these are called.

    Raises:
        KinemaError: a folder has no numbered images, or several kinds of them.
    """
    series: list[Series] = []
    for folder, part in ((x, "x"), (y, "y")):
        kinds = folder_series(folder)
        named = by_stride(kinds, part) or by_stride(kinds, "neutral")
        if len(named) != 1:
            raise KinemaError(
                f"{folder} has {len(named)} kinds of numbered images of the {part} component: "
                "there must be one."
            )
        series += named.values()
    return image_video(x.name, series[0], series[1], layout="gpu-flow")


def _in_folder(root: Path) -> Iterator[OldVideo]:
    root = Path(os.path.abspath(root))  # noqa: PTH100  # resolve() would follow links
    anchor = Path(root.anchor)
    tree = _Tree(
        start=PurePosixPath(root.relative_to(anchor).as_posix()),
        look=cache(lambda place: folder_series(anchor / place)),
        exists=cache(lambda place: (anchor / place).is_dir()),
    )
    seen: set[tuple[int, int]] = set()
    for path, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
        folder = Path(path)
        status = folder.stat()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (status.st_dev, status.st_ino) in seen:  # a link in a circle
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        place = PurePosixPath(folder.relative_to(anchor).as_posix())
        yield from _in_place(place, tree)
        if "flow_x.zip" in files and "flow_y.zip" in files:
            yield zip_video(folder, _id(place, tree.start))
        for name in sorted(files):
            if name.lower().endswith(_HDF5):
                relative = (folder / name).relative_to(root).with_suffix("")
                yield from hdf5_videos(folder / name, relative.as_posix())


def _unreadable(error: OSError) -> None:
    raise KinemaError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _in_archive(archive: Path) -> Iterator[OldVideo]:
    found = {PurePosixPath(folder): kinds for folder, kinds in archive_series(archive).items()}
    above = {parent for place in found for parent in (place, *place.parents)}
    none: Kinds = {}
    tree = _Tree(
        start=PurePosixPath(),
        look=lambda place: found.get(place, none),
        exists=lambda place: place in above,
    )
    for place in sorted(found):
        for video in _in_place(place, tree):
            yield dataclasses.replace(video, id=video.id or archive.name.split(".")[0])


def _in_place(place: PurePosixPath, tree: _Tree) -> Iterator[OldVideo]:
    """Yield the videos that the images of one folder are, or the x component of."""
    kinds = tree.look(place)
    x, y, png = (by_stride(kinds, part) for part in ("x", "y", "png"))
    neutral = by_stride(kinds, "neutral") if not (x or y or png) else {}
    apart = None if x and y else _apart(place, tree, x=x, y=y, neutral=neutral)
    video_id = apart.id if apart else _id(place, tree.start)
    parts = ("x", "y", "png", *(["neutral"] if apart and neutral else []))
    reason = next((text for text in (doubled(kinds, part) for part in parts) if text), "")
    if reason:
        yield bad_video(video_id, apart.layout if apart else "dense-flow", reason)
        return
    for series in png.values():
        yield png_video(video_id, series)
    if apart is None:
        for stride in sorted({*x, *y}):
            yield image_video(video_id, x.get(stride), y.get(stride))
        return
    for stride, ours in (x or y or neutral).items():
        other = apart.others.get(stride)
        if apart.is_x:
            yield image_video(video_id, ours, other, layout=apart.layout)
        elif other is None:  # with one, the video is found from x
            yield image_video(video_id, None, ours, layout=apart.layout)


def _apart(
    place: PurePosixPath,
    tree: _Tree,
    *,
    x: Mapping[int, Series],
    y: Mapping[int, Series],
    neutral: Mapping[int, Series],
) -> _Apart | None:
    """Return what a folder ``u`` or ``x`` in the path of a place means; the deepest that fits.

    A folder may be called so for another reason, so one with the other component is preferred.
    """
    lonely = None
    for depth in reversed(range(len(place.parts) if x or y or neutral else 0)):
        name, after = place.parts[depth], place.parts[depth + 1 :]
        is_x = name.lower() in _COUNTERPARTS
        if name.lower() not in _EITHER or (x and not is_x) or (y and is_x):
            continue
        other = _EITHER[name.lower()]
        root = PurePosixPath(*place.parts[:depth], other.upper() if name.isupper() else other)
        kinds = tree.look(root / PurePosixPath(*after))
        found = _Apart(
            id=_id_apart(place, tree.start, depth),
            layout="twostreamfusion" if other in ("u", "v") else "gpu-flow",
            is_x=is_x,
            others=by_stride(kinds, "y" if is_x else "x") or by_stride(kinds, "neutral"),
        )
        if found.others:
            return found
        if depth >= len(tree.start.parts) and (after or tree.exists(root)):
            lonely = lonely or found
    return lonely


def _id(place: PurePosixPath, start: PurePosixPath) -> str:
    return place.name if place == start else place.relative_to(start).as_posix()


def _id_apart(place: PurePosixPath, start: PurePosixPath, depth: int) -> str:
    """Return the id where the part at `depth` of a path is ``u`` or ``x``."""
    before, after = place.parts[len(start.parts) : depth], place.parts[depth + 1 :]
    parts = place.parts[len(start.parts) :] if depth < len(start.parts) else after or before
    return "/".join(parts or after[-1:] or place.parts[depth - 1 : depth])
