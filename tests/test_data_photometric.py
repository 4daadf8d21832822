"""The noise of Elkomy's system: probabilities, ranges, kernels, one draw for all images."""

import cv2
import numpy as np
import pytest

from kinema.config import AugmentConfig
from kinema.data.augment import apply, draw
from kinema.data.photometric import (
    LEVELS,
    Filters,
    Noise,
    apply_noise,
    draw_noise,
    emboss_kernel,
    sharpen_kernel,
)

NO_MARGINS = (0.0, 0.0, 0.0, 0.0)


def drawn(level, num=4000):
    rng = np.random.default_rng(11)
    return [draw_noise(level, rng=rng) for _ in range(num)]


@pytest.mark.parametrize(
    ("level", "crop_chance", "filter_chance", "add_chance", "add"),
    [("heavy", 0.9, 0.9, 0.9, 12), ("medium", 0.9, 0.5, 0.7, 10), ("simple", 0.6, 0.35, 0.45, 7)],
)
def test_probabilities_and_ranges(level, crop_chance, filter_chance, add_chance, add):
    noises = drawn(level)
    filters = [noise.filters for noise in noises if noise.filters]
    assert len(filters) / 4000 == pytest.approx(filter_chance, abs=0.03)
    any_add = np.mean([any(noise.add) for noise in noises])
    assert any_add == pytest.approx(add_chance, abs=0.03)
    shifts = np.array([noise.add for noise in noises])
    assert (shifts.min(), shifts.max()) == (-add, add)
    none_cut = 0.5**4 if level == "heavy" else 0.0
    any_margin = np.mean([any(noise.margins) for noise in noises])
    assert any_margin == pytest.approx(crop_chance * (1 - none_cut), abs=0.03)
    for name in ("blur", "sharpen", "lightness", "emboss", "strength"):
        low, high = getattr(LEVELS[level], name)
        values = np.array([getattr(f, name) for f in filters])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high


def test_heavy_margins_are_a_clipped_normal_that_leaves_a_tenth():
    margins = np.array([noise.margins for noise in drawn("heavy")])
    top, right, bottom, left = margins.T
    assert max((top + bottom).max(), (left + right).max()) <= 0.9 + 1e-9
    assert margins.max() <= 0.6 + 1e-9
    used = margins[margins.any(axis=1)]
    assert np.median(used[used > 0]) == pytest.approx(0.337, abs=0.04)  # 0.6745 sigma


def test_none_draws_nothing():
    assert draw_noise("none", rng=np.random.default_rng(0)) is None


def test_kernels_are_mixtures_with_the_identity():
    values = {"blur": 0.0, "sharpen": 0.1, "lightness": 1.25, "emboss": 0.5, "strength": 0.2}
    sharpen, emboss = sharpen_kernel(Filters(**values)), emboss_kernel(Filters(**values))
    assert sharpen.sum() == pytest.approx(0.9 + 0.1 * 1.25, abs=1e-6)
    assert sharpen[1, 1] == pytest.approx(0.9 + 0.1 * 9.25, abs=1e-6)
    expected = np.array([[-1.2, -0.2, 0], [-0.2, 1, 0.2], [0, 0.2, 1.2]])
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    assert np.allclose(emboss, 0.5 * identity + 0.5 * expected, atol=1e-6)


def test_order_of_filters_and_addition():
    filters = Filters(blur=0.25, sharpen=0.15, lightness=1.5, emboss=1.0, strength=0.2)
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    shift = np.array([12, -9, 3])

    def add(image):
        return np.clip(image.astype(int) + shift, 0, 255).astype(np.uint8)

    def filtered(image):
        image = cv2.GaussianBlur(image, (3, 3), 0.25)
        for kernel in (sharpen_kernel(filters), emboss_kernel(filters)):
            image = cv2.filter2D(image, -1, kernel)
        return image

    for add_first, by_hand in (
        (True, lambda i: filtered(add(i))),
        (False, lambda i: add(filtered(i))),
    ):
        noise = Noise(margins=NO_MARGINS, filters=filters, add=(12, -9, 3), add_first=add_first)
        changed = apply_noise(noise, images)
        assert np.array_equal(changed, np.stack([by_hand(image) for image in images]))


def test_all_images_of_a_clip_get_the_same_noise_and_the_input_stays():
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 80, 2), np.uint8)
    clip = np.repeat(image, 4, axis=0)
    before = clip.copy()
    config = AugmentConfig(crop="squash", photometric="heavy")
    for seed in range(10):
        noisy = draw(config, height=64, width=80, crop=48, rng=np.random.default_rng(seed))
        changed = apply(noisy, clip, crop=48, negated_channels=(0,))
        assert changed.shape == (4, 48, 48, 2)
        assert (changed == changed[:1]).all()
    assert np.array_equal(clip, before)
