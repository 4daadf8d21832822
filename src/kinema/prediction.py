"""Labels for new videos, from one checkpoint or several fused; flow is computed on the fly."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.data.clips import ClipItem
from kinema.datasets.listing import VIDEO_SUFFIXES
from kinema.engine.checkpoint import Checkpoint, load_checkpoint
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Precision, Runtime, runtime
from kinema.errors import KinemaError
from kinema.files import read_json
from kinema.metrics import softmax
from kinema.scores import Scores
from kinema.video.frames import open_frames


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How a prediction is made."""

    protocol: str = ""  # name or JSON file; empty: what the checkpoint says
    weights: tuple[float, ...] = ()  # of the checkpoints; empty: what a fusion found, or equal
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The fused probabilities of one video."""

    source: Path
    probabilities: NDArray[np.float32]  # (classes,)
    by_stream: dict[str, NDArray[np.float32]]  # the same of each checkpoint alone

    def top(self, classes: Sequence[str], count: int = 5) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(classes[i], float(self.probabilities[i])) for i in order]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What came of all sources."""

    classes: tuple[str, ...]
    rows: tuple[Prediction, ...]
    failures: tuple[tuple[Path, str], ...]  # (source, reason)

    def as_json(self, count: int = 5) -> dict[str, Any]:
        """Return plain values for a program."""
        return {
            "classes": list(self.classes),
            "predictions": [
                {
                    "source": str(row.source),
                    "top": [
                        {"label": k, "probability": p} for k, p in row.top(self.classes, count)
                    ],
                    "probabilities": [float(p) for p in row.probabilities],
                }
                for row in self.rows
            ],
            "failures": [{"source": str(path), "reason": reason} for path, reason in self.failures],
        }


def predict(
    checkpoints: Sequence[Path], sources: Sequence[str], *, options: PredictOptions | None = None
) -> Predictions:
    """Classify videos with one checkpoint, or with several whose probabilities are averaged.

    Args:
        checkpoints: ``.safetensors`` files, or one run folder with both streams.
        sources: video files, folders (all videos below) and glob patterns.
        options: protocol, fusion weights, device.

    Raises:
        KinemaError: no checkpoint, checkpoints with other classes, or no source found. A source
            that cannot be read is listed in the result instead.
    """
    options = options or PredictOptions()
    paths = find_sources(sources)
    with runtime(
        device=options.device, precision=options.precision, threads=options.threads
    ) as place:
        streams = load_streams(checkpoints, device=str(place.device))
        weights = stream_weights(streams, options.weights)
        items, failures = _probe(paths)
        scored = {}
        for name, checkpoint in streams.items():
            settings = _settings(checkpoint, options.protocol)
            scored[name], broken = _score(checkpoint, items, settings, place)
            items = [item for item in items if item.id not in broken]
            failures += [(Path(path), reason) for path, reason in broken.items()]
    rows = []
    for item in items:
        by_stream = {name: part[item.id] for name, part in scored.items()}
        fused = sum(w * by_stream[name] for name, w in zip(streams, weights, strict=True))
        probabilities = np.asarray(fused / sum(weights), np.float32)
        rows.append(Prediction(source=item.path, probabilities=probabilities, by_stream=by_stream))
    classes = next(iter(streams.values())).classes
    return Predictions(classes=classes, rows=tuple(rows), failures=tuple(failures))


