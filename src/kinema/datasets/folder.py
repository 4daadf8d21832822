"""Folder per class, with or without train/ val/ test/ above it and folders of a group below it."""

from collections.abc import Iterator
from pathlib import Path

from kinema.datasets.layouts import is_frames_file, refuse_flat, without_inner
from kinema.datasets.listing import (
    Listed,
    Listing,
    id_of,
    is_video,
    part_name,
    subfolders,
    video_files,
)
from kinema.errors import KinemaError

LAYOUTS = (
    "Understood are: CLASS/video, CLASS/GROUP/video, either below train/ val/ test/, a folder with "
    "an index.csv (columns path and label), a CSV file, UCF101 and HMDB51 with their official "
    "split files."
)


def list_folder(data: Path, *, skip: Path | None = None) -> Listing:
    """List the videos of a folder per class.

    ``CLASS/GROUP/video`` gives the group: the first folder below the class. The parts may be
    called train, training, val, valid, validation, test or testing, in any case.

    Args:
        data: absolute path of the folder.
        skip: a folder in it that is left out (what Kinema writes).

    Raises:
        KinemaError: no video, no class folder, or folders of parts beside folders of classes.
    """
    tops = [folder for folder in subfolders(data) if folder != skip]
    files = [path for path in sorted(data.iterdir()) if path.is_file()]
    loose = [path for path in files if is_video(path) or is_frames_file(path)]
    parts = _part_folders(data, tops)
    class_folders = [
        (folder, part)
        for top, part in (parts or [(data, "")])
        for folder in subfolders(top)
        if folder != skip
    ]
    videos: list[Listed] = []
    empty: list[Path] = []
    for folder, part in class_folders:
        found = list(_class_videos(data, folder, part))
        if not found:
            empty.append(folder)
        videos.extend(found)
    tops_of_classes = {folder for folder, _ in class_folders}
    refuse_flat(data, [video.path for video in videos if video.path in tops_of_classes])
    if not videos:
        refuse_flat(data, [path for path in loose if is_frames_file(path)])
        raise KinemaError(f"No video was found in a class folder below {data}. {LAYOUTS}")
    classes = tuple(sorted({video.label for video in videos}))
    if len(classes) < 2:
        raise KinemaError(_too_few(data, classes[0], empty))
    kept, doubled = _without_doubled_ids(videos)
    return Listing(
        videos=tuple(kept),
        classes=classes,
        rejected=(
            *((path, "lies outside the class folders") for path in sorted(loose)),
            *((path, "a class folder without a video") for path in empty),
            *doubled,
        ),
        messages=tuple(f"The class folder {path} holds no video: left out." for path in empty),
    )


def _part_folders(data: Path, tops: list[Path]) -> list[tuple[Path, str]]:
    """Return the folders of parts, or nothing where the classes come first."""
    parts = [(top, part_name(top.name)) for top in tops if part_name(top.name)]
    if len(parts) == len(tops):
        if parts and "train" not in {part for _, part in parts}:
            raise KinemaError(
                f"{data} has {', '.join(top.name for top in tops)} but no folder 'train'. {LAYOUTS}"
            )
        return parts
    if "train" in {part for _, part in parts} and len(parts) > 1:
        others = [top.name for top in tops if not part_name(top.name)]
        raise KinemaError(
            f"{data} has both parts ({', '.join(top.name for top, _ in parts)}) and other folders "
            f"({', '.join(others[:3])}): it is not clear which are classes. Move the others away."
        )
    return []


def _class_videos(data: Path, folder: Path, part: str) -> Iterator[Listed]:
    depth = len(folder.relative_to(data).parts)
    for path in video_files(folder):
        relative = without_inner(path.relative_to(data))
        below = relative.parts[depth:]
        yield Listed(
            id=id_of(relative, is_folder=not is_video(path) and path.is_dir()),
            path=path,
            label=folder.name,
            split=part,
            group=below[0] if len(below) > 1 else "",
        )


def _without_doubled_ids(videos: list[Listed]) -> tuple[list[Listed], list[tuple[Path, str]]]:
    """Keep the first of two videos that differ only in the suffix."""
    first: dict[str, Path] = {}
    rejected: list[tuple[Path, str]] = []
    kept: list[Listed] = []
    for video in videos:
        if first.setdefault(video.id, video.path) == video.path:
            kept.append(video)
        else:
            rejected.append((video.path, f"same name as {first[video.id].name} beside it"))
    return kept, rejected


def _too_few(data: Path, only: str, empty: list[Path]) -> str:
    if empty:
        return (
            f"Only the class '{only}' has videos in {data}: there is none in "
            f"{', '.join(path.name for path in empty[:5])}. At least two classes are needed."
        )
    hint = f" Did you mean {data / only}?" if subfolders(data / only) else ""
    return f"Only one class folder with videos, '{only}', is in {data}: two are needed.{hint}"
