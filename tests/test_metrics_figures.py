"""Accuracies against scikit-learn and numbers worked by hand."""

import json

import numpy as np
import pytest

from helpers_scores import make_scores, random_scores
from kinema.errors import KinemaError
from kinema.metrics import (
    bootstrap_interval,
    confusion,
    describe,
    log_loss,
    mean_class_accuracy,
    mean_over_splits,
    per_class,
    ranks,
    softmax,
    summary,
    top_k,
)

# Predicted 0, 0, 1, 2, 2, 0 for the true classes 0, 0, 0, 2, 2, 2.
BY_HAND = make_scores(
    [[3, 2, 1], [3, 1, 2], [2, 3, 1], [1, 2, 3], [2, 1, 3], [3, 1, 2]],
    labels=[0, 0, 0, 2, 2, 2],
)


def test_by_hand():
    assert ranks(BY_HAND).tolist() == [0, 0, 1, 0, 0, 1]
    assert top_k(BY_HAND, k=1) == pytest.approx(4 / 6)
    assert top_k(BY_HAND, k=2) == 1
    assert confusion(BY_HAND).tolist() == [[2, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert per_class(BY_HAND) == pytest.approx({"run": 2 / 3, "wave": 2 / 3})
    assert mean_class_accuracy(BY_HAND) == pytest.approx(2 / 3)


def test_mean_of_classes_is_not_top1():
    scores = make_scores(np.eye(3)[[0, 0, 0, 0]], labels=[0, 0, 0, 1])
    assert top_k(scores, k=1) == 0.75
    assert mean_class_accuracy(scores) == 0.5


def test_equal_scores_are_ranked_by_position():
    scores = make_scores([[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]], labels=[0, 1, 2, 2])
    assert ranks(scores).tolist() == [0, 1, 2, 1]
    assert top_k(scores, k=1) == 0.25 == (scores.values.argmax(1) == scores.labels).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_top_k_is_that_of_scikit_learn(k, kind):
    reference = pytest.importorskip("sklearn.metrics")
    scores = random_scores(videos=400, classes=11, seed=k, kind=kind)
    expected = reference.top_k_accuracy_score(
        scores.labels, scores.values, k=k, labels=np.arange(11)
    )
    assert top_k(scores, k=k) == pytest.approx(expected, abs=1e-12)
    assert 0.2 < expected < 1


def test_confusion_balanced_accuracy_and_loss_are_those_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    scores = random_scores(videos=300, classes=9, seed=7)
    predicted = scores.values.argmax(1)
    np.testing.assert_array_equal(
        confusion(scores), reference.confusion_matrix(scores.labels, predicted)
    )
    assert mean_class_accuracy(scores) == pytest.approx(
        reference.balanced_accuracy_score(scores.labels, predicted), abs=1e-12
    )
    expected = reference.log_loss(
        scores.labels, softmax(scores.values.astype(np.float64)), labels=np.arange(9)
    )
    assert log_loss(scores) == pytest.approx(expected, abs=1e-9)


def test_loss_by_hand():
    certain = make_scores([[0.5, 0.25, 0.25]], labels=[0], kind="probabilities")
    assert log_loss(certain) == pytest.approx(np.log(2))
    partial = make_scores([[0.4, 0.4, 0.0]], labels=[0], kind="probabilities")
    assert log_loss(partial) == pytest.approx(np.log(2))
    wrong = make_scores([[1, 0, 0]], labels=[2], kind="probabilities")
    assert log_loss(wrong) == pytest.approx(-np.log(1e-12))


def test_softmax_of_large_values():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, 0.0]])), [[0.5, 0.5, 0]])
    assert softmax(np.zeros((1, 2), np.float32)).dtype == np.float32


def test_interval_is_that_of_plain_resampling():
    rng = np.random.default_rng(0)
    correct = rng.random(250) < 0.8
    resampled = correct[rng.integers(0, 250, (20_000, 250))].mean(1)
    expected = np.quantile(resampled, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(correct), expected, atol=0.006)


def test_interval_is_near_the_normal_one_and_repeats():
    correct = np.arange(3783) < 0.856 * 3783
    low, high = bootstrap_interval(correct, seed=5)
    half = 1.96 * np.sqrt(0.856 * 0.144 / 3783)
    assert low == pytest.approx(0.856 - half, abs=0.001)
    assert high == pytest.approx(0.856 + half, abs=0.001)
    assert bootstrap_interval(correct, seed=5) == (low, high)


def test_interval_of_none_or_all_right_is_the_binomial_one():
    stats = pytest.importorskip("scipy.stats")
    for right in (0, 12):
        exact = stats.binomtest(right, 12).proportion_ci(0.95, method="exact")
        assert bootstrap_interval(np.arange(12) < right) == pytest.approx(tuple(exact))


def test_summary_has_every_figure_and_is_json():
    scores = make_scores(BY_HAND.values, labels=BY_HAND.labels, clip_top1=0.5)
    figures = json.loads(json.dumps(summary(scores)))
    assert figures["num_videos"] == 6
    assert figures["top1"] == pytest.approx(4 / 6)
    assert figures["top3"] == figures["top5"] == 1
    assert figures["mean_class"] == pytest.approx(2 / 3)
    low, high = figures["top1_interval"]
    assert 0 < low < 4 / 6 < high <= 1
    assert set(figures["per_class"]) == {"run", "wave"}
    assert figures["confusion"] == [[2, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert figures["clip_top1"] == 0.5
    assert figures["loss"] == pytest.approx(log_loss(scores))


def test_description_for_the_terminal():
    text = describe(summary(BY_HAND))
    assert text.startswith("top-1 66.67 % (95 % interval ")
    assert "of 6 videos" in text and "top-5 100.00 %" in text
    assert "weakest classes: run 66.67 %, wave 66.67 %" in text
    assert "single clips" not in text
    perfect = make_scores(np.eye(3), labels=[0, 1, 2], clip_top1=0.5)
    assert "weakest" not in describe(summary(perfect))
    assert "single clips 50.00 %" in describe(summary(perfect))


def test_unknown_labels_are_refused():
    with pytest.raises(KinemaError, match="true class is unknown for v1"):
        summary(make_scores(np.eye(3), labels=[0, -1, 2]))


def test_mean_over_three_splits():
    splits = [summary(random_scores(videos=50, classes=8, seed=seed)) for seed in range(3)]
    mean = mean_over_splits(splits)
    assert mean["num_splits"] == 3
    assert mean["top1"] == pytest.approx(sum(one["top1"] for one in splits) / 3)
    assert mean["mean_class"] == pytest.approx(sum(one["mean_class"] for one in splits) / 3)
    assert mean["per_split"]["top5"] == [one["top5"] for one in splits]
    with pytest.raises(KinemaError, match="at least one split"):
        mean_over_splits([])
