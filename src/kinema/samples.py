"""A sample data set made in code, on which neither stream can succeed alone.

A class is an appearance (the pattern on a disc) and a motion (how the disc moves). Two properties
are exact by construction, not by tuning:

- Gray frames, and so optical flow, hold nothing of the pattern: its two colours have the same
  luma, and everything else is drawn without looking at the class.
- A single frame holds nothing of the motion: the path is folded into the frame like a ray of
  light between mirrors, so that the disc's place is uniform at every moment, whatever the motion.

The best that RGB alone can reach is 1 / (number of motions), flow alone 1 / (number of
appearances).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.console import say, track
from kinema.errors import UsageError
from kinema.video.writer import VideoWriter

Appearance = Literal["striped", "checkered"]
Motion = Literal["shuttle", "bounce", "circle"]
APPEARANCES: tuple[Appearance, ...] = get_args(Appearance)
MOTIONS: tuple[Motion, ...] = get_args(Motion)
CLASSES = tuple(f"{appearance}-{motion}" for appearance in APPEARANCES for motion in MOTIONS)

_FPS = 16.0
_MARGIN_PIXELS = 8  # of the background around the frame, for the shaking camera
_CHROMA = 45.0  # distance of both colours from gray; larger ones would leave the RGB cube
_GRAIN = 2.5  # standard deviation of the sensor noise, gray levels


@dataclass(frozen=True, kw_only=True)
class Disc:
    """The moving object: a textured disc and where it is in each frame (pixels)."""

    appearance: Appearance
    centres: NDArray[np.float64]  # (T, 2): x, y
    radius: float
    cell: float  # width of a stripe or a check
    angle: float  # of the pattern, radians
    chroma_3: NDArray[np.float32]  # RGB offset without luma: one colour is plus, the other minus
    speckle: NDArray[np.float32]  # luma of the disc's square, moves with it


def make_samples(
    folder: Path,
    *,
    videos_per_class: int = 24,
    num_scenes: int = 8,
    num_frames: int = 32,
    size: tuple[int, int] = (160, 120),
    seed: int = 0,
) -> None:
    """Write ``folder/<class>/<scene>/<number>.mp4``; videos that exist already are kept.

    Every scene (a background) holds all classes, so that whole scenes can be held out. A video
    depends on the seed and its own name alone.

    Args:
        folder: made if it is missing.
        videos_per_class: spread evenly over the scenes.
        num_scenes: how many backgrounds.
        num_frames: of each video, 16 per second.
        size: width and height in pixels, even numbers of at least 64.
        seed: another seed gives other videos of the same classes.

    Raises:
        UsageError: a size or number that makes no video.
    """
    width, height = size
    if min(size) < 64 or width % 2 or height % 2:
        raise UsageError(f"size={width}x{height}: sides must be even and at least 64 pixels.")
    if min(videos_per_class, num_scenes, num_frames - 1) < 1:
        raise UsageError("Samples need at least one video per class, one scene and two frames.")
    paths = [
        folder / name / f"scene-{number % num_scenes + 1:02d}" / f"{number + 1:03d}.mp4"
        for number in range(videos_per_class)
        for name in CLASSES
    ]
    missing = [path for path in paths if not path.exists()]
    for path in track(missing, total=len(missing), what="Making sample videos"):
        with VideoWriter(path, fps=_FPS, width=width, height=height) as writer:
            for frame in sample_video(path, num_frames=num_frames, size=size, seed=seed):
                writer.write(frame)
    kept = len(paths) - len(missing)
    say(f"{len(missing)} sample videos of {len(CLASSES)} classes made in {folder}, {kept} kept.")


def sample_video(
    path: Path, *, num_frames: int, size: tuple[int, int], seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (H, W, 3) RGB of the sample that is named ``class/scene/number.mp4``."""
    class_name, scene, number = path.parts[-3], path.parts[-2], int(path.stem)
    scene_number = int(scene.removeprefix("scene-"))
    background = draw_background(size, rng=np.random.default_rng((seed, 0, scene_number)))
    rng = np.random.default_rng((seed, 1, CLASSES.index(class_name), number))
    disc = draw_disc(class_name, num_frames=num_frames, size=size, rng=rng)
    return render(disc, background=background, rng=rng)


