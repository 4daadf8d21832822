"""The heavy, medium and simple noise of two-stream-action-recognition (Elkomy).

Parameters are drawn once per clip and applied alike to all its images; flow gets the same noise on
its encoded values, as in that system. There each of the three groups (crop, filters, addition) is
used with the level's probability and their order is random; the crop is geometry and is done here
with the spatial crop, before the other two, at no extra interpolation.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.config import Photometric

Images = NDArray[np.uint8]
Range = tuple[float, float]
_LEAST_SIDE = 0.1  # share of each side that a drawn crop leaves at least


@dataclass(frozen=True, kw_only=True)
class Level:
    """Probabilities of the three groups and the ranges of their parameters."""

    crop_chance: float
    crop: Range  # share cut from each side
    crop_sigma: float  # 0: uniform in the range; else normal around 0, clipped to the range
    filter_chance: float
    blur: Range  # standard deviation, pixels
    sharpen: Range  # weight of the sharpened image
    lightness: Range  # of the sharpened image
    emboss: Range  # weight of the embossed image
    strength: Range  # of the embossing
    add_chance: float
    add: int  # largest shift of a channel, grey levels


LEVELS: dict[Photometric, Level] = {
    "heavy": Level(
        crop_chance=0.9,
        crop=(0.0, 0.6),
        crop_sigma=0.5,
        filter_chance=0.9,
        blur=(0.0, 0.3),
        sharpen=(0.0, 0.15),
        lightness=(0.5, 1.5),
        emboss=(0.0, 1.0),
        strength=(0.1, 0.2),
        add_chance=0.9,
        add=12,
    ),
    "medium": Level(
        crop_chance=0.9,
        crop=(0.0, 0.15),
        crop_sigma=0.0,
        filter_chance=0.5,
        blur=(0.0, 0.25),
        sharpen=(0.0, 0.1),
        lightness=(0.5, 1.25),
        emboss=(0.0, 1.0),
        strength=(0.05, 0.1),
        add_chance=0.7,
        add=10,
    ),
    "simple": Level(
        crop_chance=0.6,
        crop=(0.0, 0.1),
        crop_sigma=0.0,
        filter_chance=0.35,
        blur=(0.0, 0.17),
        sharpen=(0.0, 0.07),
        lightness=(0.35, 1.0),
        emboss=(0.0, 0.7),
        strength=(0.1, 0.7),
        add_chance=0.45,
        add=7,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Parameters of blur, sharpening and embossing, applied in this order."""

    blur: float
    sharpen: float
    lightness: float
    emboss: float
    strength: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What was drawn for one clip."""

    margins: tuple[float, float, float, float]  # shares cut at top, right, bottom, left
    filters: Filters | None
    add: tuple[int, int, int]  # per channel; flow uses the first two
    add_first: bool  # before the filters


def draw_noise(level: Photometric, *, rng: np.random.Generator) -> Noise | None:
    """Draw the parameters of one clip; None for the level "none"."""
    if level == "none":
        return None
    ranges = LEVELS[level]
    margins = (0.0, 0.0, 0.0, 0.0)
    if rng.random() < ranges.crop_chance:
        margins = _draw_margins(ranges, rng)
    filters = None
    if rng.random() < ranges.filter_chance:
        filters = Filters(
            blur=rng.uniform(*ranges.blur),
            sharpen=rng.uniform(*ranges.sharpen),
            lightness=rng.uniform(*ranges.lightness),
            emboss=rng.uniform(*ranges.emboss),
            strength=rng.uniform(*ranges.strength),
        )
    add = [0, 0, 0]
    if rng.random() < ranges.add_chance:
        add = rng.integers(-ranges.add, ranges.add, size=3, endpoint=True).tolist()
    return Noise(
        margins=margins,
        filters=filters,
        add=(add[0], add[1], add[2]),
        add_first=bool(rng.random() < 0.5),
    )


def _draw_margins(ranges: Level, rng: np.random.Generator) -> tuple[float, float, float, float]:
    low, high = ranges.crop
    if ranges.crop_sigma:
        shares = np.clip(rng.normal(0.0, ranges.crop_sigma, size=4), low, high)
    else:
        shares = rng.uniform(low, high, size=4)
    top, right, bottom, left = shares.tolist()
    vertical = min(1.0, (1 - _LEAST_SIDE) / max(top + bottom, 1e-9))
    horizontal = min(1.0, (1 - _LEAST_SIDE) / max(left + right, 1e-9))
    return top * vertical, right * horizontal, bottom * vertical, left * horizontal


def apply_noise(noise: Noise, images_THWC: Images) -> Images:
    """Return new images with the drawn filters and additions; the margins are left to the crop."""
    if noise.add_first:
        return _filter(noise.filters, _add(noise.add, images_THWC))
    return _add(noise.add, _filter(noise.filters, images_THWC))


def _add(add: tuple[int, int, int], images_THWC: Images) -> Images:
    if not any(add):
        return images_THWC
    shifted = np.empty_like(images_THWC)
    for channel in range(images_THWC.shape[3]):
        table = np.clip(np.arange(256) + add[channel], 0, 255).astype(np.uint8)
        shifted[..., channel] = table[images_THWC[..., channel]]
    return shifted


def _filter(filters: Filters | None, images_THWC: Images) -> Images:
    if filters is None:
        return images_THWC
    kernels = (sharpen_kernel(filters), emboss_kernel(filters))
    filtered = np.empty_like(images_THWC)
    for image, out in zip(images_THWC, filtered, strict=True):
        changed = np.ascontiguousarray(image)
        if filters.blur > 0:
            changed = cv2.GaussianBlur(changed, (3, 3), filters.blur)
        for kernel in kernels:
            changed = cv2.filter2D(changed, -1, kernel)
        out[:] = changed
    return filtered


def sharpen_kernel(filters: Filters) -> NDArray[np.float32]:
    """Return the 3x3 mixture of the identity and a Laplacian sharpening of sum `lightness`."""
    effect = np.full((3, 3), -1.0)
    effect[1, 1] = 8.0 + filters.lightness
    return _mixed(filters.sharpen, effect)


def emboss_kernel(filters: Filters) -> NDArray[np.float32]:
    """Return the 3x3 mixture of the identity and a relief lit from the top left."""
    slope = np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]) * filters.strength
    effect = slope + np.diag([-1.0, 1.0, 1.0])
    return _mixed(filters.emboss, effect)


def _mixed(weight: float, effect: NDArray[np.float64]) -> NDArray[np.float32]:
    identity = np.zeros((3, 3))
    identity[1, 1] = 1.0
    return ((1 - weight) * identity + weight * effect).astype(np.float32)
