"""Fusion rules against small matrices worked by hand, and the weight search."""

from dataclasses import replace

import numpy as np
import pytest

from helpers_cli import kinema
from helpers_scores import make_scores, random_scores
from kinema.errors import KinemaError, UsageError
from kinema.fusion import fuse, gain_per_class, search_weights
from kinema.metrics import top_k
from kinema.scores import load_scores

# Two videos, three classes: logits of an appearance and a motion stream.
RGB = make_scores([[2, 1, -1], [0, 4, 4]], labels=[0, 2])
FLOW = make_scores([[-1, 3, 1], [-2, -3, -1]], labels=[0, 2])
LOG2 = float(np.log(2))
# Their softmax: rows of halves and quarters, exactly.
P_RGB = [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]
P_FLOW = [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]


def halves(rows):
    return make_scores(np.log(rows) / LOG2 * LOG2, labels=[0, 2])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), [[1, 4, 0], [-2, 1, 3]]),
        ((1, 1.5), [[0.5, 5.5, 0.5], [-3, -0.5, 2.5]]),
        ((1 / 3, 2 / 3), [[0, 7 / 3, 1 / 3], [-4 / 3, -2 / 3, 2 / 3]]),
    ],
)
def test_logits_rule(weights, expected):
    fused = fuse([RGB, FLOW], rule="logits", weights=weights)
    np.testing.assert_allclose(fused.values, expected, atol=1e-6)
    assert fused.kind == "logits"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), [[3 / 8, 3 / 8, 1 / 4], [3 / 8, 1 / 4, 3 / 8]]),
        ((1, 1.5), [[0.35, 0.4, 0.25], [0.4, 0.25, 0.35]]),
        ((1 / 3, 2 / 3), [[1 / 3, 5 / 12, 1 / 4], [5 / 12, 1 / 4, 1 / 3]]),
    ],
)
def test_softmax_rule(weights, expected):
    fused = fuse([halves(P_RGB), halves(P_FLOW)], rule="softmax", weights=weights)
    np.testing.assert_allclose(fused.values, expected, atol=1e-6)
    assert fused.kind == "probabilities"
    ready = [make_scores(rows, labels=[0, 2], kind="probabilities") for rows in (P_RGB, P_FLOW)]
    as_they_are = fuse(ready, rule="softmax", weights=weights)
    np.testing.assert_allclose(as_they_are.values, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # Rows become [2/3, 1/3, 0], [0, 1/2, 1/2] and [0, 3/4, 1/4], [0, 0, 0].
        ((1, 1), [[1 / 3, 13 / 24, 1 / 8], [0, 1 / 4, 1 / 4]]),
        ((1, 1.5), [[4 / 15, 7 / 12, 3 / 20], [0, 1 / 5, 1 / 5]]),
        ((1 / 3, 2 / 3), [[2 / 9, 11 / 18, 1 / 6], [0, 1 / 6, 1 / 6]]),
    ],
)
def test_l1_rule(weights, expected):
    fused = fuse([RGB, FLOW], rule="l1", weights=weights)
    np.testing.assert_allclose(fused.values, expected, atol=1e-6)
    assert fused.kind == "probabilities"


