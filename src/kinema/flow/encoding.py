"""Flow as 8-bit pictures: a fixed bound, linear, and zero exactly representable.

    q = round(clip(v * 127 / bound, -127, 127)) + 128        v = (q - 128) * bound / 127

One grey level is bound / 127 pixels per frame (0.157 at the default bound of 20). Zero is 128,
the bounds are 1 and 255, and 256 - q is the opposite motion. Vectors are in pixels of the picture
that is stored: frames are resized before their flow is computed.

Shapes: T pairs, H, W, 2 components: x (to the right), then y (down).
"""

import numpy as np
from numpy.typing import NDArray

DEFAULT_BOUND = 20.0  # pixels per frame, the value of dense_flow and TSN
ZERO = 128
_LEVELS = 127


def encode(flow_T2HW: NDArray[np.float32], *, bound: float = DEFAULT_BOUND) -> NDArray[np.uint8]:
    """Return flow in pixels per frame as uint8 (T, H, W, 2); longer motion is cut at `bound`.

    The memory of the result is planar (x, then y), as a store and a network want it.
    """
    scaled = flow_T2HW * np.float32(_LEVELS / bound)
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
