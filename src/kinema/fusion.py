"""Late fusion: one score file from several streams, by a published rule and stated weights.

Shapes: S streams, N videos, K classes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError
from kinema.metrics import per_class, require_labels, softmax, top_k
from kinema.scores import Scores, align, listed

Rule = Literal["logits", "softmax", "l1"]

_STEPS = (20, 10, 5, 4, 3, 2, 1)  # a grid of 1/20 = 0.05, coarser for many streams
_MOST_WEIGHTINGS = 2_000
_SMALLEST = 1e-12


def fuse(
    streams: Sequence[Scores], *, rule: Rule = "softmax", weights: Sequence[float] | None = None
) -> Scores:
    """Join the streams by video id and add their scores by one of three rules.

    * ``logits``: the weighted sum of the scores before the softmax (TSN, Huang, I3D). The weights
      are used as given.
    * ``softmax``: the weighted mean of probabilities (very deep two-stream, Elkomy). Logits go
      through the softmax; probabilities are used as they are.
    * ``l1``: negative scores become zero, each row is divided by its sum, then the weighted mean
      (hidden two-stream). A row without a positive score stays zero: that stream abstains.

    Args:
        streams: any number of score files; the first gives the order of videos and classes.
        rule: see above.
        weights: one per stream, not negative; equal ones if absent.

    Returns:
        Logits by the rule ``logits``, else probabilities.

    Raises:
        KinemaError: videos, classes or labels that do not fit, or logits asked of probabilities.
        UsageError: an unknown rule, or weights that cannot be used.
    """
    aligned = align(_some(streams))
    weight_S = _checked(weights, len(aligned))
    fused_NK = np.tensordot(weight_S, _rows(aligned, rule), axes=1)
    if rule != "logits":
        fused_NK /= weight_S.sum()
    return Scores(
        ids=aligned[0].ids,
        values=fused_NK.astype(np.float32),
        kind="logits" if rule == "logits" else "probabilities",
        labels=aligned[0].labels,
        classes=aligned[0].classes,
        protocol=_joined(stream.protocol for stream in aligned),
        checkpoint=_joined(stream.checkpoint for stream in aligned),
    )


def search_weights(
    validation: Sequence[Scores], *, rule: Rule = "softmax", test: Sequence[Scores] = ()
) -> tuple[float, ...]:
    """Return the weights (sum 1) with the best top-1 on validation videos.

    All weightings on a grid of 0.05 are tried (a coarser grid for more than four streams). Ties go
    to the lower log-loss, then to the weights closest to equal ones.

    Args:
        validation: the streams' scores on videos kept for this; never those of the test split.
        rule: the fusion rule that the weights are for.
        test: the scores that will be fused with the weights, to make sure that they are of other
            videos.

    Raises:
        KinemaError: labels are unknown, a video occurs in both `validation` and `test`, or their
            streams are in different orders.
    """
    aligned = align(_some(validation))
    require_labels(aligned[0])
    shared = sorted(set(aligned[0].ids) & {name for scores in test for name in scores.ids})
    if shared:
        raise KinemaError(
            f"Weights are never searched on the videos that they are tested on: {listed(shared)}. "
            "Search on the score files of the validation split."
        )
    require_same_order([one.checkpoint for one in test], [one.checkpoint for one in validation])
    rows_SNK, labels = _rows(aligned, rule), aligned[0].labels
    weightings = list(_simplex(len(aligned)))
    fused = (np.tensordot(weights, rows_SNK, axes=1) for weights in weightings)
    mistakes = np.array([np.count_nonzero(row.argmax(1) != labels) for row in fused])
    best = [weightings[i] for i in np.flatnonzero(mistakes == mistakes.min())]
    chosen = min(best, key=lambda weights: _loss_and_distance(weights, rows_SNK, labels, rule))
    return tuple(float(weight) for weight in chosen)


def gain_per_class(fused: Scores, streams: Sequence[Scores]) -> dict[str, float]:
    """Return, for each class that occurs, its accuracy fused minus that of the best stream.

    The best stream is the one with the highest top-1 over all videos (the first of equals).
    """
    fused, *aligned = align([fused, *_some(streams)])
    best = per_class(max(aligned, key=lambda stream: top_k(stream, k=1)))
    return {name: accuracy - best[name] for name, accuracy in per_class(fused).items()}


def require_same_order(fused: Sequence[str], learned_on: Sequence[str]) -> None:
    """Raise where a fusion would take one stream for another.

    Args:
        fused: hash of each stream's checkpoint, empty where it is unknown.
        learned_on: the same of the streams that the fusion is found on.

    Raises:
        KinemaError: two streams have changed places.
    """
    for number, (here, there) in enumerate(zip(fused, learned_on, strict=False), start=1):
        if there and here and there != here and there in fused:
            raise KinemaError(
                f"Streams are in another order: file {number} to learn from is of the network of "
                f"file {fused.index(there) + 1} of those that are fused. Give both in the same "
                "order."
            )


def _some(streams: Sequence[Scores]) -> Sequence[Scores]:
    if not streams:
        raise UsageError("Fusion needs at least one score file.")
    return streams


def _checked(weights: Sequence[float] | None, num_streams: int) -> NDArray[np.float64]:
    weight_S = np.ones(num_streams) if weights is None else np.array(weights, np.float64)
    given = ", ".join(f"{weight:g}" for weight in weight_S)
    if weight_S.shape != (num_streams,):
        raise UsageError(
            f"{len(weight_S)} weights ({given}) for {num_streams} score files: give one per file."
        )
    if not np.isfinite(weight_S).all() or (weight_S < 0).any() or not weight_S.any():
        raise UsageError(
            f"The weights {given} cannot be used: they must be finite and not negative, and at "
            "least one must be above zero."
        )
    return weight_S


def _rows(aligned: Sequence[Scores], rule: Rule) -> NDArray[np.float64]:
    """Return what the rule adds: float64 (S, N, K)."""
    if rule not in get_args(Rule):
        raise UsageError(f"Unknown fusion rule '{rule}': choose {', '.join(get_args(Rule))}.")
    return np.stack([_prepared(stream, rule, i + 1) for i, stream in enumerate(aligned)])


def _prepared(stream: Scores, rule: Rule, number: int) -> NDArray[np.float64]:
    values_NK = stream.values.astype(np.float64)
    if rule == "logits":
        if stream.kind == "probabilities":
            raise KinemaError(
                f"Score file {number} holds probabilities, so the rule 'logits' cannot be used: "
                "choose softmax or l1, or test with a protocol that averages logits."
            )
        return values_NK
    if rule == "softmax":
        return softmax(values_NK) if stream.kind == "logits" else values_NK
    positive = np.maximum(values_NK, 0)
    sums = positive.sum(1, keepdims=True)
    return positive / np.where(sums > 0, sums, 1)


def _joined(texts: Iterator[str]) -> str:
    return " + ".join(dict.fromkeys(text for text in texts if text))


def _simplex(num_streams: int) -> Iterator[NDArray[np.float64]]:
    """Yield all weightings on the finest grid that stays small enough."""
    sizes = (steps for steps in _STEPS if _num_weightings(num_streams, steps) <= _MOST_WEIGHTINGS)
    steps = next(sizes, 1)
    for parts in _compositions(steps, num_streams):
        yield np.array(parts) / steps


def _num_weightings(num_streams: int, steps: int) -> int:
    return math.comb(steps + num_streams - 1, num_streams - 1)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write `total` as an ordered sum of so many parts, zero included."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _loss_and_distance(
    weight_S: NDArray[np.float64],
    rows_SNK: NDArray[np.float64],
    labels: NDArray[np.int64],
    rule: Rule,
) -> tuple[float, float]:
    """Return what decides between weightings with the same accuracy, rounded to be stable."""
    fused_NK = np.tensordot(weight_S, rows_SNK, axes=1)
    probabilities = softmax(fused_NK) if rule == "logits" else fused_NK
    true_N = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(true_N, _SMALLEST)).mean()
    distance = ((weight_S - 1 / len(weight_S)) ** 2).sum()
    return round(float(loss), 9), round(float(distance), 9)
