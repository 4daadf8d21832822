"""Labels for new videos, from one checkpoint or several fused; flow is computed on the fly."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.console import track
from kinema.data.items import ClipItem
from kinema.datasets.listing import is_video, video_files
from kinema.engine.checkpoint import Checkpoint
from kinema.engine.evaluate import TestSettings
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Precision, Runtime, runtime
from kinema.ensemble import Ensemble, load_ensemble, probabilities_of
from kinema.errors import KinemaError
from kinema.fusion import fuse
from kinema.fusion_tables import Stream, unlabelled
from kinema.scores import Scores
from kinema.testing import outputs_of
from kinema.trained_fusion import StreamKind
from kinema.video.container import check_complete
from kinema.video.frames import open_frames
from kinema.video.images import is_images
from kinema.video.reader import VideoReader

_QUICK = 20  # so many videos are opened without showing a bar


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How a prediction is made."""

    protocol: str = ""  # name or JSON file; empty: what the checkpoint says
    weights: tuple[float, ...] = ()  # of the checkpoints; empty: what a fusion found, or equal
    device: str = "auto"
    precision: Precision = "fp32"  # as in a test, so that both give the same scores
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The fused probabilities of one video."""

    source: Path
    probabilities: NDArray[np.float32]  # (classes,)
    by_stream: dict[str, NDArray[np.float32]]  # the same of each checkpoint whose scores are fused

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
                    "by_stream": {
                        name: [float(p) for p in values] for name, values in row.by_stream.items()
                    },
                }
                for row in self.rows
            ],
            "failures": [{"source": str(path), "reason": reason} for path, reason in self.failures],
        }


def predict(
    checkpoints: Sequence[Path], sources: Sequence[str], *, options: PredictOptions | None = None
) -> Predictions:
    """Classify videos with one checkpoint, or with several that are fused as their run did.

    Args:
        checkpoints: ``.safetensors`` files, or run folders; or one fused checkpoint.
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
        ensemble = load_ensemble(checkpoints, device=str(place.device), weights=options.weights)
        if ensemble.stored:
            wanted = [_settings(one, options.protocol) for one in ensemble.streams.values()]
            ensemble.stored.check_kinds([one.protocol.average for one in wanted])
        items, failures = _open_all(paths)
        scored: dict[str, _Scored] = {}
        for (name, checkpoint), kind in zip(ensemble.streams.items(), ensemble.takes, strict=True):
            settings = _settings(checkpoint, options.protocol)
            scored[name], broken = _score(checkpoint, items, settings, kind, place)
            items = [item for item in items if item.id not in broken]
            failures += [(Path(path), reason) for path, reason in broken.items()]
    rows = _fused(items, scored, ensemble) if items else ()
    return Predictions(classes=ensemble.classes, rows=rows, failures=tuple(failures))


