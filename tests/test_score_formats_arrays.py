"""NumPy, JSON and MATLAB files of other systems, with their lists."""

import json
import os
import struct

import numpy as np
import pytest

from helpers_scores import random_scores
from kinema.errors import KinemaError
from kinema.fusion import fuse
from kinema.metrics import top_k
from kinema.score_formats.read import read_any_scores
from kinema.scores import save_scores

VALUES = np.array([[3, 1, -2], [0.5, 4, 1], [-1, 0, 9], [2, 2.5, 0]])


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("archery\nbasketball\ncliff diving\n")
    return path


def listing(tmp_path, *lines):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def tsn_list(tmp_path):
    return listing(tmp_path, "/d/v_b 119 0", "/d/v_a 80 1", "/d/v_d 77 2", "/d/v_c 60 1")


def objects(rows):
    array = np.empty(len(rows), object)
    array[:] = [None] * len(rows)
    for i, row in enumerate(rows):
        array[i] = row
    return array


def pairs(views, labels):
    """The (N, 2) object array that NumPy made of a list of (scores, label)."""
    array = np.empty((len(views), 2), object)
    for i, pair in enumerate(zip(views, labels, strict=True)):
        array[i] = pair
    return array


def test_zhu_matrix_with_a_three_column_list(tmp_path, classes, tsn_list):
    np.save(tmp_path / "ucf101_s1_rgb_resnet152.npy", VALUES.astype(np.float32))
    path = tmp_path / "ucf101_s1_rgb_resnet152.npy"
    scores = read_any_scores(path, ids=tsn_list, classes=classes)
    assert scores.ids == ("v_b", "v_a", "v_d", "v_c")
    assert scores.classes == ("archery", "basketball", "cliff diving")
    assert scores.labels.tolist() == [0, 1, 2, 1] and scores.kind == "logits"
    np.testing.assert_array_equal(scores.values, VALUES.astype(np.float32))
    assert top_k(scores, k=1) == 1


def test_zhu_labels_from_one(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    names = listing(tmp_path, "/x/v_a 1", "/x/v_b 2", "/x/v_c 3", "/x/v_d 2")
    assert read_any_scores(tmp_path / "a.npy", ids=names).labels.tolist() == [0, 1, 2, 1]
    names = listing(tmp_path, "/x/v_a 0", "/x/v_b 1", "/x/v_c 2", "/x/v_d 1")
    assert read_any_scores(tmp_path / "a.npy", ids=names).labels.tolist() == [0, 1, 2, 1]


def test_caffe_tsn_follows_its_list(tmp_path, classes, tsn_list):
    rng = np.random.default_rng(0)
    views = rng.normal(size=(4, 25, 10, 3))
    np.savez(tmp_path / "rgb.npz", scores=pairs(views, [0, 1, 2, 1]), labels=[0, 1, 2, 1])
    scores = read_any_scores(tmp_path / "rgb.npz", ids=tsn_list, classes=classes)
    np.testing.assert_allclose(scores.values, views.mean((1, 2)), rtol=1e-5, atol=1e-6)
    assert scores.ids == ("v_b", "v_a", "v_d", "v_c")


def test_tsn_pytorch_follows_the_sorted_names(tmp_path, tsn_list):
    rng = np.random.default_rng(1)
    views = {name: rng.normal(size=(25, 1, 3)) for name in "abcd"}
    labels = {"a": 1, "b": 0, "c": 1, "d": 2}
    rows = pairs(list(views.values()), [labels[name] for name in views])
    np.savez(tmp_path / "flow.npz", scores=rows, labels=[labels[name] for name in views])
    scores = read_any_scores(tmp_path / "flow.npz", ids=tsn_list)
    assert scores.ids == ("v_b", "v_a", "v_d", "v_c")
    assert scores.labels.tolist() == [0, 1, 2, 1]
    expected = [views[name].mean((0, 1)) for name in "badc"]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5, atol=1e-6)


