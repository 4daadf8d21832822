"""TV-L1 of many pairs at once in torch, for GPUs: the same steps as `kinema.flow.tvl1`.

Zach, Pock and Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow (DAGM 2007), in
the form of OpenCV's DualTVL1OpticalFlow. On CUDA the work is done by the kernels of `tvl1_triton`
where Triton is installed; else, and on the CPU, by plain torch (slow: it serves as reference).

Every pair stops by its own error, so the flow of a pair does not depend on the batch it is in.
Shapes: T frames, B pairs, H, W; flow has 2 channels, x (to the right) and y (down).
"""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F

from kinema.errors import UsageError
from kinema.flow.device import pairs_that_fit
from kinema.flow.tvl1 import MIN_SIDE, STANDARD, Tvl1Settings

_MOST_PAIRS = {"cpu": 8, "cuda": 512}  # in one batch; more are no faster
_BYTES_PER_PIXEL = 700  # of one pair; the most is held while plain torch takes the median
_CHECK_EVERY = 10  # iterations between two looks of the host at which pairs go on
_TINY = torch.finfo(torch.float32).eps  # of the squared gradient, against division by 0

Linearised = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Relax = Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
Backend = tuple[Linearised, Relax]


def tvl1_batched(
    frames_THW: torch.Tensor,
    *,
    settings: Tvl1Settings = STANDARD,
    pairs_per_batch: int | None = None,
) -> torch.Tensor:
    """Return the flow from every frame to the next, float32 (T-1, 2, H, W), pixels per frame.

    Args:
        frames_THW: gray frames, uint8, on any device; the flow is on the same one.
        settings: the parameters of the algorithm.
        pairs_per_batch: how many pairs are computed at once; by default as many as half of the
            device's free memory holds (at most 512), or 8 on the CPU.

    Raises:
        UsageError: the frames are not uint8 (T, H, W) or too small, or no pair fits a batch.
    """
    _check(frames_THW, pairs_per_batch)
    num_pairs = max(len(frames_THW) - 1, 0)
    height, width = frames_THW.shape[1:]
    device = frames_THW.device
    size = pairs_per_batch or pairs_that_fit(
        device,
        bytes_per_pair=_BYTES_PER_PIXEL * height * width,
        most=_MOST_PAIRS["cuda" if device.type == "cuda" else "cpu"],
    )
    flow_T2HW = torch.empty((num_pairs, 2, height, width), device=device)
    chosen = backend(device)
    with torch.no_grad(), _on(device):
        for first in range(0, num_pairs, size):
            chunk = frames_THW[first : first + size + 1]
            flow_T2HW[first : first + size] = flow_of_batch(
                chunk, settings=settings, backend=chosen
            )
    return flow_T2HW


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Return what makes a GPU the current one: Triton launches there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _check(frames_THW: torch.Tensor, pairs_per_batch: int | None) -> None:
    if frames_THW.dtype != torch.uint8 or frames_THW.ndim != 3:
        raise UsageError(
            f"TV-L1 got frames of shape {tuple(frames_THW.shape)}, {frames_THW.dtype}: it needs "
            "gray frames (T, H, W) of torch.uint8."
        )
    height, width = frames_THW.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UsageError(
            f"Frames of {width}x{height} pixels are too small for TV-L1: "
            f"both sides must have at least {MIN_SIDE}. Ask for a larger size."
        )
    if pairs_per_batch is not None and pairs_per_batch < 1:
        raise UsageError(
            f"pairs_per_batch is {pairs_per_batch}: it must be at least 1, "
            "or None to choose it from the free memory."
        )


