"""What is in a folder of flow stores, and whether it goes together with what is asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kinema import __version__
from kinema.console import say
from kinema.errors import KinemaError
from kinema.files import read_json, write_json
from kinema.flow.formats.sinks import is_complete
from kinema.flow.job import FlowJob, FlowOptions, source_bytes
from kinema.flow.options import STORE
from kinema.flow.store import FlowStore, flow_path
from kinema.video.packed import PackedVideo

MANIFEST = "manifest.json"
_ATTEMPTS = 3


def pin_settings(out: Path, options: FlowOptions) -> None:
    """Write the settings into a new folder's manifest, or check that they are the same.

    Raises:
        KinemaError: the folder was made with other settings.
    """
    path = out / MANIFEST
    if path.exists():
        _check_same(path, read_json(path).get("settings", {}), options)
    else:
        _write(path, options, {})


def stored_options(out: Path) -> FlowOptions:
    """Return the settings that the flow in `out` was made with.

    Raises:
        KinemaError: there is no flow.
    """
    path = out / MANIFEST
    if not path.is_file():
        raise KinemaError(f"There is no stored flow in {out}: make it with `kinema flow`.")
    return FlowOptions.from_identity(read_json(path)["settings"])


def pending_jobs(jobs: Sequence[FlowJob], out: Path, options: FlowOptions) -> list[FlowJob]:
    """Return the jobs without a whole store; a damaged store or a changed source is done again.

    In an older tool's layout, where nothing tells the source, the number of files counts.

    Raises:
        KinemaError: a store was made with other settings.
    """
    if options.format != STORE:
        return [job for job in jobs if not is_there(job, out, options)]
    pending = []
    for job in jobs:
        path = flow_path(out, job.id)
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
        if has_moved or metadata["source_bytes"] != source_bytes(job.path):
            say(f"{job.path} has changed since its flow was stored: it is made again now.")
            pending.append(job)
    return pending


def is_there(job: FlowJob, out: Path, options: FlowOptions) -> bool:
    """Return whether a video is complete in an older tool's layout."""
    num_pairs = options.num_pairs(job.num_frames) if job.num_frames else 0
    return is_complete(out, job.id, num_pairs, name=options.format, stride=options.stride)


def write_manifest(out: Path, options: FlowOptions) -> None:
    """Describe all whole stores in `out` in its manifest."""
    _write(out / MANIFEST, options, dict(_described(out)))


def _described(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(out.rglob("[!.]*.mp4")):
        try:
            store = FlowStore(path)
        except KinemaError:
            continue
        yield (
            path.relative_to(out).with_suffix("").as_posix(),
            {
                "pairs": store.num_frames,
                "width": store.width,
                "height": store.height,
                "source": store.metadata.get("source"),
                "source_sha256": store.metadata.get("source_sha256"),
            },
        )


def _write(path: Path, options: FlowOptions, videos: dict[str, Any]) -> None:
    content = {"kinema": __version__, "settings": options.identity(), "videos": videos}
    for _ in range(_ATTEMPTS):
        try:
            return write_json(path, content)
        except FileNotFoundError:  # another run on this folder took our half for a leftover
            continue
    return write_json(path, content)


def _check_same(path: Path, found: dict[str, Any], options: FlowOptions) -> None:
    if str(found.get("format", "")).startswith("rgb"):
        raise KinemaError(f"{path} was made by `kinema pack`. Choose another output folder.")
    usual = FlowOptions().identity()  # what was made before a setting existed has its default
    for name, value in options.identity().items():
        if name == "weights":  # their content is among the parameters
            continue
        held = found.get(name, usual[name])
        if name == "bound" and options.adaptive and found.get("adaptive"):
            continue
        if held != value:
            option = "format" if name == "layout" else name
            raise KinemaError(
                f"{path} was made with {option}={held}, but {option}={value} is asked for. "
                "Choose another output folder, ask for the old settings, or delete the old flow."
            )
