"""RandAugment for videos: some operations of a fixed list, drawn once per clip.

The list, the ranges and the probability of one half are those of timm's "increasing" RandAugment
(Cubuk et al. 2020), which PySlowFast and pytorchvideo train with. All images of a clip get the
same operations; equalise, autocontrast and contrast look at each image by itself, as there. It
works on the cropped images.

Flow gets the geometric operations alone, and its vectors turn and shear with the images: the
result is the flow of a video that was moved so. What changes brightness and colour leaves motion
as it is.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinema.data import colours, transforms
from kinema.data.transforms import Images
from kinema.errors import UsageError

OperationName = Literal[
    "autocontrast", "equalise", "invert", "rotate", "posterise", "solarise", "colour",
    "contrast", "brightness", "sharpness", "shear-x", "shear-y", "translate-x", "translate-y",
]  # fmt: skip
OPERATIONS: tuple[OperationName, ...] = get_args(OperationName)
_CHANCE = 0.5
_MOST = 10.0  # the largest magnitude
_FORM = re.compile(r"m(\d+(?:\.\d+)?)-n(\d+)(?:-std(\d+(?:\.\d+)?))?")
# What a magnitude of 10 means; of these, the sign is drawn.
_RANGES: dict[str, float] = {
    "rotate": 30.0,  # degrees
    "colour": 0.9,  # added to the factor 1
    "contrast": 0.9,
    "brightness": 0.9,
    "sharpness": 0.9,
    "shear-x": 0.3,  # pixels per pixel
    "shear-y": 0.3,
    "translate-x": 0.45,  # of the side
    "translate-y": 0.45,
}
_POSTERISE_BITS, _SOLARISE_LEVELS = 4, 256
_RGB_FILL = (124, 116, 104)  # mean of ImageNet, where an image was moved away
_FLOW_ZERO = 128


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One drawn operation; `amount` is in its own unit, 0 where it has none."""

    name: OperationName
    amount: float = 0.0


def parse_randaugment(text: str) -> tuple[float, int, float]:
    """Read "m7-n4" or "m7-n4-std0.5" into (magnitude, number of operations, its deviation).

    Raises:
        UsageError: another form, or a magnitude above 10.
    """
    found = _FORM.fullmatch(text)
    if not found or float(found[1]) > _MOST:
        raise UsageError(
            f"augment.randaugment={text} is not possible: write magnitude (0 to 10) and number of "
            "operations as m7-n4, with m7-n4-std0.5 the magnitude varies by 0.5."
        )
    return float(found[1]), int(found[2]), float(found[3] or 0)


def draw_operations(text: str, *, rng: np.random.Generator) -> tuple[Operation, ...]:
    """Draw the operations of one clip, each of the number with probability one half.

    Args:
        text: as for `parse_randaugment`; "" draws nothing.
        rng: where the randomness comes from.
    """
    if not text:
        return ()
    magnitude, number, deviation = parse_randaugment(text)
    drawn = []
    for _ in range(number):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        is_used, sign = rng.random() < _CHANCE, 1 if rng.random() < 0.5 else -1
        share = float(np.clip(rng.normal(magnitude, deviation), 0, _MOST)) / _MOST
        if is_used:
            drawn.append(Operation(name=name, amount=_amount(name, share, sign)))
    return tuple(drawn)


def _amount(name: OperationName, share: float, sign: int) -> float:
    if name == "posterise":
        return _POSTERISE_BITS - int(share * _POSTERISE_BITS)
    if name == "solarise":
        return _SOLARISE_LEVELS - int(share * _SOLARISE_LEVELS)
    change = sign * share * _RANGES.get(name, 0.0)
    return 1.0 + change if name in _WITH_AMOUNT else change


def apply_operations(operations: tuple[Operation, ...], images_THWC: Images) -> Images:
    """Apply drawn operations to all images, RGB (C = 3) or encoded flow (C = 2)."""
    is_flow = images_THWC.shape[3] == 2
    for operation in operations:
        if operation.name in _MOVES:
            images_THWC = _move(operation, images_THWC)
        elif not is_flow:
            images_THWC = np.stack([_recolour(operation, image) for image in images_THWC])
    return images_THWC


def _recolour(operation: Operation, image_HWC: Images) -> Images:
    image_HWC = np.ascontiguousarray(image_HWC)
    if operation.name in _WITH_AMOUNT:
        return _WITH_AMOUNT[operation.name](image_HWC, operation.amount)
    if operation.name == "posterise":
        return colours.posterise(image_HWC, int(operation.amount))
    if operation.name == "solarise":
        return colours.solarise(image_HWC, int(operation.amount))
    return _WITHOUT_AMOUNT[operation.name](image_HWC)


def _move(operation: Operation, images_THWC: Images) -> Images:
    """Warp the images, and turn the vectors of flow with them."""
    height, width, channels = images_THWC.shape[1:]
    inverse = source_places(operation, height=height, width=width)
    if channels != 2:
        return transforms.warp(images_THWC, inverse, fill=_RGB_FILL)
    moved = transforms.warp(images_THWC, inverse, fill=(_FLOW_ZERO, _FLOW_ZERO))
    if np.array_equal(inverse[:, :2], np.eye(2)):
        return moved
    vectors = (moved.astype(np.float32) - _FLOW_ZERO) @ np.linalg.inv(inverse[:, :2]).T
    np.clip(np.rint(vectors, out=vectors), -127, 127, out=vectors)
    moved[:] = vectors + _FLOW_ZERO
    return moved


def source_places(operation: Operation, *, height: int, width: int) -> NDArray[np.float64]:
    """Return the matrix (2, 3) from a place (x, y, 1) of the result to the place it came from.

    Places are counted from the image's corner, so the first pixel is at (0.5, 0.5). Turns are
    counter-clockwise around the centre, shears are from the top left corner (as with Pillow).
    """
    amount, name = operation.amount, operation.name
    inverse = np.eye(2, 3)
    if name == "rotate":
        angle, centre = math.radians(amount), np.array([width / 2, height / 2])
        cos, sin = math.cos(angle), math.sin(angle)
        inverse[:, :2] = [[cos, -sin], [sin, cos]]
        inverse[:, 2] = centre - inverse[:, :2] @ centre
    elif name == "shear-x":
        inverse[0, 1] = amount
    elif name == "shear-y":
        inverse[1, 0] = amount
    elif name == "translate-x":
        inverse[0, 2] = amount * width
    else:
        inverse[1, 2] = amount * height
    return inverse


_MOVES = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
_WITH_AMOUNT: dict[str, Callable[[Images, float], Images]] = {
    "colour": colours.colour,
    "contrast": colours.contrast,
    "brightness": colours.brightness,
    "sharpness": colours.sharpness,
}
_WITHOUT_AMOUNT: dict[str, Callable[[Images], Images]] = {
    "autocontrast": colours.autocontrast,
    "equalise": colours.equalise,
    "invert": colours.invert,
}
