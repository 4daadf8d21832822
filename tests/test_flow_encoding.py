"""The 8-bit form of flow."""

import numpy as np
import pytest

from kinema.flow.encoding import decode, encode


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
