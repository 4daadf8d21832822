"""RandAugment: Pillow's operations, timm's ranges, and flow that is moved as its video would be."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm_ops

from kinema.config import AugmentConfig
from kinema.data import colours
from kinema.data.augment import apply, draw
from kinema.data.randaugment import (
    OPERATIONS,
    Operation,
    apply_operations,
    draw_operations,
    parse_randaugment,
    source_places,
)
from kinema.errors import UsageError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
DARK = np.random.default_rng(1).integers(20, 90, (40, 56, 3), np.uint8)
DARK[:10] = 33
FLAT = np.full((40, 56, 3), 7, np.uint8)
SMOOTH = cv2.GaussianBlur(
    np.random.default_rng(2).integers(0, 256, (40, 56, 3), np.uint8), (0, 0), 4
)
PICTURES = (NOISE, DARK, FLAT)


@pytest.mark.parametrize("factor", [0.1, 0.37, 1.0, 1.63, 1.9])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("colour", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_factors_are_those_of_pillow_to_the_bit(name, theirs, factor):
    for picture in PICTURES:
        expected = np.asarray(theirs(Image.fromarray(picture)).enhance(factor))
        assert np.array_equal(getattr(colours, name)(picture, factor), expected)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("invert", ImageOps.invert),
        ("autocontrast", ImageOps.autocontrast),
        ("equalise", ImageOps.equalize),
    ],
)
def test_operations_without_amount_are_those_of_pillow(name, theirs):
    for picture in PICTURES:
        expected = np.asarray(theirs(Image.fromarray(picture)))
        assert np.array_equal(getattr(colours, name)(picture), expected)


def test_posterise_and_solarise_are_those_of_pillow():
    for picture in PICTURES:
        image = Image.fromarray(picture)
        for bits in range(1, 8):
            expected = np.asarray(ImageOps.posterize(image, bits))
            assert np.array_equal(colours.posterise(picture, bits), expected)
        assert not colours.posterise(picture, 0).any()
        for threshold in (0, 77, 128, 256):
            expected = np.asarray(ImageOps.solarize(image, threshold))
            assert np.array_equal(colours.solarise(picture, threshold), expected)


@pytest.mark.parametrize(
    ("name", "amount", "coefficients"),
    [
        ("shear-x", 0.21, (1, 0.21, 0, 0, 1, 0)),
        ("shear-y", -0.3, (1, 0, 0, -0.3, 1, 0)),
        ("translate-x", 0.25, (1, 0, 14, 0, 1, 0)),
        ("translate-y", -0.3, (1, 0, 0, 0, 1, -12)),
    ],
)
def test_moves_are_those_of_pillow(name, amount, coefficients):
    image = Image.fromarray(SMOOTH)
    expected = image.transform(
        image.size, Image.AFFINE, coefficients, Image.BILINEAR, fillcolor=(124, 116, 104)
    )
    check_moved(Operation(name=name, amount=amount), np.asarray(expected))


@pytest.mark.parametrize("degrees", [30, -12.5])
def test_turns_are_those_of_pillow(degrees):
    expected = Image.fromarray(SMOOTH).rotate(degrees, Image.BILINEAR, fillcolor=(124, 116, 104))
    check_moved(Operation(name="rotate", amount=degrees), np.asarray(expected))


def check_moved(operation, expected):
    found = apply_operations((operation,), np.stack([SMOOTH, SMOOTH]))
    assert np.array_equal(found[0], found[1])
    error = np.abs(found[0].astype(int) - expected)
    outside = (expected == (124, 116, 104)).all(2).astype(np.uint8)
    inside = cv2.dilate(outside, np.ones((5, 5))) == 0
    inside[[0, -1]] = inside[:, [0, -1]] = False  # Pillow does not mix the border with the fill
    assert inside.mean() > 0.4
    assert error[inside].max() <= 2
    assert error[inside].mean() < 0.5
    assert np.median(error[outside > 0], axis=0).max() == 0


def test_amounts_are_those_of_timm_at_every_magnitude():
    for magnitude in range(11):
        amounts = {name: set() for name in OPERATIONS}
        rng = np.random.default_rng(magnitude)
        for _ in range(150):
            for operation in draw_operations(f"m{magnitude}-n10", rng=rng):
                amounts[operation.name].add(round(operation.amount, 6))
        expected = {
            "rotate": timm_ops._rotate_level_to_arg(magnitude, {})[0],
            "shear-x": timm_ops._shear_level_to_arg(magnitude, {})[0],
            "translate-y": timm_ops._translate_rel_level_to_arg(magnitude, {})[0],
        }
        for name, value in expected.items():
            assert amounts[name] == {round(abs(value), 6), -round(abs(value), 6)}
        change = abs(timm_ops._enhance_increasing_level_to_arg(magnitude, {})[0] - 1)
        for name in ("colour", "contrast", "brightness", "sharpness"):
            assert amounts[name] == {round(1 + change, 6), round(1 - change, 6)}
        bits = timm_ops._posterize_increasing_level_to_arg(magnitude, {})[0]
        assert amounts["posterise"] == {bits}
        threshold = timm_ops._solarize_increasing_level_to_arg(magnitude, {})[0]
        assert amounts["solarise"] == {threshold}


def test_magnitude_seven_by_hand():
    rng = np.random.default_rng(0)
    found = {
        op.name: abs(op.amount) for _ in range(300) for op in draw_operations("m7-n4", rng=rng)
    }
    assert found["rotate"] == pytest.approx(21)
    assert found["translate-x"] == pytest.approx(0.315)
    assert (found["posterise"], found["solarise"]) == (2, 77)
    assert found["brightness"] in (pytest.approx(1.63), pytest.approx(0.37))


def test_half_of_the_operations_are_used_all_equally_often():
    rng = np.random.default_rng(4)
    drawn = [draw_operations("m5-n4", rng=rng) for _ in range(7000)]
    counts = {name: sum(op.name == name for ops in drawn for op in ops) for name in OPERATIONS}
    assert len(counts) == 14
    assert sum(counts.values()) == pytest.approx(14000, rel=0.03)
    assert all(count == pytest.approx(1000, rel=0.15) for count in counts.values())
    spread = [
        abs(op.amount)
        for _ in range(3000)
        for op in draw_operations("m5-n1-std2", rng=rng)
        if op.name == "rotate"
    ]
    assert np.std(spread) == pytest.approx(6, rel=0.25)  # 2 of 10 of 30 degrees


@pytest.mark.parametrize("text", ["m11-n2", "7-4", "m7", "rand-m7-n4", "m7-n4-std"])
def test_other_forms_are_refused(text):
    with pytest.raises(UsageError, match=r"randaugment=.*write magnitude \(0 to 10\).*m7-n4"):
        parse_randaugment(text)


def test_a_clip_has_the_same_operations_in_all_images_and_can_be_replayed():
    config = AugmentConfig(randaugment="m9-n4", crop="centre")
    images = np.stack([NOISE[:40, :40]] * 3)
    for seed in range(30):
        one, two = (
            draw(config, height=40, width=40, crop=32, rng=np.random.default_rng(seed))
            for _ in range(2)
        )
        assert one == two
        found = apply(one, images, crop=32)
        assert np.array_equal(found[0], found[2])
        assert np.array_equal(found, apply(two, images, crop=32))
        assert found.dtype == np.uint8


def planar(x, y, *, side=24):
    """Encoded flow that is the same everywhere, arranged as a store gives it."""
    planes = np.empty((2, 2, side, side), np.uint8)
    planes[:, 0], planes[:, 1] = 128 + x, 128 + y
    return np.moveaxis(planes, 1, 3)


@pytest.mark.parametrize("arrange", [lambda flow: flow, np.ascontiguousarray])
def test_the_vectors_of_flow_turn_and_shear_with_the_images(arrange):
    flow = arrange(planar(50, 0))
    turned = apply_operations((Operation(name="rotate", amount=90.0),), flow)
    assert turned[1, 12, 12].tolist() == [128, 78]  # to the right becomes upwards
    turned = apply_operations((Operation(name="rotate", amount=30.0),), flow)
    assert turned[0, 12, 12].tolist() == [128 + 43, 128 - 25]  # 50 cos 30, 50 sin 30 up
    sheared = apply_operations((Operation(name="shear-x", amount=0.3),), arrange(planar(0, 40)))
    assert sheared[0, 3, 3].tolist() == [128 - 12, 168]
    moved = apply_operations((Operation(name="translate-x", amount=0.25),), flow)
    assert moved[0, 5].tolist() == [[178, 128]] * 18 + [[128, 128]] * 6  # no motion where empty


def test_vectors_follow_points_that_move():
    """A point and where it goes, both moved by the operation, are joined by the moved vector."""
    for name, amount in (("rotate", 25.0), ("shear-x", -0.2), ("shear-y", 0.25)):
        inverse = source_places(Operation(name=name, amount=amount), height=24, width=24)
        start, step = np.array([12.0, 11.0]), np.array([30.0, -20.0])
        forward = np.linalg.inv(inverse[:, :2])
        ends = [forward @ (place - inverse[:, 2]) for place in (start, start + step)]
        flow = planar(30, -20)
        found = apply_operations((Operation(name=name, amount=amount),), flow)[0, 12, 12]
        assert found.astype(int) - 128 == pytest.approx(ends[1] - ends[0], abs=0.51)


def test_colours_leave_flow_as_it_is():
    flow = planar(20, -7)
    still = [
        name for name in OPERATIONS if name.split("-")[0] not in ("rotate", "shear", "translate")
    ]
    assert len(still) == 9
    for name in still:
        assert apply_operations((Operation(name=name, amount=1.5),), flow) is flow
