"""Draws against the published crop rules, and what applying them does."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from kinema.config import AugmentConfig
from kinema.data.augment import (
    Draw,
    apply,
    check,
    draw,
    multiscale_offsets,
    multiscale_sizes,
    parse_mirror_labels,
)
from kinema.data.transforms import Box
from kinema.errors import UsageError

RGB_SCALES, FLOW_SCALES = (1.0, 0.875, 0.75, 0.66), (1.0, 0.875, 0.75)


def draws(config, *, height=256, width=340, crop=224, num=2000):
    rng = np.random.default_rng(3)
    return [draw(config, height=height, width=width, crop=crop, rng=rng) for _ in range(num)]


def test_multiscale_sides_are_those_of_tsn():
    sizes = multiscale_sizes(AugmentConfig(scales=RGB_SCALES), height=256, width=340, crop=224)
    sides = [256, 224, 192, 168]
    expected = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) < 2]
    assert sizes == expected
    assert len(sizes) == 10
    far = AugmentConfig(scales=RGB_SCALES, max_distort=3)
    assert len(multiscale_sizes(far, height=256, width=340, crop=224)) == 16


def test_sides_within_three_pixels_snap_to_the_crop():
    sides = multiscale_sizes(
        AugmentConfig(scales=(1.0, 0.86, 0.885), max_distort=0), height=256, width=340, crop=224
    )
    assert sides == [(256, 256), (220, 220), (224, 224)]  # 220.2 stays, 226.6 -> 226 snaps
    legacy = AugmentConfig(scales=(0.885,), legacy_offsets=True)
    assert multiscale_sizes(legacy, height=256, width=340, crop=224) == [(226, 226)]


def test_thirteen_offsets_by_hand():
    offsets = multiscale_offsets(height=256, width=340, box=(192, 168))
    down, right = 16, 43  # (256 - 192) // 4, (340 - 168) // 4
    expected = {
        (0, 0), (0, 4 * right), (4 * down, 0), (4 * down, 4 * right), (2 * down, 2 * right),
        (2 * down, 0), (2 * down, 4 * right), (4 * down, 2 * right), (0, 2 * right),
        (down, right), (down, 3 * right), (3 * down, right), (3 * down, 3 * right),
    }  # fmt: skip
    assert len(offsets) == 13
    assert set(offsets) == expected
    assert (64, 172) in expected  # small crops reach the bottom right corner


def test_multiscale_draws_all_sizes_and_places_and_stays_inside():
    boxes = [drawn.box for drawn in draws(AugmentConfig(scales=RGB_SCALES), num=6000)]
    sizes = {(box.height, box.width) for box in boxes}
    assert len(sizes) == 10
    assert all(box.top + box.height <= 256 and box.left + box.width <= 340 for box in boxes)
    places = {(box.top, box.left) for box in boxes if (box.height, box.width) == (192, 168)}
    assert places == set(multiscale_offsets(height=256, width=340, box=(192, 168)))


@pytest.mark.parametrize(("scales", "pairs"), [(RGB_SCALES, 130), (FLOW_SCALES, 91)])
def test_legacy_offsets_truncate_26_boxes(scales, pairs):
    """two-stream-pytorch: 26 of the 130 (RGB) or 91 (flow) combinations run past the border."""
    config = AugmentConfig(scales=scales, legacy_offsets=True)
    sizes = multiscale_sizes(config, height=256, width=340, crop=224)
    offsets = multiscale_offsets(height=256, width=340, box=(224, 224))
    combined = list(itertools.product(sizes, offsets))
    assert len(combined) == pairs
    past = [1 for (h, w), (top, left) in combined if top + h > 256 or left + w > 340]
    assert len(past) == 26
    boxes = {drawn.box for drawn in draws(config, num=8000)}
    expected = {
        Box(top=t, left=x, height=min(h, 256 - t), width=min(w, 340 - x))
        for (h, w), (t, x) in combined
    }
    assert boxes == expected


def test_random_resized_has_the_distribution_of_torchvision():
    config = AugmentConfig(crop="random-resized", scales=(0.25, 1.0))
    boxes = [d.box for d in draws(config, height=240, width=320, num=4000)]
    ours = np.array([(b.top, b.left, b.height, b.width) for b in boxes])
    torch.manual_seed(0)
    image = torch.zeros(1, 240, 320)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.25, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    )
    error = theirs.std(0) / np.sqrt(4000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.08)


def test_random_resized_falls_back_to_the_centre():
    config = AugmentConfig(crop="random-resized", scales=(1.0, 1.0))
    box = draws(config, height=100, width=300, num=1)[0].box
    assert box == Box(top=0, left=83, height=100, width=133)


def test_random_scale_squares_of_the_short_side():
    scales = tuple(0.95**k for k in range(5))
    boxes = [d.box for d in draws(AugmentConfig(crop="random-scale", scales=scales))]
    assert {b.height for b in boxes} == {256, 243, 231, 219, 208}
    assert all(b.height == b.width for b in boxes)
    assert max(b.left + b.width for b in boxes) == 340


@pytest.mark.parametrize(("height", "width"), [(256, 340), (360, 240)])
def test_short_jitter_is_a_crop_of_the_image_at_the_drawn_size(height, width):
    """Against the published order: resize the short side to 256..320, crop 224 anywhere."""
    config = AugmentConfig(crop="short-jitter")
    boxes = [d.box for d in draws(config, height=height, width=width, num=6000)]
    short = min(height, width)
    rng, expected = np.random.default_rng(0), []
    for _ in range(6000):
        side = rng.integers(256, 321)
        high, wide = (round(length * side / short) for length in (height, width))
        top, left = rng.integers(high - 224 + 1), rng.integers(wide - 224 + 1)
        expected.append(np.array([top, left, 224]) * short / side)
    theirs = np.array(expected)
    ours = np.array([(b.top, b.left, b.height) for b in boxes])
    error = theirs.std(0) / np.sqrt(6000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error + 0.05).all()
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.05)
    assert {b.height for b in boxes} == {round(short * 224 / side) for side in range(256, 321)}
    assert all(b.height == b.width for b in boxes)
    assert max(b.top + b.height for b in boxes) == height
    assert max(b.left + b.width for b in boxes) == width


def test_short_sides_are_drawn_equally_often():
    config = AugmentConfig(crop="short-jitter", short_sides=(224, 227))
    sides = [d.box.height for d in draws(config, height=2240, width=2240, num=4000)]
    counts = {side: sides.count(side) for side in sorted(set(sides))}
    assert list(counts) == [round(2240 * 224 / drawn) for drawn in (227, 226, 225, 224)]
    assert all(count == pytest.approx(1000, rel=0.12) for count in counts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crop": "short-jitter", "short_sides": (200, 320)},
            r"short_sides=200,320.*=224.*224,280",
        ),
        ({"crop": "short-jitter", "short_sides": (320, 256)}, r"short_sides=320,256"),
        ({"crop": "short-jitter", "short_sides": (256,)}, r"short_sides=256 is not possible"),
        ({"randaugment": "m7"}, r"randaugment=m7 is not possible"),
        ({"erase": 1.5}, r"erase=1\.5 is not a probability"),
        ({"repeats": 0}, r"repeats=0.*at least 1 clip"),
    ],
)
def test_settings_that_cannot_be_drawn_from_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        check(AugmentConfig(**options), crop=224)
    check(AugmentConfig(short_sides=(1, 1)), crop=224)  # of no effect with another crop


def test_random_crop_and_padding():
    boxes = [d.box for d in draws(AugmentConfig(crop="random"))]
    assert {(b.height, b.width) for b in boxes} == {(224, 224)}
    assert {b.top for b in boxes} == set(range(33))
    assert {b.left for b in boxes} == set(range(117))
    small = draws(AugmentConfig(crop="random"), height=200, width=300, num=50)
    assert {d.box.top for d in small} == {-12}
    image = np.random.default_rng(0).integers(0, 256, (1, 200, 300, 3), np.uint8)
    cut = apply(small[0], image, crop=224)
    assert cut.shape == (1, 224, 224, 3)
    assert np.array_equal(cut[:, 0], cut[:, 11])


def test_centre_and_squash():
    assert draws(AugmentConfig(crop="centre"), num=1)[0].box == Box(
        top=16, left=58, height=224, width=224
    )
    squash = draws(AugmentConfig(crop="squash", mirror=False), num=1)[0]
    image = np.random.default_rng(0).integers(0, 256, (2, 256, 340, 3), np.uint8)
    assert np.array_equal(apply(squash, image, crop=224)[1], cv2.resize(image[1], (224, 224)))


def test_mirror_half_of_the_time_and_never_when_off():
    mirrored = sum(d.mirror for d in draws(AugmentConfig()))
    assert 900 < mirrored < 1100
    assert not any(d.mirror for d in draws(AugmentConfig(mirror=False)))


def test_apply_is_crop_resize_mirror_for_every_image():
    image = np.random.default_rng(1).integers(0, 256, (3, 60, 80, 3), np.uint8)
    drawn = Draw(box=Box(top=5, left=7, height=40, width=30), mirror=True, noise=None)
    expected = [cv2.flip(cv2.resize(i[5:45, 7:37], (32, 32)), 1) for i in image]
    assert np.array_equal(apply(drawn, image, crop=32), np.stack(expected))


def test_rgb_and_flow_get_the_same_draw():
    config = AugmentConfig(photometric="heavy", randaugment="m7-n4", erase=0.5)
    for seed in range(20):
        first, second = (
            draw(config, height=256, width=340, crop=224, rng=np.random.default_rng((seed, 0, 7)))
            for _ in range(2)
        )
        assert first == second


def test_mirror_labels():
    classes = ("left", "right", "up")
    assert parse_mirror_labels("", classes) == {}
    assert parse_mirror_labels("left=right, right=left", classes) == {0: 1, 1: 0}
    with pytest.raises(UsageError, match=r"no class 'rihgt'. Did you mean 'right'\?"):
        parse_mirror_labels("left=rihgt", classes)
    with pytest.raises(UsageError, match=r"'left=right' needs 'right=left'"):
        parse_mirror_labels("left=right", classes)
    with pytest.raises(UsageError, match="'left' is not a pair"):
        parse_mirror_labels("left", classes)
