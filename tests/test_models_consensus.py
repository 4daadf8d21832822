import numpy as np
import pytest
import torch

from kinema.errors import KinemaError
from kinema.models.consensus import Weighted, build_consensus

X = torch.tensor([[[1.0, 8.0], [5.0, 2.0], [3.0, 5.0], [7.0, -1.0]]])  # B=1, N=4, K=2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("average", [4.0, 3.5]),
        ("sum", [16.0, 14.0]),
        ("max", [7.0, 8.0]),
        ("topk", [5.0, 5.0]),  # (7+5+3)/3, (8+5+2)/3
    ],
)
def test_fixed_rules(name: str, wanted: list[float]):
    assert build_consensus(name, topk=3)(X).tolist() == [wanted]


def test_topk_takes_all_where_there_are_fewer():
    assert build_consensus("topk", topk=9)(X).tolist() == [[4.0, 3.5]]
    assert build_consensus("topk", topk=1)(X).tolist() == [[7.0, 8.0]]


def test_weighted_starts_as_the_average_for_any_number_of_snippets():
    rule = build_consensus("weighted", num_segments=3)
    for count in (1, 3, 4, 25):
        x = torch.randn(2, count, 5)
        torch.testing.assert_close(rule(x), x.mean(1))


def test_weighted_is_the_weighted_mean_and_learns():
    rule = Weighted(4)
    with torch.no_grad():
        rule.weight.copy_(torch.log(torch.tensor([1.0, 2.0, 3.0, 4.0])))
    assert rule(X).flatten().tolist() == pytest.approx([4.8, 2.3], abs=1e-6)
    rule(X).sum().backward()
    assert rule.weight.grad is not None
    assert float(rule.weight.grad.abs().sum()) > 0


def test_weighted_interpolates_linearly_between_the_training_places():
    rule = Weighted(2)
    with torch.no_grad():
        rule.weight.copy_(torch.log(torch.tensor([1.0, 3.0])))
    # Places of two segments are 1/4 and 3/4 of the video, of four snippets 1/8, 3/8, 5/8, 7/8.
    wanted = np.interp([0.125, 0.375, 0.625, 0.875], [0.25, 0.75], [0.25, 0.75])
    found = rule.weights(4).detach().numpy()
    assert found == pytest.approx(wanted / wanted.sum(), abs=1e-6)
    assert found.sum() == pytest.approx(1.0, abs=1e-6)


def test_wrong_values():
    with pytest.raises(KinemaError, match=r"consensus=weighted .* num_segments"):
        build_consensus("weighted")
    with pytest.raises(KinemaError, match="topk=0 is not possible"):
        build_consensus("topk", topk=0)
