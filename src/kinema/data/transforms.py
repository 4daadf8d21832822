"""Geometry of clips: resizing, boxes, cropping, mirroring; pure functions on uint8 images.

Shapes: T images, H, W, C channels (3 for RGB, 2 for encoded flow: x then y). Flow arrives and stays
planar in memory, because the network wants it so; every function takes both arrangements.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.video.sizes import target_size

Images = NDArray[np.uint8]
Crops = Literal["centre", "three", "five", "zhu-five"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in pixels; parts outside the image repeat its border."""

    top: int
    left: int
    height: int
    width: int


def resize(frames_THWC: Images, size: str) -> Images:
    """Bring all images to a size of `kinema.video.sizes`, bilinear without smoothing (OpenCV).

    Encoded flow is treated as an image, as the published systems do when they load it: the
    vectors keep their length. (Extraction at another size scales them.)
    """
    height, width = frames_THWC.shape[1:3]
    return resize_to(frames_THWC, *target_size(size, height=height, width=width))


def resize_to(frames_THWC: Images, height: int, width: int) -> Images:
    """Bring all images to height x width, bilinear without smoothing (OpenCV)."""
    if frames_THWC.shape[1:3] == (height, width):
        return frames_THWC
    resized = _empty_like(frames_THWC, height, width)
    for image, out in _pictures(frames_THWC, resized):
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return resized


def warp(frames_THWC: Images, inverse: NDArray[np.float64], *, fill: tuple[float, ...]) -> Images:
    """Move all images alike, bilinear (OpenCV).

    Args:
        frames_THWC: the images.
        inverse: (2, 3), from a place (x, y, 1) of the result to the place it comes from; places
            are counted from the corner, the first pixel is at (0.5, 0.5).
        fill: the value of each channel where nothing comes from inside the image.
    """
    height, width = frames_THWC.shape[1:3]
    of_pixels = inverse.copy()
    of_pixels[:, 2] += inverse[:, :2].sum(1) / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = _empty_like(frames_THWC, height, width)
    for number, (image, out) in enumerate(_pictures(frames_THWC, warped)):
        border = fill if image.ndim == 3 else (fill[number % len(fill)],)
        cv2.warpAffine(image, of_pixels, (width, height), dst=out, flags=flags, borderValue=border)
    return warped


def crop(frames_THWC: Images, box: Box) -> Images:
    """Cut the same rectangle from all images; what lies outside repeats the border."""
    height, width = frames_THWC.shape[1:3]
    bottom, right = box.top + box.height, box.left + box.width
    if box.top >= 0 and box.left >= 0 and bottom <= height and right <= width:
        return frames_THWC[:, box.top : bottom, box.left : right]
    rows = np.clip(np.arange(box.top, bottom), 0, height - 1)
    columns = np.clip(np.arange(box.left, right), 0, width - 1)
    cut = _empty_like(frames_THWC, box.height, box.width)
    cut[:] = frames_THWC[:, rows[:, None], columns]
    return cut


def mirror(frames_THWC: Images, *, negated_channels: tuple[int, ...] = ()) -> Images:
    """Mirror left and right; encoded flow of `negated_channels` (x: channel 0) changes its sign."""
    mirrored = _empty_like(frames_THWC, *frames_THWC.shape[1:3])
    for image, out in _pictures(frames_THWC, mirrored):
        cv2.flip(image, 1, dst=out)
    for channel in negated_channels:
        _negate(mirrored[..., channel])
    return mirrored


def _negate(levels: Images) -> None:
    """Replace encoded flow q by 256 - q: 128 is zero. A 0, which only a codec makes, gives 255."""
    levels -= levels > 0
    np.invert(levels, out=levels)


def _is_planar(frames_THWC: Images) -> bool:
    """Whether each channel lies by itself in memory (flow), not beside the others (RGB)."""
    return frames_THWC.shape[3] > 1 and frames_THWC.strides[3] > frames_THWC.strides[2]


def _empty_like(frames_THWC: Images, height: int, width: int) -> Images:
    """Return memory for images of another size, arranged as the given ones."""
    num, channels = len(frames_THWC), frames_THWC.shape[3]
    if _is_planar(frames_THWC):
        return np.moveaxis(np.empty((num, channels, height, width), np.uint8), 1, 3)
    return np.empty((num, height, width, channels), np.uint8)


def _pictures(frames_THWC: Images, out_THWC: Images) -> Iterator[tuple[Images, Images]]:
    """Pair what OpenCV takes without a copy: planes (H, W), or images (H, W, C)."""
    for image_HWC, out_HWC in zip(frames_THWC, out_THWC, strict=True):
        if _is_planar(frames_THWC):
            for channel in range(frames_THWC.shape[3]):
                yield image_HWC[..., channel], out_HWC[..., channel]
        else:
            yield image_HWC, out_HWC


def crop_boxes(crops: Crops, *, height: int, width: int, crop: int) -> tuple[Box, ...]:
    """Return the boxes of a test protocol, squares of side `crop`.

    Args:
        crops: "centre"; "three" along the longer side (first, middle, last); "five": top left,
            top right, bottom left, bottom right, centre (with mirrors: the ten-crop of TSN);
            "zhu-five": the same, with two-stream-pytorch's centre, which lies 2 pixels to the
            right of the middle at 340x256 and crop 224 ([16:240, 60:284]).
        height: of the image.
        width: of the image.
        crop: side of the square; at most the shorter side of the image.

    Raises:
        UsageError: the crop is larger than the image.
    """
    if crop > min(height, width):
        raise UsageError(
            f"A crop of {crop}x{crop} does not fit into images of {width}x{height}: "
            "choose a larger resize or a smaller crop."
        )
    down, right = height - crop, width - crop
    middle = (down // 2, right // 2)
    if crops == "centre":
        corners = [middle]
    elif crops == "three" and right >= down:
        corners = [(middle[0], right * i // 2) for i in range(3)]
    elif crops == "three":
        corners = [(down * i // 2, middle[1]) for i in range(3)]
    else:
        shift = min(2, right - middle[1]) if crops == "zhu-five" else 0
        centre = (middle[0], middle[1] + shift)
        corners = [(0, 0), (0, right), (down, 0), (down, right), centre]
    return tuple(Box(top=top, left=left, height=crop, width=crop) for top, left in corners)
