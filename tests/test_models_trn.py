import itertools
import math

import pytest
import torch

from kinema.config import ModelConfig
from kinema.errors import KinemaError
from kinema.models.consensus import JOINING, build_consensus, consensus_width
from kinema.models.network import build_network
from kinema.models.relation import MultiScaleRelation, Relation, combination


def test_combinations_are_those_of_itertools():
    for among in range(1, 8):
        for size in range(1, among + 1):
            for rank, wanted in enumerate(itertools.combinations(range(among), size)):
                assert combination(rank, size=size, among=among) == wanted
    last = math.comb(40, 20) - 1  # a list that nobody makes
    assert combination(last, size=20, among=40) == tuple(range(20, 40))


def test_single_relation_is_two_layers_on_the_features_side_by_side():
    torch.manual_seed(0)
    rule = Relation(3, features=4, num_classes=5)
    x = torch.randn(2, 3, 4)
    first, second = rule.mlp[1], rule.mlp[3]
    assert (first.in_features, first.out_features, second.out_features) == (12, 256, 5)
    for b in range(2):
        line = torch.cat([x[b, 0], x[b, 1], x[b, 2]]).clamp(min=0)
        hidden = (first.weight @ line + first.bias).clamp(min=0)
        torch.testing.assert_close(rule(x)[b], second.weight @ hidden + second.bias)


def test_order_matters():
    torch.manual_seed(0)
    rule = MultiScaleRelation(4, features=3, num_classes=2).eval()
    x = torch.randn(1, 4, 3)
    assert float((rule(x) - rule(x.flip(1))).detach().abs().max()) > 1e-3


def test_evaluation_takes_fixed_evenly_spread_tuples():
    rule = MultiScaleRelation(5, features=2, num_classes=3).eval()
    assert rule.scales == (5, 4, 3, 2)
    assert rule.tuples(5) == [(0, 1, 2, 3, 4)]
    every_pair = list(itertools.combinations(range(5), 2))
    # The middles of three equal parts of ten pairs: 10/6, 30/6, 50/6.
    assert rule.tuples(2) == [every_pair[1], every_pair[5], every_pair[8]]
    x = torch.randn(2, 5, 2)
    torch.manual_seed(1)
    first = rule(x)
    assert torch.equal(rule(x), first)
    wanted = sum(
        mlp(x[:, list(chosen)].flatten(1))
        for scale, mlp in zip(rule.scales, rule.mlps, strict=True)
        for chosen in rule.tuples(scale)
    )
    torch.testing.assert_close(first, wanted)
    assert sum(len(rule.tuples(scale)) for scale in rule.scales) == 1 + 3 + 3 + 3


def test_all_tuples_are_taken_where_there_are_no_more_than_three():
    for training in (True, False):
        rule = MultiScaleRelation(3, features=2, num_classes=3).train(training)
        assert rule.tuples(2) == [(0, 1), (0, 2), (1, 2)]
        assert rule.tuples(3) == [(0, 1, 2)]


def test_training_draws_from_torchs_generator_all_tuples_alike():
    rule = MultiScaleRelation(5, features=2, num_classes=3).train()
    torch.manual_seed(7)
    first = [rule.tuples(3) for _ in range(4)]
    torch.manual_seed(7)
    assert [rule.tuples(3) for _ in range(4)] == first
    seen: dict[tuple[int, ...], int] = dict.fromkeys(itertools.combinations(range(5), 3), 0)
    for _ in range(1000):
        drawn = rule.tuples(3)
        assert len(set(drawn)) == 3
        for chosen in drawn:
            seen[chosen] += 1
    # 3 of 10 in each draw: 300 on average, standard deviation sqrt(1000 * 0.3 * 0.7) = 14.5.
    assert all(300 - 75 < times < 300 + 75 for times in seen.values())


def test_parameters():
    def mlp(inputs: int) -> int:
        return inputs * 256 + 256 + 256 * 10 + 10

    for name, scales in (("trn", (8,)), ("trn-multiscale", range(2, 9))):
        rule = build_consensus(name, num_segments=8, num_classes=10)
        found = sum(p.numel() for p in rule.parameters())
        assert found == sum(mlp(256 * scale) for scale in scales)
    assert {"trn", "trn-multiscale"} < JOINING
    assert consensus_width("trn", num_classes=10) == 256
    assert consensus_width("average", num_classes=10) == 10


@pytest.mark.parametrize("consensus", ["trn", "trn-multiscale"])
def test_in_a_network(consensus: str):
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny", dropout=(), consensus=consensus)
    network = build_network(config, modality="rgb", stack=1, num_classes=6, num_segments=4)
    x = torch.randint(0, 256, (2, 4, 1, 3, 32, 32), dtype=torch.uint8)
    assert network.joined == 4
    assert network.backbone.fc.out_features == 256
    assert network.snippet_logits(x).shape == (2, 4, 256)
    network(x).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    with torch.no_grad():
        scores = network(x)
        torch.testing.assert_close(network(x[1:]), scores[1:])
    assert scores.shape == (2, 6)


def test_values_that_are_refused():
    with pytest.raises(KinemaError, match=r"consensus=trn relates .* data.num_segments=1"):
        build_consensus("trn", num_segments=1, num_classes=3)
    with pytest.raises(KinemaError, match=r"consensus=trn-multiscale .* num_segments"):
        build_consensus("trn-multiscale")
    rule = build_consensus("trn", num_segments=3, num_classes=3)
    with pytest.raises(KinemaError, match=r"relates 3 snippets per video, but was given 4"):
        rule(torch.zeros(1, 4, 256))
