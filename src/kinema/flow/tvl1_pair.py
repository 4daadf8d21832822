"""TV-L1 of one pair: from the coarsest level of the pyramid to the finest.

A level's planes have a row above and one below the picture and columns behind it, all 0, so that
the kernels need no cases for the border, and rows that begin at a cache line.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.flow.tvl1 import MIN_SIDE, Tvl1Settings
from kinema.flow.tvl1_kernel import DATA_PLANES, FLOW_PLANES, INSIDE_ROW, relax
from kinema.flow.tvl1_warp import MARGIN, interleave, linearise, resize

_LINE_BYTES, _LINE_FLOATS = 64, 16  # of a cache line


class PairFlow:
    """Computes the flow of pairs of one size, one after the other, in memory taken once."""

    def __init__(self, height: int, width: int, settings: Tvl1Settings) -> None:
        self._settings = settings
        self._levels = [_Level(height, width, None)]
        for _ in range(settings.scales - 1):
            height, width = (round(side * settings.scale_step) for side in (height, width))
            if min(height, width) < MIN_SIDE:
                break
            self._levels.append(_Level(height, width, self._levels[0]))

    def compute(
        self,
        first_HW: NDArray[np.uint8],
        second_HW: NDArray[np.uint8],
        *,
        out_2HW: NDArray[np.float32],
    ) -> None:
        """Write the flow from the first frame to the second, pixels."""
        finest, coarsest = self._levels[0], self._levels[-1]
        for picture, frame_HW in zip(finest.pictures, (first_HW, second_HW), strict=True):
            picture[1:-1, : finest.size[1]] = frame_HW
        step = 1 / self._settings.scale_step
        for finer, level in zip(self._levels, self._levels[1:], strict=False):
            resize(finer.pictures, level.pictures, (*finer.size, *level.size), (step, step), 1.0)
        coarsest.flow[:] = 0
        coarsest.solve(self._settings)
        for coarser, level in zip(self._levels[:0:-1], self._levels[-2::-1], strict=True):
            (old_height, old_width), (height, width) = coarser.size, level.size
            steps = (old_height / height, old_width / width)
            resize(coarser.flow, level.flow, (*coarser.size, *level.size), steps, step)
            level.flow[2:] = 0
            level.solve(self._settings)
        unit = self._settings.tau / self._settings.theta
        np.multiply(finest.flow[:2, 1:-1, : finest.size[1]], 1 / unit, out=out_2HW)


class _Level:
    """One level of the pyramid; what is only needed while it is worked on is that of the finest."""

    def __init__(self, height: int, width: int, finest: "_Level | None") -> None:
        columns = (-(-width // _LINE_FLOATS) + 1) * _LINE_FLOATS
        self.size = height, width
        self.pictures = _zeros(2, height + 2, columns)
        self.flow = _zeros(FLOW_PLANES, height + 2, columns)
        data_shape = (DATA_PLANES, height + 2, columns)
        image_shape = (height + 2 * MARGIN, width + 2 * MARGIN, 4)
        self._data: NDArray[np.float32]
        self._image_HWC: NDArray[np.float32]
        if finest is None:
            self._data, self._image_HWC = _zeros(*data_shape), _zeros(*image_shape)
        else:
            self._data = _first(finest._data, *data_shape)
            self._image_HWC = _first(finest._image_HWC, *image_shape)
        self._scratch = _zeros(1, INSIDE_ROW + 1, columns + _LINE_FLOATS)
        self._scratch[0, INSIDE_ROW, : width - 1] = 1
        self._places = np.zeros((1, 1, columns), np.int32)

    def solve(self, settings: Tvl1Settings) -> None:
        """Improve the flow by the pictures of this level."""
        unit = settings.tau / settings.theta  # of the kernels' flow
        bound = settings.lambda_ * settings.theta * unit * unit
        numbers = (bound, settings.tau, settings.threshold(*self.size) * unit * unit)
        counts = (settings.outer_iterations, settings.inner_iterations, settings.median > 0)
        interleave(self.pictures, self._image_HWC, self.size)
        for _ in range(settings.warps):
            linearise(
                self.pictures,
                self._image_HWC,
                self.flow,
                self._data,
                self._scratch,
                self._places,
                self.size,
                unit,
            )
            relax(self.flow, self._data, self._scratch, self.size, numbers, counts)


def _first(memory: NDArray[np.float32], *shape: int) -> NDArray[np.float32]:
    """Return the first floats of some memory in that shape."""
    return memory.reshape(-1)[: math.prod(shape)].reshape(shape)


def _zeros(*shape: int) -> NDArray[np.float32]:
    """Return zeros that begin at a cache line."""
    num_bytes = 4 * math.prod(shape)
    memory: NDArray[Any] = np.zeros(num_bytes + _LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % _LINE_BYTES
    return memory[first : first + num_bytes].view(np.float32).reshape(shape)