def draw_background(size: tuple[int, int], *, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a coloured cloud texture, a margin larger than the frame on all sides."""
    width, height = (side + 2 * _MARGIN_PIXELS for side in size)
    layers = [
        _noise((width, height), grain, rng) * weight
        for grain, weight in ((48, 22.0), (12, 14.0), (4, 10.0))
    ]
    cb, cr = (_noise((width, height), 40, rng) * 12 + rng.uniform(-14, 14) for _ in range(2))
    luma = rng.uniform(95, 160) + np.sum(layers, axis=0)
    return np.asarray(luma[..., None] + _chroma_rgb(cb, cr), dtype=np.float32)


def draw_disc(
    class_name: str, *, num_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> Disc:
    """Draw the disc of one video; the draws are the same for every class of equal `rng`."""
    appearance, motion = class_name.split("-")
    width, height = size
    radius = height * rng.uniform(0.15, 0.20)
    margin = 0.8 * radius
    box = np.array([width - 2 * margin, height - 2 * margin])
    start = margin + rng.random(2) * box
    swing = height * rng.uniform(0.16, 0.22)
    turns = np.arange(num_frames) / rng.uniform(20, 28) * rng.choice([-1, 1]) + rng.random()
    path = swing * np.stack([np.cos(2 * math.pi * turns), np.sin(2 * math.pi * turns)], axis=1)
    if motion == "shuttle":
        path[:, 1] = 0
    elif motion == "bounce":
        path[:, 0] = 0
    hue, side = rng.uniform(0, 2 * math.pi), 2 * math.ceil(radius) + 4
    return Disc(
        appearance="striped" if appearance == "striped" else "checkered",
        centres=fold(start + path, low=margin, box=box),
        radius=radius,
        cell=radius * rng.uniform(0.38, 0.5),
        angle=rng.uniform(0, math.pi),
        chroma_3=_chroma_rgb(_CHROMA * math.cos(hue), _CHROMA * math.sin(hue)),
        speckle=rng.uniform(110, 145) + 12 * _noise((side, side), 5, rng),
    )


def fold(
    points_T2: NDArray[np.float64], *, low: float, box: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Reflect points at the walls of a box from `low` to ``low + box``.

    A point that is uniform in the box stays so after any shift and the reflection.
    """
    phase = np.mod(points_T2 - low, 2 * box)
    return low + np.minimum(phase, 2 * box - phase)


def render(
    disc: Disc, *, background: NDArray[np.float32], rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (H, W, 3): background and disc seen by a slightly shaking camera."""
    num_frames = len(disc.centres)
    height, width = (side - 2 * _MARGIN_PIXELS for side in background.shape[:2])
    steps = rng.normal(0, 0.35, (num_frames, 2))
    shake_T2 = np.clip(np.cumsum(steps, axis=0), 1 - _MARGIN_PIXELS, _MARGIN_PIXELS - 1)
    middle = np.array([width - 1, height - 1]) / 2 + _MARGIN_PIXELS
    for centre, shake in zip(disc.centres, shake_T2, strict=True):
        x, y = (middle + shake).tolist()
        view = np.asarray(cv2.getRectSubPix(background, (width, height), (x, y)), np.float32)
        _paint(view, disc, centre=centre - shake)
        view += _GRAIN * rng.standard_normal((height, width, 1), dtype=np.float32)
        yield np.clip(np.rint(view), 0, 255).astype(np.uint8)


def _paint(view: NDArray[np.float32], disc: Disc, *, centre: NDArray[np.float64]) -> None:
    """Draw the disc into the view, its edge and place exact below a pixel."""
    left, top = np.maximum(np.floor(centre - disc.radius).astype(int) - 1, 0)
    right, bottom = np.maximum(np.ceil(centre + disc.radius).astype(int) + 2, 0)
    patch = view[top:bottom, left:right]
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]]
    y, x = y + top - centre[1], x + left - centre[0]
    cover = np.clip(disc.radius - np.hypot(x, y) + 0.5, 0, 1)[..., None]
    half = (disc.speckle.shape[0] - 1) / 2
    luma = cv2.remap(
        disc.speckle,
        (x + half).astype(np.float32),
        (y + half).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    along = x * math.cos(disc.angle) + y * math.sin(disc.angle)
    sign = np.sign(np.sin(along * math.pi / disc.cell))
    if disc.appearance == "checkered":
        across = y * math.cos(disc.angle) - x * math.sin(disc.angle)
        sign = sign * np.sign(np.sin(across * math.pi / disc.cell))
    patch += cover * (luma[..., None] + sign[..., None] * disc.chroma_3 - patch)


def _noise(size: tuple[int, int], grain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise (H, W) between about -1 and 1 whose blobs are `grain` pixels wide."""
    width, height = size
    coarse = rng.uniform(-1, 1, (math.ceil(height / grain) + 2, math.ceil(width / grain) + 2))
    smooth = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, dtype=np.float32)


def _chroma_rgb(
    cb: NDArray[np.float32] | float, cr: NDArray[np.float32] | float
) -> NDArray[np.float32]:
    """Return the RGB offset of two chroma values; its luma (ITU-R BT.601) is zero."""
    green = -0.344136 * cb - 0.714136 * cr
    return np.stack([1.402 * cr, green, 1.772 * cb], axis=-1).astype(np.float32)
