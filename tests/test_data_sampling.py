"""Index rules against starts worked out by hand from the published formulas."""

import numpy as np
import pytest

from kinema.data.sampling import (
    TEST_RULES,
    fitting_interval,
    frames,
    sample_test,
    sample_train,
    span,
)
from kinema.errors import UsageError

TRAIN_RULES = ("tsn", "zhu", "thirds", "any", "slim")


def steps(step, num):
    return [step * i for i in range(num)]


@pytest.mark.parametrize(
    ("rule", "n", "length", "num", "expected"),
    [
        # Caffe TSN: (n - L) // 24
        ("tsn-25", 100, 1, 25, steps(4, 25)),
        ("tsn-25", 100, 10, 25, steps(3, 25)),
        ("tsn-25", 119, 5, 25, steps(4, 25)),
        ("tsn-25", 24, 1, 25, [0] * 25),
        ("tsn-25", 3, 5, 25, [0] * 25),
        # tsn-pytorch: tick = (n - L + 1) / K, int(tick / 2 + tick * i)
        ("tsn-val", 100, 1, 3, [16, 50, 83]),
        ("tsn-val", 100, 5, 3, [16, 48, 80]),
        ("tsn-val", 7, 5, 3, [0, 1, 2]),
        ("tsn-val", 2, 5, 3, [0, 0, 0]),
        # two-stream-pytorch: RGB (n - 1) // 24, flow (n - 9) // 25
        ("zhu", 119, 1, 25, steps(4, 25)),
        ("zhu", 121, 1, 25, steps(5, 25)),
        ("zhu", 119, 10, 25, steps(4, 25)),
        ("zhu", 33, 10, 25, [0] * 25),
        # Huang: (frame_count - 9) // 19; frame_count 119 is 120 frames or 119 pairs
        ("huang-19", 120, 1, 19, steps(5, 19)),
        ("huang-19", 119, 10, 19, steps(5, 19)),
        ("huang-19", 29, 1, 19, steps(1, 19)),
        ("huang-19", 28, 1, 19, [0] * 19),
        # Elkomy: max(1, m // 19), m = frame_count (RGB) or frame_count - 9 (flow)
        ("elkomy-19", 120, 1, 19, steps(6, 19)),
        ("elkomy-19", 119, 10, 19, steps(5, 19)),
        ("elkomy-19", 29, 1, 19, steps(1, 19)),
        ("elkomy-19", 15, 10, 19, [0, 1, 2, 3, 4] + [5] * 14),
        # TF-slim: centres step // 2 + k * step, step = n // 5; stacks moved inside the video
        ("slim-5", 100, 1, 5, [10, 30, 50, 70, 90]),
        ("slim-5", 100, 10, 5, [5, 25, 45, 65, 85]),
        ("slim-5", 28, 10, 5, [0, 5, 10, 15, 18]),
        # two-stream-pytorch validation: int((part - L + 1) / 2 + i * part), part = n // K
        ("centre", 100, 10, 1, [45]),
        ("centre", 100, 10, 3, [12, 45, 78]),
        ("centre", 100, 1, 1, [50]),
        ("centre", 9, 10, 1, [0]),
        ("uniform", 100, 10, 10, steps(10, 10)),
        ("uniform", 100, 10, 1, [45]),
        ("uniform", 8, 1, 3, [0, 4, 7]),
    ],
)
def test_starts_by_hand(rule, n, length, num, expected):
    starts = sample_test(rule, num_frames=n, length=length, num_clips=num)
    assert starts.dtype == np.int64
    assert starts.tolist() == expected


