"""NumPy files: matrices of two-stream-pytorch (Zhu), view scores of TSN and tsn-pytorch."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.score_formats.safe_pickle import load_pickle
from kinema.score_formats.table import Table, matrix
from kinema.scores import BROKEN_ARRAYS, listed


def read_npy(path: Path) -> Table:
    """Read a matrix (N, K) as two-stream-pytorch saves it: mean logits, in the list's order."""
    with path.open("rb") as handle:
        values = _read_array(handle)
    if values.ndim == 0:
        raise KinemaError("it holds no score matrix but a single value.")
    return Table(values=matrix(list(values), source="NumPy matrix"), source="NumPy matrix")


def read_npz(path: Path) -> Table:
    """Read `scores` and `labels` of TSN: view scores (frame, crop, class) or (label) pairs of them.

    Views are averaged before any softmax. tsn-pytorch has averaged the crops already and orders
    its rows by the sorted names of its list; the Caffe version follows the list.

    Raises:
        KinemaError: another content, or a broken file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "scores.npy" not in names:
                raise KinemaError(
                    f"it holds {listed(names)}, but a score file of TSN holds 'scores'."
                )
            scores = _member(archive, "scores")
            labels = _member(archive, "labels") if "labels.npy" in names else None
    except BROKEN_ARRAYS as error:
        raise KinemaError(f"it is a broken archive ({error}).") from error
    views = [_views_of(row) for row in scores]
    means = [view.mean(axis=tuple(range(view.ndim - 1))) for view in views]
    return Table(
        values=matrix(means, source="TSN file"),
        source="TSN",
        labels=None if labels is None else _labels(labels),
        sorted_rows=all(view.ndim == 3 and view.shape[1] == 1 for view in views),
    )


def _views_of(row: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return the scores of a video without the label that may stand beside them."""
    paired = isinstance(row, (tuple, list)) or (isinstance(row, np.ndarray) and row.dtype == object)
    try:
        return np.atleast_1d(np.asarray(row[0] if paired else row, np.float64))
    except (TypeError, ValueError) as error:
        raise KinemaError(f"its scores are not numbers ({error}).") from error


def _labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    try:
        return np.array([int(np.asarray(label).item()) for label in labels], np.int64)
    except (TypeError, ValueError) as error:
        raise KinemaError(f"its labels are not whole numbers ({error}).") from error


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as handle:
        return _read_array(handle)


def _read_array(handle: IO[bytes]) -> NDArray[Any]:
    """Read one `.npy`; object arrays, which are pickles, go through the restricted reader."""
    try:
        version = npy.read_magic(handle)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(handle)
        if dtype.hasobject:
            return np.asarray(load_pickle(handle)).reshape(shape)
        handle.seek(0)
        array: NDArray[Any] = npy.read_array(handle, allow_pickle=False)
    except BROKEN_ARRAYS as error:
        raise KinemaError(f"it is not a NumPy file that can be read ({error}).") from error
    return array
