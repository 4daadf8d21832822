"""Bilinear pooling against einsum, the Tensor Sketch against the explicit outer product."""

import numpy as np
import pytest
import torch

from kinema.errors import KinemaError
from kinema.models.bilinear import BilinearPooling, TensorSketch, signed_sqrt, unit_length


def maps(*, videos: int = 2, positions: int = 6, channels: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(videos, positions, channels, generator=generator)


def test_bilinear_pooling_is_the_mean_outer_product():
    x = maps()
    wanted = torch.einsum("bpc,bpd->bcd", x, x).flatten(1) / 6
    torch.testing.assert_close(BilinearPooling(5)(x), wanted)
    assert BilinearPooling(5).out_features == 25


@pytest.mark.parametrize("dim", [16, 17])
def test_sketch_is_the_projection_of_the_outer_product(dim: int):
    x = maps()
    rule = TensorSketch(5, dim=dim, seed=3)
    (first, second), (sign1, sign2) = rule.places.tolist(), rule.signs.tolist()
    assert set(sign1 + sign2) == {-1.0, 1.0} and max(first + second) < dim
    outer = torch.einsum("bpc,bpd->bcd", x, x) / 6
    wanted = torch.zeros(2, dim)
    for i in range(5):
        for j in range(5):
            wanted[:, (first[i] + second[j]) % dim] += sign1[i] * sign2[j] * outer[:, i, j]
    torch.testing.assert_close(rule(x), wanted, atol=1e-5, rtol=1e-5)


def test_inner_products_are_unbiased_and_their_error_falls_with_the_root_of_the_length():
    x = maps(positions=4, channels=12)
    exact = BilinearPooling(12)(x)
    wanted = float(exact[0] @ exact[1])
    scale = float(exact[0].norm() * exact[1].norm())
    errors = {}
    for dim in (32, 128, 512):
        found = []
        for seed in range(600):
            one, other = TensorSketch(12, dim=dim, seed=seed)(x)
            found.append(float(one @ other))
        spread = float(np.std(found))
        assert abs(np.mean(found) - wanted) < 4 * spread / np.sqrt(len(found))
        errors[dim] = spread
        assert spread < 3 * scale / np.sqrt(dim)
    # Four times the length halves the error: the logarithm's slope is -1/2.
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    assert -0.6 < slope < -0.4


def test_the_seed_decides_and_the_draw_leaves_torchs_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (TensorSketch(9, dim=64, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(one.places, same.places) and torch.equal(one.signs, same.signs)
    assert not torch.equal(one.places, other.places)
    other.load_state_dict(one.state_dict())  # they travel with the weights
    x = maps(channels=9)
    assert torch.equal(one(x), other(x))
    with torch.device("meta"):
        assert TensorSketch(9, dim=64)(torch.zeros(2, 3, 9)).shape == (2, 64)


@pytest.mark.parametrize("kind", [BilinearPooling, TensorSketch])
def test_autocast_changes_nothing_but_the_rounding_of_the_input(kind: type):
    x = maps(channels=40).bfloat16()
    rule = kind(40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rule(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, rule(x.float()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_sketch_of_the_cpu():
    x = maps(channels=40)
    rule = TensorSketch(40)
    wanted = rule(x)
    with torch.autocast("cuda", dtype=torch.float16):
        found = rule.cuda()(x.cuda())
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-5, rtol=1e-5)


def test_gradients():
    x = maps(positions=3, channels=4).double().requires_grad_()
    assert torch.autograd.gradcheck(BilinearPooling(4), x)
    assert torch.autograd.gradcheck(TensorSketch(4, dim=8), x)
    values = torch.tensor([[-2.0, -1e-3, 0.0, 0.5, 9.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(signed_sqrt, values.clone().requires_grad_(), eps=1e-10)
    assert torch.autograd.gradcheck(unit_length, values.clone().requires_grad_())
    chain = torch.zeros(1, 3, 4, dtype=torch.float64, requires_grad=True)  # a black map
    unit_length(signed_sqrt(BilinearPooling(4)(chain))).sum().backward()
    assert torch.isfinite(chain.grad).all()


def test_root_and_length_by_hand():
    x = torch.tensor([[-9.0, 0.0, 16.0]])
    torch.testing.assert_close(signed_sqrt(x), torch.tensor([[-3.0, 0.0, 4.0]]))
    zero = torch.zeros(1, requires_grad=True)
    signed_sqrt(zero).backward()
    assert float(zero.grad) == pytest.approx(1000)
    wanted = torch.tensor([[-0.6, 0.0, 0.8]])
    torch.testing.assert_close(unit_length(signed_sqrt(x)), wanted, atol=1e-6, rtol=1e-6)
    assert torch.equal(unit_length(torch.zeros(1, 3)), torch.zeros(1, 3))


def test_a_length_that_is_refused():
    with pytest.raises(KinemaError, match=r"model.tle_dim=0 is not possible"):
        TensorSketch(4, dim=0)
