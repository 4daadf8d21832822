"""Farneback flow: Two-Frame Motion Estimation Based on Polynomial Expansion (2003), in OpenCV."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def farneback(
    frames_THW: NDArray[np.uint8],
    *,
    pyramid_scale: float,
    levels: int,
    window: int,
    iterations: int,
    neighbourhood: int,
    sigma: float,
) -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames, pixels per frame.

    Args:
        frames_THW: gray frames.
        pyramid_scale: size of a pyramid level in proportion to the one below.
        levels: of the pyramid.
        window: side of the averaging window, pixels.
        iterations: on every level.
        neighbourhood: side of the patch that a polynomial is fitted to, pixels.
        sigma: of the Gaussian weight of that patch, pixels.
    """
    flow_T2HW = np.empty((len(frames_THW) - 1, 2, *frames_THW.shape[1:]), np.float32)
    no_start: Any = None  # OpenCV's annotations forget that there may be no first guess
    for pair, flow_2HW in enumerate(flow_T2HW):
        flow_HW2 = cv2.calcOpticalFlowFarneback(
            frames_THW[pair],
            frames_THW[pair + 1],
            no_start,
            pyramid_scale,
            levels,
            window,
            iterations,
            neighbourhood,
            sigma,
            0,
        )
        flow_2HW[...] = np.moveaxis(flow_HW2, 2, 0)
    return flow_T2HW