def find_sources(sources: Sequence[str]) -> list[Path]:
    """Expand files, folders and glob patterns to video files, in order, each once.

    Raises:
        KinemaError: a source matches nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(name) for name in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207
        if not matches:
            raise KinemaError(
                f"'{source}' is no video file, no folder with videos and no pattern that matches "
                "one: check the path."
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def load_streams(checkpoints: Sequence[Path], *, device: str) -> dict[str, Checkpoint]:
    """Load checkpoints, or those of a run folder, by stream name.

    Raises:
        KinemaError: none given, or their classes differ.
    """
    paths: list[Path] = []
    for path in checkpoints:
        paths += _of_run(path) if path.is_dir() else [path]
    if not paths:
        raise KinemaError("No checkpoint: give at least one .safetensors file or a run folder.")
    streams: dict[str, Checkpoint] = {}
    for path in paths:
        checkpoint = load_checkpoint(path, device=device)
        name = checkpoint.config.data.modality
        streams[name if name not in streams else f"{name}-{len(streams)}"] = checkpoint
        first = next(iter(streams.values()))
        if checkpoint.classes != first.classes:
            raise KinemaError(
                f"{path} knows {len(checkpoint.classes)} classes that differ from the "
                f"{len(first.classes)} of {paths[0]}: only checkpoints of the same data set can "
                "be fused."
            )
    return streams


def _of_run(folder: Path) -> list[Path]:
    results = folder / "results.json"
    if not results.is_file():
        raise KinemaError(
            f"{folder} is not the folder of a finished run (no results.json): give checkpoint "
            "files, or a folder that `kinema run` made."
        )
    return [folder / stream["checkpoint"] for stream in read_json(results)["streams"].values()]


def stream_weights(streams: dict[str, Checkpoint], given: tuple[float, ...]) -> tuple[float, ...]:
    """Return the weight of each stream: given, as a fusion on validation videos found it, or 1.

    Raises:
        KinemaError: another number of weights than of checkpoints, or none above zero.
    """
    if not given:
        facts = [stream.info.provenance for stream in streams.values()]
        known = all("fusion_weight" in fact for fact in facts)
        given = tuple(float(fact["fusion_weight"]) if known else 1.0 for fact in facts)
    if len(given) != len(streams) or min(given) < 0 or sum(given) <= 0:
        raise KinemaError(
            f"{len(given)} fusion weights for {len(streams)} checkpoints "
            f"({', '.join(streams)}): give one for each, none below zero and one above."
        )
    return given


def _probe(paths: Sequence[Path]) -> tuple[list[ClipItem], list[tuple[Path, str]]]:
    items: list[ClipItem] = []
    failures: list[tuple[Path, str]] = []
    for path in paths:
        try:
            frames = open_frames(path)
            num_frames = frames.num_frames
            frames.close()
        except KinemaError as error:
            failures.append((path, str(error)))
            continue
        items.append(
            ClipItem(id=str(path), path=path, label=-1, num_frames=num_frames, flow_path=None)
        )
    return items, failures


def _settings(checkpoint: Checkpoint, protocol: str) -> TestSettings:
    chosen: Protocol = find_protocol(protocol or checkpoint.config.protocol)
    return TestSettings(
        config=checkpoint.config,
        protocol=chosen,
        classes=checkpoint.classes,
        checkpoint_hash=checkpoint.hash,
    )


def _score(
    checkpoint: Checkpoint, items: Sequence[ClipItem], settings: TestSettings, place: Runtime
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Score all items together; if one cannot be read, each alone to find out which."""
    if not items:
        return {}, {}
    try:
        scores = evaluate(checkpoint.network, items, settings, runtime=place)
        return _by_id(scores, settings.protocol), {}
    except KinemaError as error:
        if len(items) == 1:
            return {}, {items[0].id: str(error)}
    found: dict[str, NDArray[np.float32]] = {}
    broken: dict[str, str] = {}
    quiet = replace(settings, show_progress=False)
    for item in items:
        rows, reasons = _score(checkpoint, [item], quiet, place)
        found |= rows
        broken |= reasons
    return found, broken


def _by_id(scores: Scores, protocol: Protocol) -> dict[str, NDArray[np.float32]]:
    values = scores.values.astype(np.float64)
    if scores.kind == "logits":
        values = softmax(values / protocol.num_views if protocol.aggregate == "sum" else values)
    return dict(zip(scores.ids, values.astype(np.float32), strict=True))
