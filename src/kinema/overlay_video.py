"""Overlay videos: frame, flow in colour and the probabilities of the top classes over time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.console import track
from kinema.data.items import ClipItem
from kinema.engine.checkpoint import Checkpoint
from kinema.engine.evaluate import TestSettings, clip_probabilities
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import Runtime, runtime
from kinema.flow.encoding import decode
from kinema.flow.live import LiveFlow
from kinema.overlay import draw_panel, flow_colour
from kinema.prediction import PredictOptions, load_streams, stream_weights
from kinema.video.reader import VideoReader
from kinema.video.writer import VideoWriter

_FRAMES_PER_MOMENT = 4
_MOST_MOMENTS = 200
_SHOWN_BOUND_PIXELS = 8.0  # per frame: full colour; most motion is far below the stored bound
_FLOW_SIZE = "short:240"


def write_overlays(
    checkpoints: Sequence[Path],
    sources: Sequence[Path],
    out: Path,
    *,
    options: PredictOptions | None = None,
) -> list[Path]:
    """Write ``out/<name>.mp4`` for every source and return the paths.

    Args:
        checkpoints: as for `kinema.prediction.predict`.
        sources: video files.
        out: folder to write to.
        options: fusion weights and device; the protocol is not used, scores are over time.

    Raises:
        KinemaError: a source or a checkpoint cannot be read.
    """
    options = options or PredictOptions()
    written = []
    with runtime(
        device=options.device, precision=options.precision, threads=options.threads
    ) as place:
        streams = load_streams(checkpoints, device=str(place.device))
        weights = stream_weights(streams, options.weights)
        for source in sources:
            history_SK = _history(streams, weights, source, place)
            path = out / f"{source.stem}.mp4"
            classes = next(iter(streams.values())).classes
            _write(path, source, history_SK, classes, with_flow="flow" in streams)
            written.append(path)
    return written


def _history(
    streams: dict[str, Checkpoint], weights: Sequence[float], source: Path, place: Runtime
) -> NDArray[np.float32]:
    """Return the fused probabilities at moments spread over the video, (S, K)."""
    with VideoReader(source) as video:
        num_frames = video.num_frames
    moments = int(np.clip(num_frames // _FRAMES_PER_MOMENT, 1, _MOST_MOMENTS))
    protocol = Protocol(name="over-time", rule="uniform", num_clips=moments, resize="train")
    item = ClipItem(id=str(source), path=source, label=-1, num_frames=num_frames)
    total_SK = np.zeros((moments, 0), np.float32)
    for checkpoint, weight in zip(streams.values(), weights, strict=True):
        config = replace(
            checkpoint.config, data=replace(checkpoint.config.data, workers=0, flow_store="")
        )
        settings = TestSettings(config=config, protocol=protocol, classes=checkpoint.classes)
        found_SK = weight * clip_probabilities(checkpoint.network, item, settings, runtime=place)
        total_SK = found_SK if total_SK.shape[1] == 0 else total_SK + found_SK
    return (total_SK / sum(weights)).astype(np.float32)


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
        with VideoWriter(path, fps=video.fps, width=width, height=height) as writer:
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