# Logits whose softmax is made of halves and thirds, to the last bit.
HALVES = make_scores([[0, 0, -2000], [1, 1, 1]], labels=[0, 2])
OTHERS = make_scores([[-3000, 7, 7], [4, -2000, -2000]], labels=[0, 2])
MADE = {
    ("logits", "1,1"): (RGB, FLOW, [[1, 4, 0], [-2, 1, 3]]),
    ("logits", "1,1.5"): (RGB, FLOW, [[0.5, 5.5, 0.5], [-3, -0.5, 2.5]]),
    ("logits", "1/3,2/3"): (RGB, FLOW, [[0, 7 / 3, 1 / 3], [-4 / 3, -2 / 3, 2 / 3]]),
    # Rows become [1/2, 1/2, 0], [1/3, 1/3, 1/3] and [0, 1/2, 1/2], [1, 0, 0].
    ("softmax", "1,1"): (HALVES, OTHERS, [[1 / 4, 1 / 2, 1 / 4], [2 / 3, 1 / 6, 1 / 6]]),
    ("softmax", "1,1.5"): (HALVES, OTHERS, [[1 / 5, 1 / 2, 3 / 10], [11 / 15, 2 / 15, 2 / 15]]),
    ("softmax", "1/3,2/3"): (HALVES, OTHERS, [[1 / 6, 1 / 2, 1 / 3], [7 / 9, 1 / 9, 1 / 9]]),
    ("l1", "1,1"): (RGB, FLOW, [[1 / 3, 13 / 24, 1 / 8], [0, 1 / 4, 1 / 4]]),
    ("l1", "1,1.5"): (RGB, FLOW, [[4 / 15, 7 / 12, 3 / 20], [0, 1 / 5, 1 / 5]]),
    ("l1", "1/3,2/3"): (RGB, FLOW, [[2 / 9, 11 / 18, 1 / 6], [0, 1 / 6, 1 / 6]]),
}


@pytest.mark.parametrize(("rule", "weights"), MADE)
def test_matrices_of_other_systems_are_fused_to_the_last_digit(rule, weights, tmp_path):
    """By the command, as files of two-stream-pytorch: the nearest float32 to the true value."""
    rgb, flow, expected = MADE[rule, weights]
    fused = fused_by_command(tmp_path, rgb.values, flow.values, rule=rule, weights=weights)
    np.testing.assert_array_equal(fused.values, np.array(expected, np.float32))
    assert fused.ids == ("run/v0", "wave/v1") and fused.labels.tolist() == [0, 2]
    assert fused.kind == ("logits" if rule == "logits" else "probabilities")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("1,1", [[3 / 8, 3 / 8, 1 / 4], [3 / 8, 1 / 4, 3 / 8]]),
        ("1,1.5", [[7 / 20, 2 / 5, 1 / 4], [2 / 5, 1 / 4, 7 / 20]]),
        ("1/3,2/3", [[1 / 3, 5 / 12, 1 / 4], [5 / 12, 1 / 4, 1 / 3]]),
    ],
)
def test_matrices_of_probabilities_are_not_sent_through_the_softmax(weights, expected, tmp_path):
    matrices = (np.array(rows, np.float32) for rows in (P_RGB, P_FLOW))
    fused = fused_by_command(tmp_path, *matrices, rule="softmax", weights=weights)
    np.testing.assert_array_equal(fused.values, np.array(expected, np.float32))


def fused_by_command(folder, rgb, flow, *, rule, weights):
    np.save(folder / "rgb.npy", rgb)
    np.save(folder / "flow.npy", flow)
    (folder / "list.txt").write_text("run/v0.avi 0\nwave/v1.avi 2\n")
    (folder / "classes.txt").write_text("run\njump\nwave\n")
    lists = ("--ids", folder / "list.txt", "--classes", folder / "classes.txt")
    how = ("--rule", rule, "--weights", weights, "-o", folder / "fused.npz")
    done = kinema("fuse", folder / "rgb.npy", folder / "flow.npy", *how, *lists)
    assert done.code == 0, done.err
    return load_scores(folder / "fused.npz")


def test_rules_can_disagree_on_the_answer():
    """The choice of the rule matters: that is why files say what they hold."""
    sure = make_scores([[9, 0, 0]])
    other = make_scores([[0, 3, 2]])
    answers = {rule: fuse([sure, other], rule=rule).values.argmax() for rule in ("logits", "l1")}
    assert answers == {"logits": 0, "l1": 0}
    tilted = {
        rule: fuse([sure, other], rule=rule, weights=[1, 2.5]).values.argmax()
        for rule in ("logits", "l1")
    }
    assert tilted == {"logits": 0, "l1": 1}


