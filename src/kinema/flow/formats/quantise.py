"""Flow as the 8 bits of older tools, and from them to Kinema's.

They all write round(255 (v + b) / 2b), cut at 0 and 255: motion 0 becomes 127.5, rounded to 128, so
no level stands for exactly no motion. denseflow's png has its own scale for every picture.

Shapes: H, W, 2 components: x (to the right), then y (down); B: blue, green, red.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from kinema.flow.encoding import encode

_WHITE = 255
_HALF = 128  # of denseflow's png: its zero, and the steps of a bound
_LARGEST_STORED = 255


def quantise(flow_2HW: NDArray[np.floating], *, bound: float) -> NDArray[np.uint8]:
    """Return flow in pixels as the tools' uint8 (2, H, W); halves go to the even level."""
    scaled = (flow_2HW.astype(np.float64) + bound) * _WHITE / (2 * bound)
    return np.clip(np.rint(scaled), 0, _WHITE).astype(np.uint8)


def dequantise(levels: NDArray[np.uint8], *, low: float, high: float) -> NDArray[np.float32]:
    """Return the motion in pixels that levels stand for where 0 is `low` and 255 is `high`."""
    motion = levels.astype(np.float32)
    motion *= (high - low) / _WHITE
    motion += low
    return motion


def to_kinema() -> NDArray[np.uint8]:
    """Return the table (256,) from the tools' levels to Kinema's at the same bound.

    Both scales are linear, so the bound does not matter. A value moves by half a grey level at
    most (0.079 pixels at bound 20), on top of the half level that the tool itself had rounded by.
    127 and 128, the levels around zero, both become zero.
    """
    levels = np.arange(256, dtype=np.uint8)
    motion = dequantise(levels, low=-1, high=1)
    table: NDArray[np.uint8] = encode(motion[None, None, None], bound=1).reshape(256)
    return table


def quantise_png(flow_2HW: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return flow in pixels as denseflow's picture (H, W, 3) in the order blue, green, red.

    Blue is x and green y, 128 + v * 128 / bound; red is a quarter of the bound, that of x above
    and that of y below the middle. The bounds are odd multiples of 4 that the longest vector of
    the picture stays within.
    """
    height, width = flow_2HW.shape[1:]
    picture_HWB = np.empty((height, width, 3), np.uint8)
    bounds = []
    for component, side in enumerate((width, height)):
        longest = min(float(np.abs(flow_2HW[component]).max()), side)
        bound = min(4 * _LARGEST_STORED, ceil(longest * _HALF / (_HALF - 1) / 4) * 4)
        bounds.append(bound + 4 if bound % 8 == 0 else bound)
        steps = flow_2HW[component].astype(np.float32) * np.float32(_HALF / bounds[-1])
        picture_HWB[..., component] = np.clip(np.rint(steps + _HALF), 0, _WHITE)
    picture_HWB[: height // 2 + 1, :, 2] = bounds[0] // 4
    picture_HWB[height // 2 + 1 :, :, 2] = bounds[1] // 4
    return picture_HWB


def dequantise_png(picture_HWB: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the flow (2, H, W) in pixels of denseflow's picture (H, W, 3)."""
    bounds = 4 * picture_HWB[[0, -1], 0, 2].astype(np.float32)
    levels_2HW = np.moveaxis(picture_HWB[..., :2], 2, 0).astype(np.float32)
    levels_2HW -= _HALF
    levels_2HW *= (bounds / _HALF)[:, None, None]
    return levels_2HW
