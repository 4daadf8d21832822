"""Feature files as anyone may read them, old pickles, and the commands that make and use them."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from helpers_cli import kinema
from helpers_engine import config_of
from helpers_scores import make_scores
from kinema.datasets.index import read_index
from kinema.engine.checkpoint import CheckpointInfo, save_checkpoint
from kinema.engine.protocols import find_protocol
from kinema.errors import KinemaError, UsageError
from kinema.feature_run import FeatureOptions
from kinema.features import FeatureLayout, load_features, partial_path, writing_features
from kinema.fusion_tables import train_table
from kinema.models.network import build_network
from kinema.score_formats.old_features import are_features, read_any_features
from kinema.scores import load_scores, save_scores

pytest_plugins = ["helpers_engine_index"]

LAYOUT = FeatureLayout(
    ids=("a/1", "b/2", "ü"),
    labels=(0, 1, -1),
    classes=("a", "b"),
    views=2,
    clips=4,
    width=(5,),
    facts={"stream": "rgb", "protocol": "p", "checkpoint": "abc"},
)
VALUES = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)


def write(path, layout=LAYOUT, videos=(0, 1, 2)):
    with writing_features(path, layout) as writer:
        for video in videos:
            for view in range(2):
                writer.put((video, view, 2), VALUES[video, view, 2:])
                writer.put((video, view, 0), VALUES[video, view, :2])
                writer.finish(video, view, layout.labels[video])
    return path


def test_other_programs_read_the_file(tmp_path):
    path = write(tmp_path / "f.safetensors")
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["features"], VALUES)
    assert arrays["labels"].tolist() == [0, 1, -1]
    assert arrays["view_labels"].tolist() == [[0, 0], [1, 1], [-1, -1]]
    with safe_open(path, framework="np") as handle:
        facts = handle.metadata()
    assert json.loads(facts["ids"]) == ["a/1", "b/2", "ü"]
    assert (facts["format"], facts["checkpoint"]) == ("kinema-features-1", "abc")


def test_it_comes_back_without_being_loaded(tmp_path):
    found = load_features(write(tmp_path / "f.safetensors"))
    assert isinstance(found.values, np.memmap)
    np.testing.assert_array_equal(found.values, VALUES)
    np.testing.assert_allclose(found.pooled(slice(1, 3)), VALUES[1:].mean(2), atol=1e-6)
    assert (found.ids, found.classes, found.stream) == (LAYOUT.ids, ("a", "b"), "rgb")


def test_it_goes_on_after_a_stop_and_only_with_the_same_features(tmp_path):
    path = write(tmp_path / "f.safetensors", videos=(1,))
    assert not path.exists()
    with writing_features(path, LAYOUT) as writer:
        done = [writer.is_done(video, 1) for video in range(3)]
    assert done == [False, True, False]
    with pytest.raises(KinemaError, match="made otherwise"):
        write(path, replace(LAYOUT, facts={"checkpoint": "other"}))
    write(path, videos=(0, 2))
    assert not partial_path(path).exists()
    np.testing.assert_array_equal(load_features(path).values, VALUES)


def test_features_that_are_not_finite_are_refused(tmp_path):
    with (
        pytest.raises(KinemaError, match=r"'b/2' .* not finite"),
        writing_features(tmp_path / "f.safetensors", LAYOUT) as writer,
    ):
        writer.put((1, 0, 0), np.full((1, 5), np.nan, np.float32))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(KinemaError, match="no feature file"):
        load_features(tmp_path / "none.safetensors")
    save_file({"x": VALUES}, tmp_path / "x.safetensors")
    with pytest.raises(KinemaError, match="not a feature file"):
        load_features(tmp_path / "x.safetensors")
    path = write(tmp_path / "f.safetensors")
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(KinemaError, match="not a whole feature file"):
        load_features(path)


def old_pickle(path, *, videos=6, seed=0, protocol=2):
    rng = np.random.default_rng(seed)
    labels = (np.arange(videos) % 3).astype(np.float32)
    values = rng.normal(size=(videos, 19, 8)).astype(np.float32)
    values[np.arange(videos), :, labels.astype(int)] += 4
    path.write_bytes(pickle.dumps((values, labels), protocol=protocol))
    return values, labels


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_19_frames_are_read(protocol, tmp_path):
    path = tmp_path / "train_features_spatial.pickle.1"
    values, labels = old_pickle(path, protocol=protocol)
    assert are_features(path)
    found = read_any_features(path)
    np.testing.assert_array_equal(found.values[:, 0], values)
    assert found.labels.tolist() == labels.tolist() and found.classes == ("0", "1", "2")
    assert found.ids[:2] == ("train/0", "train/1")


def test_a_list_names_the_rows_of_a_pickle(tmp_path):
    path, videos = tmp_path / "test_features_motion.pickle", tmp_path / "list.txt"
    old_pickle(path)
    names, classes = [f"x/v{i}.avi" for i in range(6)], tmp_path / "classes.txt"
    classes.write_text("run\njump\nwave\n")
    known = ("run", "jump", "wave")
    videos.write_text("".join(f"{n} {known[i % 3]}\n" for i, n in enumerate(names)))
    found = read_any_features(path, ids=videos, classes=classes)
    assert found.ids == tuple(f"x/v{i}" for i in range(6)) and found.classes == known
    videos.write_text("".join(f"{n} {known[(i + 1) % 3]}\n" for i, n in enumerate(names)))
    with pytest.raises(KinemaError, match="another order"):
        read_any_features(path, ids=videos, classes=classes)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/pwned",))


def test_pickles_are_not_executed(tmp_path):
    path = tmp_path / "train_features_spatial.pickle"
    path.write_bytes(pickle.dumps((Evil(), np.zeros(3))))
    assert not are_features(path)
    with pytest.raises(KinemaError, match="refused"):
        read_any_features(path)
    path.write_bytes(pickle.dumps(np.zeros((3, 4))))
    with pytest.raises(KinemaError, match="holds no features"):
        read_any_features(path)


@pytest.fixture(scope="module")
def checkpoint(tiny_index, tmp_path_factory):
    config = config_of(tiny_index)
    torch.manual_seed(0)
    network = build_network(config.model, modality="rgb", stack=config.data.stack, num_classes=6)
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    classes, protocol = read_index(tiny_index).classes, find_protocol("centre-1")
    info = CheckpointInfo(config=config, classes=classes, protocol=protocol)
    save_checkpoint(path, network, info)
    return path


def test_the_command_writes_a_file_for_each_part(checkpoint, tmp_path):
    done = kinema("features", checkpoint, "-o", tmp_path, "--protocol", "uniform-10")
    assert done.code == 0, done.err
    for part, count in (("train", 12), ("val", 6), ("test", 6)):
        found = load_features(tmp_path / f"rgb-{part}.safetensors")
        assert found.values.shape[:3] == (count, 1, 10)
        assert found.protocol == "uniform-10" and len(found.checkpoint) == 16
        assert sorted(np.bincount(found.labels)) == [count // 6] * 6
    options = ("--augment", "--passes", 2, "--snippets", 3, "--seed", 1, "--part", "val")
    done = kinema("features", checkpoint, "-o", tmp_path / "r", *options)
    found = load_features(tmp_path / "r" / "rgb-val.safetensors")
    assert found.values.shape[:3] == (6, 2, 3) and found.augmented, done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--passes", "2"), "add --augment"),
        (("--snippets", "2"), "add --augment"),
        (("--augment", "--protocol", "centre-1"), "--protocol or --augment, not both"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options, message, checkpoint, tmp_path):
    done = kinema("features", checkpoint, "-o", tmp_path, *options)
    assert done.code == 2 and message in done.err and not list(tmp_path.iterdir())


def test_fewer_than_one_pass_is_refused():
    with pytest.raises(UsageError, match="At least 1 pass"):
        FeatureOptions(augment=True, passes=0)


def test_old_features_are_fused_by_the_command(tmp_path):
    pytest.importorskip("sklearn")
    for part, count in (("train", 30), ("test", 12)):
        for number, stream in enumerate(("spatial", "motion")):
            path = tmp_path / f"{part}_features_{stream}.pickle"
            old_pickle(path, videos=count, seed=10 * number + count)
    files = [tmp_path / f"test_features_{stream}.pickle" for stream in ("spatial", "motion")]
    train = ",".join(str(path).replace("test_f", "train_f") for path in files)
    out = tmp_path / "fused.npz"
    done = kinema("fuse", *files, "--train-on", train, "--method", "svm", "-o", out)
    assert done.code == 0, done.err
    fused = load_scores(out)
    assert "Fused by svm: top-1 100.00 %" in done.out
    assert (fused.values.argmax(1) == np.arange(12) % 3).all()
    assert json.loads(fused.fusion)["streams"] == ["features", "features"]


def score_files(folder):
    rng = np.random.default_rng(0)
    for part, count in (("val", 60), ("test", 30)):
        labels = rng.integers(0, 3, count)
        for stream, size in (("rgb", 1.0), ("flow", 2.0)):
            values = rng.normal(size=(count, 3)) + size * np.eye(3)[labels]
            ids = [f"{part}{i}" for i in range(count)]
            save_scores(
                make_scores(values, labels=labels, ids=ids), folder / f"{stream}-{part}.npz"
            )
    return [folder / f"{stream}-{{}}.npz" for stream in ("rgb", "flow")]


def test_the_command_learns_on_one_part_and_fuses_another(tmp_path):
    score_files(tmp_path)
    test = [tmp_path / "rgb-test.npz", tmp_path / "flow-test.npz"]
    val = f"{tmp_path / 'rgb-val.npz'},{tmp_path / 'flow-val.npz'}"
    out = tmp_path / "fused.npz"
    done = kinema("fuse", *test, "--train-on", val, "--method", "weights", "-o", out)
    assert done.code == 0, done.err
    facts = json.loads(load_scores(out).fusion)
    assert facts["weights"][1] > facts["weights"][0] and facts["trained_on"] == 60
    assert "Fused by weights: top-1" in done.out and "weights 0." in done.out
    leak = f"{tmp_path / 'rgb-val.npz'},{test[1]}"
    done = kinema("fuse", *test, "--train-on", leak, "--method", "weights")
    assert done.code == 1 and "never trained on the videos" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "svm"), "belong together"),
        (("--train-on", "a.npz,b.npz"), "belong together"),
        (("--method", "svm", "--train-on", "a", "--rule", "l1"), "has no --rule"),
        (("--method", "svm", "--train-on", "a", "--weights", "1,1"), "has no --rule, --weights"),
        (("--seed", "1"), "--seed is of a learned fusion"),
    ],
)
def test_options_of_the_two_kinds_of_fusion_are_not_mixed(options, message):
    done = kinema("fuse", "a.npz", "b.npz", *options)
    assert done.code == 2 and message in done.err


def test_passes_of_two_streams_must_be_drawn_alike():
    from test_trained_fusion import TRAIN, features_of

    one, other = (features_of(stream, views=2, augmented=True) for stream in TRAIN)
    mirrored = replace(other, view_labels=(other.view_labels + 1) % 4)
    with pytest.raises(KinemaError, match="not drawn alike"):
        train_table([one, mirrored], classes=one.classes)
    fewer = features_of(TRAIN[1], views=1, augmented=True)
    with pytest.raises(KinemaError, match="same number of random passes"):
        train_table([one, fewer], classes=one.classes)
    with pytest.raises(KinemaError, match="same number of random passes"):
        train_table([one, TRAIN[1]], classes=one.classes)
