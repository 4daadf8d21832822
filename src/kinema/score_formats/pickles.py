"""Pickled scores: two-stream-action-recognition (Huang, Elkomy) and mmaction2."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.score_formats.safe_pickle import load_pickle
from kinema.score_formats.table import Table, matrix
from kinema.scores import listed

_SUM_TOLERANCE = 0.01


def read_pickle(path: Path) -> Table:
    """Read a pickle of any of these systems, recognised by its structure.

    Raises:
        KinemaError: another structure, or a pickle that wants to call something.
    """
    with path.open("rb") as handle:
        content = load_pickle(handle)
    if isinstance(content, dict):
        return _huang(content)
    if _is_elkomy(content):
        return _elkomy(content[0])
    if isinstance(content, (list, tuple)) and content:
        if all(isinstance(sample, dict) for sample in content):
            return _mmaction(list(content))
        return Table(values=matrix(content, source="pickled list"), source="mmaction2")
    if isinstance(content, np.ndarray) and content.ndim:
        return Table(values=matrix(list(content), source="pickled matrix"), source="pickled matrix")
    raise KinemaError(
        f"it is a pickle of {type(content).__name__}, not of scores: a dict from name to "
        "scores, such a dict with a count, a list of dicts with 'pred_score', or a matrix is "
        "expected."
    )


def _named(content: dict[Any, Any], source: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    ids = tuple(sorted(str(name) for name in content))
    by_name = {str(name): row for name, row in content.items()}
    return ids, matrix([by_name[name] for name in ids], source=source)


def _huang(content: dict[Any, Any]) -> Table:
    """`{Class_gNN_cNN: sum of the logits of 19 samples}`; the sums stay as they are."""
    ids, values = _named(content, "pickled dict")
    return Table(
        values=values, source="two-stream-action-recognition (Huang)", ids=ids, kind="logits"
    )


def _is_elkomy(content: Any) -> bool:  # noqa: ANN401
    pair = isinstance(content, (tuple, list)) and len(content) == 2
    return pair and isinstance(content[0], dict) and isinstance(content[1], (int, float))


def _elkomy(content: dict[Any, Any]) -> Table:
    """`({Class_gNN_cNN: sum of the softmax of up to 19 samples}, 19)`.

    A row's sum is the number of samples that the video really had, so each row is divided by
    that and not by 19: short videos keep their full weight in a fusion.
    """
    ids, values = _named(content, ".preds file")
    sums = values.sum(1)
    odd = (values < 0).any(1) | (abs(sums - sums.round()) > _SUM_TOLERANCE) | (sums < 0.5)
    if odd.any():
        names = listed(ids[i] for i in np.flatnonzero(odd))
        raise KinemaError(f"it should hold sums of softmax scores, but does not for {names}.")
    return Table(
        values=values / sums[:, None],
        source="two-stream-action-recognition (Elkomy)",
        ids=ids,
        kind="probabilities",
    )


def _mmaction(samples: list[dict[str, Any]]) -> Table:
    """Dumped results: `pred_score` or `pred_scores.item`, `gt_label` or `gt_labels.item`."""
    rows = [_field(sample, "pred_score") for sample in samples]
    if any(row is None for row in rows):
        raise KinemaError(
            "it is a list of dicts, but not all have 'pred_score': the first has "
            f"{listed(map(str, samples[0]))}."
        )
    labels = [_field(sample, "gt_label") for sample in samples]
    single = all(label is not None and np.size(label) == 1 for label in labels)
    return Table(
        values=matrix(rows, source="mmaction2 file"),
        source="mmaction2",
        labels=np.array([int(np.asarray(label).item()) for label in labels]) if single else None,
    )


def _field(sample: dict[str, Any], name: str) -> Any:  # noqa: ANN401
    """Return a field under its name of today, or under that of the first 1.x versions."""
    older = sample.get(f"{name}s")
    return older.get("item") if isinstance(older, dict) else sample.get(name, older)
