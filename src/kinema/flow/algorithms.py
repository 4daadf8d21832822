"""Optical flow by name: all algorithms take gray frames and give pixels per frame.

Shapes: T frames, H, W, C channels; flow has 2 channels, x (to the right) and y (down).
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError, did_you_mean
from kinema.flow.dis import dis
from kinema.flow.farneback import farneback
from kinema.flow.motionnet import MOTIONNET, check_weights, motionnet
from kinema.flow.raft import raft
from kinema.flow.tvl1 import FAST, STANDARD, Tvl1Settings
from kinema.flow.tvl1_anywhere import tvl1_anywhere

Algorithm = Literal[
    "dis",
    "dis-fast",
    "dis-ultrafast",
    "farneback",
    "tvl1",
    "tvl1-fast",
    "raft-small",
    "raft-large",
    "motionnet",
]

ALGORITHMS: Mapping[str, partial[NDArray[np.float32]]] = {
    "dis": partial(dis, preset="medium"),
    "dis-fast": partial(dis, preset="fast"),
    "dis-ultrafast": partial(dis, preset="ultrafast"),
    "farneback": partial(
        farneback,
        pyramid_scale=0.5,
        levels=5,
        window=15,
        iterations=3,
        neighbourhood=5,
        sigma=1.1,
    ),
    "tvl1": partial(tvl1_anywhere, settings=STANDARD),
    "tvl1-fast": partial(tvl1_anywhere, settings=FAST),
    "raft-small": partial(raft, variant="small"),
    "raft-large": partial(raft, variant="large"),
}
MIN_SIDE = 16  # pixels; DIS needs 12


def find_algorithm(name: str) -> partial[NDArray[np.float32]]:
    """Return the function of an algorithm; its parameters are in `.keywords`.

    MotionNet, which is nothing without a file of weights, is not among them: see `compute`.

    Raises:
        UsageError: there is no such algorithm.
    """
    if name not in ALGORITHMS:
        raise UsageError(
            f"There is no flow algorithm '{name}'.{did_you_mean(name, (*ALGORITHMS, MOTIONNET))} "
            f"Known: {', '.join((*ALGORITHMS, MOTIONNET))}."
        )
    return ALGORITHMS[name]


def parameters(algorithm: str) -> dict[str, Any]:
    """Return the parameters of an algorithm, as stores and manifests record them."""
    keywords = find_algorithm(algorithm).keywords
    return {
        name: asdict(value) if isinstance(value, Tvl1Settings) else value
        for name, value in keywords.items()
    }


def compute(
    frames_THW: NDArray[np.uint8], *, algorithm: str = "dis", weights: str = ""
) -> NDArray[np.float32]:
    """Return the flow from every frame to the next, float32 (T-1, 2, H, W), pixels per frame.

    Pairs are independent: a pair gives the same flow whatever its neighbours (networks: up to the
    rounding of batched arithmetic; a MotionNet that estimates several pairs together: see
    `kinema.flow.motionnet.window_of`).

    Args:
        frames_THW: gray frames.
        algorithm: a name of the table, or motionnet.
        weights: the file of motionnet.

    Raises:
        UsageError: there is no such algorithm, the frames are smaller than 16 x 16 pixels, or
            motionnet has no file.
        KinemaError: the weights of a network are not on this machine.
    """
    check_weights(algorithm, weights)
    if algorithm == MOTIONNET:
        function = partial(motionnet, weights=weights)
    else:
        function = find_algorithm(algorithm)
    height, width = frames_THW.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UsageError(
            f"Frames of {width}x{height} pixels are too small for flow: "
            f"both sides must have at least {MIN_SIDE}. Ask for a larger size."
        )
    if len(frames_THW) < 2:
        return np.empty((0, 2, height, width), np.float32)
    return function(frames_THW)


def gray_from_rgb(
    frames_THWC: NDArray[np.uint8], *, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Return (T, H, W) gray frames by OpenCV's RGB2GRAY, resized in colour before.

    Args:
        frames_THWC: RGB frames, or gray ones with one channel.
        size: (height, width) to resize to: by area where both sides shrink, else bilinear.
    """
    height, width = size or frames_THWC.shape[1:3]
    gray_THW = np.empty((len(frames_THWC), height, width), np.uint8)
    for frame_HWC, gray_HW in zip(frames_THWC, gray_THW, strict=True):
        frame = resized(frame_HWC, height, width)
        if frame_HWC.shape[2] == 1:
            gray_HW[...] = frame.reshape(height, width)
        else:
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=gray_HW)
    return gray_THW


def resized(frame_HWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return a frame in another size: by area where both sides shrink, else bilinear."""
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    shrinks = height <= frame_HWC.shape[0] and width <= frame_HWC.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame_HWC, (width, height), interpolation=interpolation), np.uint8)
