"""Results as JSON: video-action-recognition-models (Cao), 3D-ResNets-PyTorch (Hara), matrices."""

from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import KinemaError
from kinema.files import read_json
from kinema.score_formats.table import Table, matrix
from kinema.scores import listed

_SUM_TOLERANCE = 0.01


def read_results_json(path: Path, *, classes: tuple[str, ...] | None) -> Table:
    """Read a results file.

    * Cao: ``{id: {"target_label": int, "pred_outputs": [...]}}``, the sum over all views.
    * Hara: ``{"results": {id: [{"label": name, "score": p}, ...]}}``; classes that a video does
      not list count as 0, segments of a video are averaged.
    * a list of vectors, one per video (mmaction 0.x).

    Args:
        path: of the file.
        classes: the order of the classes; without it Hara's names are sorted.

    Raises:
        KinemaError: another structure, or a class that is not in `classes`.
    """
    content = read_json(path)
    try:
        if isinstance(content, list):
            return Table(values=matrix(content, source="JSON list"), source="mmaction2")
        if isinstance(content.get("results"), dict):
            return _hara(content["results"], classes)
        return _cao(content)
    except (AttributeError, KeyError, TypeError) as error:
        raise KinemaError(
            "it is JSON but not a results file: {id: {'pred_outputs': [...]}}, "
            "{'results': {id: [{'label': …, 'score': …}]}} or a list of vectors is expected."
        ) from error


def _cao(content: dict[str, Any]) -> Table:
    """Sums of softmax over V views become probabilities (the sum of each row is V)."""
    ids = tuple(content)
    values = matrix([content[name]["pred_outputs"] for name in ids], source="results file")
    sums = values.sum(1)
    num_views = round(float(sums[0]))
    even = abs(sums - num_views).max() < _SUM_TOLERANCE
    summed = even and num_views > 0 and bool((values >= 0).all())
    return Table(
        values=values / num_views if summed else values,
        source="video-action-recognition-models (Cao)",
        ids=ids,
        labels=np.array([int(content[name].get("target_label", -1)) for name in ids], np.int64),
        kind="probabilities" if summed else "logits",
    )


def _hara(results: dict[str, Any], classes: tuple[str, ...] | None) -> Table:
    found = {name: _segments(entries) for name, entries in results.items()}
    seen = {entry["label"] for segments in found.values() for one in segments for entry in one}
    names = classes or tuple(sorted(seen))
    if unknown := sorted(seen - set(names)):
        raise KinemaError(f"the results name classes that the list lacks: {listed(unknown)}.")
    column = {name: i for i, name in enumerate(names)}
    values = np.zeros((len(found), len(names)))
    for row, segments in zip(values, found.values(), strict=True):
        for entry in (entry for one in segments for entry in one):
            row[column[entry["label"]]] += float(entry["score"]) / len(segments)
    return Table(
        values=values,
        source="3D-ResNets-PyTorch (Hara)",
        ids=tuple(found),
        classes=names,
        kind="probabilities",
    )


def _segments(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the ranked lists of a video: one, or one per segment where it was not averaged."""
    if entries and "result" in entries[0]:
        return [entry["result"] for entry in entries]
    return [entries]
