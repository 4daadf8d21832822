"""Training augmentation: drawn once per clip, applied purely to all its images and streams."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kinema.config import AugmentConfig, Crop
from kinema.data import transforms
from kinema.data.erasing import Erasure, apply_erasure, draw_erasure
from kinema.data.photometric import Noise, apply_noise, draw_noise
from kinema.data.randaugment import (
    Operation,
    apply_operations,
    draw_operations,
    parse_randaugment,
)
from kinema.data.transforms import Box, Images
from kinema.errors import UsageError, did_you_mean

_SNAP_PIXELS = 3  # a crop side closer than this to the network's side becomes it (TSN)
_RATIOS = (3 / 4, 4 / 3)  # aspect of random-resized crops
_ATTEMPTS = 10
# Positions of multi-scale crops in quarters of the free space (down, right): the corners, the
# centre, the middles of the sides and the middles between corners and centre.
_THIRTEEN = (
    (0, 0), (0, 4), (4, 0), (4, 4), (2, 2),
    (2, 0), (2, 4), (4, 2), (0, 2),
    (1, 1), (1, 3), (3, 1), (3, 3),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What was drawn for one clip: the same for all its images and for both streams."""

    box: Box  # in the resized image
    mirror: bool
    noise: Noise | None
    operations: tuple[Operation, ...] = ()
    erasure: Erasure | None = None


def check(config: AugmentConfig, *, crop: int) -> None:
    """Refuse settings that cannot be drawn from.

    Args:
        config: kinds and ranges.
        crop: side of the network's input.

    Raises:
        UsageError: such settings.
    """
    sides = config.short_sides
    if config.crop == "short-jitter" and not (len(sides) == 2 and crop <= sides[0] <= sides[1]):
        raise UsageError(
            f"augment.short_sides={','.join(map(str, sides))} is not possible: give the least and "
            f"the largest short side, not below data.crop={crop}, such as {crop},{crop * 5 // 4}."
        )
    if config.randaugment:
        parse_randaugment(config.randaugment)
    if not 0 <= config.erase <= 1:
        raise UsageError(f"augment.erase={config.erase} is not a probability from 0 to 1.")
    if config.repeats < 1:
        raise UsageError(
            f"augment.repeats={config.repeats} is not possible: at least 1 clip is drawn."
        )


def draw(
    config: AugmentConfig, *, height: int, width: int, crop: int, rng: np.random.Generator
) -> Draw:
    """Draw the augmentation of one clip.

    Args:
        config: kinds and ranges. `crop` is one of
            "multiscale": sides from `scales` times the shorter side, at most `max_distort` steps
            apart, at one of 13 places (Very Deep Two-Stream, TSN);
            "random-resized": area between the least and the largest of `scales` of the image's,
            aspect 3/4 to 4/3 (torchvision's RandomResizedCrop);
            "random-scale": a square of one of `scales` times the shorter side, anywhere;
            "short-jitter": what a square of the network's side is in the image whose shorter side
            was brought to one of `short_sides`, all whole numbers equally likely, anywhere
            (non-local networks, PySlowFast);
            "random": a square of the network's side anywhere, not resized;
            "centre": that square in the middle; "squash": the whole image.
        height: of the resized images.
        width: of the resized images.
        crop: side of the network's input.
        rng: where the randomness comes from.
    """
    box = _BOXES[config.crop](config, height, width, crop, rng)
    mirrored = bool(rng.random() < 0.5)
    noise = draw_noise(config.photometric, rng=rng)
    if noise:
        box = _without_margins(box, noise.margins)
    return Draw(
        box=box,
        mirror=config.mirror and mirrored,
        noise=noise,
        operations=draw_operations(config.randaugment, rng=rng),
        erasure=draw_erasure(config.erase, side=crop, rng=rng),
    )


def apply(
    drawn: Draw, frames_THWC: Images, *, crop: int, negated_channels: tuple[int, ...] = ()
) -> Images:
    """Apply a draw: cut, resize to crop x crop (bilinear), mirror, RandAugment, noise, erase.

    Args:
        drawn: from `draw`.
        frames_THWC: images of the size that `draw` was told.
        crop: side of the result, pixels.
        negated_channels: channels of encoded flow that change sign in the mirror.

    Returns:
        (T, crop, crop, C).
    """
    images = transforms.resize_to(transforms.crop(frames_THWC, drawn.box), crop, crop)
    if drawn.mirror:
        images = transforms.mirror(images, negated_channels=negated_channels)
    images = apply_operations(drawn.operations, images)
    if drawn.noise:
        images = apply_noise(drawn.noise, images)
    return apply_erasure(drawn.erasure, images) if drawn.erasure else images


