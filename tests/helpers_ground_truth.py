"""Pairs of frames of Middlebury whose flow is known."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

_FOLDER = Path(__file__).parents[2] / "shared" / "data" / "flow_gt"


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """A gray pair (2, H, W), and its flow (2, H, W) where it is known."""

    pair: np.ndarray
    flow: np.ndarray

    def mean_error(self, flow):
        """The mean end-point error of a flow (2, H, W), pixels."""
        known = (np.abs(self.flow) < 1e9).all(axis=0)
        return np.linalg.norm(flow - self.flow, axis=0)[known].mean()


def ground_truth(name):
    """A pair by its name; skips the test where the data are absent."""
    folder = _FOLDER / name
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    pair = np.stack([cv2.imread(str(folder / f"frame{n}.png"), 0) for n in (10, 11)])
    return GroundTruth(pair=pair, flow=_read_flo(folder / "flow10.flo"))


def _read_flo(path):
    content = np.fromfile(path, np.float32)
    width, height = content[1:3].view(np.int32)
    return content[3:].reshape(height, width, 2).transpose(2, 0, 1)
