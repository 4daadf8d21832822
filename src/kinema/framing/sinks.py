"""Takes the images of one video: a folder, an archive or an HDF5 file, whole or not at all."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from kinema.errors import KinemaError
from kinema.files import replacing
from kinema.flow.formats.staging import Group, whole_folders
from kinema.framing.options import FrameOptions
from kinema.video.hdf5_file import GuardedDisk, hdf5_library, list_length, writing_hdf5
from kinema.video.images import COUNT_FILE, FRAMES_ARCHIVE, HDF5_LIST
from kinema.video.zip_index import list_members, open_archive

Put = Callable[[bytes], None]


@contextmanager
def open_sink(place: Path, *, video: str, num_frames: int, options: FrameOptions) -> Iterator[Put]:
    """Yield a function that takes the image files of a video, in order.

    What was there of the same kind is replaced at the end; flow beside it stays. On an error
    everything stays as it was.

    Args:
        place: folder or HDF5 file of the video.
        video: its name.
        num_frames: how many images there will be.
        options: layout and kind of image.

    Raises:
        KinemaError: the disk is full, or HDF5 is asked for and h5py is not installed.
    """
    layout = options.where
    if layout.kind == "hdf5":
        with _hdf5_sink(place, num_frames) as put:
            yield put
        return
    with whole_folders([_group(place, video=video, options=options)]) as folders, ExitStack() as on:
        folder = folders[place]
        archive = None
        if layout.kind == "zip":
            archive = on.enter_context(zipfile.ZipFile(folder / FRAMES_ARCHIVE, "w"))
        written = 0

        def put_file(data: bytes) -> None:
            nonlocal written
            name = layout.image_name(written, video=video, suffix=options.suffix)
            if archive is None:
                (folder / name).write_bytes(data)
            else:  # without a date: the same video gives the same bytes
                archive.writestr(zipfile.ZipInfo(name), data)
            written += 1

        yield put_file
        if layout.has_count:
            (folder / COUNT_FILE).write_text(str(written), encoding="utf-8")


@contextmanager
def _hdf5_sink(path: Path, num_frames: int) -> Iterator[Put]:
    library = hdf5_library()
    with (
        replacing(path) as temporary,
        GuardedDisk(temporary, "w+") as disk,
        writing_hdf5(disk) as file,
    ):
        images = file.create_dataset(
            HDF5_LIST, (num_frames,), dtype=library.special_dtype(vlen=np.uint8)
        )
        written = 0

        def put(data: bytes) -> None:
            nonlocal written
            images[written] = np.frombuffer(data, np.uint8)
            disk.check()
            written += 1

        yield put


def num_written(place: Path, *, video: str, options: FrameOptions) -> int:
    """Return how many images of a video are there; 0 where they are damaged or not counted whole.

    Raises:
        KinemaError: HDF5 is asked for and h5py is not installed.
    """
    layout = options.where
    if layout.kind == "hdf5":
        hdf5_library()
        try:
            return list_length(place, HDF5_LIST) if place.is_file() else 0
        except KinemaError:
            return 0
    if layout.kind == "zip":
        return _num_members(place / FRAMES_ARCHIVE)
    names = set(_group(place, video=video, options=options).names())
    if layout.has_count and COUNT_FILE not in names:
        return 0
    return len(names - {COUNT_FILE})


def _num_members(path: Path) -> int:
    if not path.is_file():
        return 0
    try:
        with open_archive(path) as file:
            return sum(1 for _ in list_members(file, path))
    except KinemaError:
        return 0


def _group(place: Path, *, video: str, options: FrameOptions) -> Group:
    layout = options.where
    if layout.kind == "zip":
        return Group(folder=place, pattern=re.compile(re.escape(FRAMES_ARCHIVE)))
    pattern = rf"{re.escape(layout.image_prefix(video))}\d+\.(?:jpg|png)"
    if layout.has_count:
        pattern += f"|{COUNT_FILE}"
    return Group(folder=place, pattern=re.compile(pattern))
