"""Streams of scores and features as one table, row by row, for a fusion that is learned.

Shapes: S streams, N videos, R rows (videos, or views of videos), K classes, D numbers per stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.features import Features
from kinema.metrics import softmax
from kinema.scores import Kind, Scores, align, listed

Stream = Scores | Features
_SMALLEST = 1e-6  # of a probability, where its logarithm is taken


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamTable:
    """What a fusion learns from, or is applied to.

    Attributes:
        x: per stream float64 (R, D), rows of length 1: probabilities, or features.
        log_p: per stream float64 (R, K), logarithms of the probabilities; empty where a stream
            has features.
        labels: int64 (R,).
        videos: int64 (R,), which video a row is of.
        ids: names of the videos.
        classes: names of the classes.
    """

    x: tuple[NDArray[np.float64], ...]
    log_p: tuple[NDArray[np.float64], ...]
    labels: NDArray[np.int64]
    videos: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str, ...]


def test_table(streams: Sequence[Stream]) -> StreamTable:
    """Return one row per video, in the order of the first stream.

    Raises:
        KinemaError: videos, classes or labels that do not fit, or features of random passes.
    """
    for number, stream in enumerate(streams, start=1):
        if isinstance(stream, Features) and stream.augmented:
            raise KinemaError(
                f"File {number} holds features of random passes, which are for training: fuse the "
                "features of a protocol."
            )
    return _table(streams, align([_stub(stream) for stream in streams]))


test_table.__test__ = False  # type: ignore[attr-defined]  # its name is no test for pytest


def train_table(streams: Sequence[Stream], *, classes: tuple[str, ...]) -> StreamTable:
    """Return the rows to learn from: videos, or all views where they are random passes.

    Args:
        streams: in the order of those that will be fused.
        classes: of these, whose order is taken over.

    Raises:
        KinemaError: videos, classes or labels that do not fit, or passes that were drawn otherwise
            for another stream.
    """
    stubs = [_stub(stream) for stream in streams]
    if set(stubs[0].classes) != set(classes):
        raise KinemaError(
            "The files to train on have other classes than those that are fused: only here "
            f"{listed(sorted(set(stubs[0].classes) - set(classes))) or 'none'}, only there "
            f"{listed(sorted(set(classes) - set(stubs[0].classes))) or 'none'}."
        )
    order = Scores(
        ids=stubs[0].ids,
        values=np.zeros((len(stubs[0].ids), len(classes)), np.float32),
        kind="logits",
        labels=np.full(len(stubs[0].ids), -1),
        classes=classes,
    )
    return _table(streams, align([order, *stubs])[1:])


def unlabelled(
    ids: Sequence[str],
    values: NDArray[np.float32],
    *,
    classes: tuple[str, ...],
    kind: Kind | None,
) -> Stream:
    """Return scores, or features, of videos whose class is unknown.

    Args:
        ids: of the videos.
        values: scores (N, K), or features as in `Features`.
        classes: names of the classes.
        kind: of the scores; None: they are features.
    """
    unknown = np.full(len(ids), -1)
    if kind:
        return Scores(ids=tuple(ids), values=values, kind=kind, labels=unknown, classes=classes)
    return Features(
        ids=tuple(ids),
        values=values,
        labels=unknown,
        view_labels=np.full(values.shape[:2], -1),
        classes=classes,
        map_shape=values.shape[3:-1],
    )


def _stub(stream: Stream) -> Scores:
    """Return scores that stand for a stream where videos and classes are brought in order."""
    if isinstance(stream, Scores):
        return stream
    return Scores(
        ids=stream.ids,
        values=np.zeros((len(stream.ids), len(stream.classes)), np.float32),
        kind="logits",
        labels=stream.labels,
        classes=stream.classes,
    )


def _table(streams: Sequence[Stream], aligned: Sequence[Scores]) -> StreamTable:
    first = aligned[0]
    ids, classes = first.ids, first.classes
    by_view = [s for s in streams if isinstance(s, Features) and s.augmented]
    views = _number_of_views(streams) if by_view else 1
    labels = first.labels.repeat(views)
    for number, passes in enumerate(by_view):
        theirs = _view_labels(passes, ids, classes)
        # The labels of the videos may be those of no mirrored view.
        if number and not np.array_equal(theirs, labels):
            raise KinemaError(
                "The random passes of the streams were not drawn alike: extract all with the same "
                "--seed, --passes and augmentation."
            )
        labels = theirs
    x: list[NDArray[np.float64]] = []
    log_p: list[NDArray[np.float64]] = []
    for stream, stub in zip(streams, aligned, strict=True):
        if isinstance(stream, Features):
            found = _in_order(stream, ids)
            x.append(found.reshape(-1, found.shape[-1]))
        else:
            rows = _log_probabilities(stub)
            log_p.append(rows)
            x.append(np.exp(rows))
    return StreamTable(
        x=tuple(_unit(rows) for rows in x),
        log_p=tuple(log_p) if len(log_p) == len(x) else (),
        labels=labels,
        videos=np.arange(len(ids)).repeat(views),
        ids=ids,
        classes=classes,
    )


def _number_of_views(streams: Sequence[Stream]) -> int:
    counts = {
        stream.values.shape[1] if isinstance(stream, Features) and stream.augmented else 0
        for stream in streams
    }
    if len(counts) > 1 or 0 in counts:
        raise KinemaError(
            "Features of random passes are learned from view by view: all files to train on must "
            "have the same number of random passes (kinema features --augment --passes N)."
        )
    return counts.pop()


def _rows_of(stream: Features, ids: tuple[str, ...]) -> NDArray[np.int64]:
    row_of = {name: row for row, name in enumerate(stream.ids)}
    return np.array([row_of[name] for name in ids], np.int64)


def _view_labels(
    stream: Features, ids: tuple[str, ...], classes: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the labels of all views, as positions in `classes`."""
    known = np.array([*(classes.index(name) for name in stream.classes), -1])
    return known[stream.view_labels[_rows_of(stream, ids)]].ravel()


def _in_order(stream: Features, ids: tuple[str, ...]) -> NDArray[np.float64]:
    """Return features (N, V, D) of random passes, or (N, 1, D): the mean of a protocol's views."""
    found = stream.pooled()[_rows_of(stream, ids)].astype(np.float64)
    return found if stream.augmented else found.mean(1, keepdims=True)


def _log_probabilities(scores: Scores) -> NDArray[np.float64]:
    values = scores.values.astype(np.float64)
    if scores.kind == "logits":
        values = softmax(values)
    values = np.maximum(values, _SMALLEST)
    return np.asarray(np.log(values / values.sum(1, keepdims=True)))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))
