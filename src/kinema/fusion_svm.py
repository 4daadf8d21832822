"""Fusion by a linear SVM on stacked scores or features (Simonyan and Zisserman 2014)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.fusion_tables import StreamTable


@dataclass(frozen=True, kw_only=True, eq=False)
class FusionSvm:
    """A fitted machine, as plain numbers.

    Attributes:
        coefficients: float64 (machines, D); one machine where there are two classes.
        intercept: float64 (machines,).
        seen: int64, the classes that it has learned, as positions.
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    seen: NDArray[np.int64]

    def decisions(self, table: StreamTable) -> NDArray[np.float64]:
        """Return float64 (R, K); classes that it never saw are below all others."""
        found = np.hstack(table.x) @ self.coefficients.T + self.intercept
        if found.shape[1] == 1:  # two classes: one number
            found = np.hstack([-found, found])
        whole = np.repeat(found.min(1, keepdims=True) - 1, len(table.classes), 1)
        whole[:, self.seen] = found
        return whole

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, by name."""
        return {"coefficients": self.coefficients, "intercept": self.intercept, "seen": self.seen}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "FusionSvm":
        """Return the machine of what `arrays` gave."""
        return cls(
            coefficients=arrays["coefficients"],
            intercept=arrays["intercept"],
            seen=arrays["seen"],
        )


def fit_svm(table: StreamTable, *, c: float, seed: int) -> FusionSvm:
    """Fit one-versus-rest linear machines with squared hinge loss and the penalty `c`.

    Raises:
        KinemaError: scikit-learn is not installed, or there is only one class.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise KinemaError(
            "Fusion by an SVM needs scikit-learn: pip install 'kinema[svm]', or choose another "
            "--method."
        ) from error
    seen = np.unique(table.labels)
    if len(seen) < 2:
        raise KinemaError("The videos to train on are all of one class: an SVM needs two at least.")
    machine = LinearSVC(C=c, dual="auto", random_state=seed, max_iter=10_000)
    machine.fit(np.hstack(table.x), table.labels)
    return FusionSvm(
        coefficients=np.ascontiguousarray(machine.coef_, np.float64),
        intercept=np.ascontiguousarray(machine.intercept_, np.float64),
        seen=seen,
    )
