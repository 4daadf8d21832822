"""The Triton kernels of TV-L1; `tvl1_triton` launches them and says what they read and write.

A program works on one tile of one pair. What Triton compiles is Python in form alone: values are
blocks of a tile's pixels, names ending in `_ptr` are addresses, and there are no annotations.
"""
# ruff: noqa: ANN001, ANN401
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, import-untyped"

from typing import Any

import triton
import triton.language as tl

_TINY = tl.constexpr(1.1920929e-07)  # of the squared gradient, against division by 0


@triton.jit(do_not_specialize=["height", "tiles_across"])
def linearise(
    first_ptr,
    second_ptr,
    u_ptr,
    data_ptr,
    height,
    width,
    tiles_across,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
) -> None:
    """Warp the second picture and its gradient to the first by u, cubic with zeros outside."""
    pair = tl.program_id(1).to(tl.int64)
    area = height * width
    y, x, inside = _pixels(tl.program_id(0), height, width, tiles_across, TILE_H, TILE_W)
    at = y * width + x
    u1 = tl.load(u_ptr + pair * 2 * area + at, mask=inside, other=0.0)
    u2 = tl.load(u_ptr + pair * 2 * area + area + at, mask=inside, other=0.0)
    to_x = tl.minimum(tl.maximum(x + u1, -3.0), width + 2.0)  # there all taps are outside
    to_y = tl.minimum(tl.maximum(y + u2, -3.0), height + 2.0)
    left, top = tl.floor(to_x), tl.floor(to_y)
    second_ptr += pair * 3 * area
    image = tl.zeros((TILE_H, TILE_W), tl.float32)
    grad1 = tl.zeros((TILE_H, TILE_W), tl.float32)
    grad2 = tl.zeros((TILE_H, TILE_W), tl.float32)
    for row in tl.static_range(4):
        row_y = top.to(tl.int32) + (row - 1)
        down = _cubic(to_y - top, row)
        for column in tl.static_range(4):
            column_x = left.to(tl.int32) + (column - 1)
            seen = inside & (row_y >= 0) & (row_y < height) & (column_x >= 0) & (column_x < width)
            tap_ptr = second_ptr + row_y * width + column_x
            weight = down * _cubic(to_x - left, column)
            image += weight * tl.load(tap_ptr, mask=seen, other=0.0)
            grad1 += weight * tl.load(tap_ptr + area, mask=seen, other=0.0)
            grad2 += weight * tl.load(tap_ptr + 2 * area, mask=seen, other=0.0)
    first = tl.load(first_ptr + pair * area + at, mask=inside, other=0.0)
    data_ptr += pair * 3 * area + at
    tl.store(data_ptr, image - (grad1 * u1 + grad2 * u2 + first), mask=inside)
    tl.store(data_ptr + area, grad1, mask=inside)
    tl.store(data_ptr + 2 * area, grad2, mask=inside)


@triton.jit
def _cubic(t, tap: tl.constexpr) -> Any:
    """Return the weight of the pixel at tap - 1 for a position t in [0, 1), a = -0.75."""
    distance = tl.abs(t + (1 - tap))
    if tap == 1 or tap == 2:
        weight = (1.25 * distance - 2.25) * distance * distance + 1.0
    else:
        weight = ((-0.75 * distance + 3.75) * distance - 6.0) * distance + 3.0
    return weight