@pytest.mark.parametrize(
    ("rule", "n", "length", "num", "ranges"),
    [
        # tsn-pytorch: part = (n - L + 1) // K
        ("tsn", 100, 1, 3, [(0, 32), (33, 65), (66, 98)]),
        ("tsn", 100, 5, 3, [(0, 31), (32, 63), (64, 95)]),
        # two-stream-pytorch: 0 .. part - L in every part of n // K
        ("zhu", 100, 1, 3, [(0, 32), (33, 65), (66, 98)]),
        ("zhu", 100, 10, 3, [(0, 23), (33, 56), (66, 89)]),
        ("zhu", 119, 10, 1, [(0, 109)]),
        # Huang: m = 90; 1-based 1..30, 30..60, 60..91
        ("thirds", 100, 1, 3, [(0, 29), (29, 59), (59, 90)]),
        ("thirds", 100, 1, 2, [(0, 44), (44, 90)]),
        # Elkomy: randint(1, frame_count - 9)
        ("any", 100, 10, 1, [(0, 90)]),
        ("slim", 100, 1, 5, [(10, 10), (30, 30), (50, 50), (70, 70), (90, 90)]),
    ],
)
def test_training_ranges_by_hand(rule, n, length, num, ranges):
    rng = np.random.default_rng(5)
    draws = np.stack(
        [
            sample_train(rule, num_frames=n, length=length, num_segments=num, rng=rng)
            for _ in range(3000)
        ]
    )
    assert draws.min(axis=0).tolist() == [low for low, _ in ranges]
    assert draws.max(axis=0).tolist() == [high for _, high in ranges]
    for column, (low, high) in zip(draws.T, ranges, strict=True):
        spread = (high - low) / np.sqrt(12)
        assert column.mean() == pytest.approx((low + high) / 2, abs=0.08 * spread + 1e-9)


def test_tsn_with_fewer_places_than_segments_draws_sorted_ones():
    rng = np.random.default_rng(0)
    draws = [
        sample_train("tsn", num_frames=10, length=5, num_segments=7, rng=rng) for _ in range(500)
    ]
    assert all((np.diff(starts) >= 0).all() for starts in draws)
    assert {int(start) for starts in draws for start in starts} == {0, 1, 2, 3, 4, 5}
    short = sample_train("tsn", num_frames=6, length=5, num_segments=7, rng=rng)
    assert short.tolist() == [0] * 7


@pytest.mark.parametrize("length", [1, 5, 10, 11])
@pytest.mark.parametrize("num", [1, 2, 3, 5, 19, 25])
def test_every_rule_stays_inside_every_video(length, num):
    rng = np.random.default_rng(1)
    for n in [1, 2, 3, 5, 9, 10, 11, 12, 19, 25, 28, 30, 60, 250]:
        drawn = [
            sample_train(rule, num_frames=n, length=length, num_segments=num, rng=rng)
            for rule in TRAIN_RULES
        ]
        fixed = [
            sample_test(rule, num_frames=n, length=length, num_clips=num) for rule in TEST_RULES
        ]
        for starts in drawn + fixed:
            assert starts.shape == (num,)
            assert starts.min() >= 0
            assert starts.max() <= max(n - length, 0)
            indices = frames(starts, length=length, num_frames=n)
            assert indices.shape == (num, length)
            assert indices.min() >= 0
            assert indices.max() < n


def test_snippets_of_short_videos_repeat_the_last_image():
    indices = frames(np.array([0, 3]), length=4, num_frames=5)
    assert indices.tolist() == [[0, 1, 2, 3], [3, 4, 4, 4]]
    assert frames(np.array([0]), length=3, num_frames=1).tolist() == [[0, 0, 0]]


def test_unknown_rules_are_errors_with_the_closest_name():
    with pytest.raises(UsageError, match=r"rule 'zuh'.*Did you mean 'zhu'\?.*tsn-25"):
        sample_test("zuh", num_frames=9, length=1, num_clips=1)
    with pytest.raises(UsageError, match=r"rule 'tns'.*Did you mean 'tsn'\?"):
        sample_train("tns", num_frames=9, length=1, num_segments=1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("interval", "length", "num_frames", "expected"),
    [(3, 10, 100, 3), (3, 10, 28, 3), (3, 10, 27, 2), (3, 10, 18, 1), (3, 10, 4, 1), (3, 1, 9, 3)],
)
def test_an_interval_shrinks_until_the_snippet_fits(interval, length, num_frames, expected):
    found = fitting_interval(interval, length=length, num_frames=num_frames)
    assert found == expected
    assert found == 1 or span(length, found) <= num_frames
    assert span(length, found + 1) > num_frames or found == interval


def test_frames_of_a_snippet_with_an_interval():
    starts = np.array([0, 5])
    found = frames(starts, length=4, num_frames=14, interval=3)
    assert found.tolist() == [[0, 3, 6, 9], [5, 8, 11, 13]]
