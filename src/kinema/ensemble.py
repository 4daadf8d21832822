"""Checkpoints that are used together: which ones, and how their scores become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.engine.checkpoint import Checkpoint, load_checkpoint
from kinema.errors import KinemaError, UsageError
from kinema.files import read_json
from kinema.fused_checkpoint import is_fused, load_fused, stream_names
from kinema.fusion import Rule
from kinema.fusion_tables import Stream, unlabelled
from kinema.metrics import softmax
from kinema.scores import Scores
from kinema.stored_fusion import Fusion, average_by
from kinema.streams import stream_name
from kinema.trained_fusion import SCORES, StreamKind


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Checkpoints that are used together, by stream name, and how their scores become one."""

    streams: dict[str, Checkpoint]
    weights: tuple[float, ...]
    rule: Rule
    stored: Fusion | None = None  # of a fused checkpoint: its scores become one as in a test

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return next(iter(self.streams.values())).classes

    @property
    def takes(self) -> tuple[StreamKind, ...]:
        """What becomes one: the scores of every stream, or features of its network."""
        return self.stored.takes if self.stored else (SCORES,) * len(self.streams)

    def fuse_moments(self, streams_SK: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the fused probabilities of moments of one video, (S, K).

        Args:
            streams_SK: what the fusion `takes` of each stream: probabilities, which are averaged
                with the weights or fused as it was learned, or features (S, D).
        """
        if self.stored and not self.stored.rule:
            moments = [
                self._moments(values_SK, kind)
                for values_SK, kind in zip(streams_SK, self.takes, strict=True)
            ]
            return probabilities_of(self.stored.fuse(moments))
        total_SK = np.tensordot(self.weights, np.stack(streams_SK).astype(np.float64), axes=1)
        return np.asarray(total_SK / sum(self.weights), np.float32)

    def _moments(self, values_SK: NDArray[np.float32], kind: StreamKind) -> Stream:
        """Return moments as if each were a video."""
        ids = tuple(map(str, range(len(values_SK))))
        if kind == "scores":
            return unlabelled(ids, values_SK, classes=self.classes, kind="probabilities")
        return unlabelled(ids, values_SK[:, None, None], classes=self.classes, kind=None)


def probabilities_of(scores: Scores) -> NDArray[np.float32]:
    """Return float32 (videos, classes); logits go through the softmax."""
    if scores.kind == "probabilities":
        return scores.values
    return softmax(scores.values.astype(np.float64)).astype(np.float32)


def find_checkpoints(paths: Sequence[Path]) -> list[Path]:
    """Expand the folders of runs, and of single trainings, to their checkpoints.

    Raises:
        KinemaError: none given, or a folder without a finished run.
    """
    found: list[Path] = []
    for path in paths:
        results, best = path / "results.json", path / "best.safetensors"
        if not path.is_dir():
            found.append(path)
        elif results.is_file():
            streams = read_json(results)["streams"].values()
            found += [path / stream["checkpoint"] for stream in streams]
        elif best.is_file():
            found.append(best)
        else:
            raise KinemaError(
                f"{path} is not the folder of a finished run (no results.json) or training (no "
                "best.safetensors): give a checkpoint file, or let `kinema run` go to its end."
            )
    if not found:
        raise KinemaError("No checkpoint: give at least one .safetensors file or a run folder.")
    return found


def load_ensemble(
    checkpoints: Sequence[Path], *, device: str, weights: Sequence[float] = ()
) -> Ensemble:
    """Load checkpoints, or those of run folders, with the weights and the rule of their fusion.

    Args:
        checkpoints: files or folders, or one fused checkpoint.
        device: where the networks go.
        weights: one per stream; empty: as a fusion on validation videos found them, or equal.

    Raises:
        KinemaError: none given, or their classes differ.
        UsageError: weights that do not fit, or a fused checkpoint beside others.
    """
    if fused := [path for path in checkpoints if is_fused(path)]:
        if len(checkpoints) > 1:
            raise UsageError(
                f"{fused[0]} holds its streams and their fusion already: give it alone."
            )
        return _fused_ensemble(fused[0], device, weights)
    paths = find_checkpoints(checkpoints)
    loaded = [load_checkpoint(path, device=device) for path in paths]
    for path, checkpoint in zip(paths, loaded, strict=True):
        if checkpoint.classes != loaded[0].classes:
            raise KinemaError(
                f"{path} was trained on other classes ({_some(checkpoint.classes)}) than "
                f"{paths[0]} ({_some(loaded[0].classes)}): only checkpoints of the same data set "
                "can be used together."
            )
    names = stream_names([stream_name(checkpoint.config) for checkpoint in loaded])
    streams = dict(zip(names, loaded, strict=True))
    facts = [stream.info.provenance for stream in streams.values()]
    by_logits = all(fact.get("fusion_rule") == "logits" for fact in facts)
    return Ensemble(
        streams=streams,
        weights=_checked(weights, list(streams)) if weights else _known_weights(facts),
        rule="logits" if by_logits else "softmax",
    )


def _fused_ensemble(path: Path, device: str, weights: Sequence[float]) -> Ensemble:
    found = load_fused(path, device=device)
    fusion, names = found.fusion, list(found.streams)
    if weights and not fusion.rule:
        raise UsageError(
            f"The streams of {path} are fused as it was learned ({fusion.name}), not by weights: "
            "leave them out."
        )
    if weights and fusion.rule:
        fusion = average_by(fusion.rule, _checked(weights, names))
    return Ensemble(
        streams=found.streams,
        weights=fusion.weights or (1.0,) * len(names),
        rule=fusion.rule or "softmax",
        stored=fusion,
    )


def _some(classes: Sequence[str]) -> str:
    names = ", ".join(classes[:3])
    return f"{len(classes)}: {names}{', …' if len(classes) > 3 else ''}"


def _known_weights(facts: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Return the weights that a fusion noted in the checkpoints, or equal ones."""
    found = tuple(float(fact.get("fusion_weight", 0.0)) for fact in facts)
    known = all("fusion_weight" in fact for fact in facts) and sum(found) > 0
    return found if known and len(found) > 1 else (1.0,) * len(facts)


def _checked(weights: Sequence[float], names: Sequence[str]) -> tuple[float, ...]:
    if len(weights) != len(names) or min(weights) < 0 or sum(weights) <= 0:
        raise UsageError(
            f"The fusion weights {', '.join(f'{w:g}' for w in weights)} do not fit the "
            f"{len(names)} checkpoints ({', '.join(names)}): give one for each, none below zero "
            "and one above."
        )
    return tuple(weights)
