"""Flow as 8-bit pictures: a bound, linear, and zero exactly representable.

    q = round(clip(v * 127 / bound, -127, 127)) + 128        v = (q - 128) * bound / 127

One grey level is bound / 127 pixels per frame (0.157 at the default bound of 20). Zero is 128,
the bounds are 1 and 255, and 256 - q is the opposite motion. Vectors are in pixels of the picture
that is stored: frames are resized before their flow is computed. At a stride of s frames they are
pixels per s frames.

Shapes: T pairs, H, W, 2 components: x (to the right), then y (down).
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

DEFAULT_BOUND = 20.0  # pixels per frame, the value of dense_flow and TSN
ZERO = 128
_LEVELS = 127
_QUANTILE = 0.999
_STEP = 0.5  # pixels


def encode(flow_T2HW: NDArray[np.floating], *, bound: float = DEFAULT_BOUND) -> NDArray[np.uint8]:
    """Return flow in pixels per frame as uint8 (T, H, W, 2); longer motion is cut at `bound`.

    The memory of the result is planar (x, then y), as a store and a network want it.
    """
    scaled: NDArray[np.float32] = np.multiply(
        flow_T2HW, np.float32(_LEVELS / bound), dtype=np.float32
    )
    np.rint(scaled, out=scaled)
    np.clip(scaled, -_LEVELS, _LEVELS, out=scaled)
    scaled += ZERO
    return np.moveaxis(scaled.astype(np.uint8), 1, 3)


def decode(pairs_THW2: NDArray[np.uint8], *, bound: float = DEFAULT_BOUND) -> NDArray[np.float32]:
    """Return stored flow as float32 (T, 2, H, W), pixels per frame."""
    levels = np.moveaxis(pairs_THW2, 3, 1).astype(np.float32)
    levels -= ZERO
    levels *= np.float32(bound / _LEVELS)
    return levels


def rescaling(held: float, asked: float) -> NDArray[np.uint8]:
    """Return the table (256,) that brings flow encoded at one bound to another.

    Zero stays zero. To a larger bound it costs resolution, to a smaller one it cuts long motion.
    """
    levels: NDArray[np.float64] = np.rint((np.arange(256) - ZERO) * (held / asked))
    return (levels.clip(-_LEVELS, _LEVELS) + ZERO).astype(np.uint8)


class BoundFinder:
    """Finds a video's own bound while its flow passes: 99.9 % of all components are within it.

    The largest component would be the wrong measure: one wrong vector at the picture's edge, of
    which every algorithm makes some, would coarsen the scale of the whole video. The bound is
    rounded up to half a pixel, and is half a pixel for a video that stands still.

    Components are counted by their 16-bit floats: exact, in memory that does not grow.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(1 << 15, np.int64)  # by the bits of a float16 without its sign

    def add(self, flow_2HW: NDArray[np.float16]) -> None:
        """Count one pair."""
        magnitudes = flow_2HW.view(np.uint16).ravel() & 0x7FFF
        self._counts += np.bincount(magnitudes, minlength=len(self._counts))

    def bound(self) -> float:
        """Return the bound of all pairs so far, in pixels per stride."""
        counts = np.cumsum(self._counts)
        position = int(np.searchsorted(counts, ceil(_QUANTILE * int(counts[-1]))))
        magnitude = float(np.array(position, np.uint16).view(np.float16))
        return max(_STEP, ceil(magnitude / _STEP) * _STEP)


def half(flow_2HW: NDArray[np.floating]) -> NDArray[np.float16]:
    """Return flow in 16 bits: to 1/2048 of its length, far finer than a grey level."""
    clipped_2HW: NDArray[np.floating] = np.clip(flow_2HW, -60000, 60000)
    return clipped_2HW.astype(np.float16)
