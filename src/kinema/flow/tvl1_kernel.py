"""The iterations of TV-L1: all that takes time, row by row, as vector instructions.

The flow u is kept in units of theta / tau pixels, and the dual field p as tau times what the paper
calls p: that saves multiplications. One iteration is: u from the data and the divergence of p
(thresholding step and Chambolle's step in one), then p from the gradient of the new u.

An iteration may touch row y as soon as the one before has finished row y+1. So a few iterations go
through the picture together, one row apart, and find their rows in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from kinema.flow.tvl1_median import median5
from kinema.flow.tvl1_numba import Planes, Row, Rows, Size, at, distinct, kernel, part

UX, UY, PXX, PXY, PYX, PYY = range(6)  # planes of `flow`
FLOW_PLANES, DATA_PLANES = 6, 4
INSIDE_ROW = 12  # of `scratch`
_TOGETHER = 6  # iterations that go through the picture together, at most
_ONE = np.float32(1)


@kernel
def relax(
    flow: Planes,
    data: Planes,
    scratch: Planes,
    size: Size,
    numbers: tuple[float, float, float],
    counts: tuple[int, int, bool],
) -> int:
    """Iterate until the flow changes less than asked, or to the end; return the iterations done.

    Args:
        flow: (FLOW_PLANES, H+2, columns), columns a multiple of 16 above W; 0 around the picture.
        data: (DATA_PLANES, H+2, columns), what `linearise` wrote.
        scratch: (1, 13, columns + 16), overwritten but for row 12: 1 in the columns 0 to W-2,
            0 in the others.
        size: H and W.
        numbers: the largest step along the gradient; tau; the sum of squared changes to stop at.
        counts: outer iterations, inner iterations, whether the median is taken.
    """
    outer, inner, has_median = counts
    limit = numbers[2]
    changes = np.zeros(_TOGETHER)
    total = 0
    before = change = np.inf
    for _ in range(outer):
        if has_median:
            median5(flow, UX, scratch, size)
            median5(flow, UY, scratch, size)
        done = 0
        while done < inner and change > limit:
            together = min(_until_next_look(before, change, limit), inner - done)
            _sweep(flow, data, scratch, size, numbers, together, changes)
            before = changes[together - 2] if together > 1 else change
            change = changes[together - 1]
            done += together
        total += done
        if change <= limit:
            break
    return total


@part
def _until_next_look(before: float, change: float, limit: float) -> int:
    """Return how many iterations to do at once: half of what the last two changes say are left."""
    if not change < before:
        return 1
    ratio = change / before
    left = 1
    while left < 2 * _TOGETHER and change * ratio ** (left + 1) > limit:
        left += 1
    return max(1, left // 2)


@part
def _sweep(
    flow: Planes,
    data: Planes,
    scratch: Planes,
    size: Size,
    numbers: tuple[float, float, float],
    together: int,
    changes: NDArray[np.float64],
) -> None:
    """Do `together` iterations; write the sum of squared changes of u of each."""
    height, width = size
    whole = (width + 15) // 16 * 16
    inside = at(scratch, 0, INSIDE_ROW, 0)
    bound, tau = np.float32(numbers[0]), np.float32(numbers[1])
    changes[:] = 0
    for front in range(1, height + together + 1):
        for iteration in range(max(0, front - height - 1), min(together, front)):
            y = front - iteration
            if y == 1:
                changes[iteration] += _first_row(_row_of(flow, 1), _row_of(data, 1), bound, whole)
            elif y <= height:
                beside = (
                    at(flow, PXX, y, -1),
                    at(flow, PYX, y, -1),
                    at(flow, UX, y - 1, 1),
                    at(flow, UY, y - 1, 1),
                    inside,
                )
                row, above, terms = _row_of(flow, y), _row_of(flow, y - 1), _row_of(data, y)
                changes[iteration] += _row(row, above, terms, beside, (bound, tau), whole)
            else:
                _last_row(_row_of(flow, height), inside, tau, whole)


@part
def _row_of(planes: Planes, y: int) -> Rows:
    """Return row y of the first six planes; of the last plane again where there are fewer."""
    last = len(planes) - 1
    return (
        at(planes, 0, y, 0),
        at(planes, 1, y, 0),
        at(planes, 2, y, 0),
        at(planes, 3, y, 0),
        at(planes, min(4, last), y, 0),
        at(planes, min(5, last), y, 0),
    )


@part
def _row(
    row: Rows,
    above: Rows,
    terms: Rows,
    beside: Rows,
    numbers: tuple[np.float32, np.float32],
    width: int,
) -> np.float32:
    """Update u in a row and p in the row above; return the sum of the squared changes of u."""
    distinct()
    bound, tau = numbers
    u_x, u_y, pxx, pxy, pyx, pyy = row
    above_u_x, above_u_y, above_pxx, above_pxy, above_pyx, above_pyy = above
    w_x, w_y, rho, slope, _, _ = terms
    left_pxx, left_pyx, right_u_x, right_u_y, inside = beside
    change: np.float32 = np.float32(0)
    for x in range(width):
        step = (rho[x] + w_x[x] * u_x[x] + w_y[x] * u_y[x]) * slope[x]
        step = min(max(step, -bound), bound)
        change_x = step * w_x[x] + ((pxx[x] - left_pxx[x]) + (pxy[x] - above_pxy[x]))
        change_y = step * w_y[x] + ((pyx[x] - left_pyx[x]) + (pyy[x] - above_pyy[x]))
        change += change_x * change_x + change_y * change_y
        new_x, new_y = u_x[x] + change_x, u_y[x] + change_y
        u_x[x], u_y[x] = new_x, new_y
        here = above_u_x[x]
        across, down = (right_u_x[x] - here) * inside[x], new_x - here
        above_pxx[x], above_pxy[x] = _ascent(above_pxx[x], above_pxy[x], across, down, tau)
        here = above_u_y[x]
        across, down = (right_u_y[x] - here) * inside[x], new_y - here
        above_pyx[x], above_pyy[x] = _ascent(above_pyx[x], above_pyy[x], across, down, tau)
    return change


@part
def _ascent(
    p_x: np.float32, p_y: np.float32, across: np.float32, down: np.float32, tau: np.float32
) -> tuple[np.float32, np.float32]:
    """Return p after a step along the gradient of u."""
    shrink = _ONE / (_ONE + np.sqrt(across * across + down * down))
    return (p_x + tau * across) * shrink, (p_y + tau * down) * shrink


@part
def _first_row(row: Rows, terms: Rows, bound: np.float32, width: int) -> np.float32:
    """Update u in the first row, which has no p above it."""
    distinct()
    u_x, u_y, pxx, pxy, pyx, pyy = row
    w_x, w_y, rho, slope, _, _ = terms
    change: np.float32 = np.float32(0)
    for x in range(width):
        step = (rho[x] + w_x[x] * u_x[x] + w_y[x] * u_y[x]) * slope[x]
        step = min(max(step, -bound), bound)
        change_x = step * w_x[x] + (pxx[x] - pxx[x - 1]) + pxy[x]
        change_y = step * w_y[x] + (pyx[x] - pyx[x - 1]) + pyy[x]
        u_x[x] += change_x
        u_y[x] += change_y
        change += change_x * change_x + change_y * change_y
    return change


@part
def _last_row(row: Rows, inside: Row, tau: np.float32, width: int) -> None:
    """Update p in the last row, where u has no gradient downwards."""
    distinct()
    u_x, u_y, pxx, pxy, pyx, pyy = row
    down = np.float32(0)
    for x in range(width):
        across = (u_x[x + 1] - u_x[x]) * inside[x]
        pxx[x], pxy[x] = _ascent(pxx[x], pxy[x], across, down, tau)
        across = (u_y[x + 1] - u_y[x]) * inside[x]
        pyx[x], pyy[x] = _ascent(pyx[x], pyy[x], across, down, tau)