def test_published_formulas_on_a_larger_matrix():
    rgb = random_scores(videos=60, classes=10, seed=1)
    flow = random_scores(videos=60, classes=10, seed=2)
    flow = make_scores(flow.values, labels=rgb.labels, classes=rgb.classes)
    a, b = rgb.values.astype(np.float64), flow.values.astype(np.float64)
    relu_a, relu_b = np.maximum(a, 0), np.maximum(b, 0)
    hidden = relu_a / relu_a.sum(1)[:, None] + 1.5 * relu_b / relu_b.sum(1)[:, None]
    fused = fuse([rgb, flow], rule="l1", weights=(1, 1.5))
    np.testing.assert_allclose(fused.values * 2.5, hidden, atol=1e-6)
    e_a, e_b = np.exp(a), np.exp(b)
    deep = e_a / e_a.sum(1)[:, None] / 3 + e_b / e_b.sum(1)[:, None] * 2 / 3
    fused = fuse([rgb, flow], rule="softmax", weights=(1 / 3, 2 / 3))
    np.testing.assert_allclose(fused.values, deep, atol=1e-6)


def test_any_number_of_streams_and_equal_weights_by_default():
    streams = [make_scores([[i, 1, 0]], labels=[0]) for i in range(5)]
    np.testing.assert_allclose(fuse(streams, rule="logits").values, [[10, 5, 0]])
    np.testing.assert_allclose(fuse(streams[:1], rule="logits").values, streams[0].values)


def test_streams_are_joined_by_id_and_class_name():
    flow = make_scores(
        FLOW.values[::-1][:, [2, 0, 1]],
        ids=["v1", "v0"],
        labels=[0, 1],
        classes=["wave", "run", "jump"],
    )
    fused = fuse([RGB, flow], rule="logits")
    np.testing.assert_array_equal(fused.values, fuse([RGB, FLOW], rule="logits").values)
    assert fused.labels.tolist() == [0, 2] and fused.ids == RGB.ids


def test_where_the_fused_scores_come_from_is_kept():
    a = make_scores([[1, 2, 3]], protocol="tsn-25x10", checkpoint="aa", clip_top1=0.5)
    b = make_scores([[1, 2, 3]], protocol="tsn-25x10", checkpoint="bb")
    fused = fuse([a, b], rule="softmax")
    assert (fused.protocol, fused.checkpoint, fused.clip_top1) == ("tsn-25x10", "aa + bb", None)


def test_logits_of_probabilities_are_refused():
    ready = make_scores(P_RGB, labels=[0, 2], kind="probabilities")
    with pytest.raises(KinemaError, match=r"file 2 holds probabilities.*softmax or l1"):
        fuse([RGB, ready], rule="logits")


def test_a_missing_video_is_refused():
    with pytest.raises(KinemaError, match=r"file 2 .* lacks v1"):
        fuse([RGB, make_scores([[1, 2, 3]], ids=["v0"])], rule="softmax")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1,), r"1 weights \(1\) for 2 score files"),
        ((1, 2, 3), r"3 weights \(1, 2, 3\) for 2"),
        ((1, -0.5), "1, -0.5 cannot be used"),
        ((0, 0), "at least one must be above zero"),
        ((1, float("nan")), "must be finite"),
    ],
)
def test_weights_that_cannot_be_used(weights, message):
    with pytest.raises(UsageError, match=message):
        fuse([RGB, FLOW], rule="logits", weights=weights)


def test_unknown_rule_and_no_stream():
    with pytest.raises(UsageError, match="'mean': choose logits, softmax, l1"):
        fuse([RGB], rule="mean")
    with pytest.raises(UsageError, match="at least one score file"):
        fuse([])


