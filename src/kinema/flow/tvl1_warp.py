"""The picture side of TV-L1: levels of the pyramid, gradients, and the warp towards the flow.

A picture of H x W pixels is the rows 1 to H and the columns 0 to W-1 of a plane that is 0 around.
"""

import numpy as np
from numpy.typing import NDArray

from kinema.flow.tvl1_numba import Planes, Row, Rows, Size, at, blend, distinct, kernel, part

MARGIN = 4  # pixels around the picture in `image_HWC`: no tap of the warp falls outside
WX, WY, RHO, SLOPE = range(4)  # planes of `data`
_LEAST_SQUARE = np.float32(1.1920929e-07)  # of the gradient; below, the data say nothing
_A = np.float32(-0.75)  # of the cubic kernel, as in OpenCV
_ONE, _TWO, _THREE, _HALF = np.float32(1), np.float32(2), np.float32(3), np.float32(0.5)


@kernel
def resize(
    source: Planes,
    target: Planes,
    sizes: tuple[int, int, int, int],
    steps: tuple[float, float],
    gain: float,
) -> None:
    """Resize the first two planes, bilinear; pixel centres are at half integers, as in OpenCV.

    Args:
        source: (planes, h+2, columns).
        target: (planes, H+2, columns), overwritten.
        sizes: h, w, H, W.
        steps: pixels of `source` from a pixel of `target` to the next, down and across.
        gain: factor on the values.
    """
    old_height, old_width, height, width = sizes
    left = np.empty((1, 1, width), np.int64)
    weight = np.empty((1, 1, width), np.float32)
    for x in range(width):
        place = min(max((x + 0.5) * steps[1] - 0.5, 0.0), old_width - 1.0)
        left[0, 0, x] = int(place)
        weight[0, 0, x] = place - int(place)
    for plane in range(2):
        for y in range(height):
            place = min(max((y + 0.5) * steps[0] - 0.5, 0.0), old_height - 1.0)
            top = int(place)
            rows = (at(source, plane, top + 1, 0), at(source, plane, top + 2, 0))
            columns = (at(left, 0, 0, 0), at(weight, 0, 0, 0))
            down = np.float32(place - top)
            _resize_row(rows, columns, at(target, plane, y + 1, 0), down, np.float32(gain), width)


@part
def _resize_row(
    rows: Rows, columns: Rows, out: Row, down: np.float32, gain: np.float32, width: int
) -> None:
    distinct()
    top, bottom = rows
    left, weight = columns
    for x in range(width):
        column = left[x]
        above = top[column] + (top[column + 1] - top[column]) * weight[x]
        below = bottom[column] + (bottom[column + 1] - bottom[column]) * weight[x]
        out[x] = (above + (below - above) * down) * gain


@kernel
def interleave(pictures: Planes, image_HWC: Planes, size: Size) -> None:
    """Write the second picture and its centred differences as pixels of 4 channels; the last is 0.

    Args:
        pictures: (2, H+2, columns).
        image_HWC: (H + 2 MARGIN, W + 2 MARGIN, 4), overwritten, with 0 in the margin. At the
            border of the picture a difference to the pixel itself is taken, half as large.
        size: H and W.
    """
    height, width = size
    image_HWC[:MARGIN] = 0
    image_HWC[height + MARGIN :] = 0
    for y in range(height):
        rows = (
            at(pictures, 1, y + 1, 0),
            at(pictures, 1, y + 1, -1),
            at(pictures, 1, y + 1, 1),
            at(pictures, 1, max(y, 1), 0),
            at(pictures, 1, min(y + 2, height), 0),
        )
        _interleave_row(rows, at(image_HWC, y + MARGIN, MARGIN, 0), width)
        image_HWC[y + MARGIN, :MARGIN] = 0
        image_HWC[y + MARGIN, width + MARGIN :] = 0


@part
def _interleave_row(rows: Rows, out: Row, width: int) -> None:
    distinct()
    row, left, right, above, below = rows
    for x in range(width):
        out[4 * x] = row[x]
        out[4 * x + 1] = _HALF * (right[x] - left[x])
        out[4 * x + 2] = _HALF * (below[x] - above[x])
        out[4 * x + 3] = 0
    last = width - 1
    out[1] = _HALF * (row[1] - row[0])
    out[4 * last + 1] = _HALF * (row[last] - row[last - 1])


