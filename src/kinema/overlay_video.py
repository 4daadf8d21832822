"""Overlay videos: frame, flow in colour and the probabilities of the top classes over time."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kinema.console import track
from kinema.data.items import ClipItem
from kinema.engine.evaluate import TestSettings, clip_probabilities
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import Runtime, runtime
from kinema.ensemble import Ensemble, load_ensemble
from kinema.errors import KinemaError
from kinema.features import Features
from kinema.flow.encoding import decode
from kinema.flow.live import LiveFlow
from kinema.overlay import draw_panel, flow_colour
from kinema.prediction import PredictOptions
from kinema.testing import outputs_of
from kinema.video.reader import VideoReader
from kinema.video.writer import VideoWriter

_FRAMES_PER_MOMENT = 4
_MOST_MOMENTS = 200
_SHOWN_BOUND_PIXELS = 8.0  # per frame: full colour; most motion is far below the stored bound
_FLOW_SIZE = "short:240"
_USUAL_FPS = 25.0  # where the file does not say


def write_overlays(
    checkpoints: Sequence[Path],
    sources: Sequence[Path],
    out: Path,
    *,
    options: PredictOptions | None = None,
) -> list[Path]:
    """Write a video for every source into `out` and return the paths.

    They are called like the sources. Sources in several folders keep those below the folder that
    they have in common, so that none is written over another.

    Args:
        checkpoints: as for `kinema.prediction.predict`.
        sources: video files.
        out: folder to write to.
        options: fusion weights and device; the protocol is not used, scores are over time.

    Raises:
        KinemaError: a source or a checkpoint cannot be read, or `out` is where the sources are.
    """
    options = options or PredictOptions()
    paths = overlay_paths(sources, out)
    with runtime(
        device=options.device, precision=options.precision, threads=options.threads
    ) as place:
        ensemble = load_ensemble(checkpoints, device=str(place.device), weights=options.weights)
        for source, path in zip(sources, paths, strict=True):
            history_SK = _history(ensemble, source, place)
            with_flow = "flow" in ensemble.streams
            _write(path, source, history_SK, ensemble.classes, with_flow=with_flow)
    return paths


def overlay_paths(sources: Sequence[Path], out: Path) -> list[Path]:
    """Return the path of each source's overlay, all different.

    Raises:
        KinemaError: one would be written over a source.
    """
    if not sources:
        return []
    folders = [source.absolute().parent for source in sources]
    common = Path(os.path.commonpath(folders))
    names = [source.absolute().relative_to(common).with_suffix("") for source in sources]
    count = Counter(names)  # clip.avi and clip.mp4 become clip.avi.mp4 and clip.mp4.mp4
    paths = [
        out / name.parent / f"{name.name if count[name] == 1 else source.name}.mp4"
        for name, source in zip(names, sources, strict=True)
    ]
    for source, path in zip(sources, paths, strict=True):
        if path.exists() and any(path.samefile(other) for other in sources):
            raise KinemaError(
                f"The overlay of {source} would be written over a source, {path}: choose another "
                "folder for the overlays."
            )
    return paths


def _history(ensemble: Ensemble, source: Path, place: Runtime) -> NDArray[np.float32]:
    """Return the fused probabilities at moments spread over the video, (S, K)."""
    with VideoReader(source) as video:
        num_frames, fps = video.num_frames, video.fps or 0.0
    moments = int(np.clip(num_frames // _FRAMES_PER_MOMENT, 1, _MOST_MOMENTS))
    protocol = Protocol(name="over-time", rule="uniform", num_clips=moments, resize="train")
    item = ClipItem(id=str(source), path=source, label=-1, num_frames=num_frames, fps=fps)
    streams_SK = []
    for checkpoint, kind in zip(ensemble.streams.values(), ensemble.takes, strict=True):
        data = replace(checkpoint.config.data, workers=0, flow_store="")
        settings = TestSettings(
            config=replace(checkpoint.config, data=data),
            protocol=protocol,
            classes=ensemble.classes,
        )
        if kind == "scores":
            found_SK = clip_probabilities(checkpoint.network, item, settings, runtime=place)
        else:
            found = outputs_of(checkpoint, [item], settings, kind=kind, runtime=place)
            found_SK = cast(Features, found).of_clips(0)
        streams_SK.append(found_SK)
    return ensemble.fuse_moments(streams_SK)


def _write(
    path: Path,
    source: Path,
    history_SK: NDArray[np.float32],
    classes: Sequence[str],
    *,
    with_flow: bool,
) -> None:
    with VideoReader(source) as video, VideoReader(source) as again:
        has_flow = with_flow and video.num_frames > 1
        flow = LiveFlow(again, size=_FLOW_SIZE) if has_flow else None
        panels = _panels(video, flow, history_SK, classes)
        first = next(panels)
        height, width = first.shape[:2]
        with VideoWriter(path, fps=video.fps or _USUAL_FPS, width=width, height=height) as writer:
            writer.write(first)
            title = f"overlay of {source.name}"
            for panel in track(panels, total=video.num_frames - 1, what=title):
                writer.write(panel)


def _panels(
    video: VideoReader,
    flow: LiveFlow | None,
    history_SK: NDArray[np.float32],
    classes: Sequence[str],
) -> Iterator[NDArray[np.uint8]]:
    last = max(video.num_frames - 1, 1)
    for t, frame in enumerate(video.stream()):
        colours = None
        if flow is not None:
            pair_1HWC = flow.read([min(t, flow.num_frames - 1)])
            colours = flow_colour(decode(pair_1HWC)[0], bound=_SHOWN_BOUND_PIXELS)
        step = round(t / last * (len(history_SK) - 1))
        yield draw_panel(frame, history_SK=history_SK, classes=classes, step=step, flow_HWC=colours)
