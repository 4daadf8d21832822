"""One file of several networks and their fusion: the same figures as from its parts."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import kinema as package
from helpers_cli import kinema
from helpers_scores import make_scores
from kinema import trained_fusion
from kinema.config import override
from kinema.datasets.build import build_index
from kinema.datasets.splits import SplitRule
from kinema.engine.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint, weights_hash
from kinema.engine.protocols import find_protocol
from kinema.ensemble import Ensemble, find_checkpoints, load_ensemble
from kinema.errors import KinemaError, UsageError
from kinema.features import Features
from kinema.fused_checkpoint import is_fused, load_fused, save_fused
from kinema.metrics import softmax
from kinema.models.network import build_network
from kinema.prediction import PredictOptions
from kinema.recipes import recipe
from kinema.samples import make_samples
from kinema.scores import Scores, load_scores, save_scores
from kinema.stored_fusion import as_learned, average_by
from kinema.trained_fusion import fuse_trained
from kinema.weights.files import read_weights

STREAMS = ("rgb", "flow")
FUSIONS = {
    "softmax": ("--rule", "softmax", "--weights", "1/3,2/3"),
    "logits": ("--rule", "logits", "--weights", "1,1.5"),
    "l1": ("--rule", "l1", "--weights", "1,1.5"),
    "mlp": ("--method", "mlp"),
    "svm": ("--method", "svm"),
}
ONE_STRENGTH = {"STRENGTHS": (0.01,), "PENALTIES": (1.0,)}  # the choice is tested elsewhere
SETTINGS = ("data.workers=0", "data.flow_size=none")


@dataclass(frozen=True)
class Made:
    """Two untrained networks, and their score files of test and of made-up validation videos."""

    folder: Path
    videos: Path

    def checkpoint(self, stream: str) -> Path:
        return self.folder / f"{stream}.safetensors"

    def scores(self, part: str = "test") -> list[Path]:
        return [self.folder / f"{part}-{stream}.npz" for stream in STREAMS]

    @property
    def networks(self) -> list[Path]:
        return [self.checkpoint(stream) for stream in STREAMS]

    def fused(self, name: str) -> Path:
        """Fuse and save by the command, once; returns the fused checkpoint, fused.npz beside it."""
        out = self.folder / name
        path, how = out / "all.safetensors", FUSIONS[name]
        if not path.exists():
            val, names = (
                ",".join(map(str, files)) for files in (self.scores("val"), self.networks)
            )
            learned = ("--train-on", val) if "--method" in how else ()
            saved = ("-o", out / "fused.npz", "--checkpoints", names, "--save", path)
            with patch.multiple(trained_fusion, **ONE_STRENGTH):
                done = kinema("fuse", *self.scores(), *how, *learned, *saved)
            assert done.code == 0, done.err
            assert done.out.splitlines()[-1] == f"Fused checkpoint: {path}"
        return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("fused")
    made = Made(folder, folder / "videos")
    make_samples(made.videos, videos_per_class=2, num_scenes=2, num_frames=10, size=(64, 64))
    rule = SplitRule(test_groups=("scene-01",), val_fraction=0.0)
    classes = build_index(made.videos, folder / "index", rule=rule, workers=1).index.classes
    for place, stream in enumerate(STREAMS):
        write_network(made.checkpoint(stream), folder / "index", stream, classes, seed=place)
        out = ("-o", made.scores()[place], "--flow", "")
        assert kinema("test", made.checkpoint(stream), *out).code == 0
        save_scores(made_up(made, place), made.scores("val")[place])
    return made


def write_network(path, index, stream, classes, *, seed):
    config = override(recipe("tiny", stream), [*SETTINGS, f"data.index={index}"])
    torch.manual_seed(seed)
    network = build_network(
        config.model,
        modality=stream,
        stack=config.data.stack,
        num_classes=len(classes),
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )
    with torch.no_grad():
        for value in list(network.parameters())[-2:]:
            value *= 20  # so that its answers differ from video to video
    protocol = find_protocol(config.protocol)
    save_checkpoint(
        path, network, CheckpointInfo(config=config, classes=classes, protocol=protocol)
    )


def made_up(made: Made, place: int) -> Scores:
    """Scores of 36 videos from which there is something to learn, as if of the network."""
    test, rng = load_scores(made.scores()[place]), np.random.default_rng(place)
    labels = np.arange(36) % len(test.classes)
    turned = np.where(labels < 3, labels, (labels - 2) % 3 + 3) if place else labels
    values = rng.normal(size=(36, len(test.classes)))
    values[np.arange(36), turned] += 2
    ids = tuple(f"made-up/{i}" for i in range(36))
    return replace(test, ids=ids, values=values, labels=labels)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_test_and_a_prediction_are_those_of_the_parts(made, tmp_path, name):
    """A test to the bit, in all that a score file holds; a prediction to float32."""
    path = made.fused(name)
    expected = load_scores(path.with_name("fused.npz"))
    done = kinema("test", path, "-o", tmp_path / "again.npz", "--flow", "")
    assert done.code == 0, done.err
    assert (tmp_path / "again.npz").read_bytes() == path.with_name("fused.npz").read_bytes()
    videos = [made.videos / f"{name}.mp4" for name in expected.ids]
    found = package.predict([path], videos[:3])
    together = np.stack([row.probabilities for row in found.rows])
    if expected.kind == "logits":
        size = 2.5 if name == "logits" else 1
        expected = replace(expected, values=softmax(expected.values / size), kind="probabilities")
    np.testing.assert_allclose(together, expected.values[:3], atol=1e-5)
    assert (together.argmax(1) == expected.values[:3].argmax(1)).all()
    assert np.ptp(together, axis=0).max() > 1e-3
    for stream, file in zip(STREAMS, made.scores(), strict=True):
        alone = np.stack([row.by_stream[stream] for row in found.rows])
        np.testing.assert_allclose(alone, softmax(load_scores(file).values[:3]), atol=1e-5)


def test_the_streams_are_the_checkpoints_that_went_in(made):
    found = load_fused(path := made.fused("mlp"))
    assert list(found.streams) == ["rgb", "flow"] and found.fusion.name == "mlp"
    for stream, checkpoint in found.streams.items():
        plain = load_checkpoint(made.checkpoint(stream))
        assert checkpoint.info == plain.info
        assert checkpoint.hash == plain.hash == weights_hash(made.checkpoint(stream))
        assert not checkpoint.network.training
        state = checkpoint.network.state_dict()
        for name, value in plain.network.state_dict().items():
            assert torch.equal(state[name], value), name
    with safe_open(path, framework="pt") as handle:
        names = set(handle.keys())
    assert {name.split("/")[0] for name in names} == {"streams", "fusion"}
    assert sum(name.startswith("fusion/") for name in names) == 4  # two layers


def test_two_streams_of_a_kind_and_a_run_of_the_protocol(made, tmp_path):
    """RGB twice, the second time by another protocol, which the file keeps."""
    rgb, again = made.checkpoint("rgb"), tmp_path / "again.npz"
    assert kinema("test", rgb, "-o", again, "--protocol", "uniform-10").code == 0
    path, files = tmp_path / "two.safetensors", [made.scores()[0], again]
    save_fused(path, [rgb, rgb], scores=files, fusion=average_by("softmax", (1, 3)))
    found = load_fused(path)
    assert list(found.streams) == ["rgb", "rgb-2"]
    assert [one.protocol.name for one in found.streams.values()] == ["centre-1", "uniform-10"]
    scores = package.test(path, tmp_path / "scores.npz")
    fused, _, _ = package.fuse(files, weights=(1, 3))
    np.testing.assert_array_equal(scores.values, fused.values)
    assert scores.protocol == "centre-1 + uniform-10"


def test_sums_of_views_are_fused_as_in_a_test(made, tmp_path):
    """The protocol sums 19 views: the softmax of sums is nearly all or nothing, and stays so."""
    files = [tmp_path / f"{stream}.npz" for stream in STREAMS]
    for network, file in zip(made.networks, files, strict=True):
        done = kinema("test", network, "-o", file, "--protocol", "uniform-19", "--flow", "")
        assert done.code == 0
    video = made.videos / f"{load_scores(files[0]).ids[0]}.mp4"
    for rule in ("softmax", "logits"):
        path = tmp_path / f"{rule}.safetensors"
        package.save_fused(path, made.networks, scores=files, fusion=average_by(rule, (1, 1.5)))
        fused, _, streams = package.fuse(files, rule=rule, weights=(1, 1.5))
        (row,) = package.predict([path], [video]).rows
        expected = fused.values[0] if rule == "softmax" else softmax(fused.values[:1] / 47.5)[0]
        np.testing.assert_allclose(row.probabilities, expected, atol=1e-4)
        alone = softmax(streams[1].values[:1] / 19)[0]
        np.testing.assert_allclose(row.by_stream["flow"], alone, atol=1e-5)


def test_the_command_shows_every_stream(made):
    path, video = made.fused("mlp"), sorted(made.videos.rglob("*.mp4"))[0]
    (row,) = package.predict([path], [video]).rows
    classes = load_scores(made.scores()[0]).classes
    best = int(row.probabilities.argmax())
    alone = ", ".join(f"{name} {100 * values[best]:.1f}" for name, values in row.by_stream.items())
    header, line = kinema("predict", path, video).out.splitlines()
    assert header.rstrip().endswith("by stream, %") and line.rstrip().endswith(alone)
    assert f" {classes[best]} " in line and alone.startswith("rgb ") and ", flow " in alone
    (told,) = json.loads(kinema("predict", path, video, "--json").out)["predictions"]
    np.testing.assert_allclose(told["by_stream"]["flow"], row.by_stream["flow"], atol=1e-6)


def test_other_weights_and_moments(made):
    path = made.fused("softmax")
    assert load_ensemble([path], device="cpu").weights == pytest.approx((1 / 3, 2 / 3))
    video = sorted(made.videos.rglob("*.mp4"))[0]
    (row,) = package.predict([path], [video], options=PredictOptions(weights=(3.0, 1.0))).rows
    expected = 0.75 * row.by_stream["rgb"] + 0.25 * row.by_stream["flow"]
    np.testing.assert_allclose(row.probabilities, expected, atol=1e-6)
    learned = load_ensemble([made.fused("svm")], device="cpu")
    moments = [softmax(np.random.default_rng(i).normal(size=(4, 6))) for i in range(2)]
    as_scores = [make_scores(m, kind="probabilities", classes=learned.classes) for m in moments]
    expected = softmax(learned.stored.fuse(as_scores).values)
    np.testing.assert_allclose(learned.fuse_moments(moments), expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"fused as it was learned \(svm\), not by weights"):
        load_ensemble([made.fused("svm")], device="cpu", weights=(1.0, 1.0))


def test_a_score_file_of_another_network_is_refused(made, tmp_path):
    rgb, flow = made.networks
    digest = weights_hash(flow)
    average, out = average_by("softmax", (1, 1)), tmp_path / "x.safetensors"
    with pytest.raises(KinemaError, match=rf"test-rgb\.npz was made by .*, not by .*\({digest}\)"):
        save_fused(out, [flow, rgb], scores=made.scores(), fusion=average)
    with pytest.raises(KinemaError, match=r"test-flow\.npz was made by .* not by .*rgb"):
        train_on = made.scores()[::-1]
        save_fused(out, [rgb, flow], scores=made.scores(), fusion=average, train_on=train_on)
    scores = load_scores(made.scores()[0])
    cases = {
        "made by no known network": {"checkpoint": ""},
        "protocol 'mine', which has no description": {"protocol": "mine"},
        "has other classes than": {"classes": scores.classes[::-1]},
    }
    for message, change in cases.items():
        save_scores(replace(scores, **change), tmp_path / "changed.npz")
        files = [tmp_path / "changed.npz", made.scores()[1]]
        with pytest.raises(KinemaError, match=message):
            save_fused(out, [rgb, flow], scores=files, fusion=average)
    save_scores(replace(scores, protocol="uniform-10"), tmp_path / "changed.npz")
    train_on = [tmp_path / "changed.npz", made.scores()[1]]
    with pytest.raises(KinemaError, match=r"by the protocol 'centre-1', but .* by 'uniform-10'"):
        save_fused(out, [rgb, flow], scores=made.scores(), fusion=average, train_on=train_on)
    with pytest.raises(UsageError, match="1 checkpoints, 2 score files"):
        save_fused(out, [rgb], scores=made.scores(), fusion=average)
    with pytest.raises(UsageError, match="joins 3 streams, but there are 2"):
        three = average_by("softmax", (1, 1, 1))
        save_fused(out, [rgb, flow], scores=made.scores(), fusion=three)
    assert not out.exists()


def test_networks_of_other_classes_are_refused(made, tmp_path):
    other, scores = tmp_path / "other.safetensors", load_scores(made.scores()[1])
    turned = scores.classes[::-1]
    write_network(other, made.folder / "index", "flow", turned, seed=1)
    changed = replace(scores, classes=turned, checkpoint=weights_hash(other))
    save_scores(changed, tmp_path / "flow.npz")
    files, average = [made.scores()[0], tmp_path / "flow.npz"], average_by("softmax", (1, 1))
    with pytest.raises(KinemaError, match=r"trained on other classes than .*rgb"):
        save_fused(tmp_path / "x", [made.networks[0], other], scores=files, fusion=average)


def test_a_damaged_file_is_named(made, tmp_path):
    path, whole = tmp_path / "all.safetensors", made.fused("logits").read_bytes()
    for broken in (whole[:100], whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(broken)
        done = kinema("predict", path, made.videos)
        assert done.code == 1 and "all.safetensors is not a complete safetensors file" in done.error
    path.write_bytes(whole[:-40] + bytes(byte ^ 1 for byte in whole[-40:]))
    with pytest.raises(
        KinemaError, match=r"all\.safetensors is damaged: its weights are not those"
    ):
        load_fused(path)
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as handle:
        entry = json.loads(handle.metadata()["kinema-fused"])
    save_file(load_file(path), path, metadata={"kinema-fused": json.dumps({**entry, "format": 2})})
    with pytest.raises(KinemaError, match="written by a newer Kinema: update"):
        load_fused(path)


def test_where_one_stream_is_needed_a_fused_file_is_refused(made, tmp_path):
    path = made.fused("softmax")
    assert is_fused(path) and not is_fused(made.networks[0]) and not is_fused(tmp_path)
    done = kinema("features", path, "-o", tmp_path / "features")
    assert done.code == 1 and "give the checkpoint of one stream here" in done.error
    with pytest.raises(KinemaError, match=r"cannot be model\.weights: give the checkpoint of one"):
        read_weights(path)
    with pytest.raises(KinemaError, match="give the checkpoint of one stream"):
        load_checkpoint(path)
    done = kinema("predict", path, made.networks[0], made.videos)
    assert done.code == 2 and "holds its streams and their fusion already" in done.error
    assert find_checkpoints([path]) == [path]


def test_a_protocol_of_probabilities_cannot_be_added_as_logits(made, tmp_path):
    path = made.fused("logits")
    for words in (("test", path, "-o", tmp_path / "x.npz"), ("predict", path, made.videos)):
        done = kinema(*words, "--protocol", "elkomy-19")
        assert done.code == 2 and "fused by their logits, which this protocol" in done.error


@pytest.mark.parametrize(("method", "maps"), [("svm", False), ("mlp", True)])
def test_a_fusion_of_features_is_kept_with_its_networks(made, tmp_path, method, maps):
    """Learned on random passes of the training part; test and prediction as from the files."""
    folder, names = tmp_path / "features", ",".join(map(str, made.networks))
    options = ("-o", folder, "--flow", "", *(["--maps"] if maps else []))
    assert kinema("features", *made.networks, *options, "--part", "test").code == 0
    passes = ("--augment", "--passes", 2, "--snippets", 2)
    assert kinema("features", *made.networks, *options, *passes).code == 0
    files = [folder / f"{stream}-test.safetensors" for stream in STREAMS]
    train_on = ",".join(str(folder / f"{stream}-train.safetensors") for stream in STREAMS)
    path = tmp_path / "all.safetensors"
    saved = ("-o", tmp_path / "fused.npz", "--checkpoints", names, "--save", path)
    with patch.multiple(trained_fusion, **ONE_STRENGTH):
        done = kinema("fuse", *files, "--method", method, "--train-on", train_on, *saved)
    assert done.code == 0, done.err
    assert load_fused(path).fusion.takes == (("maps",) if maps else ("features",)) * 2

    done = kinema("test", path, "-o", tmp_path / "again.npz", "--flow", "")
    assert done.code == 0, done.err
    expected = load_scores(tmp_path / "fused.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "fused.npz").read_bytes()
    videos = [made.videos / f"{name}.mp4" for name in expected.ids[:3]]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[0].read_bytes()[:900])
    found = package.predict([path], [*videos, broken])
    together = np.stack([row.probabilities for row in found.rows])
    values = expected.values[:3] if method == "mlp" else softmax(expected.values[:3])
    np.testing.assert_allclose(together, values, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3
    assert found.rows[0].by_stream == {} and len(found.failures) == 1
    assert kinema("predict", path, videos[0], "--video", tmp_path / "over").code == 0
    assert (tmp_path / "over" / videos[0].name).stat().st_size > 1000


def test_moments_of_features_are_fused_as_videos(made):
    learned = fuse_trained(
        [features_of_rows(seed, "test") for seed in (0, 1)],
        [features_of_rows(seed, "train") for seed in (2, 3)],
        method="svm",
    )
    stored = as_learned(learned)
    ensemble = Ensemble(
        streams=load_fused(made.fused("mlp")).streams, weights=(1, 1), rule="softmax", stored=stored
    )
    moments = [features_of_rows(seed, "test").values[:, 0, 0] for seed in (0, 1)]
    found = ensemble.fuse_moments(moments)
    np.testing.assert_allclose(found, softmax(learned.scores.values), atol=1e-6)


def features_of_rows(seed: int, part: str) -> Features:
    labels = np.arange(12) % 6
    values = np.random.default_rng(seed).normal(size=(12, 1, 1, 5)).astype(np.float32)
    return Features(
        ids=tuple(f"{part}-{row}" for row in range(12)),
        values=values + labels[:, None, None, None],
        labels=labels,
        view_labels=labels[:, None],
        classes=tuple("abcdef"),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save", "x.safetensors"), "--save and --checkpoints belong together"),
        (("--checkpoints", "x.safetensors"), "--save and --checkpoints belong together"),
        (("--checkpoints", "RUN", "--save", "x.npz"), "a checkpoint ends in .safetensors"),
        (("--checkpoints", "RUN{}", "--save", "x.safetensors"), "RUN{} has {} in its name"),
    ],
)
def test_options_that_do_not_fit(options, message):
    done = kinema("fuse", "A.npz", "B.npz", *options)
    assert done.code == 2 and message in done.error
