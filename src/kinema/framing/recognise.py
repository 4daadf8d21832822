"""Which of the ten layouts the images of a video are in, by their names."""

from contextlib import closing
from pathlib import Path

from kinema.framing.layouts import LAYOUTS, FrameLayout, Kind
from kinema.video.hdf5_file import HDF5_SUFFIXES
from kinema.video.images import COUNT_FILE, FRAMES_ARCHIVE, ImageFrames


def layout_name(path: Path) -> str:
    """Return the name of the layout, empty where it is none of the ten.

    Args:
        path: folder, archive or HDF5 file of a video.

    Raises:
        KinemaError: there are no images, or they are not whole.
    """
    with closing(ImageFrames(path)) as frames:
        number = frames.shelf.numbers[0]
        image = frames.shelf.name(number)
    kind: Kind = "folder"
    if path.suffix.lower() in HDF5_SUFFIXES:
        kind = "hdf5"
    elif (path / FRAMES_ARCHIVE).is_file():
        kind = "zip"
    has_count = (path / COUNT_FILE).is_file()
    fitting = (
        name
        for name, layout in LAYOUTS.items()
        if layout.kind == kind
        and (kind == "hdf5" or _is_called(layout, image, number, video=path.name))
        and layout.has_count == has_count
        and (not layout.root or layout.root in path.parts)
        and (not layout.inner or layout.inner == path.parent.name)
    )
    return next(fitting, "")


def _is_called(layout: FrameLayout, image: str, number: int, *, video: str) -> bool:
    name = layout.image_name(number - layout.first, video=video, suffix=Path(image).suffix)
    return number == layout.first and name == image