def backend(device: torch.device) -> Backend:
    """Return the functions `linearised` and `relax` that run fastest on a device."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from kinema.flow import tvl1_triton

        return tvl1_triton.linearised, tvl1_triton.relax
    return linearised, relax


def flow_of_batch(
    frames_THW: torch.Tensor, *, settings: Tvl1Settings, backend: Backend
) -> torch.Tensor:
    """Return the flow (T-1, 2, H, W) of one batch, from the coarsest level to the finest."""
    linearised_on_device, relax_on_device = backend
    levels = _pyramid(frames_THW.float().contiguous(), settings)
    u_B2HW = levels[-1].new_zeros((len(frames_THW) - 1, 2, *levels[-1].shape[1:]))
    for level_THW in reversed(levels):
        height, width = level_THW.shape[1:]
        if u_B2HW.shape[2:] != (height, width):
            u_B2HW = _resize(u_B2HW, (height, width)) * (1 / settings.scale_step)
        images_B3HW = _with_gradient(level_THW[1:])
        p_B4HW = u_B2HW.new_zeros((len(u_B2HW), 4, height, width))
        for _ in range(settings.warps):
            data_B3HW = linearised_on_device(level_THW[:-1], images_B3HW, u_B2HW)
            u_B2HW, p_B4HW, _ = relax_on_device(data_B3HW, u_B2HW, p_B4HW, settings=settings)
    return u_B2HW


def _pyramid(frames_THW: torch.Tensor, settings: Tvl1Settings) -> list[torch.Tensor]:
    levels = [frames_THW]
    for _ in range(settings.scales - 1):
        size = tuple(round(side * settings.scale_step) for side in levels[-1].shape[1:])
        if min(size) < MIN_SIDE:
            break
        levels.append(_resize(levels[-1], size, scale=1 / settings.scale_step))
    return levels


def _resize(
    x_NHW: torch.Tensor, size: tuple[int, ...], *, scale: float | None = None
) -> torch.Tensor:
    """Return the planes in another size, bilinear as OpenCV's: pixel centres are at half integers.

    `scale` is the step between two samples in pixels of `x_NHW`, where it is not the ratio of
    the sizes.
    """
    for dim, new_side in zip((-2, -1), size, strict=True):
        side = x_NHW.shape[dim]
        step = scale or side / new_side
        centre = (torch.arange(new_side, dtype=torch.float64) + 0.5) * step - 0.5
        centre = centre.clamp(0, side - 1)
        below = centre.floor().long()
        weight = (centre - below).float().to(x_NHW.device)
        weight = weight[:, None] if dim == -2 else weight
        above = (below + 1).clamp(max=side - 1).to(x_NHW.device)
        low = x_NHW.index_select(dim, below.to(x_NHW.device))
        x_NHW = low + (x_NHW.index_select(dim, above) - low) * weight
    return x_NHW


def _with_gradient(image_BHW: torch.Tensor) -> torch.Tensor:
    """Return (B, 3, H, W): the image and its centred differences, half as large at the border."""
    padded = F.pad(image_BHW[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    return torch.stack((image_BHW, along, down), dim=1)


def linearised(
    first_BHW: torch.Tensor, second_B3HW: torch.Tensor, u_B2HW: torch.Tensor
) -> torch.Tensor:
    """Return (B, 3, H, W): rho_c = I1(x + u) - grad . u - I0, and the warped gradient of I1.

    The warp is cubic (a = -0.75), with zeros outside the picture. (`grid_sample` rounds the
    positions: identical frames would get a flow.)
    """
    height, width = first_BHW.shape[1:]
    x = torch.arange(width, device=u_B2HW.device) + u_B2HW[:, 0]
    y = torch.arange(height, device=u_B2HW.device)[:, None] + u_B2HW[:, 1]
    x, y = x.clamp(-3, width + 2), y.clamp(-3, height + 2)  # there all taps are outside
    left, top = x.floor(), y.floor()
    padded_B3HW = F.pad(second_B3HW, (4, 5, 4, 5))
    stride = width + 9
    corner_B1N = ((top.long() + 3) * stride + left.long() + 3).flatten(1)[:, None]
    flat_B3N = padded_B3HW.flatten(2)
    data_B3HW = torch.zeros_like(second_B3HW)
    across = _cubic(x - left)
    for row, down in enumerate(_cubic(y - top)):
        for column, weight in enumerate(across):
            index = (corner_B1N + (row * stride + column)).expand(-1, 3, -1)
            taps_B3HW = flat_B3N.gather(2, index).view_as(second_B3HW)
            data_B3HW += taps_B3HW * (down * weight)[:, None]
    data_B3HW[:, 0] -= (data_B3HW[:, 1:] * u_B2HW).sum(1) + first_BHW
    return data_B3HW


def _cubic(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the weights of the pixels at -1, 0, 1, 2 for a position t in [0, 1)."""
    a = -0.75
    before = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    rest = 1 - t
    next_ = ((a + 2) * rest - (a + 3)) * rest * rest + 1
    return before, near, next_, 1 - before - near - next_


