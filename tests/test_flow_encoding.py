"""The 8-bit form of flow."""

import numpy as np
import pytest

from kinema.flow.encoding import BoundFinder, decode, encode, half, rescaling


def field(*values):
    return np.array(values, np.float32).reshape(1, 2, 1, -1)


def test_zero_and_bounds_are_exact():
    encoded = encode(field(0, 20, -20, 0, -20, 20), bound=20)
    assert encoded.shape == (1, 1, 3, 2)
    assert encoded[0, 0].tolist() == [[128, 128], [255, 1], [1, 255]]
    assert decode(encoded, bound=20)[0, :, 0].tolist() == [[0, 20, -20], [0, -20, 20]]


def test_longer_motion_is_cut():
    assert encode(field(500, -21, 1e9, -1e9), bound=20).ravel().tolist() == [255, 255, 1, 1]


@pytest.mark.parametrize("bound", [5.0, 15.0, 20.0, 32.0])
def test_formula_and_error_of_half_a_level(bound):
    flow = np.random.default_rng(0).uniform(-bound, bound, (3, 2, 17, 19)).astype(np.float32)
    encoded = encode(flow, bound=bound)
    exact = np.rint(flow.astype(np.float64) * 127 / bound) + 128
    differs = np.moveaxis(encoded, 3, 1) != exact
    assert differs.mean() < 1e-3  # only where float32 rounds the other way
    assert np.abs(decode(encoded, bound=bound) - flow).max() <= bound / 254 * 1.001
    assert np.array_equal(encode(decode(encoded, bound=bound), bound=bound), encoded)


def test_opposite_motion_is_256_minus_q():
    flow = np.random.default_rng(1).uniform(-25, 25, (1, 2, 9, 9)).astype(np.float32)
    assert np.array_equal(encode(-flow), 256 - encode(flow).astype(int))


@pytest.mark.parametrize(("held", "asked"), [(7.5, 20.0), (40.0, 20.0), (20.0, 20.0)])
def test_rescaling_is_decoding_and_encoding_again(held, asked):
    levels = np.arange(1, 256, dtype=np.uint8).reshape(1, 1, -1, 1).repeat(2, axis=3)
    expected = encode(decode(levels, bound=held), bound=asked)
    table = rescaling(held, asked)
    assert table.shape == (256,)
    assert table[128] == 128
    differs = np.abs(table[levels].astype(int) - expected)
    assert differs.max() <= 1  # halves, which float32 and float64 round apart
    assert (differs > 0).sum() <= 16
    assert np.abs(decode(table[levels], bound=asked) - decode(levels, bound=held)).max() <= (
        asked / 254 * 1.001 if asked >= held else held - asked + 0.2
    )


def found_bound(flow_2HW):
    finder = BoundFinder()
    for pair in np.array_split(flow_2HW, 3, axis=1):
        finder.add(half(pair))
    return finder.bound()


def test_bound_of_a_video_is_the_quantile_rounded_up():
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 3, (2, 300, 400)).astype(np.float32)
    quantile = np.quantile(np.abs(flow), 0.999)  # 3.29 sigma
    assert quantile == pytest.approx(9.87, abs=0.1)
    assert found_bound(flow) == np.ceil(quantile * 2) / 2
    flow[0, 0, :20] = 500  # a few wrong vectors do not move it
    assert found_bound(flow) == np.ceil(quantile * 2) / 2


def test_bound_of_a_still_video_and_of_a_fast_one():
    assert found_bound(np.zeros((2, 9, 9), np.float32)) == 0.5
    assert found_bound(np.full((2, 9, 9), -4.0, np.float32)) == 4.0
    assert found_bound(np.full((2, 9, 9), 4.01, np.float32)) == 4.5
    assert found_bound(np.full((2, 9, 9), 1e9, np.float32)) == pytest.approx(60000, rel=1e-3)


def test_halves_are_finer_than_any_grey_level():
    flow = np.random.default_rng(1).uniform(-32, 32, (2, 50, 50)).astype(np.float32)
    assert np.abs(half(flow).astype(np.float32) - flow).max() <= 32 / 2048