def parse_mirror_labels(text: str, classes: Sequence[str]) -> dict[int, int]:
    """Read "left=right,right=left" into {id of left: id of right, id of right: id of left}.

    Raises:
        UsageError: not of this form, an unknown class, or a pair without its counterpart.
    """
    ids = {name: i for i, name in enumerate(classes)}
    remap: dict[int, int] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, other = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(f"augment.mirror_labels: '{pair}' is not a pair, write left=right.")
        for known in (name, other):
            if known not in ids:
                raise UsageError(
                    f"augment.mirror_labels: there is no class '{known}'."
                    f"{did_you_mean(known, classes)}"
                )
        remap[ids[name]] = ids[other]
    for label, other_label in remap.items():
        if remap.get(other_label) != label:
            name, other = classes[label], classes[other_label]
            raise UsageError(
                f"augment.mirror_labels: '{name}={other}' needs '{other}={name}' beside it."
            )
    return remap


def multiscale_sizes(
    config: AugmentConfig, *, height: int, width: int, crop: int
) -> list[tuple[int, int]]:
    """Return the (height, width) pairs that multi-scale crops are drawn from, all equally likely.

    two-stream-pytorch (`legacy_offsets`) does not snap sides to the network's.
    """
    base = min(height, width)
    sides = [int(base * scale) for scale in config.scales]
    if not config.legacy_offsets:
        sides = [crop if abs(side - crop) < _SNAP_PIXELS else side for side in sides]
    sides = [max(min(side, base), 1) for side in sides]
    return [
        (high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= config.max_distort
    ]


def multiscale_offsets(*, height: int, width: int, box: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the 13 (top, left) places of a box (height, width) in an image."""
    down, right = max(height - box[0], 0) // 4, max(width - box[1], 0) // 4
    return [(i * down, j * right) for i, j in _THIRTEEN]


def _multiscale(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    sizes = multiscale_sizes(config, height=height, width=width, crop=crop)
    high, wide = sizes[rng.integers(len(sizes))]
    # two-stream-pytorch places every box as if it had the network's side; what runs past the
    # border is cut off and the rest stretched.
    placed = (crop, crop) if config.legacy_offsets else (high, wide)
    offsets = multiscale_offsets(height=height, width=width, box=placed)
    top, left = offsets[rng.integers(len(offsets))]
    return Box(top=top, left=left, height=min(high, height - top), width=min(wide, width - left))


def _random_resized(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    low, high = math.log(_RATIOS[0]), math.log(_RATIOS[1])
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(min(config.scales), max(config.scales))
        ratio = math.exp(rng.uniform(low, high))
        high_side, wide_side = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < high_side <= height and 0 < wide_side <= width:
            return _anywhere(high_side, wide_side, height, width, rng)
    wide_side = min(width, round(height * _RATIOS[1]))
    high_side = min(height, round(width / _RATIOS[0]))
    return _central(high_side, wide_side, height, width)


def _random_scale(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    side = max(int(min(height, width) * config.scales[rng.integers(len(config.scales))]), 1)
    return _anywhere(side, side, height, width, rng)


def _short_jitter(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    drawn = int(rng.integers(config.short_sides[0], config.short_sides[1], endpoint=True))
    side = max(round(min(height, width) * crop / drawn), 1)
    return _anywhere(side, side, height, width, rng)


def _random(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    return _anywhere(crop, crop, height, width, rng)


def _centre(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    return _central(crop, crop, height, width)


def _squash(
    config: AugmentConfig, height: int, width: int, crop: int, rng: np.random.Generator
) -> Box:
    return Box(top=0, left=0, height=height, width=width)


def _anywhere(high: int, wide: int, height: int, width: int, rng: np.random.Generator) -> Box:
    """Place a box at random; where it is larger than the image, the image is in its middle."""
    top = int(rng.integers(height - high + 1)) if high <= height else (height - high) // 2
    left = int(rng.integers(width - wide + 1)) if wide <= width else (width - wide) // 2
    return Box(top=top, left=left, height=high, width=wide)


def _central(high: int, wide: int, height: int, width: int) -> Box:
    return Box(top=(height - high) // 2, left=(width - wide) // 2, height=high, width=wide)


def _without_margins(box: Box, margins: tuple[float, float, float, float]) -> Box:
    top, right, bottom, left = margins
    height = max(round(box.height * (1 - top - bottom)), 1)
    width = max(round(box.width * (1 - left - right)), 1)
    return Box(
        top=box.top + int(box.height * top),
        left=box.left + int(box.width * left),
        height=height,
        width=width,
    )


_BoxFunction = Callable[[AugmentConfig, int, int, int, np.random.Generator], Box]
_BOXES: dict[Crop, _BoxFunction] = {
    "multiscale": _multiscale,
    "random-resized": _random_resized,
    "random-scale": _random_scale,
    "short-jitter": _short_jitter,
    "random": _random,
    "centre": _centre,
    "squash": _squash,
}