@kernel
def linearise(
    pictures: Planes,
    image_HWC: Planes,
    flow: Planes,
    data: Planes,
    scratch: Planes,
    places: NDArray[np.int32],
    size: Size,
    unit: float,
) -> None:
    """Warp the second picture by the flow and write what the data term is near that flow.

    Args:
        pictures: (2, H+2, columns).
        image_HWC: what `interleave` made.
        flow: planes of which the first two are x and y, `unit` times pixels.
        data: planes WX and WY, the warped gradient divided by `unit`; RHO, the difference of the
            pictures at flow 0; SLOPE, - unit^2 / |gradient|^2 or 0 where there is no gradient.
        scratch: (1, 12, at least W columns), float32, overwritten.
        places: (1, 1, at least W), int32, overwritten.
        size: H and W.
        unit: of the flow.
    """
    height, width = size
    stride = (width + 2 * MARGIN) * 4
    pixels = at(image_HWC, 0, 0, 0)
    weights = (
        at(scratch, 0, 0, 0),
        at(scratch, 0, 1, 0),
        at(scratch, 0, 2, 0),
        at(scratch, 0, 3, 0),
        at(scratch, 0, 4, 0),
        at(scratch, 0, 5, 0),
        at(scratch, 0, 6, 0),
        at(scratch, 0, 7, 0),
    )
    where = at(places, 0, 0, 0)
    warped = at(scratch, 0, 8, 0)
    pixel = np.float32(1 / unit)
    for y in range(height):
        u = (at(flow, 0, y + 1, 0), at(flow, 1, y + 1, 0))
        _find_taps(u, weights, where, y, size, pixel)
        _warp_row(pixels, where, stride, weights, warped, width)
        out = (
            at(data, WX, y + 1, 0),
            at(data, WY, y + 1, 0),
            at(data, RHO, y + 1, 0),
            at(data, SLOPE, y + 1, 0),
        )
        _data_term(warped, at(pictures, 0, y + 1, 0), u, out, (width, data.shape[2]), pixel)


@part
def _find_taps(u: Rows, weights: Rows, where: Row, y: int, size: Size, pixel: np.float32) -> None:
    """Write where the first of the 4 x 4 taps is and the weights, of columns and then rows."""
    distinct()
    u_x, u_y = u
    across0, across1, across2, across3, down0, down1, down2, down3 = weights
    height, width = size
    first, stride = np.float32(1 - MARGIN), np.int32((width + 2 * MARGIN) * 4)
    for x in range(width):
        to_x = min(max(np.float32(np.int32(x)) + pixel * u_x[x], first), np.float32(width + 1))
        to_y = min(max(np.float32(y) + pixel * u_y[x], first), np.float32(height + 1))
        left, top = np.floor(to_x), np.floor(to_y)
        across0[x], across1[x], across2[x], across3[x] = _cubic(to_x - left)
        down0[x], down1[x], down2[x], down3[x] = _cubic(to_y - top)
        row = np.int32(top) + np.int32(MARGIN - 1)
        column = np.int32(left) + np.int32(MARGIN - 1)
        where[x] = np.int32(np.int32(row * stride) + np.int32(column * np.int32(4)))


@part
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for a position from 0 to 1."""
    rest = _ONE - t
    before = _A * t * rest * rest
    after = _A * rest * t * t
    near = ((_A + _TWO) * t - (_A + _THREE)) * t * t + _ONE
    return before, near, _ONE - before - near - after, after


@part
def _warp_row(pixels: Row, where: Row, stride: int, weights: Rows, warped: Row, width: int) -> None:
    across0, across1, across2, across3, down0, down1, down2, down3 = weights
    for x in range(width):
        across = (across0[x], across1[x], across2[x], across3[x])
        down = (down0[x], down1[x], down2[x], down3[x])
        blend(warped, x, pixels, where[x], stride, (*across, *down))


@part
def _data_term(
    warped: Row, first: Row, u: Rows, out: Rows, widths: tuple[int, int], pixel: np.float32
) -> None:
    distinct()
    u_x, u_y = u
    w_x, w_y, rho, slope = out
    width, columns = widths
    for x in range(width):
        along, across = warped[4 * x + 1] * pixel, warped[4 * x + 2] * pixel
        square = along * along + across * across
        w_x[x] = along
        w_y[x] = across
        rho[x] = warped[4 * x] - along * u_x[x] - across * u_y[x] - first[x]
        slope[x] = -_ONE / square if square > _LEAST_SQUARE * pixel * pixel else np.float32(0)
    for x in range(width, columns):
        w_x[x] = w_y[x] = rho[x] = slope[x] = 0
