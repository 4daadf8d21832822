"""What is in a folder of RGB stores, and whether it goes together with what is asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kinema import __version__
from kinema.console import say
from kinema.errors import KinemaError
from kinema.files import read_json, write_json
from kinema.flow.job import fingerprint, source_bytes
from kinema.packing.job import PackJob, PackOptions
from kinema.video.packed import PackedVideo, store_path
from kinema.video.rgb_store import RgbStore

MANIFEST = "manifest.json"


def is_packed(folder: Path) -> bool:
    """Tell whether `kinema pack` has been at work in a folder."""
    return (folder / MANIFEST).is_file()


def pin_settings(out: Path, options: PackOptions) -> None:
    """Write the settings into a new folder's manifest, or check that they are the same.

    Raises:
        KinemaError: the folder was made with other settings, or holds something else.
    """
    path = out / MANIFEST
    if path.exists():
        _check_same(path, read_json(path).get("settings", {}), options)
    else:
        _write(path, options, {})


def pending_jobs(jobs: Sequence[PackJob], out: Path, options: PackOptions) -> list[PackJob]:
    """Return the jobs without a whole store; a damaged store or a changed source is done again.

    Raises:
        KinemaError: a store was made with other settings, or holds something else.
    """
    pending = []
    for job in jobs:
        path = store_path(out, job.id)
        if not path.exists():
            pending.append(job)
            continue
        try:
            metadata = PackedVideo(path).metadata
        except KinemaError as error:
            say(f"{error} It is made again now.")
            pending.append(job)
            continue
        _check_same(path, metadata, options)
        has_moved = metadata.get("segment") != (list(job.segment) if job.segment else None)
        if has_moved or _has_changed(job.path, path, metadata):
            say(f"{job.path} has changed since it was packed: it is packed again now.")
            pending.append(job)
    return pending


def _has_changed(source: Path, store: Path, metadata: dict[str, Any]) -> bool:
    """Tell whether a source differs from what was packed; it is read where it is newer."""
    if source_bytes(source) != metadata["source_bytes"]:
        return True
    is_newer = source.exists() and source.stat().st_mtime > store.stat().st_mtime
    return is_newer and fingerprint(source)[0] != metadata["source_sha256"]


def write_manifest(out: Path, options: PackOptions) -> None:
    """Describe all whole stores in `out` in its manifest."""
    _write(out / MANIFEST, options, dict(_described(out)))


def _described(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(out.rglob("[!.]*.mp4")):
        try:
            store = RgbStore(path)
        except KinemaError:
            continue
        yield (
            path.relative_to(out).with_suffix("").as_posix(),
            {
                "frames": store.num_frames,
                "width": store.width,
                "height": store.height,
                "fps": store.fps,
                "source": store.metadata.get("source"),
                "source_sha256": store.metadata.get("source_sha256"),
            },
        )


def _write(path: Path, options: PackOptions, videos: dict[str, Any]) -> None:
    write_json(path, {"kinema": __version__, "settings": options.identity(), "videos": videos})


def _check_same(path: Path, found: dict[str, Any], options: PackOptions) -> None:
    if not str(found.get("format", "")).startswith("rgb"):
        raise KinemaError(
            f"{path} was not made by `kinema pack`, it belongs to other stores, such as those of "
            "flow. Choose another output folder."
        )
    for name, value in options.identity().items():
        if found.get(name) != value:
            raise KinemaError(
                f"{path} was made with {name}={found.get(name)}, but {name}={value} is asked for. "
                "Choose another output folder, ask for the old settings, or delete the old stores."
            )
