"""Two score files side by side, against SciPy and plain resampling."""

import json
import time

import numpy as np
import pytest

from helpers_scores import make_scores, random_scores
from kinema.comparison import compare, mcnemar
from kinema.errors import KinemaError

LABELS = [0, 0, 0, 1, 1, 1, 2, 2]
A = make_scores(np.eye(3)[[0, 0, 1, 1, 1, 1, 0, 0]], labels=LABELS)  # 2/3, 3/3, 0/2
B = make_scores(np.eye(3)[[0, 0, 0, 1, 1, 2, 2, 2]], labels=LABELS)  # 3/3, 2/3, 2/2


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (3, 9), (9, 3), (40, 41), (5, 300)])
def test_mcnemar_is_the_binomial_test(only_a, only_b):
    stats = pytest.importorskip("scipy.stats")
    total = only_a + only_b
    expected = stats.binomtest(only_a, total).pvalue if total else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand_and_for_many_videos():
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(1, 4) == 2 * (1 + 5) / 32
    started = time.perf_counter()
    assert 0 < mcnemar(9_800, 10_200) < 0.01
    assert time.perf_counter() - started < 5


def test_figures_by_hand():
    result = compare(A, B)
    assert (result.top1_a, result.top1_b) == (5 / 8, 7 / 8)
    assert result.difference == 2 / 8
    assert result.only_a == ("v5",)
    assert result.only_b == ("v2", "v6", "v7")
    assert result.p_value == 2 * (1 + 4) / 16
    changes = {change.name: change.difference for change in result.classes}
    assert changes == pytest.approx({"run": 1 / 3, "jump": -1 / 3, "wave": 1})
    assert [change.name for change in result.won] == ["wave", "run"]
    assert [change.name for change in result.lost] == ["jump"]
    assert [change.num_videos for change in result.classes] == [3, 3, 2]


def test_interval_is_that_of_resampled_pairs():
    a = random_scores(videos=300, classes=6, seed=0, strength=1.2)
    b = make_scores(
        a.values + np.random.default_rng(1).normal(size=a.values.shape) * 0.7,
        labels=a.labels,
        classes=a.classes,
    )
    delta = (b.values.argmax(1) == b.labels) * 1.0 - (a.values.argmax(1) == a.labels)
    drawn = delta[np.random.default_rng(2).integers(0, 300, (20_000, 300))].mean(1)
    result = compare(a, b)
    np.testing.assert_allclose(result.interval, np.quantile(drawn, [0.025, 0.975]), atol=0.006)
    assert result.interval == compare(a, b).interval
    assert result.difference == pytest.approx(delta.mean())


def test_a_file_against_itself_and_the_other_way_round():
    same = compare(A, A)
    assert (same.difference, same.interval, same.p_value) == (0, (0, 0), 1)
    assert not same.won and not same.lost and not same.class_rows()
    assert compare(B, A).difference == -compare(A, B).difference
    assert compare(B, A).p_value == compare(A, B).p_value


def test_order_of_videos_and_classes_does_not_matter():
    moved = make_scores(
        B.values[::-1][:, [2, 0, 1]],
        ids=B.ids[::-1],
        labels=[(label + 1) % 3 for label in LABELS[::-1]],
        classes=["wave", "run", "jump"],
    )
    assert compare(A, moved) == compare(A, B)


def test_rows_for_a_table_and_json():
    result = compare(A, B)
    rows = dict(result.rows())
    assert rows["difference B - A"] == "+25.00 points"
    assert rows["McNemar p"] == "0.625"
    assert rows["right only in B"] == "3"
    assert result.class_rows() == [
        ("wave", "2", "0.0", "100.0", "+100.0"),
        ("run", "3", "66.7", "100.0", "+33.3"),
        ("jump", "3", "100.0", "66.7", "-33.3"),
    ]
    data = json.loads(json.dumps(result.to_dict()))
    assert data["only_b"] == ["v2", "v6", "v7"]
    assert data["classes_won"] == ["wave", "run"]


def test_files_that_do_not_fit_are_refused():
    with pytest.raises(KinemaError, match=r"file 2 .* lacks v0"):
        compare(A, make_scores(B.values[1:], labels=LABELS[1:], ids=B.ids[1:]))
    with pytest.raises(KinemaError, match="true class is unknown"):
        compare(make_scores([[1, 2, 3]]), make_scores([[1, 2, 3]]))