def relax(
    data_B3HW: torch.Tensor,
    u_B2HW: torch.Tensor,
    p_B4HW: torch.Tensor,
    *,
    settings: Tvl1Settings,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return u and p after the iterations of one warp, and how many each pair took (B).

    What the arguments hold, and how p changes: see `tvl1_triton`.
    """
    height, width = u_B2HW.shape[2:]
    threshold = settings.epsilon**2 * height * width
    p_B22HW = p_B4HW.view(-1, 2, 2, height, width)
    running_B = torch.ones(len(u_B2HW), dtype=torch.bool, device=u_B2HW.device)
    iterations_B = torch.zeros_like(running_B, dtype=torch.int32)
    for iteration in range(settings.outer_iterations * settings.inner_iterations):
        if iteration % _CHECK_EVERY == 0 and not running_B.any():
            break
        running = running_B[:, None, None, None]
        if iteration % settings.inner_iterations == 0 and settings.median > 1:
            u_B2HW = torch.where(running, _median(u_B2HW), u_B2HW)
        new_u = _new_u(data_B3HW, u_B2HW, p_B22HW, settings)
        change = (new_u - u_B2HW).square().sum(3).sum((1, 2))  # one order, whatever B is
        u_B2HW = torch.where(running, new_u, u_B2HW)
        new_p = _new_p(u_B2HW, p_B22HW, settings.tau / settings.theta)
        p_B22HW = torch.where(running[..., None], new_p, p_B22HW)
        iterations_B += running_B
        running_B = running_B & (change > threshold)
    return u_B2HW, p_B22HW.flatten(1, 2), iterations_B


def _new_u(
    data_B3HW: torch.Tensor,
    u_B2HW: torch.Tensor,
    p_B22HW: torch.Tensor,
    settings: Tvl1Settings,
) -> torch.Tensor:
    """Return u after the thresholding step and the divergence of p."""
    weight = settings.lambda_ * settings.theta
    grad = data_B3HW[:, 1:]
    rho = data_B3HW[:, :1] + (grad * u_B2HW).sum(1, keepdim=True)
    norm = grad.square().sum(1, keepdim=True).clamp_min(_TINY)
    step = (-rho / norm).clamp(-weight, weight)
    along, down = p_B22HW[:, :, 0], p_B22HW[:, :, 1]
    divergence = along + down
    divergence[..., 1:] -= along[..., :-1]
    divergence[..., 1:, :] -= down[..., :-1, :]
    return u_B2HW + step * grad + settings.theta * divergence


def _new_p(u_B2HW: torch.Tensor, p_B22HW: torch.Tensor, tau_theta: float) -> torch.Tensor:
    """Return the dual variables after a step along the gradient of u, 0 at the far borders."""
    grad_B22HW = torch.stack(
        (F.pad(u_B2HW.diff(dim=3), (0, 1)), F.pad(u_B2HW.diff(dim=2), (0, 0, 0, 1))), dim=2
    )
    norm = grad_B22HW.square().sum(2, keepdim=True).sqrt()
    return (p_B22HW + tau_theta * grad_B22HW) / (1 + tau_theta * norm)


def _median(u_B2HW: torch.Tensor) -> torch.Tensor:
    """Return the median of 5 x 5 pixels, the border repeated."""
    padded = F.pad(u_B2HW, (2, 2, 2, 2), mode="replicate")
    windows = padded.unfold(2, 5, 1).unfold(3, 5, 1).flatten(4)
    return windows.median(dim=4).values
