"""What is in a folder of image folders, and whether it goes together with what is asked for."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from kinema import __version__
from kinema.errors import KinemaError, UsageError
from kinema.files import read_json, write_json
from kinema.framing.job import FrameJob, chosen_frames
from kinema.framing.options import FrameOptions
from kinema.framing.sinks import num_written
from kinema.video.segment import open_segment

MANIFEST = "frames.json"


def pin_settings(out: Path, options: FrameOptions) -> None:
    """Write the settings into a new folder's manifest, or check that they are the same.

    Raises:
        KinemaError: the folder was made with other settings.
    """
    path = out / MANIFEST
    if not path.exists():
        write_manifest(out, options, {})
        return
    held: Mapping[str, Any] = read_json(path).get("settings", {})
    for name, value in options.identity().items():
        if held.get(name) != value:
            raise KinemaError(
                f"{path} was made with {name}={held.get(name)}, but {name}={value} is asked for. "
                "Choose another output folder, ask for the old settings, or delete the old images."
            )


def write_manifest(out: Path, options: FrameOptions, videos: Mapping[str, int]) -> None:
    """Describe what is in `out`: the settings, and how many images each video has."""
    content = {"kinema": __version__, "settings": options.identity(), "videos": dict(videos)}
    write_json(out / MANIFEST, content)


def counted(out: Path) -> dict[str, int]:
    """Return how many images each video had at the end of earlier runs."""
    path = out / MANIFEST
    return dict(read_json(path).get("videos", {})) if path.is_file() else {}


def whole_images(job: FrameJob, out: Path, options: FrameOptions) -> int:
    """Return how many images of a video an earlier run has left; 0 where they are not all.

    The video is opened where its number of frames is not known, and only if there are images.
    """
    written = num_written(job.place(out, options), video=job.video, options=options)
    if not written:
        return 0
    try:
        if job.num_frames and (job.fps or not options.fps):
            wanted = len(options.chosen(job.num_frames, job.fps))
        else:
            with closing(open_segment(job.path, job.segment)) as frames:
                wanted = len(chosen_frames(job, frames, options))
    except KinemaError:  # said again, and listed, when its turn comes
        return 0
    return written if written == wanted else 0


def check_places(jobs: Iterable[FrameJob], out: Path, options: FrameOptions) -> None:
    """Make sure that every video has a place of its own, and that none is a video itself.

    Raises:
        UsageError: two videos would share a place, one leads out of the folder, or one is there.
    """
    jobs = list(jobs)
    sources = {job.path.resolve(): job.path for job in jobs}
    taken: dict[Path, FrameJob] = {}
    root = out.resolve()
    for job in jobs:
        place = job.place(out, options)
        resolved = place.resolve()
        if not resolved.is_relative_to(root) or resolved == root:
            raise UsageError(
                f"'{job.id}' cannot be the id of a video: write a relative path without '..'."
            )
        if resolved in sources or any(above in sources for above in resolved.parents):
            raise UsageError(
                f"{place} lies where one of the videos is: its images would be replaced. "
                "Choose another output folder."
            )
        other = taken.setdefault(resolved, job)
        if other is not job:
            raise UsageError(
                f"The videos '{other.id}' and '{job.id}' would both be written to {place}: the "
                f"layout '{options.layout}' has "
                f"{'one folder per class' if options.where.nested else 'no folders of classes'}. "
                "Choose another layout, or rename one of them."
            )
