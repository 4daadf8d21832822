"""Pairs of frames whose motion is known because it was made: patches that move over a picture.

A network that learns flow from videos alone finds long motions slowly, and noise where nothing
moves. Pictures of the same videos, moved by known motions, show it both without a label (as the
Flying Chairs of Dosovitskiy et al., FlowNet, ICCV 2015, but made of the training's own frames).

Shapes: L pictures, P pairs, H = W = S, flow (2, S, S): x (to the right) and y (down), in pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

_PATCHES = 3  # of a pair at most
_STILL = 0.6  # of pairs have a background that does not move
_BACKGROUND_PIXELS = (0.3, 1.0, 3.0, 8.0, 16.0)  # usual lengths of motion, one is drawn
_PATCH_PIXELS = (0.5, 2.0, 5.0, 10.0)
_LONGEST = 0.3  # of the side
_RADII = (10.0, 60.0)  # of patches, pixels
_FLICKER = 0.3  # of pairs have a second frame that is lighter or darker
_NOISE = (0.0, 0.0, 1.0, 2.0)  # standard deviations, one is drawn
_COMPRESSED = 0.5  # of pairs
_JPEG = (40, 90)  # qualities

Picture = NDArray[np.float32]


def made_pairs(
    pictures_LHW: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return frames (P, 2, S, S) and flow (P, 2, S, S) of so many pairs.

    Each has a background and up to three patches from among the pictures, in any order.

    Args:
        pictures_LHW: gray squares, such as the first frames of a batch.
        count: P.
        rng: of all that is drawn.
    """
    pairs = []
    for _ in range(count):
        chosen = rng.permutation(len(pictures_LHW))[: int(rng.integers(1, 2 + _PATCHES))]
        pairs.append(made_pair(pictures_LHW[chosen], rng))
    return np.stack([frames for frames, _ in pairs]), np.stack([flow for _, flow in pairs])


def made_pair(
    pictures_LHW: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return two frames (2, S, S) and the flow (2, S, S) from the first to the second.

    Args:
        pictures_LHW: gray squares: the background, then one for each patch.
        rng: of all that is drawn.
    """
    side = pictures_LHW.shape[1]
    motion = np.eye(2, 3)
    if rng.random() >= _STILL:
        motion = _motion(rng, side, pixels=float(rng.choice(_BACKGROUND_PIXELS)))
    first, second = _moved(pictures_LHW[0], motion)
    flow = flow_of(motion, side)
    for picture in pictures_LHW[1:]:
        motion = _motion(rng, side, pixels=float(rng.choice(_PATCH_PIXELS)))
        gain, offset = rng.uniform(0.5, 1.1), rng.uniform(-30, 60)
        one, other = (gain * frame + offset for frame in _moved(picture, motion))
        mask = _patch(rng, side)
        mask2 = cv2.warpAffine(mask, motion, (side, side))
        first, second = first + mask * (one - first), second + mask2 * (other - second)
        flow = np.where(mask > 0.5, flow_of(motion, side), flow)
    if rng.random() < _FLICKER:
        second = second + rng.normal(0, 3)
    return _recorded(np.stack([first, second]), rng), flow.astype(np.float32)


def flow_of(motion: NDArray[np.float64], side: int) -> Picture:
    """Return the flow (2, S, S) of an affine motion (2, 3) that takes places to places."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    (a, b, c), (d, e, f) = motion
    return np.stack([a * x + b * y + c - x, d * x + e * y + f - y]).astype(np.float32)


def _motion(rng: np.random.Generator, side: int, *, pixels: float) -> NDArray[np.float64]:
    """Return a shift of about so many pixels, a small rotation and zoom, as a matrix (2, 3)."""
    length = min(pixels * np.exp(rng.normal(0, 0.8)), _LONGEST * side)
    direction = rng.uniform(0, 2 * np.pi)
    strength = min(pixels, 2.0)
    angle, zoom = rng.normal(0, 0.03) * strength, np.exp(rng.normal(0, 0.02) * strength)
    centre = rng.uniform(0, side, 2)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    shift = length * np.array([np.cos(direction), np.sin(direction)])
    return np.column_stack([turn, shift + centre - turn @ centre])


def _moved(picture_HW: NDArray[np.uint8], motion: NDArray[np.float64]) -> tuple[Picture, Picture]:
    """Return a picture before and after a motion, mirrored at its border."""
    height, width = picture_HW.shape
    after = cv2.warpAffine(
        picture_HW,
        motion,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return picture_HW.astype(np.float32), after.astype(np.float32)


def _patch(rng: np.random.Generator, side: int) -> Picture:
    """Return the mask (S, S) of a polygon with soft edges, 0 to 1."""
    corners = int(rng.integers(5, 10))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.5, 1, corners) * rng.uniform(*_RADII)
    x, y = radii * np.cos(angles), rng.uniform(0.3, 1) * radii * np.sin(angles)
    turn = rng.uniform(0, np.pi)
    points = np.column_stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)]
    )
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(points + rng.uniform(0, side, 2)).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 1.5))
    mask_HW: Picture = np.divide(soft, 255, dtype=np.float32)
    return mask_HW


def _recorded(frames_THW: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return frames as a camera gives them: with noise, and half of them compressed."""
    noisy = frames_THW + rng.choice(_NOISE) * rng.normal(size=frames_THW.shape)
    frames: NDArray[np.uint8] = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    if rng.random() < _COMPRESSED:
        options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_JPEG))]
        for frame in frames:
            coded = cv2.imencode(".jpg", frame, options)[1]
            frame[:] = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
    return frames
