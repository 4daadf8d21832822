"""Position embeddings of published weights for other clip lengths and image sizes."""

import math
import re

import torch
from torch import Tensor
from torch.nn import functional

# Embeddings in time, as (…, T, F), and relative ones of MViT along one axis, as (N, F).
_LINES = re.compile(r"(^|\.)(time_embeddings|temporal_pos|rel_pos_[thw])$")
# Embeddings in space, as (…, H * W, F), a leading one for the class token may belong to them.
_PLANES = re.compile(r"(^|\.)(spatial_pos|timesformer\.embeddings\.position_embeddings)$")


def resized_positions(name: str, given: Tensor, old: Tensor) -> Tensor | None:
    """Return position embeddings in the shape of `old`, or None where they are not such.

    Linear in time and along one axis, bicubic in space, as PySlowFast and TimeSformer do.

    Args:
        name: of the tensor in the backbone.
        given: of the file, (N, F) or (1, N, F).
        old: of the network, another N.
    """
    same = given.ndim == old.ndim and given.ndim in (2, 3) and given.shape[-1] == old.shape[-1]
    if not same or not given.is_floating_point():
        return None
    if _LINES.search(name):
        return _along_line(given, old.shape[-2]).reshape(old.shape)
    if _PLANES.search(name):
        extra = 1 if given.ndim == 3 else 0
        before, after = (math.isqrt(t.shape[-2] - extra) for t in (given, old))
        if before**2 + extra != given.shape[-2] or after**2 + extra != old.shape[-2]:
            return None
        return _over_plane(given, before, after, extra=extra).reshape(old.shape)
    return None


def _along_line(given: Tensor, length: int) -> Tensor:
    flat_1FN = given.float().reshape(-1, given.shape[-1]).T[None]
    resized = functional.interpolate(flat_1FN, size=length, mode="linear", align_corners=False)
    return resized[0].T.to(given.dtype)


def _over_plane(given: Tensor, before: int, after: int, *, extra: int) -> Tensor:
    flat_NF = given.reshape(-1, given.shape[-1])
    kept, grid = flat_NF[:extra], flat_NF[extra:].float()
    grid_1FHW = grid.T.reshape(1, -1, before, before)
    resized = functional.interpolate(
        grid_1FHW, size=(after, after), mode="bicubic", align_corners=False
    )
    rows = resized[0].flatten(1).T.to(given.dtype)
    return torch.cat([kept, rows])
