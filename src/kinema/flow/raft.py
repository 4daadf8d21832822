"""RAFT: Teed and Deng, Recurrent All-Pairs Field Transforms (ECCV 2020), in torchvision.

The networks want colour; here they get the gray frame three times, so that every algorithm
sees the same. torch is imported on use: the other algorithms do without it.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.device import pairs_that_fit

if TYPE_CHECKING:
    import torch

Variant = Literal["small", "large"]
_MOST_PAIRS = {"cpu": 8, "cuda": 64}  # in one batch
_MIN_SIDE = 128  # the correlation pyramid needs 16 cells of 8 pixels


def raft(frames_THW: NDArray[np.uint8], *, variant: Variant) -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames, pixels per frame, a batch of pairs at a time.

    Runs on the GPU where there is one. The last of the network's 12 refinements is taken.

    Raises:
        KinemaError: the weights are not on this machine and cannot be downloaded.
    """
    return flow_of_network(frames_THW, network=load_network(variant))


def flow_of_network(
    frames_THW: NDArray[np.uint8],
    *,
    network: "torch.nn.Module",
    pairs_per_batch: int | None = None,
) -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames by a network of RAFT, on its device.

    By default as many pairs are computed at once as half of a GPU's free memory holds (at most
    64), or 2 GiB on the CPU (at most 8).
    """
    import torch

    device = next(network.parameters()).device
    pad = (top, _), (left, _) = pad_widths(*frames_THW.shape[1:])
    num_pairs, (height, width) = len(frames_THW) - 1, frames_THW.shape[1:]
    size = pairs_per_batch or pairs_that_fit(
        device,
        bytes_per_pair=_bytes_per_pair(height + sum(pad[0]), width + sum(pad[1])),
        most=_MOST_PAIRS["cuda" if device.type == "cuda" else "cpu"],
    )
    flow_T2HW = np.empty((num_pairs, 2, height, width), np.float32)
    with torch.inference_mode():
        for first in range(0, num_pairs, size):
            chunk = np.pad(frames_THW[first : first + size + 1], ((0, 0), *pad), "edge")
            x_T3HW = torch.from_numpy(chunk).to(device)[:, None].expand(-1, 3, -1, -1)
            x_T3HW = x_T3HW.float() / 127.5 - 1
            flow = network(x_T3HW[:-1], x_T3HW[1:])[-1]
            inner = flow[:, :, top : top + height, left : left + width]
            flow_T2HW[first : first + size] = inner.cpu().numpy()
    return flow_T2HW


def _bytes_per_pair(height: int, width: int) -> int:
    """Return about how much one pair takes: all against all at 1/8 size, and the features."""
    cells = (height // 8) * (width // 8)
    return 16 * cells * cells + 2500 * height * width


def pad_widths(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how much to add above, below, left and right: multiples of 8, at least 128 pixels."""

    def split(side: int) -> tuple[int, int]:
        extra = max(_MIN_SIDE, -(-side // 8) * 8) - side
        return extra // 2, extra - extra // 2

    return split(height), split(width)


@lru_cache(maxsize=1)
def load_network(variant: Variant) -> "torch.nn.Module":
    """Return the network with torchvision's weights, on the GPU where there is one.

    Raises:
        KinemaError: the weights are not on this machine and cannot be downloaded.
    """
    import torch
    from torchvision.models import optical_flow

    builders = {
        "small": (optical_flow.raft_small, optical_flow.Raft_Small_Weights.DEFAULT),
        "large": (optical_flow.raft_large, optical_flow.Raft_Large_Weights.DEFAULT),
    }
    build, weights = builders[variant]
    try:
        network = build(weights=weights, progress=False)
    except (URLError, OSError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise KinemaError(
            f"The weights of raft-{variant} are not on this machine and cannot be downloaded "
            f"({error}). Fetch {weights.url} elsewhere and put it at {place}, "
            "or choose another algorithm (dis, farneback)."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ready: torch.nn.Module = network.eval().to(device)
    return ready
