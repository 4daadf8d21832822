"""Pickled features of two-stream-action-recognition (Elkomy): 19 frames per video, no names."""

from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import KinemaError
from kinema.features import Features, load_features
from kinema.score_formats.listing import read_classes, read_listing
from kinema.score_formats.safe_pickle import load_pickle


def are_features(path: Path) -> bool:
    """Tell whether a file holds features and not scores (a pickle is read to see it)."""
    if path.suffix == ".safetensors":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        if handle.read(1) not in (b"\x80", b"("):
            return False
        handle.seek(0)
        try:
            return _is_pair(load_pickle(handle))
        except KinemaError:
            return False  # who reads the scores says what is wrong


def read_any_features(
    path: Path, *, ids: Path | None = None, classes: Path | None = None
) -> Features:
    """Read a feature file of Kinema, or such a pickle: (float32 (N, T, D), float32 (N,)).

    Nothing that a pickle contains is executed. Its rows are named by their numbers after the part
    that the name of the file begins with (``train_features_spatial.pickle``: ``train/0``), so that
    streams of a part fit each other, unless a list is given.

    Args:
        path: the file.
        ids: list of the videos of a pickle in the order of its rows; labels that it holds must be
            those of the file.
        classes: their class names, in order; else the numbers.

    Raises:
        KinemaError: another content, or lists that do not fit.
    """
    if path.suffix == ".safetensors":
        return load_features(path)
    if not path.is_file():
        raise KinemaError(f"There is no feature file {path}.")
    with path.open("rb") as handle:
        try:
            content = load_pickle(handle)
        except KinemaError as error:
            raise KinemaError(f"{path}: {error}") from error
    if not _is_pair(content):
        raise KinemaError(
            f"{path} holds no features: a pair of arrays, (videos, frames, features) and (videos,) "
            "for the labels, is expected, or a file of `kinema features`."
        )
    values, labels = content[0], content[1].astype(np.int64)
    known = read_classes(classes) if classes else tuple(map(str, range(int(labels.max()) + 1)))
    part = path.name.split("_features")[0]
    names = tuple(f"{part}/{row}" for row in range(len(labels)))
    if ids:
        listing = read_listing(ids, classes=known)
        if len(listing.ids) != len(labels):
            raise KinemaError(f"{path} has {len(labels)} rows, {ids} {len(listing.ids)} videos.")
        if ((listing.labels >= 0) & (listing.labels != labels)).any():
            raise KinemaError(f"The labels in {path} are not those of {ids}: another order?")
        names = listing.ids
    return Features(
        ids=names,
        values=np.ascontiguousarray(values[:, None], np.float32),
        labels=labels,
        view_labels=labels[:, None],
        classes=known,
        protocol="imported from Elkomy's features",
    )


def _is_pair(content: Any) -> bool:  # noqa: ANN401
    return (
        isinstance(content, (tuple, list))
        and len(content) == 2
        and all(isinstance(part, np.ndarray) and part.dtype.kind == "f" for part in content)
        and (content[0].ndim, content[1].ndim) == (3, 1)
        and len(content[0]) == len(content[1]) > 0
    )
