"""Fusion of streams that is learned on videos which are kept for it, never on those it fuses.

Shapes: N videos, K classes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError, did_you_mean
from kinema.features import Features
from kinema.fusion import require_same_order
from kinema.fusion_tables import Stream, StreamTable, test_table, train_table
from kinema.scores import Scores, listed

Method = Literal["weights", "svm", "mlp", "gated", "bilinear"]
StreamKind = Literal["scores", "features", "maps"]  # what a fusion takes of a stream
SCORES: StreamKind = "scores"

STRENGTHS = (math.inf, 1.0, 0.1, 0.01, 1e-3, 1e-4)  # of networks; infinite: the average
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # C of the SVM, the softest margin first
_FOLDS = 5
_FOR_FEATURES = ("svm", "mlp")


@dataclass(frozen=True, kw_only=True)
class TrainedFusion:
    """Fused scores, and what was learned.

    Attributes:
        scores: of the streams that were fused.
        facts: method, settings, and what can be read off.
        parameters: plain arrays by name, from which `apply_trained` gives the same bits again.
    """

    scores: Scores
    facts: dict[str, Any]
    parameters: dict[str, NDArray[Any]]


def fuse_trained(
    streams: Sequence[Stream], training: Sequence[Stream], *, method: Method, seed: int = 0
) -> TrainedFusion:
    """Learn on `training` how streams become one, and fuse `streams` so.

    * ``weights``: weighted mean of probabilities, with one weight and one temperature per stream.
    * ``gated``: the same, but a linear gate chooses the weights for every video.
    * ``mlp``: one hidden layer over the scores (or features) of all streams.
    * ``bilinear``: products of the scores of each two streams.
    * ``svm``: linear SVM on stacked scores or features, each stream brought to the length 1
      (Simonyan and Zisserman 2014).

    How strongly the networks are held at the average, or the SVM's C, is chosen by
    cross-validation over five parts of the training videos: by log-loss, for the SVM by accuracy.
    Networks are held as strongly as is not worse than the best by more than one standard error,
    and stay the average unless they make fewer mistakes on what was held out.

    Args:
        streams: scores, or features for svm and mlp, of the videos that are fused.
        training: the same streams, in the same order, of other videos, with labels.
        method: see above.
        seed: of the parts and of random first layers.

    Returns:
        Probabilities, but for the SVM its decisions as logits; ``Scores.fusion`` says how.

    Raises:
        KinemaError: a video is on both sides, labels are unknown, streams that do not fit, or are
            in another order.
        UsageError: an unknown method, numbers of streams that differ, or features where scores
            are needed.
    """
    _check(streams, training, method)
    test = test_table(streams)
    train = train_table(training, classes=test.classes)
    _refuse_shared(train, test)
    for one, other in zip(train.x, test.x, strict=True):
        if one.shape[1] != other.shape[1]:
            raise KinemaError(
                f"A stream to train on has {one.shape[1]} numbers per video, but {other.shape[1]} "
                "where it is fused: give the same streams in the same order."
            )
    fit = _fitting(method, seed)
    grid: tuple[float, ...] = PENALTIES if method == "svm" else STRENGTHS
    folds = _folds(train, seed)
    both = [_held_out(fit, train, folds, value) for value in grid]
    if method != "svm":  # the average, which is the first, or what makes fewer mistakes
        kept = [i for i, (_, wrong) in enumerate(both) if not i or wrong.sum() < both[0][1].sum()]
        grid, both = tuple(grid[i] for i in kept), [both[i] for i in kept]
    held_out = [wrong if method == "svm" else loss for loss, wrong in both]
    best = _least(held_out) if method == "svm" else _simplest(held_out)
    learned = fit(train, grid[best])
    facts = {
        "method": method,
        "C" if method == "svm" else "strength": grid[best] if grid[best] < math.inf else "average",
        **learned.facts,
        "held_out": {"log_loss" if method != "svm" else "error": float(held_out[best].mean())},
        "trained_on": len(train.ids),
        "streams": [_kind(one) for one in streams],
        "seed": seed,
    }
    return TrainedFusion(
        scores=_scores(learned.predict(test), test, streams, facts),
        facts=facts,
        parameters=learned.parameters,
    )


def apply_trained(
    streams: Sequence[Stream],
    *,
    facts: Mapping[str, Any],
    parameters: Mapping[str, NDArray[Any]],
) -> Scores:
    """Fuse `streams` as `fuse_trained` learned it before.

    Args:
        streams: the same streams in the same order, with the classes in the same order.
        facts: of the `TrainedFusion`.
        parameters: of the same.

    Raises:
        UsageError: another number of streams.
    """
    if len(streams) != len(facts["streams"]):
        raise UsageError(
            f"{len(streams)} streams are given, but the fusion '{facts['method']}' was learned "
            f"on {len(facts['streams'])}: give the same ones in the same order."
        )
    table = test_table(streams)
    predict = _prediction(facts["method"], parameters)
    return _scores(predict(table), table, streams, facts)


def _check(streams: Sequence[Stream], training: Sequence[Stream], method: str) -> None:
    if method not in get_args(Method):
        raise UsageError(
            f"Unknown fusion '{method}'.{did_you_mean(method, get_args(Method))} "
            f"Choose {', '.join(get_args(Method))}."
        )
    if len(streams) < 2 or len(streams) != len(training):
        raise UsageError(
            f"{len(streams)} streams and {len(training)} to train on: at least two streams are "
            "needed, and the same ones, in the same order, to train on."
        )
    kinds = [isinstance(one, Features) for one in streams]
    if kinds != [isinstance(one, Features) for one in training]:
        raise UsageError(
            "Where features are fused, features are trained on, and scores where scores are fused: "
            "give the same kind of file for every stream."
        )
    if any(kinds) and method not in _FOR_FEATURES:
        raise UsageError(
            f"The fusion '{method}' is of scores: choose {' or '.join(_FOR_FEATURES)} for features."
        )
    require_same_order([one.checkpoint for one in streams], [one.checkpoint for one in training])


def _refuse_shared(train: StreamTable, test: StreamTable) -> None:
    if shared := sorted(set(train.ids) & set(test.ids)):
        raise KinemaError(
            f"A fusion is never trained on the videos that it is tested on: {listed(shared)}. "
            "Train on the files of the validation part."
        )
    if (train.labels < 0).any():
        unknown = {train.ids[i] for i in train.videos[train.labels < 0]}
        raise KinemaError(
            f"The true class is unknown for {listed(sorted(unknown))}: a fusion is trained on "
            "videos with labels."
        )


def _kind(stream: Stream) -> StreamKind:
    if isinstance(stream, Scores):
        return "scores"
    return "maps" if stream.map_shape else "features"


_Predict = Callable[[StreamTable], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class _Learned:
    predict: _Predict
    parameters: dict[str, NDArray[Any]]
    facts: dict[str, Any]


_Fit = Callable[[StreamTable, float], _Learned]


def _fitting(method: Method, seed: int) -> _Fit:
    if method == "svm":
        from kinema.fusion_svm import fit_svm

        def fit(table: StreamTable, value: float) -> _Learned:
            machine = fit_svm(table, c=value, seed=seed)
            return _Learned(predict=machine.decisions, parameters=machine.arrays(), facts={})

        return fit
    from kinema.fusion_networks import fit_network

    def fit_one(table: StreamTable, value: float) -> _Learned:
        network = fit_network(method, table, strength=value, seed=seed)
        return _Learned(
            predict=network.log_probabilities, parameters=network.arrays(), facts=network.facts()
        )

    return fit_one


def _prediction(method: Method, parameters: Mapping[str, NDArray[Any]]) -> _Predict:
    if method == "svm":
        from kinema.fusion_svm import FusionSvm

        return FusionSvm.of_arrays(parameters).decisions
    from kinema.fusion_networks import FusionNetwork

    return FusionNetwork.of_arrays(method, parameters).log_probabilities


def _folds(table: StreamTable, seed: int) -> NDArray[np.int64]:
    """Return for each row the part that it is held out with: all views of a video together.

    The videos of every class are dealt out in turn, in random order.
    """
    num_videos = len(table.ids)
    label_of = np.zeros(num_videos, np.int64)
    label_of[table.videos[::-1]] = table.labels[::-1]  # the first view's
    order = np.random.default_rng(seed).permutation(num_videos)
    order = order[np.argsort(label_of[order], kind="stable")]
    part_of = np.empty(num_videos, np.int64)
    part_of[order] = np.arange(num_videos) % _FOLDS
    return part_of[table.videos]


def _held_out(
    fit: _Fit, table: StreamTable, folds: NDArray[np.int64], value: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log-loss of each row where it was held out, and whether it was a mistake."""
    losses, wrong = np.zeros(len(table.labels)), np.ones(len(table.labels))
    for part in range(_FOLDS):
        inside, outside = folds != part, folds == part
        if not outside.any() or len(np.unique(table.labels[inside])) < 2:
            continue  # nothing to learn from
        learned = fit(_part(table, inside), value)
        predicted, labels = learned.predict(_part(table, outside)), table.labels[outside]
        losses[outside] = -predicted[np.arange(len(labels)), labels]
        wrong[outside] = predicted.argmax(1) != labels
    return losses, wrong


