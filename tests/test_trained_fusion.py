"""Fusions that are learned: against scikit-learn, known weights, and the average of streams."""

import json
import math
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers_scores import make_scores
from kinema.errors import KinemaError, UsageError
from kinema.features import Features
from kinema.fusion import fuse
from kinema.fusion_networks import fit_network
from kinema.fusion_tables import train_table
from kinema.metrics import log_loss, softmax, top_k
from kinema.scores import load_scores, save_scores
from kinema.trained_fusion import PENALTIES, STRENGTHS, _folds, apply_trained, fuse_trained

METHODS = ("weights", "svm", "mlp", "gated", "bilinear")
NETWORKS = ("weights", "mlp", "gated", "bilinear")
CLASSES = ("a", "b", "c", "d")


def streams_of(videos, *, seed, part):
    """Two streams; the second takes c for d and d for c, which an average cannot put right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, videos)
    found = []
    for meant in (labels, np.array([0, 1, 3, 2])[labels]):
        values = rng.normal(size=(videos, 4))
        values[np.arange(videos), meant] += 2
        ids = [f"{part}{i}" for i in range(videos)]
        found.append(make_scores(values, labels=labels, ids=ids, classes=CLASSES))
    return found


def features_of(scores, *, width=6, seed=0, views=1, augmented=False):
    """Features from which the scores can be read off: an orthogonal map of them and noise."""
    mixing = np.linalg.qr(np.random.default_rng(9).normal(size=(width, 4)))[0]
    rng = np.random.default_rng(seed)
    values = scores.values[:, None, None] @ mixing.T.astype(np.float32)
    values = values.repeat(views, 1).repeat(3, 2)
    values = values + rng.normal(scale=0.1, size=values.shape)
    return Features(
        ids=scores.ids,
        values=values.astype(np.float32),
        labels=scores.labels,
        view_labels=scores.labels[:, None].repeat(views, 1),
        classes=scores.classes,
        augmented=augmented,
    )


TRAIN, TEST = streams_of(160, seed=1, part="val"), streams_of(120, seed=2, part="test")


@cache
def learned(method, seed=0):
    return fuse_trained(TEST, TRAIN, method=method, seed=seed)


@pytest.mark.parametrize("method", METHODS)
def test_none_is_worse_than_the_average_on_what_it_learned_from(method):
    average = fuse(TRAIN, rule="softmax")
    if method == "svm":
        again = [replace(one, ids=tuple(f"again{i}" for i in range(160))) for one in TRAIN]
        assert top_k(fuse_trained(again, TRAIN, method="svm").scores, k=1) > top_k(average, k=1)
        return
    table = train_table(TRAIN, classes=CLASSES)
    for strength in STRENGTHS:
        network = fit_network(method, table, strength=strength, seed=0)
        true = network.log_probabilities(table)[np.arange(160), TRAIN[0].labels]
        assert -true.mean() <= log_loss(average) + 1e-5
    start = fit_network(method, table, strength=math.inf, seed=0).log_probabilities(table)
    np.testing.assert_allclose(np.exp(start), average.values, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_learned_holds_for_other_videos(method):
    found, average = learned(method).scores, fuse(TEST, rule="softmax")
    if method != "svm":
        assert log_loss(found) < log_loss(average)
    assert top_k(found, k=1) > top_k(average, k=1)


@pytest.mark.parametrize("method", NETWORKS)
def test_where_there_is_nothing_to_learn_it_stays_at_the_average(method):
    rng = np.random.default_rng(0)
    blind = [replace(one, values=rng.normal(size=(160, 4))) for one in TRAIN]
    found = fuse_trained(TEST, blind, method=method).scores
    assert log_loss(found) < np.log(4) + 0.02  # not sure of anything
    assert log_loss(fuse(blind, rule="softmax")) > np.log(4)


@pytest.mark.parametrize("method", NETWORKS)
def test_only_fewer_mistakes_lead_away_from_the_average(method):
    """All is right, but unsure: temperatures would only make it surer."""
    unsure = [replace(one, values=0.5 * np.eye(4)[one.labels]) for one in TRAIN]
    found = fuse_trained(TEST, unsure, method=method)
    assert found.facts["strength"] == "average"
    np.testing.assert_allclose(found.scores.values, fuse(TEST).values, atol=1e-5)


def test_known_weights_and_temperatures_are_recovered():
    """Labels are drawn from a mixture 0.7 : 0.3; the files hold its logits times 2 and 0.5."""
    rng = np.random.default_rng(3)
    rows = [2 * rng.normal(size=(4000, 4)) for _ in range(2)]
    truth = 0.7 * softmax(rows[0]) + 0.3 * softmax(rows[1])
    labels = (truth.cumsum(1) < rng.random((4000, 1))).sum(1)
    ids = [f"val{i}" for i in range(4000)]
    streams = [
        make_scores(size * values, labels=labels, ids=ids, classes=CLASSES)
        for size, values in zip((2, 0.5), rows, strict=True)
    ]
    found = fuse_trained(TEST, streams, method="weights")
    np.testing.assert_allclose(found.facts["weights"], [0.7, 0.3], atol=0.03)
    np.testing.assert_allclose(found.facts["temperatures"], [2, 0.5], rtol=0.15)
    shares, temperatures = found.facts["weights"], found.facts["temperatures"]
    by_hand = sum(
        share * softmax(one.values.astype(np.float64) / t)
        for share, one, t in zip(shares, TEST, temperatures, strict=True)
    )
    np.testing.assert_allclose(found.scores.values, by_hand, atol=1e-4)


def stacked(streams):
    rows = [softmax(one.values.astype(np.float64)) for one in streams]
    return np.hstack([row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows])


def test_the_svm_is_scikit_learns_on_stacked_unit_rows():
    selection = pytest.importorskip("sklearn.model_selection")
    svm = pytest.importorskip("sklearn.svm")
    found = learned("svm")
    folds = _folds(train_table(TRAIN, classes=CLASSES), seed=0)
    search = selection.GridSearchCV(
        svm.LinearSVC(dual="auto", random_state=0, max_iter=10_000),
        {"C": PENALTIES},
        cv=selection.PredefinedSplit(folds),
    ).fit(stacked(TRAIN), TRAIN[0].labels)
    assert found.facts["C"] == search.best_params_["C"]
    assert found.facts["held_out"]["error"] == pytest.approx(1 - search.best_score_)
    np.testing.assert_allclose(
        found.scores.values, search.decision_function(stacked(TEST)), atol=1e-5
    )
    assert found.scores.kind == "logits"


def test_the_parts_hold_every_class_and_all_views_of_a_video():
    streams = [features_of(one, views=3, augmented=True) for one in TRAIN]
    table = train_table(streams, classes=CLASSES)
    folds = _folds(table, seed=0)
    assert (folds.reshape(160, 3) == folds[::3, None]).all()
    counts = np.array([np.bincount(folds[table.labels == k], minlength=5) for k in range(4)])
    assert np.ptp(counts, axis=1).max() <= 3  # one video


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(KinemaError, match=r"pip install 'kinema\[svm\]'"):
        fuse_trained(TEST, TRAIN, method="svm")


@pytest.mark.parametrize("method", ["svm", "mlp"])
@pytest.mark.parametrize("views", [0, 2])  # random passes to learn from; 0: a protocol
def test_features_are_fused_as_well_as_scores(method, views):
    train = [features_of(one, views=views or 1, augmented=bool(views)) for one in TRAIN]
    test = [features_of(one, seed=1, views=2) for one in TEST]
    found = fuse_trained(test, train, method=method).scores
    assert top_k(found, k=1) > top_k(fuse(TEST, rule="softmax"), k=1)
    assert found.ids == TEST[0].ids and found.labels.tolist() == TEST[0].labels.tolist()


def test_features_beside_scores():
    train, test = [features_of(TRAIN[0]), TRAIN[1]], [features_of(TEST[0]), TEST[1]]
    found = fuse_trained(test, train, method="svm")
    assert top_k(found.scores, k=1) > top_k(fuse(TEST, rule="softmax"), k=1)
    assert found.facts["streams"] == ["features", "scores"]
    with pytest.raises(UsageError, match=r"'gated' is of scores: choose svm or mlp"):
        fuse_trained(test, train, method="gated")
    with pytest.raises(UsageError, match="same kind of file"):
        fuse_trained(test, TRAIN, method="svm")


@pytest.mark.parametrize("method", ["weights", "svm"])
def test_videos_and_classes_are_joined_by_name(method):
    order = np.random.default_rng(0).permutation(160)
    new = [2, 0, 3, 1]
    shuffled = make_scores(
        TRAIN[1].values[order][:, new],
        labels=np.argsort(new)[TRAIN[1].labels[order]],
        ids=[TRAIN[1].ids[i] for i in order],
        classes=[CLASSES[i] for i in new],
    )
    plain = learned(method).scores
    joined = fuse_trained(TEST, [TRAIN[0], shuffled], method=method).scores
    np.testing.assert_allclose(joined.values, plain.values, atol=1e-6)
    turned = fuse_trained(TEST, [shuffled, TRAIN[0]], method="weights").facts["weights"]
    straight = learned("weights").facts["weights"]
    np.testing.assert_allclose(turned, straight[::-1], atol=1e-3)


def test_a_video_on_both_sides_is_refused():
    leak = [replace(one, ids=("test7", *one.ids[1:])) for one in TRAIN]
    with pytest.raises(KinemaError, match=r"never trained on the videos .* tested on: test7"):
        fuse_trained(TEST, leak, method="weights")


@pytest.mark.parametrize("form", [list, lambda streams: [features_of(one) for one in streams]])
def test_streams_in_another_order_are_refused(form):
    def named(streams, *names):
        return [replace(one, checkpoint=n) for one, n in zip(form(streams), names, strict=True)]

    with pytest.raises(KinemaError, match=r"another order: file 1 .* network of file 2"):
        fuse_trained(named(TEST, "r", "f"), named(TRAIN, "f", "r"), method="svm")
    for fused, learned in ((("r", "f"), ("", "f")), (("r", ""), ("", "f")), (("r", "r"), "rr")):
        assert fuse_trained(named(TEST, *fused), named(TRAIN, *learned), method="svm")


def test_what_cannot_be_learned_from_is_refused():
    without = [replace(one, labels=np.full(160, -1)) for one in TRAIN]
    with pytest.raises(KinemaError, match="true class is unknown for val0"):
        fuse_trained(TEST, without, method="mlp")
    with pytest.raises(UsageError, match="2 streams and 1 to train on"):
        fuse_trained(TEST, TRAIN[:1], method="mlp")
    with pytest.raises(UsageError, match=r"Unknown fusion 'swm'. Did you mean 'svm'"):
        fuse_trained(TEST, TRAIN, method="swm")
    one_class = [replace(one, labels=np.zeros(160, np.int64)) for one in TRAIN]
    with pytest.raises(KinemaError, match="all of one class"):
        fuse_trained(TEST, one_class, method="svm")
    others = [replace(one, classes=("a", "b", "c", "x")) for one in TRAIN]
    with pytest.raises(KinemaError, match=r"other classes .* only here x, only there d"):
        fuse_trained(TEST, others, method="mlp")
    passes = [features_of(one, augmented=True) for one in TEST]
    with pytest.raises(KinemaError, match="random passes, which are for training"):
        fuse_trained(passes, [features_of(one) for one in TRAIN], method="svm")


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learned_can_be_kept_as_plain_arrays(method, tmp_path):
    """Through a file: the same bits for all videos, and the same figures for one alone."""
    found = learned(method)
    save_file(found.parameters, tmp_path / "fusion.safetensors")
    kept = {
        "facts": json.loads(json.dumps(found.facts)),
        "parameters": load_file(tmp_path / "fusion.safetensors"),
    }
    again = apply_trained(TEST, **kept)
    np.testing.assert_array_equal(again.values, found.scores.values)
    assert (again.kind, again.fusion) == (found.scores.kind, found.scores.fusion)
    one = [make_scores(s.values[7:8], ids=s.ids[7:8], classes=CLASSES) for s in TEST]
    alone = apply_trained(one, **kept).values
    np.testing.assert_allclose(alone, found.scores.values[7:8], atol=1e-6)
    if method != "svm":  # something was learned at all
        assert np.abs(alone - fuse(one).values).max() > 1e-4
    with pytest.raises(UsageError, match=f"3 streams are given, but the fusion '{method}' was"):
        apply_trained([*TEST, TEST[0]], **kept)


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_a_score_file_that_says_how_it_was_made(method, tmp_path):
    found = learned(method)
    save_scores(found.scores, tmp_path / "fused.npz")
    read = load_scores(tmp_path / "fused.npz")
    np.testing.assert_array_equal(read.values, found.scores.values)
    facts = json.loads(read.fusion)
    assert (facts["method"], facts["seed"], facts["trained_on"]) == (method, 0, 160)
    assert facts == found.facts


def test_the_same_seed_gives_the_same_scores():
    again = fuse_trained(TEST, TRAIN, method="bilinear", seed=0).scores
    np.testing.assert_array_equal(again.values, learned("bilinear").scores.values)
    assert not np.array_equal(learned("bilinear", 5).scores.values, again.values)


def test_an_unlearned_class_is_below_all_others_for_the_svm():
    pytest.importorskip("sklearn")
    rows = TRAIN[0].labels != 2
    train = [
        make_scores(
            one.values[rows],
            labels=one.labels[rows],
            ids=np.array(one.ids)[rows],
            classes=CLASSES,
        )
        for one in TRAIN
    ]
    values = fuse_trained(TEST, train, method="svm").scores.values
    assert (values[:, 2] < np.delete(values, 2, 1).min(1)).all()