@triton.jit(do_not_specialize=["height", "tiles_across", "iteration"])
def iterate(
    data_ptr,
    u_ptr,
    p_ptr,
    u_next_ptr,
    p_next_ptr,
    sums_ptr,
    sums_next_ptr,
    pairs_ptr,
    iterations_ptr,
    height,
    width,
    tiles_across,
    iteration,
    threshold,
    lambda_theta,
    theta,
    tau_theta,
    TILES: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
) -> None:
    """One iteration of one tile of one pair; a pair that has stopped is copied, then left alone."""
    tile = tl.program_id(0)
    pair = tl.load(pairs_ptr + tl.program_id(1)).to(tl.int64)
    area = height * width
    y, x, inside = _pixels(tile, height, width, tiles_across, TILE_H, TILE_W)
    at = y * width + x
    last_sum = _sum_of_pair(sums_ptr, pair, TILES)
    partial = tl.full((), -1.0, tl.float32)
    u_next_ptr += pair * 2 * area
    p_next_ptr += pair * 4 * area
    u_ptr += pair * 2 * area
    p_ptr += pair * 4 * area
    if last_sum > threshold:
        data_ptr += pair * 3 * area
        u1, u2, old1, old2 = _new_u(
            data_ptr, u_ptr, p_ptr, y, x, inside, width, area, lambda_theta, theta
        )
        right = inside & (x + 1 < width)
        right1, right2, _, _ = _new_u(
            data_ptr, u_ptr, p_ptr, y, x + 1, right, width, area, lambda_theta, theta
        )
        below = inside & (y + 1 < height)
        below1, below2, _, _ = _new_u(
            data_ptr, u_ptr, p_ptr, y + 1, x, below, width, area, lambda_theta, theta
        )
        along, down = tl.where(right, right1 - u1, 0.0), tl.where(below, below1 - u1, 0.0)
        _update_p(p_ptr, p_next_ptr, at, inside, area, along, down, tau_theta)
        along, down = tl.where(right, right2 - u2, 0.0), tl.where(below, below2 - u2, 0.0)
        second = 2 * area
        _update_p(p_ptr + second, p_next_ptr + second, at, inside, area, along, down, tau_theta)
        tl.store(u_next_ptr + at, u1, mask=inside)
        tl.store(u_next_ptr + area + at, u2, mask=inside)
        squares = (u1 - old1) * (u1 - old1) + (u2 - old2) * (u2 - old2)
        partial = tl.sum(tl.where(inside, squares, 0.0))
        if tile == 0:
            tl.store(iterations_ptr + pair, iteration)
    elif last_sum >= 0:
        for plane in tl.static_range(2):
            _copy(u_ptr + plane * area + at, u_next_ptr + plane * area + at, inside)
        for plane in tl.static_range(4):
            _copy(p_ptr + plane * area + at, p_next_ptr + plane * area + at, inside)
    tl.store(sums_next_ptr + pair * tl.num_programs(0) + tile, partial)


@triton.jit
def _new_u(data_ptr, u_ptr, p_ptr, y, x, inside, width, area, lambda_theta, theta) -> Any:
    """Return u1 and u2 after the thresholding step and the divergence, and what they were."""
    at = y * width + x
    rho_c = tl.load(data_ptr + at, mask=inside)
    grad1 = tl.load(data_ptr + area + at, mask=inside)
    grad2 = tl.load(data_ptr + 2 * area + at, mask=inside)
    u1 = tl.load(u_ptr + at, mask=inside)
    u2 = tl.load(u_ptr + area + at, mask=inside)
    rho = rho_c + (grad1 * u1 + grad2 * u2)
    norm = tl.maximum(grad1 * grad1 + grad2 * grad2, _TINY)
    step = tl.minimum(tl.maximum(-rho * _inverse(norm), -lambda_theta), lambda_theta)
    has_left = inside & (x > 0)
    has_upper = inside & (y > 0)
    div1 = _divergence(p_ptr + at, inside, has_left, has_upper, width, area)
    div2 = _divergence(p_ptr + 2 * area + at, inside, has_left, has_upper, width, area)
    return u1 + step * grad1 + theta * div1, u2 + step * grad2 + theta * div2, u1, u2


@triton.jit
def _inverse(x) -> Any:
    """Return 1 / x of x > 0, one instruction and a product where a division takes eight."""
    root = tl.rsqrt(x)
    return root * root


@triton.jit
def _divergence(p_ptr, inside, has_left, has_upper, width, area) -> Any:
    along = tl.load(p_ptr, mask=inside) - tl.load(p_ptr - 1, mask=has_left, other=0.0)
    p_ptr += area
    down = tl.load(p_ptr, mask=inside) - tl.load(p_ptr - width, mask=has_upper, other=0.0)
    return along + down


@triton.jit
def _update_p(p_ptr, p_next_ptr, at, inside, area, along, down, tau_theta) -> None:
    """Write the two dual variables of one component of u, from its gradient."""
    scale = _inverse(1.0 + tau_theta * tl.sqrt(along * along + down * down))
    p_along = tl.load(p_ptr + at, mask=inside)
    p_down = tl.load(p_ptr + area + at, mask=inside)
    tl.store(p_next_ptr + at, (p_along + tau_theta * along) * scale, mask=inside)
    tl.store(p_next_ptr + area + at, (p_down + tau_theta * down) * scale, mask=inside)


@triton.jit(do_not_specialize=["height", "tiles_across"])
def median(
    u_ptr,
    u_next_ptr,
    sums_ptr,
    pairs_ptr,
    height,
    width,
    tiles_across,
    threshold,
    TILES: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
) -> None:
    """Median of 5 x 5 pixels of u1 and u2, the border repeated; a stopped pair is copied."""
    tile = tl.program_id(0)
    pair = tl.load(pairs_ptr + tl.program_id(1)).to(tl.int64)
    area = height * width
    y, x, inside = _pixels(tile, height, width, tiles_across, TILE_H, TILE_W)
    running = _sum_of_pair(sums_ptr, pair, TILES) > threshold
    for plane in tl.static_range(2):
        from_ptr = u_ptr + (pair * 2 + plane) * area
        to_ptr = u_next_ptr + (pair * 2 + plane) * area + y * width + x
        if running:
            tl.store(to_ptr, _median_of_25(from_ptr, y, x, height, width), mask=inside)
        else:
            _copy(from_ptr + y * width + x, to_ptr, inside)


