"""Losses that need no ground truth: flow is right if it warps the second frame onto the first.

Ren et al., Unsupervised Deep Learning for Optical Flow Estimation (AAAI 2017); Zhu et al., Hidden
Two-Stream Convolutional Networks (ACCV 2018): Charbonnier reconstruction, SSIM and smoothness at
every scale of the network.

Shapes: B clips, T frames, C channels, H, W; flow has 2 channels, in pixels of its own scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.flow.backward_warp import inside, warp

_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # of Wang et al. 2004, for values from 0 to 1
_KNOWN_EPSILON = 0.01  # pixels: errors below are as good as none
_LRN_SIZE, _LRN_ALPHA, _LRN_BETA = 9, 1.0, 0.7  # of the paper's images


@dataclass(frozen=True, kw_only=True)
class FlowLossSettings:
    """Weights and exponents; those by scale begin with the finest one."""

    scales: tuple[float, ...]  # what each scale counts
    smoothness: tuple[float, ...]  # by scale
    ssim: tuple[float, ...]  # by scale
    photometric_alpha: float = 0.4  # exponent of Charbonnier's function
    smoothness_alpha: float = 0.3
    window: int = 7  # pixels: side of SSIM's window, smaller at scales that are smaller
    edges: float = 0.0  # smoothness is let go at edges: times exp(-this * gradient of the image)
    normalise: bool = False  # the images by local response normalisation, for the reconstruction


# The exponents and weights of the paper's published networks, for images of 0 to 1.
PAPER_LOSS = FlowLossSettings(
    scales=(1.0,) * 5,
    smoothness=(0.001, 0.002, 0.004, 0.008, 0.016),
    ssim=(0.01, 0.02, 0.04, 0.08, 0.16),
    normalise=True,
)
TINY_LOSS = FlowLossSettings(
    scales=(1.0, 0.5, 0.5, 0.5, 0.5),
    smoothness=(0.12, 0.12, 0.08, 0.06, 0.04),
    ssim=(1.0, 1.0, 1.0, 0.5, 0.0),
    edges=10.0,
)
LOSSES: Mapping[str, FlowLossSettings] = {"motionnet": PAPER_LOSS, "motionnet-tiny": TINY_LOSS}


def flow_loss(
    flows: Sequence[Tensor], frames_BTCHW: Tensor, settings: FlowLossSettings
) -> dict[str, Tensor]:
    """Return the loss of every clip, (B,): `total` and its parts before weights.

    Args:
        flows: (B, T-1, 2, h, w) of every scale, the finest first.
        frames_BTCHW: frames of 0 to 1, brought to the size of each scale by area.
        settings: weights and exponents.

    Raises:
        KinemaError: there are not as many scales as weights.
    """
    if not len(flows) == len(settings.scales) == len(settings.smoothness) == len(settings.ssim):
        raise KinemaError(
            f"The loss has weights for {len(settings.scales)} scales of flow, and was given "
            f"{len(flows)}."
        )
    num_clips = len(frames_BTCHW)
    total = {
        name: frames_BTCHW.new_zeros(num_clips)
        for name in ("total", "photometric", "ssim", "smooth")
    }
    for scale, flow_BT2HW in enumerate(flows):
        parts = _scale_loss(flow_BT2HW.float(), frames_BTCHW, settings)
        weights = {
            "photometric": 1.0,
            "ssim": settings.ssim[scale],
            "smooth": settings.smoothness[scale],
        }
        for name, weight in weights.items():
            total[name] = total[name] + settings.scales[scale] * parts[name]
            total["total"] = total["total"] + settings.scales[scale] * weight * parts[name]
    return total


def known_flow_loss(flows: Sequence[Tensor], flow_BT2HW: Tensor) -> Tensor:
    """Return the mean end-point error of every clip, (B,), summed over scales with weights.

    For pairs whose motion was made (see `kinema.flow.made_pairs`). The finest scale counts 1, the
    one after n halvings sqrt(2)^n / 2, in pixels of the scale.

    Args:
        flows: (B, T-1, 2, h, w) of every scale, the finest first, pixels of the scale.
        flow_BT2HW: the true flow in pixels of the frames; sides are multiples of those of `flows`.
    """
    total = flow_BT2HW.new_zeros(len(flow_BT2HW))
    for scale, found in enumerate(flows):
        size = (found.shape[3], found.shape[4])
        pixels = flow_BT2HW.shape[4] / size[1]  # of the frames, in one of the scale
        true = functional.adaptive_avg_pool2d(flow_BT2HW.flatten(0, 1), size) / pixels
        square = (found.flatten(0, 1).to(true.dtype) - true).square().sum(1)
        error = (square + _KNOWN_EPSILON**2).sqrt()
        weight = 2 ** (scale / 2) / 2 if scale else 1.0
        total = total + weight * error.view(len(total), -1).mean(1)
    return total


def _scale_loss(
    flow_BT2HW: Tensor, frames_BTCHW: Tensor, settings: FlowLossSettings
) -> dict[str, Tensor]:
    """Return the parts of the loss of every clip at one scale, (B,), before weights."""
    num_clips, num_pairs = flow_BT2HW.shape[:2]
    size = (flow_BT2HW.shape[3], flow_BT2HW.shape[4])
    small = functional.adaptive_avg_pool2d(frames_BTCHW.flatten(0, 1), size)
    images_BTCHW = small.reshape(num_clips, num_pairs + 1, *small.shape[1:])
    first, second = images_BTCHW[:, :-1].flatten(0, 1), images_BTCHW[:, 1:].flatten(0, 1)
    flow = flow_BT2HW.flatten(0, 1)
    mask = inside(flow)
    seen = warp(second, flow)
    smooth = smoothness(flow, first, alpha=settings.smoothness_alpha, edges=settings.edges)
    one, other = first, seen
    if settings.normalise:
        one, other = _normalised(first), _normalised(seen)
    photometric = reconstruction(one, other, mask, alpha=settings.photometric_alpha)
    window = min(settings.window, *((side - 1) // 2 * 2 + 1 for side in size))
    likeness = ssim(first, seen, window=window)
    valid = -functional.max_pool2d(-mask, window, stride=1)  # windows wholly inside
    unlike = ((1 - likeness) / 2).mean(1, keepdim=True)
    parts = {
        "photometric": photometric,
        "ssim": _masked_mean(unlike, valid),
        "smooth": smooth,
    }
    return {name: part.view(num_clips, num_pairs).mean(1) for name, part in parts.items()}


def charbonnier(x: Tensor, *, alpha: float, epsilon: float = 1e-3) -> Tensor:
    """Return (x^2 + epsilon^2)^alpha, near to |x|^(2 alpha) and smooth at zero."""
    return (x * x + epsilon * epsilon) ** alpha


def reconstruction(
    first_BCHW: Tensor, seen_BCHW: Tensor, mask_B1HW: Tensor, *, alpha: float = 0.4
) -> Tensor:
    """Return the mean Charbonnier difference of two images where the mask is 1, (B,)."""
    difference = charbonnier(first_BCHW - seen_BCHW, alpha=alpha).mean(1, keepdim=True)
    return _masked_mean(difference, mask_B1HW)


def ssim(first_BCHW: Tensor, second_BCHW: Tensor, *, window: int = 7) -> Tensor:
    """Return the structural similarity of images of 0 to 1 (Wang et al. 2004), (B, C, H', W').

    Uniform windows, without bias, of which all pixels are within the image: H' = H - window + 1.
    """
    area = window * window
    unbiased = area / (area - 1) if area > 1 else 1.0

    def mean(x_BCHW: Tensor) -> Tensor:
        return functional.avg_pool2d(x_BCHW, window, stride=1)

    m1, m2 = mean(first_BCHW), mean(second_BCHW)
    variance1 = unbiased * (mean(first_BCHW * first_BCHW) - m1 * m1)
    variance2 = unbiased * (mean(second_BCHW * second_BCHW) - m2 * m2)
    covariance = unbiased * (mean(first_BCHW * second_BCHW) - m1 * m2)
    above = (2 * m1 * m2 + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    return above / ((m1 * m1 + m2 * m2 + _SSIM_C1) * (variance1 + variance2 + _SSIM_C2))


def smoothness(
    flow_B2HW: Tensor, image_BCHW: Tensor, *, alpha: float = 0.3, edges: float = 0.0
) -> Tensor:
    """Return the mean change of the flow from pixel to pixel by Charbonnier's function, (B,).

    Args:
        flow_B2HW: the flow.
        image_BCHW: its first frame, 0 to 1.
        alpha: exponent.
        edges: a change counts exp(-edges * |change of the image|) there; 0: 1 everywhere.
    """
    total = flow_B2HW.new_zeros(len(flow_B2HW))
    for axis in (2, 3):
        change = charbonnier(torch.diff(flow_B2HW, dim=axis), alpha=alpha)
        if edges:
            step = torch.diff(image_BCHW, dim=axis).abs().mean(1, keepdim=True)
            change = change * torch.exp(-edges * step)
        total = total + change.mean((1, 2, 3))
    return total / 2


def _masked_mean(x_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    return (x_B1HW * mask_B1HW).sum((1, 2, 3)) / mask_B1HW.sum((1, 2, 3)).clamp(min=1)


def _normalised(x_BCHW: Tensor) -> Tensor:
    """Make an image less dependent on how bright it is."""
    return functional.local_response_norm(
        x_BCHW, size=_LRN_SIZE, alpha=_LRN_ALPHA, beta=_LRN_BETA, k=1.0
    )
