"""Predictions against the test scores of the same videos, and how several streams are fused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kinema
from helpers_cli import STREAMS, FinishedRun, copy_of, video_like
from kinema.engine.checkpoint import add_provenance, load_checkpoint, save_checkpoint
from kinema.ensemble import find_checkpoints, load_ensemble
from kinema.errors import KinemaError, UsageError
from kinema.metrics import softmax
from kinema.prediction import PredictOptions, find_sources


def videos_of(run: FinishedRun) -> list[Path]:
    return [run.video(id) for id in run.scores("rgb").ids]


@pytest.fixture(scope="module")
def predicted(finished):
    return kinema.predict([finished.folder], videos_of(finished))


def test_predictions_are_the_test_scores(finished, predicted):
    """RGB to the bit of float32; flow is computed anew, not read from the store."""
    assert not predicted.failures and predicted.classes == finished.scores("rgb").classes
    for stream, tolerance in (("rgb", 1e-6), ("flow", 2e-3)):
        expected = softmax(finished.scores(stream).values)
        found = np.stack([row.by_stream[stream] for row in predicted.rows])
        np.testing.assert_allclose(found, expected, atol=tolerance)
        assert np.ptp(found, axis=0).max() > 3 * np.abs(found - expected).max()


def test_they_are_fused_as_the_run_did(finished, predicted):
    found = np.stack([row.probabilities for row in predicted.rows])
    np.testing.assert_allclose(found, finished.fused.values, atol=2e-3)
    weights = [
        load_checkpoint(finished.checkpoint(stream)).info.provenance["fusion_weight"]
        for stream in STREAMS
    ]
    by_hand = sum(
        weight * np.stack([row.by_stream[stream] for row in predicted.rows])
        for stream, weight in zip(STREAMS, weights, strict=True)
    )
    np.testing.assert_allclose(found, by_hand / sum(weights), atol=1e-6)


def test_weights_can_be_given(finished, predicted):
    options = PredictOptions(weights=(3.0, 1.0))
    found = kinema.predict([finished.folder], videos_of(finished)[:1], options=options)
    one = predicted.rows[0].by_stream
    expected = 0.75 * one["rgb"] + 0.25 * one["flow"]
    np.testing.assert_allclose(found.rows[0].probabilities, expected, atol=1e-6)


def test_the_order_of_checkpoints_is_kept_and_one_is_enough(finished, predicted):
    both = [finished.checkpoint("flow"), finished.folder / "rgb"]
    ensemble = load_ensemble(both, device="cpu")
    assert list(ensemble.streams) == ["flow", "rgb"]
    known = dict(zip(ensemble.streams, ensemble.weights, strict=True))
    assert known == pytest.approx(
        {s: ensemble.streams[s].info.provenance["fusion_weight"] for s in STREAMS}
    )
    alone = kinema.predict(both[1:], videos_of(finished)[:2])
    for row, expected in zip(alone.rows, predicted.rows, strict=False):
        np.testing.assert_allclose(row.probabilities, expected.by_stream["rgb"], rtol=1e-6)
        assert list(row.by_stream) == ["rgb"]


def test_a_stream_that_got_no_weight_can_be_used_alone(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    add_provenance(folder / "rgb" / "best.safetensors", {"fusion_weight": 0.0})
    assert load_ensemble([folder / "rgb"], device="cpu").weights == (1.0,)
    assert load_ensemble([folder], device="cpu").weights[0] == 0.0


def test_logits_are_added_where_the_run_did(finished, tmp_path):
    """A protocol that sums logits: the order of the classes is that of the weighted sum."""
    folder = copy_of(finished, tmp_path / "run")
    for stream in STREAMS:
        add_provenance(folder / stream / "best.safetensors", {"fusion_rule": "logits"})
    options = PredictOptions(protocol="uniform-19", weights=(1.0, 2.0))
    videos = videos_of(finished)[:2]
    found = kinema.predict([folder], videos, options=options)
    for row in found.rows:
        logits = [np.log(row.by_stream[stream]) for stream in STREAMS]
        expected = softmax((logits[0] / 3 + logits[1] * 2 / 3)[None])[0]
        np.testing.assert_allclose(row.probabilities, expected, atol=1e-6)
    mean_of_softmax = replace(options, protocol="elkomy-19")
    found = kinema.predict([folder], videos, options=mean_of_softmax)
    for row in found.rows:
        expected = row.by_stream["rgb"] / 3 + row.by_stream["flow"] * 2 / 3
        np.testing.assert_allclose(row.probabilities, expected, atol=1e-6)


def test_other_classes_are_refused(finished, tmp_path):
    loaded = load_checkpoint(finished.checkpoint("flow"))
    other = replace(loaded.info, classes=("a", "b", "c", "d", "e", "f"))
    save_checkpoint(tmp_path / "other.safetensors", loaded.network, other)
    with pytest.raises(KinemaError, match=r"other classes \(6: a, b, c, …\) than .*rgb.* \(6: che"):
        load_ensemble([finished.folder / "rgb", tmp_path / "other.safetensors"], device="cpu")


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0), (1.0, 1.0, 1.0)])
def test_weights_that_do_not_fit(finished, weights):
    with pytest.raises(UsageError, match=r"do not fit the 2 checkpoints \(rgb, flow\)"):
        load_ensemble([finished.folder], device="cpu", weights=weights)


def test_top_classes_and_json(predicted):
    row = predicted.rows[0]
    names, values = zip(*row.top(predicted.classes, 6), strict=True)
    assert set(names) == set(predicted.classes)
    assert list(values) == sorted(map(float, row.probabilities), reverse=True)
    (first, *_), found = predicted.as_json(2)["predictions"], predicted.as_json(2)
    assert [best["label"] for best in first["top"]] == list(names[:2])
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert sum(first["by_stream"]["flow"]) == pytest.approx(1, abs=1e-5)
    assert found["failures"] == [] and len(found["predictions"]) == 6


def test_sources_are_files_folders_and_patterns(tmp_path):
    names = ["a/1.mp4", "a/2.AVI", "b/c/3.mkv", "b/notes.txt", "a/.hidden.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*sources: str) -> list[str]:
        paths = find_sources([str(tmp_path / source) for source in sources])
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert found("") == ["a/1.mp4", "a/2.AVI", "b/c/3.mkv"]
    assert found("b", "a/1.mp4", "b") == ["b/c/3.mkv", "a/1.mp4"]
    assert found("*/*") == ["a/1.mp4", "a/2.AVI", "b/c/3.mkv"]
    assert found("**/*.m*") == ["a/1.mp4", "b/c/3.mkv"]
    assert found("b/notes.txt") == ["b/notes.txt"]
    for nothing in ("gone.mp4", "*.txt", "b/*.mp4"):
        with pytest.raises(KinemaError, match="is no video file, no folder with videos and no pat"):
            found(nothing)


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    (tmp_path / "clip [1].mp4").touch()
    assert find_sources([str(tmp_path / "clip [1].mp4")]) == [tmp_path / "clip [1].mp4"]


def test_folders_without_a_checkpoint(finished, tmp_path):
    with pytest.raises(KinemaError, match="is not the folder of a finished run"):
        find_checkpoints([tmp_path])
    with pytest.raises(KinemaError, match="give at least one"):
        find_checkpoints([])
    assert find_checkpoints([finished.folder]) == [finished.checkpoint(s) for s in STREAMS]


def test_a_video_that_fails_while_it_is_read_costs_only_itself(finished, tmp_path):
    """It can be opened, so that it is found only while all are read: one frame has no flow."""
    good = video_like(tmp_path / "good.mp4")
    bad = video_like(tmp_path / "bad.mp4", num_frames=1)
    found = kinema.predict([finished.folder], [bad, good])
    assert [row.source for row in found.rows] == [good]
    ((path, reason),) = found.failures
    assert path == bad and "needs two frames" in reason
    alone = kinema.predict([finished.folder], [good])
    by_appearance = kinema.predict([finished.folder / "rgb"], [bad, good])
    assert len(by_appearance.rows) == 2 and not by_appearance.failures
    # Batches of one and of two videos round differently: flow was read alone, rgb with the other.
    of_good = found.rows[0].by_stream
    np.testing.assert_array_equal(of_good["flow"], alone.rows[0].by_stream["flow"])
    np.testing.assert_array_equal(of_good["rgb"], by_appearance.rows[1].probabilities)
    together, by_itself = found.rows[0].probabilities, alone.rows[0].probabilities
    np.testing.assert_allclose(together, by_itself, rtol=0, atol=1e-6)
