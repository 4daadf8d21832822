"""Videos with old flow that were found: what each is called, and how it is opened."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kinema.errors import KinemaError
from kinema.flow.formats.hdf5_source import hdf5_contents, open_hdf5
from kinema.flow.formats.pairs import ImagePairs, Pairs, PngPairs, read_ranges
from kinema.video.shelves import FolderSeries, Key, Series, archive_series

_X_PREFIXES, _Y_PREFIXES = ("x", "u", "flow_x", "flow_u"), ("y", "v", "flow_y", "flow_v")
_PNG_PREFIX = "flow"
Kinds = Mapping[Key, Series]  # the images in one folder


@dataclass(frozen=True, kw_only=True)
class OldVideo:
    """The flow of one video in an old layout, found but not opened."""

    id: str  # path of its folder or file below the place that was searched
    layout: str
    stride: int
    num_pairs: int  # as many as there are images or data sets of x
    make: Callable[[float], Pairs]  # opens it, encoded at a bound


def part_of(key: Key) -> str:
    """Return what names say of images: "x", "y", "png" (denseflow's), or "neutral"."""
    prefix = key.prefix.lower().rstrip("_-")
    if prefix in _X_PREFIXES:
        return "x"
    if prefix in _Y_PREFIXES:
        return "y"
    if prefix == _PNG_PREFIX and key.suffix.lower() == ".png":
        return "png"
    return "neutral"


def by_stride(kinds: Kinds, part: str) -> dict[int, Series]:
    """Return the images of a part by their stride; see `doubled` for several kinds of one."""
    return {key.stride: series for key, series in kinds.items() if part_of(key) == part}


def doubled(kinds: Kinds, part: str) -> str:
    """Return what is wrong where two kinds of images have one part and stride; else nothing."""
    seen: dict[int, Key] = {}
    for key in kinds:
        if part_of(key) == part:
            other = seen.setdefault(key.stride, key)
            if other != key:
                names = (f"{k.prefix}{k.mark}*{k.suffix}" for k in (other, key))
                return (
                    f"{kinds[key].where} has two kinds of images of one thing: "
                    f"{' and '.join(names)}. Take one away."
                )
    return ""


def image_video(video_id: str, x: Series | None, y: Series | None, *, layout: str = "") -> OldVideo:
    """Return a video of gray images; where a component is missing, opening it says so.

    Args:
        video_id: its id.
        x: images of the x component.
        y: images of the y component.
        layout: its name; "" tells it from the names of the images.
    """
    present = x or y
    if present is None:
        raise ValueError("one of x and y must be there")
    told = "denseflow" if present.first == 0 or present.key.mark else "dense-flow"
    return OldVideo(
        id=video_id,
        layout=layout or told,
        stride=present.key.stride,
        num_pairs=present.count,
        make=partial(_open_images, x, y),
    )


def png_video(video_id: str, series: Series) -> OldVideo:
    """Return a video of denseflow's png."""
    return OldVideo(
        id=video_id,
        layout="denseflow-png",
        stride=series.key.stride,
        num_pairs=series.count,
        make=partial(_open_png, series),
    )


def zip_video(folder: Path, video_id: str) -> OldVideo:
    """Return the video in ``flow_x.zip`` and ``flow_y.zip`` of a folder."""
    try:
        kinds = {
            key: series
            for name in ("flow_x.zip", "flow_y.zip")
            for in_folder in archive_series(folder / name).values()
            for key, series in in_folder.items()
        }
    except KinemaError as error:
        return bad_video(video_id, "dense-flow-zip", str(error))
    x, y = (next(iter(by_stride(kinds, part).values()), None) for part in ("x", "y"))
    if not (x or y):
        reason = f"{folder / 'flow_x.zip'} holds no images x_*.jpg. Extract this video again."
        return bad_video(video_id, "dense-flow-zip", reason)
    return replace(image_video(video_id, x, y), layout="dense-flow-zip")


def hdf5_videos(path: Path, name: str) -> Iterator[OldVideo]:
    """Yield the video of an HDF5 file once for each stride; nothing where it holds no flow.

    Args:
        path: the file.
        name: id of the video, as far as the name of the file is it.
    """
    try:
        contents = hdf5_contents(path)
    except KinemaError as error:
        yield bad_video(name, "denseflow-h5", str(error))
        return
    for stride, count in contents.counts.items():
        mark = f"_{'p' if stride > 0 else 'm'}{abs(stride)}" if stride != 1 else ""
        yield OldVideo(
            id=name.removesuffix(mark),
            layout=contents.layout,
            stride=stride,
            num_pairs=count,
            make=partial(open_hdf5, path, stride),
        )


def bad_video(video_id: str, layout: str, reason: str) -> OldVideo:
    """Return a video that cannot be opened."""
    make = partial(_refuse, reason)
    return OldVideo(id=video_id, layout=layout, stride=1, num_pairs=0, make=make)


def _open_images(x: Series | None, y: Series | None, bound: float) -> Pairs:
    if x is None or y is None:
        have, lack = ("x", "y") if y is None else ("y", "x")
        there = x or y
        raise KinemaError(
            f"The {lack} component of the flow is missing: {there.where if there else ''} has "
            f"{there.count if there else 0} images of {have}. Extract the flow of this video again."
        )
    ranges = None
    if isinstance(x, FolderSeries) and isinstance(y, FolderSeries) and x.folder != y.folder:
        ranges = read_ranges(x.folder.with_name(f"{x.folder.name}.bin"), bound)
    return ImagePairs(x.shelf(), y.shelf(), bound=bound, first=_first(x.key), ranges=ranges)


def _open_png(series: Series, bound: float) -> Pairs:
    return PngPairs(series.shelf(), bound=bound, first=_first(series.key))


def _first(key: Key) -> int:
    """Return the highest number that the first pair may have: denseflow's tell the stride."""
    return max(0, -key.stride) if key.mark else 1


def _refuse(reason: str, bound: float) -> Pairs:
    raise KinemaError(reason)
