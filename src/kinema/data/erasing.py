"""Random erasing: one rectangle of all images of a clip is filled with noise (Zhong et al. 2017).

The rule is timm's with mode "pixel", which PySlowFast uses on videos: a place for the whole clip,
and noise that differs from pixel to pixel and from image to image.
"""

import math
from dataclasses import dataclass

import numpy as np

from kinema.data.transforms import Box, Images

_AREA = (0.02, 1 / 3)  # of the image's
_ASPECT = (0.3, 1 / 0.3)  # height to width
_ATTEMPTS = 10
# Grey levels: what is noise of mean 0 and deviation 1 behind the usual normalisation.
_RGB_MEAN, _RGB_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_FLOW_MEAN, _FLOW_DEVIATION = (128.0, 128.0), (57.63, 57.63)


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """A rectangle of the cropped images, and the seed of the noise in it."""

    box: Box
    seed: int


def draw_erasure(chance: float, *, side: int, rng: np.random.Generator) -> Erasure | None:
    """Draw what is erased from a clip; None where nothing is.

    Args:
        chance: probability that something is; 0 draws nothing at all.
        side: of the square images.
        rng: where the randomness comes from.
    """
    if not chance or rng.random() >= chance:
        return None
    for _ in range(_ATTEMPTS):
        area = side * side * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height < side and 0 < width < side:
            top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
            box = Box(top=int(top), left=int(left), height=height, width=width)
            return Erasure(box=box, seed=int(rng.integers(2**32)))
    return None


def apply_erasure(erasure: Erasure, images_THWC: Images) -> Images:
    """Return images with noise in the rectangle; flow gets it around 128, which is no motion."""
    box, channels = erasure.box, images_THWC.shape[3]
    is_flow = channels == 2
    mean = np.array(_FLOW_MEAN if is_flow else _RGB_MEAN, np.float32)
    deviation = np.array(_FLOW_DEVIATION if is_flow else _RGB_DEVIATION, np.float32)
    shape = (len(images_THWC), box.height, box.width, channels)
    noise = np.random.default_rng(erasure.seed).standard_normal(shape, np.float32)
    erased: Images = images_THWC.copy(order="K")
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    erased[:, rows, columns] = np.clip(np.rint(mean + deviation * noise), int(is_flow), 255)
    return erased
