"""What a score file is worth: accuracies, their uncertainty, and where the mistakes are.

Shapes: N videos, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.scores import Scores, listed

Float = TypeVar("Float", bound=np.floating[Any])

RESAMPLES = 10_000
_SMALLEST = 1e-12  # of a probability, where its logarithm is taken
_WEAKEST_SHOWN = 5


def require_labels(scores: Scores) -> None:
    """Refuse scores of videos whose true class is unknown.

    Raises:
        KinemaError: names some of them.
    """
    unknown = np.flatnonzero(scores.labels < 0)
    if unknown.size:
        raise KinemaError(
            f"The true class is unknown for {listed(scores.ids[i] for i in unknown)}. "
            "Give a list of videos that has labels."
        )


def ranks(scores: Scores) -> NDArray[np.int64]:
    """Return for each video the place of its true class, 0 for the best.

    Equal scores are ranked by the class's position, as `argmax` does, so the result is the same
    everywhere.
    """
    require_labels(scores)
    rows = np.arange(len(scores.ids))
    true_N1 = scores.values[rows, scores.labels][:, None]
    earlier = np.arange(len(scores.classes))[None] < scores.labels[:, None]
    ahead = (scores.values > true_N1) | ((scores.values == true_N1) & earlier)
    return np.asarray(ahead.sum(1), np.int64)


def top_k(scores: Scores, *, k: int) -> float:
    """Return the share of videos whose true class is among the `k` best."""
    return float((ranks(scores) < k).mean())


def confusion(scores: Scores) -> NDArray[np.int64]:
    """Count videos by true class (row) and predicted class (column): int64 (K, K)."""
    require_labels(scores)
    num_classes = len(scores.classes)
    cells = scores.labels * num_classes + scores.values.argmax(1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(scores: Scores) -> dict[str, float]:
    """Return the accuracy of each class that occurs among the videos, in the classes' order."""
    counts_KK = confusion(scores)
    return {
        name: float(counts_KK[i, i] / counts_KK[i].sum())
        for i, name in enumerate(scores.classes)
        if counts_KK[i].any()
    }


def mean_class_accuracy(scores: Scores) -> float:
    """Return the mean of the accuracies of the classes that occur (the metric of TSN)."""
    return float(np.mean(list(per_class(scores).values())))


def log_loss(scores: Scores) -> float:
    """Return the mean cross-entropy in nats; logits go through the softmax."""
    require_labels(scores)
    values = scores.values.astype(np.float64)
    if scores.kind == "logits":
        values = softmax(values)
    else:
        values /= np.maximum(values.sum(1, keepdims=True), _SMALLEST)
    true_N = values[np.arange(len(values)), scores.labels]
    return float(-np.log(np.maximum(true_N, _SMALLEST)).mean())


def softmax(values_NK: NDArray[Float]) -> NDArray[Float]:
    """Return the softmax of each row, safe for large values."""
    shifted = np.exp(values_NK - values_NK.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), values_NK.dtype)


def bootstrap_interval(correct: NDArray[np.bool_], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of an accuracy, over videos.

    Drawing N of N videos with replacement makes the number of right ones binomial, so that is
    what is drawn. Where all or none are right the bootstrap has no width; the exact binomial
    bound (Clopper-Pearson) is given for the open side instead.

    Args:
        correct: (N,), whether each video was right.
        seed: of the resampling; the same seed gives the same interval.
    """
    count, right = len(correct), int(np.count_nonzero(correct))
    if right in (0, count):
        bound = 0.025 ** (1 / count)
        return (bound, 1.0) if right else (0.0, 1 - bound)
    drawn = np.random.default_rng(seed).binomial(count, right / count, RESAMPLES) / count
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def summary(scores: Scores, *, seed: int = 0) -> dict[str, Any]:
    """Return every figure of a score file as plain values that JSON can hold.

    Keys: ``num_videos``, ``top1``, ``top3``, ``top5``, ``mean_class``, ``loss``,
    ``top1_interval`` [low, high] (95 %), ``per_class`` {class: accuracy} of the classes that
    occur, ``confusion`` (rows true, columns predicted), ``clip_top1`` (or None).

    Raises:
        KinemaError: a video whose label is unknown.
    """
    places = ranks(scores)
    return {
        "num_videos": len(scores.ids),
        "top1": float((places < 1).mean()),
        "top3": float((places < 3).mean()),
        "top5": float((places < 5).mean()),
        "mean_class": mean_class_accuracy(scores),
        "loss": log_loss(scores),
        "top1_interval": list(bootstrap_interval(places < 1, seed=seed)),
        "per_class": per_class(scores),
        "confusion": confusion(scores).tolist(),
        "clip_top1": scores.clip_top1,
    }


def describe(figures: Mapping[str, Any]) -> str:
    """Return a summary as a few lines for the terminal."""
    low, high = figures["top1_interval"]
    lines = [
        f"top-1 {_percent(figures['top1'])} (95 % interval {_percent(low)} to {_percent(high)}) "
        f"of {figures['num_videos']} videos",
        f"top-3 {_percent(figures['top3'])}, top-5 {_percent(figures['top5'])}, "
        f"mean of classes {_percent(figures['mean_class'])}, loss {figures['loss']:.3f}",
    ]
    if figures["clip_top1"] is not None:
        lines.append(f"top-1 of single clips {_percent(figures['clip_top1'])}")
    weakest = sorted(figures["per_class"].items(), key=lambda pair: pair[1])[:_WEAKEST_SHOWN]
    names = ", ".join(f"{name} {_percent(value)}" for name, value in weakest if value < 1)
    return "\n".join([*lines, f"weakest classes: {names}"] if names else lines)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def mean_over_splits(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the plain means over the official splits of a data set, as papers report them.

    Keys: ``num_splits``, then ``top1``, ``top3``, ``top5`` and ``mean_class`` (means) and
    ``per_split`` with the list of each.

    Raises:
        KinemaError: no summary at all.
    """
    if not summaries:
        raise KinemaError("A mean over splits needs the summary of at least one split.")
    names = ("top1", "top3", "top5", "mean_class")
    per_split = {name: [float(one[name]) for one in summaries] for name in names}
    means = {name: float(np.mean(values)) for name, values in per_split.items()}
    return {"num_splits": len(summaries), **means, "per_split": per_split}
