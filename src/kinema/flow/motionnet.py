"""MotionNet as an algorithm: flow by a network that was trained without labels on own videos.

A network for colour gets the gray frame three times, so that every algorithm sees the same. torch
is imported on use: the other algorithms do without it.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.flow.device import pairs_that_fit
from kinema.flow.motion_file import describe_motion, load_motion

if TYPE_CHECKING:
    import torch

MOTIONNET = "motionnet"
_WINDOWS = {"motionnet": 10}  # pairs that are estimated together, by network; others: each alone
_BYTES_PER_PIXEL = {"motionnet": 300, "motionnet-tiny": 1200}  # of a frame, per pair
_MOST_PAIRS = {"cpu": 10, "cuda": 640}  # in one batch


def window_of(weights: str) -> int:
    """Return how many pairs the network of a file estimates together.

    Pairs 0 to n - 1 of a video are a window, n to 2n - 1 the next; the last one is filled up with
    the last frame.

    Raises:
        KinemaError: no such file, or of another kind.
    """
    return _WINDOWS.get(describe_motion(weights)["network"], 1)


def check_weights(algorithm: str, weights: str) -> None:
    """Refuse MotionNet without a file of weights, and a file where no network takes it.

    Raises:
        UsageError: one is there without the other.
        KinemaError: no such file, or of another kind.
    """
    if algorithm == MOTIONNET and not weights:
        raise UsageError(
            "The flow algorithm 'motionnet' needs the weights of a MotionNet, which "
            "`kinema train-motion` writes: `kinema flow --weights FILE`, or data.flow_weights=FILE "
            "for flow on the fly."
        )
    if algorithm != MOTIONNET and weights:
        raise UsageError(
            f"The flow algorithm '{algorithm}' takes no weights ({weights}): leave them out, or "
            "choose motionnet."
        )
    if weights:
        describe_motion(weights)


def motionnet(frames_THW: NDArray[np.uint8], *, weights: str) -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames, pixels per frame, from the first frame on.

    Runs on the GPU where there is one.

    Args:
        frames_THW: the frames; the first one begins a window, see `window_of`.
        weights: a file of `kinema train-motion`.

    Raises:
        KinemaError: no such file, or of another kind.
    """
    import torch

    from kinema.flow.motion_network import full_flow

    facts = describe_motion(weights)
    network = _network(weights, facts["weights_sha256"])
    window = _WINDOWS.get(facts["network"], 1)
    device = next(network.parameters()).device
    num_pairs, (height, width) = len(frames_THW) - 1, frames_THW.shape[1:]
    together = pairs_that_fit(
        device,
        bytes_per_pair=_BYTES_PER_PIXEL[facts["network"]] * height * width,
        most=_MOST_PAIRS["cuda" if device.type == "cuda" else "cpu"],
    )
    flow_T2HW = np.empty((num_pairs, 2, height, width), np.float32)
    chunk = max(window, together // window * window)
    with torch.inference_mode():
        for first in range(0, num_pairs, chunk):
            x_TCHW = _to_tensor(frames_THW[first : first + chunk + 1], device)
            flow = _in_windows(x_TCHW, window) if window > 1 else x_TCHW[None]
            pairs = full_flow(network, flow).flatten(0, 1)
            wanted = min(chunk, num_pairs - first)
            flow_T2HW[first : first + wanted] = pairs[:wanted].cpu().numpy()
    return flow_T2HW


def _to_tensor(frames_THW: NDArray[np.uint8], device: "torch.device") -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(frames_THW)).to(device)[:, None].float() / 255


def _in_windows(x_TCHW: "torch.Tensor", window: int) -> "torch.Tensor":
    """Return windows (B, window + 1, C, H, W) that share a frame; the last frame fills them up."""
    import torch

    num_windows = -(-(len(x_TCHW) - 1) // window)
    starts = torch.arange(num_windows, device=x_TCHW.device)[:, None] * window
    places = starts + torch.arange(window + 1, device=x_TCHW.device)
    return x_TCHW[places.clamp(max=len(x_TCHW) - 1)]


@lru_cache(maxsize=1)
def _network(weights: str, _sha256: str) -> "torch.nn.Module":
    import torch
    from torch.utils.data import get_worker_info

    # A loading process is forked, and a GPU is out of its reach.
    has_gpu = torch.cuda.is_available() and get_worker_info() is None
    device = "cuda" if has_gpu else "cpu"
    ready: torch.nn.Module = load_motion(Path(weights))[0].eval().to(device)
    return ready
