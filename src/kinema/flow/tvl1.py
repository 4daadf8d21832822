"""TV-L1 flow: Zach, Pock and Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow.

Steps and parameters are those of OpenCV's DualTVL1OpticalFlow (which needs a build of OpenCV with
contrib), and so is the flow, up to when an iteration stops. The kernels are compiled on first use.
"""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError

MIN_SIDE = 16  # pixels, of the frames and of the smallest level of the pyramid
_THREAD_LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Tvl1Settings:
    """The parameters of TV-L1; the defaults are OpenCV's."""

    tau: float = 0.25  # time step of the dual update
    lambda_: float = 0.15  # weight of the data against smoothness
    theta: float = 0.3  # coupling of u and v
    scales: int = 5
    scale_step: float = 0.8  # size of a level over that of the next finer one
    warps: int = 5  # per level
    epsilon: float = 0.01  # stop where the mean square change of u is below epsilon^2
    inner_iterations: int = 30
    outer_iterations: int = 10
    median: int = 5  # side of the median filter before every outer iteration; 0: none

    def __post_init__(self) -> None:
        """Refuse values that no flow can be computed with."""
        positive = ("tau", "lambda_", "theta", "scales", "warps")
        for name in (*positive, "inner_iterations", "outer_iterations"):
            value = getattr(self, name)
            if not value > 0:
                raise UsageError(f"{name} of TV-L1 is {value}: it must be above 0.")
        if not 0 < self.scale_step < 1:
            raise UsageError(
                f"scale_step of TV-L1 is {self.scale_step}: allowed is above 0, below 1."
            )
        if not self.epsilon >= 0:
            raise UsageError(f"epsilon of TV-L1 is {self.epsilon}: it must not be negative.")
        if self.median not in (0, 5):
            raise UsageError(f"median of TV-L1 is {self.median}: allowed are 5 and 0 (none).")

    def threshold(self, height: int, width: int) -> float:
        """Return the sum of squared changes of u at which a pair stops."""
        return self.epsilon * self.epsilon * height * width


STANDARD = Tvl1Settings()
FAST = Tvl1Settings(scale_step=0.5, warps=4, epsilon=0.015)


def tvl1(
    frames_THW: NDArray[np.uint8],
    *,
    settings: Tvl1Settings = STANDARD,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the flow from every frame to the next, float32 (T-1, 2, H, W), pixels per frame.

    A pair gives the same flow, to the bit, whatever its neighbours and the number of threads.

    Args:
        frames_THW: gray frames.
        settings: the parameters of the algorithm.
        threads: pairs computed at once. By default as many as this process may use processors,
            or fewer where OMP_NUM_THREADS or NUMBA_NUM_THREADS says so.

    Raises:
        UsageError: the frames are not uint8 (T, H, W) or too small, or threads is below 1.
    """
    _check(frames_THW, threads)
    num_pairs, (height, width) = max(len(frames_THW) - 1, 0), frames_THW.shape[1:]
    flow_T2HW = np.empty((num_pairs, 2, height, width), np.float32)
    waiting = deque(range(num_pairs))

    def work() -> None:
        from kinema.flow.tvl1_pair import PairFlow

        pair_flow = PairFlow(height, width, settings)
        while waiting:
            try:
                pair = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            pair_flow.compute(frames_THW[pair], frames_THW[pair + 1], out_2HW=flow_T2HW[pair])

    threads = min(threads or _usable_threads(), num_pairs)
    if threads < 2:
        work()
        return flow_T2HW
    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()
        finally:
            waiting.clear()  # after an error or Ctrl-C, the other threads end with their pair
    return flow_T2HW


def _check(frames_THW: NDArray[np.uint8], threads: int | None) -> None:
    if frames_THW.dtype != np.uint8 or frames_THW.ndim != 3:
        raise UsageError(
            f"TV-L1 got frames of shape {frames_THW.shape}, {frames_THW.dtype}: it needs "
            "gray frames (T, H, W) of uint8."
        )
    height, width = frames_THW.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UsageError(
            f"Frames of {width}x{height} pixels are too small for TV-L1: "
            f"both sides must have at least {MIN_SIDE}. Ask for a larger size."
        )
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}: it must be at least 1, or None for all cores.")


def _usable_threads() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    limits = [os.environ.get(name, "") for name in _THREAD_LIMITS]
    return max(1, min([processors, *(int(limit) for limit in limits if limit.isdecimal())]))
