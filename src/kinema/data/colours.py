"""Changes of brightness and colour, to the bit those of Pillow, whose names they have.

Each function takes and gives one RGB image (H, W, 3) in uint8.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_LEVELS = np.arange(256)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def brightness(image_HWC: Image, factor: float) -> Image:
    """Multiply all values."""
    return _looked_up(image_HWC, _mixed(np.zeros(256), _LEVELS, factor))


def contrast(image_HWC: Image, factor: float) -> Image:
    """Multiply the distance of all values from the image's mean gray."""
    mean = int(_gray(image_HWC).mean() + 0.5)
    return _looked_up(image_HWC, _mixed(np.full(256, mean), _LEVELS, factor))


def colour(image_HWC: Image, factor: float) -> Image:
    """Multiply the distance of each pixel from its own gray; 0 leaves a gray image."""
    return _mixed(_gray(image_HWC)[..., None], image_HWC, factor)


def sharpness(image_HWC: Image, factor: float) -> Image:
    """Multiply the distance from the smoothed image; the outermost pixels stay."""
    smooth = cv2.filter2D(image_HWC, -1, _SMOOTH)
    sharp: Image = image_HWC.copy()
    sharp[1:-1, 1:-1] = _mixed(smooth[1:-1, 1:-1], image_HWC[1:-1, 1:-1], factor)
    return sharp


def posterise(image_HWC: Image, bits: int) -> Image:
    """Keep the highest bits of each value."""
    kept = np.uint8(256 - 2 ** (8 - bits) if bits else 0)
    coarse: Image = image_HWC & kept
    return coarse


def solarise(image_HWC: Image, threshold: int) -> Image:
    """Invert the values from a threshold on."""
    return _looked_up(image_HWC, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def invert(image_HWC: Image) -> Image:
    """Turn light into dark."""
    inverted: Image = np.invert(image_HWC)
    return inverted


def autocontrast(image_HWC: Image) -> Image:
    """Stretch each channel over the whole scale."""
    tables = np.empty((256, 3), np.uint8)
    for channel in range(3):
        low, high = int(image_HWC[..., channel].min()), int(image_HWC[..., channel].max())
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        tables[:, channel] = np.clip(_LEVELS * scale + offset, 0, 255)
    return _looked_up(image_HWC, tables)


def equalise(image_HWC: Image) -> Image:
    """Make all values of each channel about equally frequent."""
    tables = np.empty((256, 3), np.uint8)
    for channel in range(3):
        counts = np.bincount(image_HWC[..., channel].ravel(), minlength=256)
        used = counts[counts > 0]
        step = int(used[:-1].sum()) // 255
        below = np.concatenate([[0], counts.cumsum()[:-1]])
        tables[:, channel] = np.clip((step // 2 + below) // step, 0, 255) if step else _LEVELS
    return _looked_up(image_HWC, tables)


def _gray(image_HWC: Image) -> Image:
    """Return luma as Pillow rounds it, (H, W)."""
    weighted = image_HWC.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    gray: Image = ((weighted + 0x8000) >> 16).astype(np.uint8)
    return gray


def _mixed(plain: NDArray[np.generic], full: NDArray[np.generic], factor: float) -> Image:
    """Return plain + factor * (full - plain), cut at the ends of the scale, then to whole."""
    start = plain.astype(np.float32)
    mixed = start + np.float32(factor) * (full.astype(np.float32) - start)
    cut: Image = np.clip(mixed, 0, 255).astype(np.uint8)
    return cut


def _looked_up(image_HWC: Image, table: NDArray[np.generic]) -> Image:
    """Replace values by a table, (256,) for all channels or (256, 3)."""
    found = cv2.LUT(image_HWC, table.astype(np.uint8).reshape(256, 1, -1))
    return found.astype(np.uint8, copy=False)
