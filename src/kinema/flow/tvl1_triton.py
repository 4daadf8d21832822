"""The iterations of TV-L1 as two Triton kernels, so that a GPU moves as few bytes as it can.

`relax` does for CUDA tensors what `relax` of `tvl1_torch` does. Shapes: B pairs, H, W; float32 and
contiguous, so that the planes of a pair lie one after the other:

data_B3HW   rho_c = I1(x + u0) - grad . u0 - I0, then the two warped gradients of I1
u_B2HW      the flow, x then y
p_B4HW      the dual variables p11, p12, p21, p22

One launch of `iterate` is one iteration. A pixel needs the new u of itself and of its right and
lower neighbours (for the gradient), and each of these needs p of its left and upper neighbours:
a program computes u three times instead of storing it between two launches. Through device
memory go, per pixel and iteration, 9 floats in (3 of data, 2 of u, 4 of p) and 6 out: 60 bytes;
the neighbours come from the caches. Two launches (u, then p) would move 84. Because programs read
each other's pixels, u and p have a second buffer each, and change places after every launch.

The sum of squares by which a pair stops is kept per tile (atomic sums would depend on their
order); every program of the next launch adds the few sums of its pair, in one order, and so knows
whether the pair goes on: no launch waits for the host, and a pair is the same in every batch. The
launch after a pair's last iteration copies it, so that both buffers hold its result, and marks it
by sums of -1.
"""

from typing import NamedTuple

import torch
import triton

from kinema.flow import tvl1_triton_kernels
from kinema.flow.tvl1 import Tvl1Settings

BYTES_PER_ITERATION = 60  # per pixel, as counted above
BYTES_PER_MEDIAN = 16  # per pixel: 2 floats in, 2 out
_CHECK_EVERY = 10  # iterations between two looks of the host at which pairs go on


class Tile(NamedTuple):
    """The pixels of one program and the warps (of 32 threads) that work on them."""

    height: int = 8
    width: int = 64
    warps: int = 4


_TILE = Tile()


def relax(
    data_B3HW: torch.Tensor,
    u_B2HW: torch.Tensor,
    p_B4HW: torch.Tensor,
    *,
    settings: Tvl1Settings,
    tile: Tile = _TILE,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return u and p after the iterations of one warp, and how many each pair took (B).

    The tensors given are overwritten.
    """
    num_pairs, _, height, width = data_B3HW.shape
    tiles_across = triton.cdiv(width, tile.width)
    num_tiles = tiles_across * triton.cdiv(height, tile.height)
    shape = (height, width, tiles_across)
    threshold = settings.epsilon**2 * height * width
    steps = (settings.lambda_ * settings.theta, settings.theta, settings.tau / settings.theta)
    constants = {
        "TILES": triton.next_power_of_2(num_tiles),
        "TILE_H": tile.height,
        "TILE_W": tile.width,
        "num_warps": tile.warps,
    }
    u, u_next, p, p_next = u_B2HW, torch.empty_like(u_B2HW), p_B4HW, torch.empty_like(p_B4HW)
    sums = torch.full((num_pairs, num_tiles), torch.inf, device=u.device)
    sums_next = torch.empty_like(sums)
    iterations = torch.zeros(num_pairs, dtype=torch.int32, device=u.device)
    pairs = torch.arange(num_pairs, dtype=torch.int32, device=u.device)
    for iteration in range(settings.outer_iterations * settings.inner_iterations):
        if iteration % _CHECK_EVERY == 0 and iteration:
            pairs = pairs[sums[pairs].sum(1) >= 0]  # the host waits here for the device
            if not len(pairs):
                break
        grid = (num_tiles, len(pairs))
        if iteration % settings.inner_iterations == 0 and settings.median > 1:
            tvl1_triton_kernels.median[grid](u, u_next, sums, pairs, *shape, threshold, **constants)
            u, u_next = u_next, u
        state = (data_B3HW, u, p, u_next, p_next, sums, sums_next, pairs, iterations)
        tvl1_triton_kernels.iterate[grid](
            *state, *shape, iteration + 1, threshold, *steps, **constants
        )
        u, u_next, p, p_next = u_next, u, p_next, p
        sums, sums_next = sums_next, sums
    return u, p, iterations


def linearised(
    first_BHW: torch.Tensor,
    second_B3HW: torch.Tensor,
    u_B2HW: torch.Tensor,
    *,
    tile: Tile = _TILE,
) -> torch.Tensor:
    """Return (B, 3, H, W): rho_c and the warped gradient, as `linearised` of `tvl1_torch` does.

    Per pixel 6 floats are read (the 16 taps of 3 planes come from the caches) and 3 written.
    """
    num_pairs, height, width = first_BHW.shape
    data_B3HW = torch.empty_like(second_B3HW)
    tiles_across = triton.cdiv(width, tile.width)
    grid = (tiles_across * triton.cdiv(height, tile.height), num_pairs)
    tvl1_triton_kernels.linearise[grid](
        *(first_BHW, second_B3HW, u_B2HW, data_B3HW, height, width, tiles_across),
        TILE_H=tile.height,
        TILE_W=tile.width,
        num_warps=tile.warps,
    )
    return data_B3HW
