"""Pairs with made motion: the flow is the one that was applied, by hand and by warping back."""

import cv2
import numpy as np
import pytest

from kinema.flow import made_pairs
from kinema.flow.made_pairs import flow_of, made_pair


def pictures(count, side=96, seed=0):
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (count, side, side)).astype(np.uint8)
    return np.stack([cv2.GaussianBlur(item, (0, 0), 2) for item in rough])


@pytest.fixture
def clean(monkeypatch):
    """No noise, no flicker, hardly any compression."""
    monkeypatch.setattr(made_pairs, "_NOISE", (0.0,))
    monkeypatch.setattr(made_pairs, "_FLICKER", 0.0)
    monkeypatch.setattr(made_pairs, "_JPEG", (99, 100))


def test_flow_of_a_motion_by_hand():
    flow = flow_of(np.array([[1.0, 0, 3], [0, 2, -1]]), 3)
    assert flow[0].tolist() == [[3, 3, 3]] * 3
    assert flow[1].tolist() == [[-1] * 3, [0] * 3, [1] * 3]  # 2 y - 1 - y


def test_the_flow_brings_the_second_frame_back(clean):
    errors, still = [], []
    y, x = np.mgrid[:96, :96].astype(np.float32)
    for seed in range(12):
        (first, second), flow = made_pair(pictures(3, seed=seed), np.random.default_rng(seed))
        back = cv2.remap(second, x + flow[0], y + flow[1], cv2.INTER_LINEAR)
        difference = np.abs(back.astype(float) - first)[16:-16, 16:-16]
        errors.append(np.median(difference))
        still.append(np.median(np.abs(second.astype(float) - first)[np.abs(flow).sum(0) > 1]))
    assert np.median(errors) <= 2
    assert np.nanmedian(still) > 4  # without the flow


def test_most_backgrounds_are_still_and_patches_move(clean):
    flows = [made_pair(pictures(2), np.random.default_rng(seed))[1] for seed in range(60)]
    lengths = np.linalg.norm(np.stack(flows), axis=1)
    is_still = (lengths == 0).mean((1, 2)) > 0.1
    assert 0.4 < is_still.mean() < 0.8
    assert 5 < lengths.max() <= 60
    moving = (lengths[is_still] > 0).mean((1, 2))
    assert 0.01 < moving.mean() < 0.5


def test_shapes_types_and_repetition():
    made = [made_pair(pictures(4), np.random.default_rng(5)) for _ in range(2)]
    frames, flow = made[0]
    assert frames.shape == (2, 96, 96)
    assert frames.dtype == np.uint8
    assert flow.shape == (2, 96, 96)
    assert flow.dtype == np.float32
    assert all(np.array_equal(one, other) for one, other in zip(*made, strict=True))


def test_many_pairs():
    frames, flow = made_pairs.made_pairs(pictures(3, side=64), 6, np.random.default_rng(0))
    assert frames.shape == flow.shape == (6, 2, 64, 64)
    assert len({item.tobytes() for item in frames}) == 6


def test_the_background_alone():
    image = pictures(1)
    frames, flow = made_pair(image, np.random.default_rng(2))
    assert np.isfinite(flow).all()
    assert np.abs(frames[0].astype(float) - image[0]).mean() < 8