def test_search_finds_the_stream_that_is_right():
    labels = np.arange(30) % 3
    right = make_scores(5 * np.eye(3)[labels], labels=labels)
    wrong = make_scores(5 * np.eye(3)[(labels + 1) % 3], labels=labels)
    for rule in ("logits", "softmax", "l1"):
        assert search_weights([right, wrong], rule=rule) == (1.0, 0.0)
        assert search_weights([wrong, right], rule=rule) == (0.0, 1.0)


def test_search_breaks_ties_by_loss_then_towards_equal():
    labels = np.arange(6) % 3
    same = make_scores(np.eye(3)[labels], labels=labels)
    assert search_weights([same, same], rule="softmax") == (0.5, 0.5)
    surer = make_scores(4 * np.eye(3)[labels], labels=labels)
    assert search_weights([same, surer], rule="softmax") == (0.0, 1.0)


@pytest.mark.parametrize("num_streams", [2, 3])
def test_search_is_the_best_of_a_brute_force(num_streams):
    first = random_scores(videos=80, classes=6, seed=0, strength=1)
    streams = [
        make_scores(
            random_scores(videos=80, classes=6, seed=seed, strength=0).values
            + np.eye(6)[first.labels] * (0.8 + 0.3 * seed),
            labels=first.labels,
            classes=first.classes,
        )
        for seed in range(1, num_streams + 1)
    ]
    found = search_weights(streams, rule="softmax")
    assert sum(found) == pytest.approx(1)
    assert [20 * weight for weight in found] == pytest.approx(np.rint(np.array(found) * 20))
    grid = [np.array(w) for w in np.ndindex(*(21,) * num_streams) if sum(w) == 20]
    best = max(top_k(fuse(streams, rule="softmax", weights=w / 20), k=1) for w in grid)
    reached = top_k(fuse(streams, rule="softmax", weights=found), k=1)
    assert reached == pytest.approx(best)
    assert reached >= max(top_k(stream, k=1) for stream in streams)


def test_search_stays_small_for_many_streams():
    labels = np.arange(9) % 3
    streams = [make_scores(np.eye(3)[labels], labels=labels) for _ in range(10)]
    found = search_weights(streams, rule="softmax")
    assert len(found) == 10 and sum(found) == pytest.approx(1)


def test_search_on_the_test_videos_is_refused():
    validation = make_scores(np.eye(3), ids=["a", "b", "c"], labels=[0, 1, 2])
    test = make_scores(np.eye(3), ids=["c", "d", "e"], labels=[0, 1, 2])
    with pytest.raises(KinemaError, match=r"never searched on the videos .* tested on: c"):
        search_weights([validation, validation], rule="softmax", test=[test, test])
    apart = make_scores(np.eye(3), ids=["f", "d", "e"])
    assert search_weights([validation] * 2, rule="softmax", test=[apart]) == (0.5, 0.5)


def test_search_on_streams_in_another_order_is_refused():
    rgb, flow = (make_scores(np.eye(3), labels=[0, 1, 2], checkpoint=name) for name in "rf")
    test = [replace(one, ids=("x", "y", "z")) for one in (rgb, flow)]
    with pytest.raises(KinemaError, match=r"another order: file 1 .* network of file 2"):
        search_weights([flow, rgb], test=test)
    assert search_weights([rgb, flow], test=test) == (0.5, 0.5)


def test_search_needs_labels():
    with pytest.raises(KinemaError, match="true class is unknown for v0, v1, v2"):
        search_weights([make_scores(np.eye(3))] * 2, rule="softmax")


def test_gain_per_class_is_against_the_best_stream():
    labels = [0, 0, 1, 1]
    better = make_scores(np.eye(3)[[0, 1, 1, 1]], labels=labels)  # run 1/2, jump 1
    worse = make_scores(np.eye(3)[[0, 0, 2, 2]], labels=labels)  # run 1, jump 0
    fused = make_scores(np.eye(3)[[0, 0, 1, 2]], labels=labels)  # run 1, jump 1/2
    assert gain_per_class(fused, [worse, better]) == {"run": 0.5, "jump": -0.5}