def find_sources(sources: Sequence[str]) -> list[Path]:
    """Expand files, folders and glob patterns to video files, in order, each once.

    Raises:
        KinemaError: a source matches nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.exists():
            matches = _videos_of(path)
        else:
            names = sorted(glob.glob(source, recursive=True))  # noqa: PTH207
            files = [file for name in names for file in _videos_of(Path(name))]
            matches = [file for file in files if is_video(file)]
        if not matches:
            raise KinemaError(
                f"'{source}' is no video file, no folder with videos and no pattern that matches "
                "one: check the path."
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def _videos_of(path: Path) -> list[Path]:
    return video_files(path) if path.is_dir() else [path]


def _open_all(paths: Sequence[Path]) -> tuple[list[ClipItem], list[tuple[Path, str]]]:
    """Return the videos that can be opened, and the others with the reason."""
    items: list[ClipItem] = []
    failures: list[tuple[Path, str]] = []
    shown = track(paths, total=len(paths), what="open") if len(paths) > _QUICK else paths
    for path in shown:
        try:
            items.append(_item(path))
        except (KinemaError, OSError) as error:
            failures.append((path, str(error)))
    return items, failures


def _item(path: Path) -> ClipItem:
    if not is_images(path):
        check_complete(path)
    frames = open_frames(path)
    try:
        if not frames.num_frames:
            raise KinemaError(f"{path} has no frames: nothing in it can be decoded.")
        fps = frames.fps if isinstance(frames, VideoReader) else 0.0
        return ClipItem(
            id=str(path), path=path, label=-1, num_frames=frames.num_frames, fps=fps or 0.0
        )
    finally:
        frames.close()


def _settings(checkpoint: Checkpoint, protocol: str) -> TestSettings:
    return TestSettings(
        config=checkpoint.config,
        protocol=find_protocol(protocol) if protocol else checkpoint.protocol,
        classes=checkpoint.classes,
        checkpoint_hash=checkpoint.hash,
    )


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What one stream says: raw scores by video (or features), and how many views are summed."""

    rows: dict[str, NDArray[np.float32]]
    protocol: Protocol
    kind: StreamKind

    @property
    def summed(self) -> int:
        """How many views are summed in a score."""
        return self.protocol.num_views if self.protocol.aggregate == "sum" else 1

    def of(self, ids: Sequence[str], classes: tuple[str, ...]) -> Stream:
        """Return the scores (or features) of some videos, as a test gives them."""
        values = np.stack([self.rows[name] for name in ids])
        kind = self.protocol.average if self.kind == "scores" else None
        return unlabelled(ids, values, classes=classes, kind=kind)


def _score(
    checkpoint: Checkpoint,
    items: Sequence[ClipItem],
    settings: TestSettings,
    kind: StreamKind,
    place: Runtime,
) -> tuple[_Scored, dict[str, str]]:
    """Score all items together; if one cannot be read, each alone to find out which."""
    rows: dict[str, NDArray[np.float32]] = {}
    broken: dict[str, str] = {}
    try:
        if items:
            found = outputs_of(checkpoint, items, settings, kind=kind, runtime=place)
            rows = dict(zip(found.ids, found.values, strict=True))
    except KinemaError as error:
        if len(items) == 1:
            broken = {items[0].id: str(error)}
        else:
            alone = _without_processes(settings)
            for item in track(items, total=len(items), what="one by one"):
                one, reasons = _score(checkpoint, [item], alone, kind, place)
                rows |= one.rows
                broken |= reasons
    return _Scored(rows=rows, protocol=settings.protocol, kind=kind), broken


def _without_processes(settings: TestSettings) -> TestSettings:
    data = replace(settings.config.data, workers=0)
    return replace(settings, config=replace(settings.config, data=data), show_progress=False)


def _fused(
    items: Sequence[ClipItem], scored: dict[str, _Scored], ensemble: Ensemble
) -> tuple[Prediction, ...]:
    ids = [item.id for item in items]
    tested = {name: part.of(ids, ensemble.classes) for name, part in scored.items()}
    summed = [part.summed for part in scored.values()]
    # Sums over views are brought to the size of one.
    streams = {
        name: _smaller(stream, scored[name].summed)
        for name, stream in tested.items()
        if isinstance(stream, Scores)
    }
    if ensemble.stored:
        together = ensemble.stored.fuse(list(tested.values()))
        if ensemble.stored.rule == "logits":  # to the size of one view of one stream
            together = _smaller(together, float(np.dot(ensemble.weights, summed)))
    else:
        can_add_logits = all(scores.kind == "logits" for scores in streams.values())
        rule = ensemble.rule if can_add_logits else "softmax"
        # As a mean, not a sum, whatever the size of the weights: probabilities, not all or nothing.
        weights = [weight / sum(ensemble.weights) for weight in ensemble.weights]
        together = fuse(list(streams.values()), rule=rule, weights=weights)
    alone = {name: probabilities_of(scores) for name, scores in streams.items()}
    probabilities = probabilities_of(together)
    return tuple(
        Prediction(
            source=item.path,
            probabilities=probabilities[row],
            by_stream={name: values[row] for name, values in alone.items()},
        )
        for row, item in enumerate(items)
    )


def _smaller(scores: Scores, size: float) -> Scores:
    return replace(scores, values=scores.values / np.float32(size)) if size != 1 else scores