def _least(held_out: Sequence[NDArray[np.float64]]) -> int:
    """Return the best setting, of equals the first."""
    return int(np.argmin([round(float(one.mean()), 9) for one in held_out]))


def _simplest(held_out: Sequence[NDArray[np.float64]]) -> int:
    """Return the first that is not worse than the best by more than one standard error."""
    best = held_out[_least(held_out)]
    differences = [one - best for one in held_out]
    return next(
        i
        for i, one in enumerate(differences)
        if one.mean() <= one.std() / math.sqrt(len(one)) or held_out[i] is best
    )


def _part(table: StreamTable, rows: NDArray[np.bool_]) -> StreamTable:
    return replace(
        table,
        x=tuple(values[rows] for values in table.x),
        log_p=tuple(values[rows] for values in table.log_p),
        labels=table.labels[rows],
        videos=table.videos[rows],
    )


def _scores(
    found: NDArray[np.float64],
    table: StreamTable,
    streams: Sequence[Stream],
    facts: Mapping[str, Any],
) -> Scores:
    is_svm = facts["method"] == "svm"
    return Scores(
        ids=table.ids,
        values=(found if is_svm else np.exp(found)).astype(np.float32),
        kind="logits" if is_svm else "probabilities",
        labels=table.labels,
        classes=table.classes,
        protocol=" + ".join(dict.fromkeys(one.protocol for one in streams if one.protocol)),
        checkpoint=" + ".join(dict.fromkeys(one.checkpoint for one in streams if one.checkpoint)),
        fusion=json.dumps(dict(facts)),
    )
