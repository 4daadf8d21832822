"""Score files: what one stream said about every video, with all that is needed to use it later.

Shapes: N videos, K classes.
"""

import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.files import replacing

Kind = Literal["logits", "probabilities"]

FORMAT = "kinema-scores-1"
BROKEN_ARRAYS = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""All that NumPy and zipfile raise for damaged files."""
_LISTED = 5
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The scores of one stream, one row per video.

    Attributes:
        ids: one name per video, all different; streams are joined by them.
        values: float32 (N, K).
        kind: ``logits`` (any number) or ``probabilities`` (not negative, rows sum to at most 1).
        labels: int64 (N,), positions in `classes`; -1 where the true class is unknown.
        classes: K names, all different.
        protocol: how the video was shown to the network.
        checkpoint: hash of the network's file.
        clip_top1: share of single clips that were right, where that is known.
        fusion: how streams were fused, where that was learned (JSON).

    Raises:
        KinemaError: shapes, ids, labels or classes that do not fit each other, or a value that is
            not finite.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float32]
    kind: Kind
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    protocol: str = ""
    checkpoint: str = ""
    clip_top1: float | None = None
    fusion: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, np.float32))
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, np.int64))
        _check_shapes(self)
        _check_names(self)
        _check_values(self)


def listed(names: Iterable[str]) -> str:
    """Return the first few names, and how many there are where that is more, for a message."""
    names = list(names)
    text = ", ".join(islice(names, _LISTED))
    return text if len(names) <= _LISTED else f"{text}, … ({len(names)} in all)"


def _check_shapes(scores: Scores) -> None:
    shape = (len(scores.ids), len(scores.classes))
    if 0 in shape:
        raise KinemaError("Scores need at least one video and one class.")
    if scores.values.shape != shape:
        raise KinemaError(
            f"The scores have the shape {scores.values.shape}, but there are {shape[0]} videos "
            f"and {shape[1]} classes: {shape} is expected."
        )
    if scores.labels.shape != shape[:1]:
        raise KinemaError(
            f"There are {shape[0]} videos, but the labels have the shape {scores.labels.shape}: "
            "one label per video is expected (-1 where it is unknown)."
        )


def _check_names(scores: Scores) -> None:
    for what, names in (("video ids", scores.ids), ("classes", scores.classes)):
        if len(set(names)) < len(names):
            doubled = sorted(name for name, count in Counter(names).items() if count > 1)
            raise KinemaError(f"These {what} occur more than once: {listed(doubled)}.")
    num_classes = len(scores.classes)
    wrong = np.flatnonzero((scores.labels < -1) | (scores.labels >= num_classes))
    if wrong.size:
        raise KinemaError(
            f"Label {scores.labels[wrong[0]]} of '{scores.ids[wrong[0]]}' is not a class: with "
            f"{num_classes} classes 0 to {num_classes - 1} are allowed, and -1 for unknown."
        )


def _check_values(scores: Scores) -> None:
    broken = np.flatnonzero(~np.isfinite(scores.values).all(1))
    if broken.size:
        raise KinemaError(
            f"Scores that are not finite numbers for {listed(scores.ids[i] for i in broken)}. "
            "Test these videos again."
        )
    if scores.kind not in get_args(Kind):
        raise KinemaError(f"Scores are logits or probabilities, not '{scores.kind}'.")
    if scores.kind == "probabilities":
        bad = (scores.values < 0).any(1) | (scores.values.sum(1) > 1 + _SUM_TOLERANCE)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise KinemaError(
                f"The scores of {int(bad.sum())} videos are called probabilities but are negative "
                f"or sum to more than 1 (first: '{scores.ids[first]}', sum "
                f"{scores.values[first].sum():.4g}). Call them logits, or divide each row by its "
                "sum."
            )


def save_scores(scores: Scores, path: Path) -> None:
    """Write a score file (`.npz` without pickled objects), whole or not at all.

    The same scores always give the same bytes.
    """
    clip_top1 = np.nan if scores.clip_top1 is None else scores.clip_top1
    learned: dict[str, Any] = {"fusion": np.array(scores.fusion)} if scores.fusion else {}
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle,
            format=np.array(FORMAT),
            ids=np.array(scores.ids),
            values=scores.values,
            kind=np.array(scores.kind),
            labels=scores.labels,
            classes=np.array(scores.classes),
            protocol=np.array(scores.protocol),
            checkpoint=np.array(scores.checkpoint),
            clip_top1=np.array(clip_top1),
            **learned,
        )


def load_scores(path: Path) -> Scores:
    """Read a score file that `save_scores` wrote; nothing pickled is ever loaded.

    Raises:
        KinemaError: no such file, another kind of file, or contents that do not fit together.
    """
    if not path.is_file():
        raise KinemaError(f"There is no score file {path}.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["format"]) != FORMAT:
                raise KinemaError(
                    f"{path} has the format '{arrays['format']}', this version reads '{FORMAT}'."
                )
            clip_top1 = float(arrays["clip_top1"])
            return Scores(
                ids=tuple(arrays["ids"].tolist()),
                values=arrays["values"],
                kind=str(arrays["kind"]),  # type: ignore[arg-type]
                labels=arrays["labels"],
                classes=tuple(arrays["classes"].tolist()),
                protocol=str(arrays["protocol"]),
                checkpoint=str(arrays["checkpoint"]),
                clip_top1=None if np.isnan(clip_top1) else clip_top1,
                fusion=str(arrays["fusion"]) if "fusion" in arrays else "",
            )
    except KinemaError as error:
        raise KinemaError(f"{path}: {error}") from error
    except BROKEN_ARRAYS as error:
        raise KinemaError(
            f"{path} is not a score file of Kinema ({error}). `kinema fuse` and `kinema compare` "
            "also read the score files of other systems."
        ) from error


def align(streams: Sequence[Scores]) -> tuple[Scores, ...]:
    """Bring all streams to the videos and classes of the first, in its order.

    Rows are joined by id, columns by class name. A label that one stream does not know is taken
    from another one.

    Raises:
        KinemaError: a video that a stream lacks, another set of classes, or labels that disagree.
    """
    first = streams[0]
    aligned = [first, *(_aligned(other, first, i + 2) for i, other in enumerate(streams[1:]))]
    labels = first.labels.copy()
    for number, stream in enumerate(aligned, start=1):
        clash = (labels >= 0) & (stream.labels >= 0) & (labels != stream.labels)
        if clash.any():
            names = listed(first.ids[i] for i in np.flatnonzero(clash))
            raise KinemaError(
                f"Score file {number} gives other labels than those before it for {names}. "
                "All files must come from the same list of videos and classes."
            )
        labels = np.where(labels >= 0, labels, stream.labels)
    return tuple(replace(stream, labels=labels) for stream in aligned)


def _aligned(other: Scores, first: Scores, number: int) -> Scores:
    if other.ids == first.ids and other.classes == first.classes:
        return other
    columns = _columns(other, first, number)
    row_of = {name: row for row, name in enumerate(other.ids)}
    missing = [name for name in first.ids if name not in row_of]
    surplus = sorted(set(other.ids) - set(first.ids))
    if missing or surplus:
        parts = [f"lacks {listed(missing)}"] if missing else []
        parts += [f"alone has {listed(surplus)}"] if surplus else []
        raise KinemaError(
            f"Score file {number} does not hold the same videos as file 1: it "
            f"{' and '.join(parts)}. Test all streams on the same videos."
        )
    rows = np.array([row_of[name] for name in first.ids])
    new_label = np.append(np.argsort(columns), -1)  # the last one serves label -1
    return replace(
        other,
        ids=first.ids,
        classes=first.classes,
        values=other.values[np.ix_(rows, columns)],
        labels=new_label[other.labels[rows]],
    )


def _columns(other: Scores, first: Scores, number: int) -> NDArray[np.int64]:
    """Return for each class of `first` its column in `other`."""
    if set(other.classes) != set(first.classes):
        ours, theirs = set(first.classes), set(other.classes)
        raise KinemaError(
            f"Score file {number} has other classes than file 1 ({len(theirs)} and {len(ours)}): "
            f"only in file 1: {listed(sorted(ours - theirs)) or 'none'}; "
            f"only in file {number}: {listed(sorted(theirs - ours)) or 'none'}."
        )
    position = {name: column for column, name in enumerate(other.classes)}
    return np.array([position[name] for name in first.classes], np.int64)