@triton.jit
def _median_of_25(u_ptr, y, x, height, width) -> Any:
    """Sort the columns, then the rows; what is left is between three diagonals.

    In a table sorted both ways the 6 entries above the diagonals are not larger than the median,
    the 6 below not smaller.
    """
    a0, a1, a2, a3, a4 = _sorted_column(u_ptr, y, x - 2, height, width)
    b0, b1, b2, b3, b4 = _sorted_column(u_ptr, y, x - 1, height, width)
    c0, c1, c2, c3, c4 = _sorted_column(u_ptr, y, x, height, width)
    d0, d1, d2, d3, d4 = _sorted_column(u_ptr, y, x + 1, height, width)
    e0, e1, e2, e3, e4 = _sorted_column(u_ptr, y, x + 2, height, width)
    _, _, _, d0, e0 = _sorted(a0, b0, c0, d0, e0)
    _, _, c1, d1, e1 = _sorted(a1, b1, c1, d1, e1)
    _, b2, c2, d2, _ = _sorted(a2, b2, c2, d2, e2)
    a3, b3, c3, _, _ = _sorted(a3, b3, c3, d3, e3)
    a4, b4, _, _, _ = _sorted(a4, b4, c4, d4, e4)
    low = tl.maximum(tl.maximum(d0, c1), tl.maximum(b2, a3))
    high = tl.minimum(tl.minimum(e1, d2), tl.minimum(c3, b4))
    _, _, middle, _, _ = _sorted(e0, d1, c2, b3, a4)
    return tl.maximum(tl.minimum(low, high), tl.minimum(tl.maximum(low, high), middle))


@triton.jit
def _sorted_column(u_ptr, y, x, height, width) -> Any:
    u_ptr += tl.minimum(tl.maximum(x, 0), width - 1)
    top, bottom = 0, height - 1
    return _sorted(
        tl.load(u_ptr + tl.minimum(tl.maximum(y - 2, top), bottom) * width),
        tl.load(u_ptr + tl.minimum(tl.maximum(y - 1, top), bottom) * width),
        tl.load(u_ptr + tl.minimum(tl.maximum(y, top), bottom) * width),
        tl.load(u_ptr + tl.minimum(tl.maximum(y + 1, top), bottom) * width),
        tl.load(u_ptr + tl.minimum(tl.maximum(y + 2, top), bottom) * width),
    )


@triton.jit
def _sorted(a, b, c, d, e) -> Any:
    """Sort five by nine exchanges."""
    a, b = tl.minimum(a, b), tl.maximum(a, b)
    d, e = tl.minimum(d, e), tl.maximum(d, e)
    c, e = tl.minimum(c, e), tl.maximum(c, e)
    c, d = tl.minimum(c, d), tl.maximum(c, d)
    b, e = tl.minimum(b, e), tl.maximum(b, e)
    a, d = tl.minimum(a, d), tl.maximum(a, d)
    a, c = tl.minimum(a, c), tl.maximum(a, c)
    b, d = tl.minimum(b, d), tl.maximum(b, d)
    b, c = tl.minimum(b, c), tl.maximum(b, c)
    return a, b, c, d, e


@triton.jit
def _pixels(tile, height, width, tiles_across, TILE_H: tl.constexpr, TILE_W: tl.constexpr) -> Any:
    """Return the rows and columns of a tile and which of its pixels are in the picture."""
    y = (tile // tiles_across) * TILE_H + tl.arange(0, TILE_H)[:, None]
    x = (tile % tiles_across) * TILE_W + tl.arange(0, TILE_W)[None, :]
    return y, x, (y < height) & (x < width)


@triton.jit
def _sum_of_pair(sums_ptr, pair, TILES: tl.constexpr) -> Any:
    """Return the sum over the tiles of a pair, added in the same order by every program."""
    tiles = tl.arange(0, TILES)
    num_tiles = tl.num_programs(0)
    sums = tl.load(sums_ptr + pair * num_tiles + tiles, mask=tiles < num_tiles, other=0.0)
    return tl.sum(sums)


@triton.jit
def _copy(from_ptr, to_ptr, inside) -> None:
    tl.store(to_ptr, tl.load(from_ptr, mask=inside), mask=inside)
