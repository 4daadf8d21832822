"""Testing: scores against views cut by hand, bounded passes, aggregation, clip accuracy."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from helpers_data import stand_in
from helpers_noise import NUM_CLASSES, NUM_IMAGES, items_of, network_of, settings_of, source
from kinema.engine.evaluate import clip_probabilities, evaluate
from kinema.engine.protocols import PROTOCOLS, Protocol
from kinema.engine.runtime import Runtime
from kinema.errors import KinemaError, UsageError

CPU = Runtime(device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def noise_videos(monkeypatch):
    """Videos of 60 images of 64x48 pixels, 4 of them, without files."""
    stand_in(monkeypatch, source)


def spied(network, *, limit):
    """Note the number of views of every pass."""
    sizes, plain = [], network.snippet_logits

    def snippet_logits(x_BNTCHW):
        sizes.append(x_BNTCHW.shape[0] * x_BNTCHW.shape[1])
        assert sizes[-1] <= limit
        return plain(x_BNTCHW)

    network.snippet_logits = snippet_logits
    return sizes


def views_by_hand(number, *, modality, stack):
    """All 250 views of tsn-25x10, cut with OpenCV and NumPy: (25, 10, T, C, 24, 24)."""
    length = stack + (modality == "rgbdiff")
    stream = "flow" if modality == "flow" else "rgb"
    spec = type("Spec", (), {"stream": stream})
    step = (NUM_IMAGES - length) // 24
    images = [
        cv2.resize(image, (36, 27), interpolation=cv2.INTER_LINEAR)  # 340x256 * 24 / 224
        for image in source(number, spec).read(range(NUM_IMAGES))
    ]
    clips = []
    for clip in range(25):
        stacked = np.stack(images[clip * step : clip * step + length])
        views = [
            stacked[:, top : top + 24, left : left + 24]
            for top, left in ((0, 0), (0, 12), (3, 0), (3, 12), (1, 6))
        ]
        mirrors = [view[:, :, ::-1].copy() for view in views]
        if modality == "flow":
            for mirror in mirrors:
                mirror[..., 0] = 256 - mirror[..., 0].astype(int)
        clips.append(np.stack(views + mirrors))
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 2, 5, 3, 4)


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_the_scores_are_the_mean_over_views_cut_by_hand(modality):
    settings = settings_of(PROTOCOLS["tsn-25x10"], modality=modality, checkpoint_hash="abc")
    network = network_of(settings)
    items = items_of()
    scores = evaluate(network, items, settings, runtime=CPU)
    right = 0
    for number, item in enumerate(items):
        x = views_by_hand(number, modality=modality, stack=settings.config.data.stack)
        with torch.inference_mode():
            logits_CVK = network.snippet_logits(x.flatten(0, 1)[:, None])[:, 0].reshape(25, 10, -1)
        np.testing.assert_allclose(scores.values[number], logits_CVK.mean((0, 1)), atol=1e-5)
        right += int((logits_CVK.mean(1).argmax(1) == item.label).sum())
    assert np.ptp(scores.values, axis=0).min() > 1e-3  # the videos can be told apart
    assert scores.clip_top1 == pytest.approx(right / 75)
    assert scores.ids == ("v0", "v1", "v2")
    assert scores.labels.tolist() == [0, 1, 2]
    assert (scores.kind, scores.protocol, scores.checkpoint) == ("logits", "tsn-25x10", "abc")


@pytest.mark.parametrize("name", ["tsn-25x10", "elkomy-19"])
def test_the_scores_do_not_depend_on_the_size_of_a_pass(name):
    found = {}
    for views in (1, 7, 32):
        settings = settings_of(PROTOCOLS[name], "data.workers=0", views_per_pass=views)
        network = network_of(settings)
        sizes = spied(network, limit=views)
        found[views] = evaluate(network, items_of(2), settings, runtime=CPU)
        total = 2 * PROTOCOLS[name].num_views
        assert sizes == [views] * (total // views) + [total % views] * (total % views > 0)
    for views in (1, 7):
        np.testing.assert_allclose(found[views].values, found[32].values, rtol=0, atol=1e-5)
        assert found[views].clip_top1 == found[32].clip_top1


def test_loading_processes_change_nothing():
    protocol = Protocol(rule="uniform", num_clips=7, resize="train")
    scores = []
    for workers in (0, 2):
        settings = settings_of(protocol, f"data.workers={workers}")
        scores.append(evaluate(network_of(settings), items_of(5), settings, runtime=CPU))
    np.testing.assert_allclose(scores[0].values, scores[1].values, rtol=0, atol=1e-5)
    assert scores[0].ids == scores[1].ids


def clip_logits(network, settings, items):
    """(videos, clips, views, K) in the order of the test, kept while it runs."""
    kept, plain = [], network.snippet_logits
    network.snippet_logits = lambda x: kept.append(plain(x)) or kept[-1]
    scores = evaluate(network, items, settings, runtime=CPU)
    network.snippet_logits = plain
    clips, views = settings.protocol.num_clips, settings.protocol.num_views
    logits = torch.cat(kept)[:, 0].reshape(len(items), clips, views // clips, NUM_CLASSES)
    return logits.double().numpy(), scores


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("average", "aggregate"), [("logits", "mean"), ("logits", "sum"), ("probabilities", "mean")]
)
def test_aggregation_and_the_accuracy_of_clips(average, aggregate):
    protocol = Protocol(
        rule="uniform", num_clips=6, crops="three", average=average, aggregate=aggregate
    )
    settings, items = settings_of(protocol), items_of(5)
    logits_BCVK, scores = clip_logits(network_of(settings), settings, items)
    values = softmax(logits_BCVK) if average == "probabilities" else logits_BCVK
    expected = values.sum((1, 2)) if aggregate == "sum" else values.mean((1, 2))
    np.testing.assert_allclose(scores.values, expected, rtol=1e-4, atol=1e-5)
    assert scores.kind == average
    labels = np.array([item.label for item in items])
    right = values.mean(2).argmax(2) == labels[:, None]
    assert right.shape == (5, 6)
    assert scores.clip_top1 == pytest.approx(right.mean())


@pytest.mark.parametrize("consensus", ["average", "sum", "max", "topk", "weighted"])
def test_the_networks_own_consensus_is_over_the_clips(consensus):
    protocol = Protocol(rule="uniform", num_clips=2, crops="three")
    settings = settings_of(protocol, f"model.consensus={consensus}", "model.topk=2")
    settings_six = settings_of(
        Protocol(rule="uniform", num_clips=6, crops="three"),
        f"model.consensus={consensus}",
        "model.topk=2",
    )
    network = network_of(settings)
    if consensus == "weighted":
        torch.nn.init.constant_(network.consensus.weight[0], 1.0)
    first = np.exp(1) / (np.exp(1) + 1)
    for chosen in (settings, settings_six):
        logits, scores = clip_logits(network, chosen, items_of())
        clips_BCK = logits.mean(2)
        count = clips_BCK.shape[1]
        places = (np.arange(count) + 0.5) * 2 / count - 0.5  # of two weights, linear between them
        weights = np.interp(places, [0, 1], [first, 1 - first])
        expected = {
            "average": clips_BCK.mean(1),
            "sum": clips_BCK.mean(1),
            "max": clips_BCK.max(1),
            "topk": np.sort(clips_BCK, axis=1)[:, -2:].mean(1),
            "weighted": (clips_BCK * (weights / weights.sum())[:, None]).sum(1),
        }[consensus]
        np.testing.assert_allclose(scores.values, expected, rtol=1e-4, atol=1e-5)


def test_the_network_is_in_evaluation_mode_and_left_as_it_was():
    settings = settings_of(PROTOCOLS["slim-5"], "model.dropout=0.9")
    network = network_of(settings)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = evaluate(network, items_of(), settings, runtime=CPU)
    network.train()
    second = evaluate(network, items_of(), settings, runtime=CPU)
    assert network.training
    np.testing.assert_array_equal(first.values, second.values)
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())


def test_unknown_labels_are_no_hits():
    settings = settings_of(PROTOCOLS["centre-1"])
    items = [replace(item, label=-1) for item in items_of()]
    scores = evaluate(network_of(settings), items, settings, runtime=CPU)
    assert scores.labels.tolist() == [-1, -1, -1]
    assert scores.clip_top1 == 0


def test_probabilities_over_time():
    protocol = Protocol(rule="uniform", num_clips=8, crops="ten")
    settings = settings_of(protocol, views_per_pass=9)
    network = network_of(settings)
    found_NK = clip_probabilities(network, items_of()[1], settings, runtime=CPU)
    logits, _ = clip_logits(network, settings, items_of()[1:2])
    np.testing.assert_allclose(found_NK, softmax(logits[0]).mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found_NK.sum(1), 1, atol=1e-5)


def test_scores_that_are_not_finite_are_explained():
    settings = settings_of(PROTOCOLS["centre-1"])
    network = network_of(settings)
    torch.nn.init.constant_(network.backbone.get_classifier().bias, float("inf"))
    with pytest.raises(KinemaError, match=r"not finite numbers for v0, v1, v2: its training went"):
        evaluate(network, items_of(), settings, runtime=CPU)


def test_a_pass_without_views_is_refused():
    with pytest.raises(UsageError, match=r"views_per_pass=-1 is not possible"):
        settings_of(PROTOCOLS["centre-1"], views_per_pass=-1)


def test_a_video_that_cannot_be_read_is_named(monkeypatch):
    def failing(number, spec):
        if number == 1:
            raise KinemaError("it is broken.")
        return source(number, spec)

    stand_in(monkeypatch, failing)
    settings = settings_of(PROTOCOLS["centre-1"])
    with pytest.raises(KinemaError, match=r"The video 'v1'.*cannot be read: it is broken"):
        evaluate(network_of(settings), items_of(), settings, runtime=CPU)
