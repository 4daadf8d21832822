"""TV-L1 where it is fastest: on the GPU in batches of pairs where there is one, else on the CPU."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinema.flow.device import visible_gpus
from kinema.flow.tvl1 import Tvl1Settings, tvl1


def tvl1_anywhere(frames_THW: NDArray[np.uint8], *, settings: Tvl1Settings) -> NDArray[np.float32]:
    """Return what `kinema.flow.tvl1.tvl1` does; a GPU's flow differs from it by rounding alone."""
    if not _has_gpu():
        return tvl1(frames_THW, settings=settings)
    import torch

    from kinema.flow.tvl1_torch import tvl1_batched

    frames = torch.from_numpy(np.ascontiguousarray(frames_THW)).cuda()
    flow_T2HW: NDArray[np.float32] = tvl1_batched(frames, settings=settings).cpu().numpy()
    return flow_T2HW


@cache
def _has_gpu() -> bool:
    return bool(visible_gpus())
