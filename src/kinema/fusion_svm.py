"""Fusion by a linear SVM on stacked scores or features (Simonyan and Zisserman 2014)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.fusion_tables import StreamTable


@dataclass(frozen=True, kw_only=True)
class FusionSvm:
    """A fitted machine; `seen` are the classes that it has learned, as positions."""

    machine: Any
    seen: NDArray[np.int64]

    def decisions(self, table: StreamTable) -> NDArray[np.float64]:
        """Return float64 (R, K); classes that it never saw are below all others."""
        found = np.asarray(self.machine.decision_function(np.hstack(table.x)), np.float64)
        if found.ndim == 1:  # two classes: one number
            found = np.stack([-found, found], 1)
        whole = np.repeat(found.min(1, keepdims=True) - 1, len(table.classes), 1)
        whole[:, self.seen] = found
        return whole


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
    return FusionSvm(machine=machine, seen=seen)
