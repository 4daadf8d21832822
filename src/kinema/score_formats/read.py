"""Any score file in: Kinema's own, and those of other systems with the lists that they need."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.score_formats.arrays import read_npy, read_npz
from kinema.score_formats.listing import (
    Listing,
    key,
    label_from_name,
    read_classes,
    read_listing,
)
from kinema.score_formats.matlab import read_mat
from kinema.score_formats.pickles import read_pickle
from kinema.score_formats.results_json import read_results_json
from kinema.score_formats.table import Table, are_probabilities
from kinema.scores import BROKEN_ARRAYS, Kind, Scores, listed, load_scores

_HEAD_BYTES = 64


def read_any_scores(
    path: Path, *, ids: Path | None = None, classes: Path | None = None, kind: Kind | None = None
) -> Scores:
    """Read a score file of any supported system; the format is seen from the content.

    Nothing that a file contains is executed. A score file of Kinema is complete and needs none
    of the other arguments.

    Args:
        path: the score file.
        ids: the list of its videos (see `listing.read_listing`). Matrices need it, in the order
            of their rows; where a file has names, it gives the ids, the order and the labels.
        classes: the class names in the order of the columns.
        kind: what the scores are, where the format does not say it and the values mislead.

    Raises:
        KinemaError: an unknown or broken format, code in a pickle, or lists that do not fit.
    """
    if not path.is_file():
        raise KinemaError(f"There is no score file {path}.")
    with path.open("rb") as handle:
        head = handle.read(_HEAD_BYTES)
    if _is_own(path, head):
        return load_scores(path)
    try:
        names = read_classes(classes) if classes else None
        return _completed(_read_table(path, head, names), ids, names, kind)
    except KinemaError as error:
        raise KinemaError(f"{path}: {error}") from error


def _is_own(path: Path, head: bytes) -> bool:
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "format.npy" in archive.namelist()
    except BROKEN_ARRAYS as error:
        raise KinemaError(f"{path} is a broken .npz file ({error}). Make it again.") from error


def _read_table(path: Path, head: bytes, classes: tuple[str, ...] | None) -> Table:
    if head.startswith(b"PK"):
        return read_npz(path)
    if head.startswith(b"\x93NUMPY"):
        return read_npy(path)
    if head.startswith(b"MATLAB"):
        return read_mat(path)
    if head.lstrip()[:1] in (b"{", b"["):
        return read_results_json(path, classes=classes)
    if head[:1] in (b"\x80", b"(", b"}", b"]", b"c"):
        return read_pickle(path)
    if path.suffix == ".safetensors":
        raise KinemaError(
            "it holds features or a network, no scores. Features are fused by --method svm or mlp "
            "with --train-on; a checkpoint is tested first (`kinema test`)."
        )
    raise KinemaError(
        "it is not a score file of a known system: .npz, .npy, pickles, .preds, results as JSON "
        "and MATLAB matrices are read."
    )


def _completed(
    table: Table, ids: Path | None, classes: tuple[str, ...] | None, kind: Kind | None
) -> Scores:
    """Add ids, labels and class names, and say what kind the scores are."""
    table = _oriented(table, classes)
    num_videos, num_classes = table.values.shape
    names = classes or table.classes or tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise KinemaError(
            f"there are {num_classes} scores per video, but {len(names)} class names."
        )
    listing = read_listing(ids, classes=names) if ids else None
    if listing is None:
        if table.ids is None:
            raise KinemaError(
                f"a {table.source} has no names of videos: give the list of its {num_videos} "
                "videos, in the order of the rows (--ids LIST)."
            )
        own = np.array([label_from_name(name, classes=names) for name in table.ids], np.int64)
        video_ids, rows, labels = table.ids, np.arange(num_videos), own
    elif table.ids is None:
        video_ids, rows, labels = _by_order(table, listing)
    else:
        video_ids, rows, labels = _by_name(table.ids, listing)
    if table.labels is not None:
        labels = _merged(table.labels[rows], labels, video_ids)
    judged: Kind = "probabilities" if are_probabilities(table.values) else "logits"
    return Scores(
        ids=video_ids,
        values=table.values[rows].astype(np.float32),
        kind=kind or table.kind or judged,
        labels=labels,
        classes=names,
        protocol=f"imported from {table.source}",
    )


def _oriented(table: Table, classes: tuple[str, ...] | None) -> Table:
    """Turn a matrix with the classes in its rows, where their number shows it."""
    num_rows, num_columns = table.values.shape
    if table.may_be_transposed and classes and len(classes) == num_rows != num_columns:
        return replace(table, values=table.values.T)
    return table


_Placed = tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]  # ids, rows, labels


def _by_order(table: Table, listing: Listing) -> _Placed:
    """Match rows and lines by their order; tsn-pytorch follows the sorted names of the list."""
    num_videos = len(table.values)
    if len(listing.ids) != num_videos or not listing.complete:
        raise KinemaError(
            f"there are {num_videos} rows of scores, but the list has {len(listing.ids)} videos: "
            "give the list with which the scores were made."
        )
    rows = np.arange(num_videos)
    if table.sorted_rows:
        by_name = np.argsort(np.array(sorted(rows, key=lambda i: listing.paths[i])))
        if table.labels is None or _agree(table.labels[by_name], listing.labels):
            rows = by_name
    return listing.ids, rows, listing.labels


def _by_name(names: tuple[str, ...], listing: Listing) -> _Placed:
    """Find the row of each listed video by name."""
    row_of = _by_key(names, "the score file")
    place_of = _by_key(listing.paths, "the list")
    if unlisted := [names[row] for name, row in row_of.items() if name not in place_of]:
        raise KinemaError(f"these videos are not in the list: {listed(unlisted)}.")
    missing = [listing.ids[place] for name, place in place_of.items() if name not in row_of]
    if missing and listing.complete:
        raise KinemaError(f"these videos of the list have no scores: {listed(missing)}.")
    places = [place for name, place in place_of.items() if name in row_of]
    rows = np.array([row_of[key(listing.paths[place])] for place in places], np.int64)
    return tuple(listing.ids[place] for place in places), rows, listing.labels[places]


def _by_key(names: tuple[str, ...], where: str) -> dict[str, int]:
    """Return the position of each name by its key; two of one key are an error."""
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        if found.setdefault(key(name), position) != position:
            other = names[found[key(name)]]
            raise KinemaError(f"'{other}' and '{name}' in {where} are the same video.")
    return found


def _agree(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return not ((one >= 0) & (other >= 0) & (one != other)).any()


def _merged(
    inside: NDArray[np.int64], outside: NDArray[np.int64], ids: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the labels of the file, completed from the list."""
    if not _agree(inside, outside):
        clash = np.flatnonzero((inside >= 0) & (outside >= 0) & (inside != outside))
        names = listed(ids[i] for i in clash)
        raise KinemaError(
            f"the labels in the file are not those of the list for {names}. Give the list and "
            "the classes with which the scores were made."
        )
    return np.where(inside >= 0, inside, outside)