def test_tsn_rows_that_follow_the_list_after_all(tmp_path, tsn_list):
    views = np.random.default_rng(2).normal(size=(4, 25, 1, 3))
    np.savez(tmp_path / "a.npz", scores=pairs(views, [0, 1, 2, 1]), labels=[0, 1, 2, 1])
    scores = read_any_scores(tmp_path / "a.npz", ids=tsn_list)
    np.testing.assert_allclose(scores.values, views.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_tsn_of_videos_with_different_numbers_of_views(tmp_path, tsn_list):
    views = [np.full((count, 10, 3), count) for count in (3, 5, 7, 9)]
    np.savez(tmp_path / "a.npz", scores=objects(views), labels=np.array([0, 1, 2, 1]))
    scores = read_any_scores(tmp_path / "a.npz", ids=tsn_list)
    assert scores.values[:, 0].tolist() == [3, 5, 7, 9]


def test_tsn_fusion_is_the_published_one(tmp_path, tsn_list):
    """Weighted sum 1 : 1.5 of the means before the softmax."""
    rng = np.random.default_rng(3)
    rgb, flow = rng.normal(size=(2, 4, 25, 10, 3))
    for name, views in (("rgb", rgb), ("flow", flow)):
        np.savez(tmp_path / f"{name}.npz", scores=pairs(views, [0, 1, 2, 1]), labels=[0, 1, 2, 1])
    streams = [read_any_scores(tmp_path / f"{name}.npz", ids=tsn_list) for name in ("rgb", "flow")]
    fused = fuse(streams, rule="logits", weights=(1, 1.5))
    expected = rgb.mean(2).mean(1) + 1.5 * flow.mean(2).mean(1)
    np.testing.assert_allclose(fused.values, expected, atol=1e-6)


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_malicious_object_arrays_run_nothing(tmp_path, tsn_list):
    trace = tmp_path / "trace"
    evil = objects([Payload(f"touch '{trace}'")] * 4)
    np.savez(tmp_path / "a.npz", scores=evil, labels=np.zeros(4))
    np.savez(tmp_path / "b.npz", scores=VALUES, labels=evil)
    np.save(tmp_path / "c.npy", evil)
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(KinemaError, match=r"asks for '(posix|nt)\.system'.*refused"):
            read_any_scores(tmp_path / name, ids=tsn_list)
    assert not trace.exists()


def test_cao_sums_over_views_become_probabilities(tmp_path, classes):
    mean = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    content = {
        name: {"target_label": label, "pred_outputs": (30 * row).tolist()}
        for name, label, row in zip(("vid1", "vid2"), (1, 2), mean, strict=True)
    }
    path = tmp_path / "results_val_set.json"
    path.write_text(json.dumps(content))
    scores = read_any_scores(path, classes=classes)
    assert scores.kind == "probabilities" and scores.ids == ("vid1", "vid2")
    np.testing.assert_allclose(scores.values, mean, rtol=1e-6)
    assert scores.labels.tolist() == [1, 2]
    content["vid1"] = {"pred_outputs": [-1.0, 2.0, 3.0]}
    path.write_text(json.dumps(content))
    raw = read_any_scores(path)
    assert raw.kind == "logits" and raw.labels.tolist() == [-1, 2]
    np.testing.assert_allclose(raw.values[1], 30 * mean[1], rtol=1e-6)


def test_hara_ranked_lists_with_annotations(tmp_path, classes):
    content = {
        "results": {
            "y": [{"label": "cliff diving", "score": 0.75}, {"label": "archery", "score": 0.25}],
            "x": [{"label": "basketball", "score": 0.9}],
        }
    }
    database = {
        name: {"subset": "validation", "annotations": {"label": label}}
        for name, label in (("x", "basketball"), ("y", "archery"), ("other", "archery"))
    }
    path, truth = tmp_path / "val.json", tmp_path / "kinetics.json"
    path.write_text(json.dumps(content))
    truth.write_text(json.dumps({"labels": ["archery", "basketball"], "database": database}))
    scores = read_any_scores(path, ids=truth, classes=classes)
    assert scores.ids == ("x", "y") and scores.labels.tolist() == [1, 0]
    np.testing.assert_allclose(scores.values, [[0, 0.9, 0], [0.25, 0, 0.75]])
    assert read_any_scores(path).classes == ("archery", "basketball", "cliff diving")


def test_hara_segments_are_averaged(tmp_path):
    segments = [
        {
            "segment": [1, 17],
            "result": [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.5}],
        },
        {"segment": [17, 33], "result": [{"label": "b", "score": 1.0}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"results": {"x": segments}}))
    np.testing.assert_allclose(read_any_scores(tmp_path / "a.json").values, [[0.25, 0.75]])


