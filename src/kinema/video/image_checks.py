"""Whether the images of a video are whole, of one size, and as many as its flow needs."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from kinema.errors import KinemaError
from kinema.video.hdf5_file import HDF5_SUFFIXES, list_length
from kinema.video.image_bytes import image_size
from kinema.video.images import ImageFrames, archive_above, archive_folders, rgb_kinds
from kinema.video.shelves import Key, Series, folder_series


class CheckedImages(NamedTuple):
    """Facts about the images of a video."""

    num_frames: int
    height: int
    width: int
    sha256: str  # of all files in order


def check_images(path: Path, *, decode_all: bool = False) -> CheckedImages:
    """Read all images of a video, and decode the first and the last of them, or all.

    Raises:
        KinemaError: one is missing, cut off, damaged or of another size, or there is flow beside
            them that does not go with so many frames.
    """
    with closing(ImageFrames(path)) as frames:
        digest = hashlib.sha256()
        height, width = frames.height, frames.width
        for i in range(frames.num_frames):
            data = frames.shelf.load(i)
            digest.update(data)
            size = image_size(data, what=frames.name(i))
            if size != (height, width):
                raise KinemaError(
                    f"{frames.name(i)} is {size[1]}x{size[0]} pixels, the first image "
                    f"{width}x{height}: all must have one size. Extract the frames of this video "
                    "again."
                )
            if decode_all or i == frames.num_frames - 1:
                frames.read([i])
        _check_flow_beside(path, frames)
        return CheckedImages(frames.num_frames, height, width, digest.hexdigest())


def _check_flow_beside(path: Path, frames: ImageFrames) -> None:
    if path.suffix.lower() in HDF5_SUFFIXES:
        for name in ("video_u", "video_v"):
            count = list_length(path, name)
            if count:
                check_counts(frames, count, stride=1, flow=f"{path}:{name} 0 to {count - 1}")
        return
    for series in _flow_beside(path):
        images = series.shelf()
        flow = " to ".join(images.name(images.numbers[i]) for i in (0, -1))
        check_counts(frames, series.count, stride=series.key.stride, flow=flow)


def _flow_beside(path: Path) -> Iterator[Series]:
    """Yield the images that lie with those of a video and are no frames."""
    archive = archive_above(path)
    kinds: Mapping[Key, Series] = {}
    if path.is_dir():
        kinds = folder_series(path)
        for name in ("flow_x.zip", "flow_y.zip"):
            if (path / name).is_file():
                for found in archive_folders(path / name).values():
                    yield from found.values()
    elif archive is not None:
        kinds = archive_folders(archive).get(path.relative_to(archive).as_posix(), {})
    frames = rgb_kinds(kinds)
    yield from (series for key, series in kinds.items() if key not in frames)


def check_counts(frames: ImageFrames, count: int, *, stride: int, flow: str) -> None:
    """Refuse flow that does not go with the frames by its number.

    N frames have N - |s| pairs at stride s. dense_flow leaves the first frame of a video out, so
    as many images as pairs are right too.

    Args:
        frames: of the video.
        count: how many pairs there are.
        stride: from one frame of a pair to the other.
        flow: the first and the last of them by name, for messages.

    Raises:
        KinemaError: there are more or fewer.
    """
    num_frames = frames.num_frames
    if count in (num_frames - abs(stride), num_frames):
        return
    first, last = (frames.shelf.name(frames.shelf.numbers[i]) for i in (0, -1))
    raise KinemaError(
        f"{frames.path} has {num_frames} frames ({first} to {last}) and {count} flow images "
        f"({flow}): expected are {num_frames - abs(stride)} or, from tools that leave out the first"
        f" frame, {num_frames}. Extract frames and flow of this video again."
    )
