"""Pictures of what a classifier sees and says: flow as colours, bars and a timeline of classes."""

import math
import unicodedata
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError

Image = NDArray[np.uint8]

# Steps between the corners of the colour wheel: red, yellow, green, cyan, blue, magenta, red.
_WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))

_PAPER, _INK, _SOFT, _FAINT = (20, 25, 32), (236, 240, 245), (152, 164, 178), (52, 61, 72)
# Told apart also by the colour-blind; the first is for the class that leads on the whole.
_SERIES = ((86, 180, 233), (255, 158, 64), (66, 205, 162), (224, 140, 210), (240, 228, 66))
_PAD = 14
_ROW_PIXELS = 30
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@cache
def colour_wheel() -> NDArray[np.float64]:
    """Return the 55 hues (55, 3) of Baker et al. 2007, between 0 and 1.

    "A Database and Evaluation Methodology for Optical Flow": a hue has the more steps the better
    the eye tells its neighbours apart.
    """
    hues = [
        np.asarray(start) + (np.asarray(end) - start) * step / steps
        for steps, start, end in zip(_WHEEL_STEPS, _CORNERS[:-1], _CORNERS[1:], strict=True)
        for step in range(steps)
    ]
    return np.stack(hues)


def flow_colour(flow_2HW: NDArray[np.float32], *, bound: float) -> Image:
    """Return flow as colours (H, W, 3) RGB: the hue is the direction, no motion is white.

    Args:
        flow_2HW: x to the right and y downwards, pixels.
        bound: the length that has the full colour; longer vectors are shown darker.
    """
    x, y = flow_2HW.astype(np.float64) / bound
    length = np.hypot(x, y)[..., None]
    wheel = colour_wheel()
    place = (np.arctan2(-y, -x) / math.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(place).astype(np.int64)
    share = (place - below)[..., None]
    hue = (1 - share) * wheel[below] + share * wheel[(below + 1) % len(wheel)]
    colour = np.where(length <= 1, 1 - length * (1 - hue), hue * 0.75)
    return np.asarray(np.floor(255 * colour), dtype=np.uint8)


def draw_panel(
    frame_HWC: Image,
    *,
    history_SK: NDArray[np.float32],
    classes: Sequence[str],
    step: int = -1,
    flow_HWC: Image | None = None,
    top_k: int = 5,
    width: int = 960,
) -> Image:
    """Draw one picture of an overlay video: frame, flow, bars and timeline of the top classes.

    The size depends on the frame's shape, the number of classes shown and `width` alone, and both
    sides are even. The classes shown are those with the highest mean over the history, so all
    pictures of a video have the same ones, in the same colours.

    Args:
        frame_HWC: RGB.
        history_SK: probabilities of the K classes at the S moments of the whole video.
        classes: K names.
        step: which moment this picture shows; -1: the last.
        flow_HWC: flow as colours (`flow_colour`), beside the frame; None: no flow stream.
        top_k: how many classes are shown, at most 5.
        width: of the picture, pixels.

    Raises:
        UsageError: arguments that do not fit each other.
    """
    num_steps, num_classes = history_SK.shape
    if num_classes != len(classes) or not -num_steps <= step < num_steps:
        raise UsageError(
            f"A history of shape {history_SK.shape} does not fit step {step} and {len(classes)} "
            "classes: it needs one row per moment and one column per class."
        )
    shown = min(top_k, num_classes, len(_SERIES))
    order = np.argsort(-history_SK.mean(axis=0), kind="stable")[:shown]
    width -= width % 2
    half = (width - 3 * _PAD) // 2
    height = min(round(half * frame_HWC.shape[0] / frame_HWC.shape[1]), half)
    strip = max(shown * _ROW_PIXELS, 120)
    right, low = 2 * _PAD + half, 2 * _PAD + height
    if flow_HWC is None:  # bars and timeline stand beside the frame, otherwise below
        height = max(height, 2 * strip + _PAD)
        bars, line = (right, _PAD, half, strip), (right, 2 * _PAD + strip, half, strip)
        total = height + 2 * _PAD
    else:
        bars, line = (_PAD, low, half, strip), (right, low, half, strip)
        total = low + strip + _PAD
    canvas = np.full((total + total % 2, width, 3), _PAPER, np.uint8)
    _place(canvas, frame_HWC, box=(_PAD, _PAD, half, height))
    if flow_HWC is not None:
        _place(canvas, flow_HWC, box=(right, _PAD, half, height))
    _bars(canvas, history_SK[step, order], [classes[k] for k in order], box=bars)
    _timeline(canvas, history_SK[:, order], step=step % num_steps, box=line)
    return canvas


def _place(canvas: Image, picture_HWC: Image, *, box: tuple[int, int, int, int]) -> None:
    """Draw a picture as large as fits into a box (left, top, width, height), in its middle."""
    left, top, width, height = box
    scale = min(width / picture_HWC.shape[1], height / picture_HWC.shape[0])
    size = (round(picture_HWC.shape[1] * scale), round(picture_HWC.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(picture_HWC, size, interpolation=method)
    y, x = top + (height - size[1]) // 2, left + (width - size[0]) // 2
    canvas[y : y + size[1], x : x + size[0]] = small


def _bars(
    canvas: Image,
    probability_K: NDArray[np.float32],
    names: Sequence[str],
    *,
    box: tuple[int, int, int, int],
) -> None:
    """Draw name, bar and percentage of each class, one row each."""
    left, top, width, height = box
    row = height / len(names)
    name_width, number_width = round(width * 0.4), 52
    start, end = left + name_width + 8, left + width - number_width
    for k, (name, value) in enumerate(zip(names, probability_K, strict=True)):
        middle = round(top + row * (k + 0.5))
        best = value == probability_K.max()
        ink = _INK if best else _SOFT
        _write(canvas, fit_text(name, pixels=name_width), (left, middle + 5), colour=ink)
        cv2.rectangle(canvas, (start, middle - 6), (end, middle + 6), _FAINT, cv2.FILLED)
        filled = start + round((end - start) * float(np.clip(value, 0, 1)))
        if filled > start:
            cv2.rectangle(canvas, (start, middle - 6), (filled, middle + 6), _SERIES[k], -1)
        number = f"{value:.0%}"
        x = left + width - _text_width(number)
        _write(canvas, number, (x, middle + 5), colour=ink)


def _timeline(
    canvas: Image, history_SK: NDArray[np.float32], *, step: int, box: tuple[int, int, int, int]
) -> None:
    """Draw the probabilities over the video: bright up to this moment, dim after it."""
    left, top, width, height = box
    left, top, width, height = left + 44, top + 6, width - 50, height - 12
    for share in (0.0, 0.5, 1.0):
        y = round(top + height * (1 - share))
        cv2.line(canvas, (left, y), (left + width, y), _FAINT, 1)
        label = f"{share:.0%}"
        _write(canvas, label, (left - 8 - _text_width(label), y + 5), colour=_SOFT)
    xs = left + np.arange(len(history_SK)) / max(len(history_SK) - 1, 1) * width
    ys_SK = top + height * (1 - np.clip(history_SK, 0, 1))
    # OpenCV takes sixteenths of a pixel: smooth curves.
    points_KS2 = np.stack(np.broadcast_arrays(xs, ys_SK.T), axis=2)
    points_KS2 = np.round(points_KS2 * 16).astype(np.int32)
    for k in reversed(range(history_SK.shape[1])):
        dim = tuple((2 * a + b) // 3 for a, b in zip(_PAPER, _SERIES[k], strict=True))
        cv2.polylines(canvas, [points_KS2[k, step:]], False, dim, 1, cv2.LINE_AA, 4)
        cv2.polylines(canvas, [points_KS2[k, : step + 1]], False, _SERIES[k], 2, cv2.LINE_AA, 4)
    for k in reversed(range(history_SK.shape[1])):
        x, y = points_KS2[k, step].tolist()
        cv2.circle(canvas, (x, y), 4 * 16, _SERIES[k], cv2.FILLED, cv2.LINE_AA, 4)


def fit_text(text: str, *, pixels: int) -> str:
    """Return `text` in the font's letters (ASCII), its middle left out until it fits `pixels`."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = plain.encode("ascii", "replace").decode("ascii")
    kept, shown = len(plain), plain
    while kept > 4 and _text_width(shown) > pixels:
        kept -= 1
        tail = kept // 3
        shown = f"{plain[: kept - tail]}..{plain[-tail:]}"
    return shown


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.5, 1)[0][0])


def _write(canvas: Image, text: str, at: tuple[int, int], *, colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, at, _FONT, 0.5, colour, 1, cv2.LINE_AA)
