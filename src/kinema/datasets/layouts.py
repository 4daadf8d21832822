"""Which folders and files hold the frames of a video as images, in the layouts of older tools."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kinema.errors import KinemaError
from kinema.framing.recognise import layout_name
from kinema.video.hdf5_file import HDF5_SUFFIXES
from kinema.video.images import FRAMES_ARCHIVE, archive_folders, is_images, rgb_kinds
from kinema.video.shelves import folder_series
from kinema.video.split_zip import is_first_part

# Folders that belong to a layout and say nothing of the video: Huang's, below every class.
_INSIDE = frozenset({"separated_images"})
# Where frames lie beside flow: the downloads of twostreamfusion, gpu_flow.
_FRAME_ROOTS = frozenset({"jpegs_256", "rgb"})
_FLOW_ROOTS = frozenset({"tvl1_flow", "flow", "x", "y", "u", "v"})
_COUNTERPARTS = {"x": "y", "y": "x", "u": "v", "v": "u"}
_PARTS_OF_A_VIDEO = frozenset({FRAMES_ARCHIVE, "flow_x.zip", "flow_y.zip"})
_SAMPLE = 16  # names that are looked at: a folder may hold thousands


def holds_frames(folder: Path, names: Sequence[str], *, video_suffixes: frozenset[str]) -> bool:
    """Tell whether a folder is a video: it holds numbered images and no video files.

    Args:
        folder: the folder.
        names: of everything in it, sorted.
        video_suffixes: of video files.
    """
    if FRAMES_ARCHIVE in names:
        return True
    sample = [*names[:: max(1, len(names) // _SAMPLE)], *names[-2:]]
    if any(PurePosixPath(name).suffix.lower() in video_suffixes for name in sample):
        return False
    kinds = rgb_kinds(folder_series(folder, dict.fromkeys(sample)))
    return any(series.count > 1 for series in kinds.values()) and not _is_flow(folder)


def _is_flow(folder: Path) -> bool:
    """Tell whether images lie below ``x`` or ``y``, ``u`` or ``v``, which stand alone there."""
    for place in (folder, *folder.parents):
        other = _COUNTERPARTS.get(place.name.lower())
        if other is None or not place.with_name(other).is_dir():
            continue
        beside = {path.name.lower() for path in place.parent.iterdir() if path.is_dir()}
        if beside <= _FRAME_ROOTS | _FLOW_ROOTS:
            return True
    return False


def is_frames_file(path: Path) -> bool:
    """Tell whether a file holds the images of one video: Hara's HDF5, or a zip archive.

    An archive that is damaged counts, so that it is listed with the reason.
    """
    if path.name in _PARTS_OF_A_VIDEO or path.name.startswith("."):
        return False
    if path.suffix.lower() == HDF5_SUFFIXES[0]:
        return True
    if path.suffix.lower() != ".zip" and not is_first_part(path):
        return False
    try:
        folders = archive_folders(path).values()
    except KinemaError:
        return True
    return sum(bool(rgb_kinds(kinds)) for kinds in folders) == 1


def archive_videos(archive: Path) -> list[Path]:
    """Return the folders with frames in an archive of many videos, as ``archive/folder``.

    Raises:
        KinemaError: it is no whole zip archive.
    """
    return [
        archive / folder
        for folder, kinds in sorted(archive_folders(archive).items())
        if folder and rgb_kinds(kinds) and not _is_flow_in_archive(folder)
    ]


def _is_flow_in_archive(folder: str) -> bool:
    return any(part.lower() in _COUNTERPARTS for part in PurePosixPath(folder).parts[:-1])


def frames_root(data: Path) -> Path:
    """Return the folder of the frames where `data` holds them beside flow, else `data`."""
    if not data.is_dir():
        return data
    folders = [path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")]
    roots = [path for path in folders if path.name.lower() in _FRAME_ROOTS]
    others = {path.name.lower() for path in folders} - {path.name.lower() for path in roots}
    return roots[0] if len(roots) == 1 and others <= _FLOW_ROOTS else data


def layout_notes(paths: Sequence[Path], *, total: int) -> tuple[str, ...]:
    """Return a line on the videos that are images, if there are any.

    Args:
        paths: those that may be.
        total: number of all videos.
    """
    places = [path for path in paths if is_images(path)]
    if not places:
        return ()
    try:
        name = layout_name(places[0])
    except KinemaError:  # it is listed among the rejected
        return ()
    how = f"the first, {places[0].name}, in the layout {name}" if name else "named in their own way"
    return (f"{len(places)} of the {total} videos are images, {how}.",)


def without_inner(relative: Path) -> Path:
    """Return a path without the folders that a layout puts between class and video."""
    if _INSIDE.isdisjoint(relative.parts):
        return relative
    return Path(*(part for part in relative.parts if part not in _INSIDE))


def refuse_flat(data: Path, places: Sequence[Path]) -> None:
    """Refuse videos that lie in no class folder: their classes are not known.

    Args:
        data: folder of all of them.
        places: where the frames of each are.

    Raises:
        KinemaError: there are such videos.
    """
    if places:
        raise KinemaError(
            f"{data} holds the frames of {len(places)} videos, the first is {places[0].name}, in no"
            " folders of classes, so their classes are not known. Give the official lists "
            "(--splits FOLDER), or a CSV file with the columns path and label."
        )
