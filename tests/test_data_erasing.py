"""Random erasing: places against torchvision, the noise by its figures."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomErasing

from kinema.config import AugmentConfig
from kinema.data.augment import apply, draw
from kinema.data.erasing import Erasure, apply_erasure, draw_erasure
from kinema.data.transforms import Box

BOX = Erasure(box=Box(top=8, left=20, height=60, width=40), seed=5)


def test_places_have_the_distribution_of_torchvision():
    rng = np.random.default_rng(1)
    boxes = [draw_erasure(1.0, side=112, rng=rng).box for _ in range(4000)]
    ours = np.array([(b.top, b.left, b.height, b.width) for b in boxes])
    torch.manual_seed(0)
    image, value = torch.zeros(3, 112, 112), [0.0]
    theirs = np.array(
        [
            RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 1 / 0.3), value)[:4]
            for _ in range(4000)
        ]
    )
    error = theirs.std(0) / np.sqrt(4000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.08)
    shares = ours[:, 2] * ours[:, 3] / 112**2
    assert 0.019 < shares.min() < 0.03
    assert 0.3 < shares.max() < 0.34
    assert (ours[:, :2] + ours[:, 2:]).max() <= 112


def test_the_probability():
    rng = np.random.default_rng(1)
    found = [draw_erasure(0.25, side=64, rng=rng) for _ in range(4000)]
    assert sum(item is not None for item in found) == pytest.approx(1000, rel=0.08)
    before = rng.bit_generator.state
    assert draw_erasure(0.0, side=64, rng=rng) is None
    assert rng.bit_generator.state == before  # settings that are off move no other draw


def test_all_images_lose_the_same_rectangle_to_noise_of_their_own():
    images = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3), np.uint8)
    kept = images.copy()
    found = apply_erasure(BOX, images)
    assert np.array_equal(images, kept)
    inside = np.zeros((80, 80), bool)
    inside[8:68, 20:60] = True
    assert np.array_equal(found[:, ~inside], images[:, ~inside])
    noise = found[:, inside].astype(float)
    assert not np.array_equal(noise[0], noise[1])
    assert noise.mean((0, 1)) == pytest.approx([123.9, 116.7, 104.9], abs=2)
    assert noise.std((0, 1)) == pytest.approx([57, 55, 53], abs=3)  # a little is cut off
    assert np.array_equal(found, apply_erasure(BOX, images))


def test_flow_gets_noise_around_no_motion():
    images = np.moveaxis(np.full((3, 2, 80, 80), 200, np.uint8), 1, 3)
    found = apply_erasure(BOX, images)
    noise = found[:, 8:68, 20:60]
    assert noise.mean() == pytest.approx(128, abs=1.5)
    assert noise.min() == 1  # 0 is no encoded flow
    assert (found[:, :8] == 200).all()


def test_erasing_is_the_last_thing_that_happens_to_a_clip():
    config = AugmentConfig(erase=1.0, crop="centre", mirror=False)
    drawn = draw(config, height=80, width=80, crop=64, rng=np.random.default_rng(3))
    images = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), np.uint8)
    expected = apply_erasure(drawn.erasure, images[:, 8:72, 8:72])
    assert np.array_equal(apply(drawn, images, crop=64), expected)
