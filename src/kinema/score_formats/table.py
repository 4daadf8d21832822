"""What a foreign score file holds, before names and labels are added to it.

Shapes: N videos, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.scores import Kind

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A score matrix with as much about it as its file says.

    Attributes:
        values: float64 (N, K).
        source: the system whose format it is.
        ids: one per row, where the file has them.
        labels: int64 (N,), -1 unknown, where the file has them.
        classes: K names, where the file has them.
        kind: where the format fixes it; else it is judged from the values.
        sorted_rows: rows follow the sorted names of the list, not its lines.
        may_be_transposed: classes may be the rows.
    """

    values: NDArray[np.float64]
    source: str
    ids: tuple[str, ...] | None = None
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    kind: Kind | None = None
    sorted_rows: bool = False
    may_be_transposed: bool = False


def matrix(rows: Sequence[Any], *, source: str) -> NDArray[np.float64]:
    """Stack one vector of scores per video; axes of length one are dropped.

    Raises:
        KinemaError: no rows, rows of different lengths, or something else than numbers.
    """
    try:
        vectors = [np.asarray(row, np.float64).squeeze() for row in rows]
    except (TypeError, ValueError) as error:
        raise KinemaError(f"the scores of this {source} are not numbers ({error}).") from error
    lengths = {vector.shape for vector in vectors}
    if len(lengths) != 1 or vectors[0].ndim != 1:
        shapes = ", ".join(str(shape) for shape in sorted(lengths)[:3]) or "no rows"
        raise KinemaError(
            f"this {source} must hold one vector of class scores per video, all of the same "
            f"length; it has {shapes}."
        )
    return np.stack(vectors)


def are_probabilities(values: NDArray[np.float64]) -> bool:
    """Say whether every row is a distribution: not negative, with the sum 1."""
    return bool((values >= 0).all() and (abs(values.sum(1) - 1) < _SUM_TOLERANCE).all())