def test_hara_class_that_the_list_lacks(tmp_path, classes):
    content = {"results": {"x": [{"label": "skiing", "score": 0.9}]}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(KinemaError, match="classes that the list lacks: skiing"):
        read_any_scores(tmp_path / "a.json", classes=classes)


def test_json_list_and_other_json(tmp_path, tsn_list):
    (tmp_path / "a.json").write_text(json.dumps(VALUES.tolist()))
    scores = read_any_scores(tmp_path / "a.json", ids=tsn_list)
    np.testing.assert_array_equal(scores.values, VALUES)
    for text in ('{"a": 1}', '{"a": {"x": 1}}', '{"results": {"x": [3]}}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(KinemaError, match="JSON but not a results file"):
            read_any_scores(tmp_path / "b.json")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_matlab_matrix_and_its_transpose(tmp_path, classes, tsn_list, compressed, kind):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "a.mat"
    for values in (VALUES.astype(kind), VALUES.T.astype(kind)):
        others = {"split": 1, "name": "rgb", "labels": np.array([[0], [1], [2], [1]])}
        content = {"spatial_prediction": values, **others}
        scipy_io.savemat(path, content, do_compression=compressed)
        scores = read_any_scores(path, ids=tsn_list, classes=classes)
        np.testing.assert_array_equal(scores.values, VALUES)


def test_matlab_matrix_of_the_real_size_and_numbers_stored_small(tmp_path):
    """MATLAB stores whole numbers in small types whatever the class; SciPy reads them back."""
    scipy_io = pytest.importorskip("scipy.io")
    values = np.random.default_rng(0).normal(size=(3783, 101))
    scipy_io.savemat(tmp_path / "a.mat", {"hidden_prediction": values}, do_compression=True)
    names = listing(tmp_path, *(f"v{i}" for i in range(3783)))
    scores = read_any_scores(tmp_path / "a.mat", ids=names)
    np.testing.assert_array_equal(scores.values, values.astype(np.float32))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    parts = struct.pack("<4I2I2i", 6, 8, 6, 0, 5, 8, 2, 3)  # class double; 2 x 3
    parts += struct.pack("<HH4s", 1, 1, b"x") + struct.pack("<2I8B", 2, 6, 1, 2, 3, 4, 5, 6, 0, 0)
    (tmp_path / "b.mat").write_bytes(head + struct.pack("<2I", 14, len(parts)) + parts)
    np.testing.assert_array_equal(scipy_io.loadmat(tmp_path / "b.mat")["x"], [[1, 3, 5], [2, 4, 6]])
    scores = read_any_scores(tmp_path / "b.mat", ids=listing(tmp_path, "a", "b"))
    assert scores.values.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_matlab_files_that_are_refused(tmp_path, tsn_list):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"rgb": VALUES, "flow": VALUES})
    with pytest.raises(KinemaError, match=r"one score matrix, but holds 2: (rgb, flow|flow, rgb)"):
        read_any_scores(path, ids=tsn_list)
    scipy_io.savemat(path, {"complex": VALUES * 1j, "cells": np.array([1, "a"], object)})
    with pytest.raises(KinemaError, match="holds 0"):
        read_any_scores(path, ids=tsn_list)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(KinemaError, match="ends too early"):
        read_any_scores(path, ids=tsn_list)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(KinemaError, match=r"MATLAB 7\.3 file.*-v7"):
        read_any_scores(path, ids=tsn_list)


def test_own_files_are_read_as_they_are(tmp_path, classes):
    scores = random_scores(videos=4, classes=3, seed=0)
    save_scores(scores, tmp_path / "a.npz")
    back = read_any_scores(tmp_path / "a.npz", classes=classes)
    assert back.classes == scores.classes
    np.testing.assert_array_equal(back.values, scores.values)


def test_kind_can_be_stated(tmp_path, tsn_list):
    np.save(tmp_path / "a.npy", np.full((4, 4), 0.25))
    assert read_any_scores(tmp_path / "a.npy", ids=tsn_list).kind == "probabilities"
    assert read_any_scores(tmp_path / "a.npy", ids=tsn_list, kind="logits").kind == "logits"


def test_unknown_missing_and_broken_files(tmp_path, tsn_list):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(KinemaError, match=r"a\.txt: it is not a score file of a known system"):
        read_any_scores(tmp_path / "a.txt")
    (tmp_path / "a.safetensors").write_bytes(bytes(16))
    with pytest.raises(KinemaError, match=r"a\.safetensors: it holds features or a network, no"):
        read_any_scores(tmp_path / "a.safetensors")
    with pytest.raises(KinemaError, match=r"no score file .*gone"):
        read_any_scores(tmp_path / "gone.npy")
    np.savez(tmp_path / "b.npz", features=np.zeros(3))
    with pytest.raises(KinemaError, match=r"holds features\.npy, but a score file of TSN"):
        read_any_scores(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", VALUES)
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-8])
    with pytest.raises(KinemaError, match="not a NumPy file that can be read"):
        read_any_scores(tmp_path / "c.npy", ids=tsn_list)
    np.save(tmp_path / "d.npy", np.float32(3))
    with pytest.raises(KinemaError, match="a single value"):
        read_any_scores(tmp_path / "d.npy", ids=tsn_list)
    np.savez(tmp_path / "e.npz", scores=VALUES)
    (tmp_path / "e.npz").write_bytes((tmp_path / "e.npz").read_bytes()[:100])
    with pytest.raises(KinemaError, match=r"e\.npz"):
        read_any_scores(tmp_path / "e.npz", ids=tsn_list)
