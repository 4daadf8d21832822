"""Backward warping in torch: what a network that estimates flow, and its losses, look at.

Shapes: B images, C channels, H, W; flow has 2 channels, x (to the right) and y (down), in pixels
of the image.
"""

import torch
from torch import Tensor
from torch.nn import functional


def warp(image_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Return the image seen through the flow: out(p) = image(p + flow(p)), bilinear, (B, C, H, W).

    Flow from a first frame to a second one brings the second frame back onto the first. Points
    outside the picture take its nearest border pixel.
    """
    height, width = image_BCHW.shape[2:]
    places_B2HW = _pixels(flow_B2HW) + flow_B2HW
    sides = torch.tensor([width, height], dtype=flow_B2HW.dtype, device=flow_B2HW.device)
    grid_BHW2 = places_B2HW.permute(0, 2, 3, 1) * 2 / (sides - 1).clamp(min=1) - 1
    return functional.grid_sample(
        image_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=True
    )


def inside(flow_B2HW: Tensor) -> Tensor:
    """Return 1 where the flow leads to a point within the picture and 0 elsewhere, (B, 1, H, W)."""
    height, width = flow_B2HW.shape[2:]
    x_BHW, y_BHW = (_pixels(flow_B2HW) + flow_B2HW.detach()).unbind(1)
    is_inside = (x_BHW >= 0) & (x_BHW <= width - 1) & (y_BHW >= 0) & (y_BHW <= height - 1)
    return is_inside[:, None].to(flow_B2HW.dtype)


def _pixels(like_B2HW: Tensor) -> Tensor:
    """Return the place of every pixel, x and y, (2, H, W)."""
    height, width = like_B2HW.shape[2:]
    y_HW, x_HW = torch.meshgrid(
        torch.arange(height, dtype=like_B2HW.dtype, device=like_B2HW.device),
        torch.arange(width, dtype=like_B2HW.dtype, device=like_B2HW.device),
        indexing="ij",
    )
    return torch.stack([x_HW, y_HW])
