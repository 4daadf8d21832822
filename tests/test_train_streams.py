"""Trainings of two streams and on stored features: results, resume, processes, bad input."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers_engine import (
    SGD,
    WITH_STATE,
    WITHOUT_BATCH_NORM,
    assert_close_files,
    assert_same_files,
    config_of,
    exit_code_of,
    exit_codes_of_ranks,
    figures_of,
    part_of_index,
    start_process,
    train_here,
    train_until,
    weights_of,
)
from kinema.config import override
from kinema.datasets.index import read_index
from kinema.engine.checkpoint import load_checkpoint, read_info, weights_hash
from kinema.engine.job import prepare, start_session
from kinema.engine.runtime import Runtime
from kinema.engine.train import train, train_batch
from kinema.errors import KinemaError, UsageError
from kinema.feature_run import FeatureOptions, write_features
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.two_streams import FeatureStreams, ScoreStreams
from kinema.prediction import predict
from kinema.testing import TestOptions, score_checkpoint

pytest_plugins = ("helpers_engine_index",)

CPU = Runtime(device=torch.device("cpu"))
JOINT = ("second.modality=flow", "second.stack=2", "augment.mirror=false", "data.workers=0")


def joint_of(index, *overrides, **options):
    return config_of(index, *JOINT, *overrides, **options)


@pytest.fixture(scope="module")
def streams(tiny_index, tmp_path_factory):
    """A finished network of each stream."""
    out = tmp_path_factory.mktemp("streams")
    train(config_of(tiny_index, "data.workers=0"), out / "rgb", device="cpu")
    flow = config_of(tiny_index, "data.workers=0", "data.stack=2", modality="flow")
    train(flow, out / "flow", device="cpu")
    return out


def test_a_joint_training_leaves_one_file_of_both_and_one_of_each(tiny_index, tmp_path):
    out = tmp_path / "run"
    result = train(joint_of(tiny_index, "second.distil=soft"), out, device="cpu")
    both = load_checkpoint(result.best)
    assert isinstance(both.network, ScoreStreams) and 0 <= result.val_top1 <= 1
    whole = weights_of(result.best)
    for name, part in (("rgb", "first"), ("flow", "second")):
        one = load_checkpoint(out / f"best-{name}.safetensors")
        assert isinstance(one.network, SnippetNetwork) and one.config.data.modality == name
        assert one.config.second.modality == ""
        for key, value in one.network.state_dict().items():
            assert torch.equal(value, whole[f"{part}.{key}"]), key
    scores = score_checkpoint(result.best, tmp_path / "s.npz", options=TestOptions(device="cpu"))
    alone = [
        score_checkpoint(
            out / f"best-{name}.safetensors", tmp_path / "o.npz", options=TestOptions(device="cpu")
        )
        for name in ("rgb", "flow")
    ]
    assert scores.ids == alone[0].ids and scores.values.shape == alone[0].values.shape
    # The flow leads, so it is tested on the same pairs as alone; rgb sees the middle of them.
    difference = scores.values - alone[1].values
    assert np.isfinite(difference).all() and np.abs(difference - alone[0].values).mean() < 1.0


def test_one_file_of_two_streams_predicts(tiny_index, tmp_path):
    out = tmp_path / "run"
    train(joint_of(tiny_index, epochs=1), out, device="cpu")
    scores = score_checkpoint(
        out / "best.safetensors", tmp_path / "s.npz", options=TestOptions(device="cpu")
    )
    info = read_info(out / "best.safetensors")
    path = {video.id: video.path for video in read_index(tiny_index).videos}[scores.ids[0]]
    found = predict([out / "best.safetensors"], [str(path)])
    expected = torch.from_numpy(scores.values[0]).softmax(0).numpy()
    assert list(found.rows[0].by_stream) == ["rgb+flow"] and found.classes == info.classes
    np.testing.assert_allclose(found.rows[0].probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("distil", ["soft", "features"])
def test_a_teacher_is_used_and_no_part_of_the_result(distil, tiny_index, streams, tmp_path):
    teacher = streams / "flow" / "best.safetensors"
    config = config_of(
        tiny_index,
        f"second.teacher={teacher}",
        f"second.distil={distil}",
        "data.workers=0",
        epochs=1,
    )
    result = train(config, tmp_path / "run", device="cpu")
    info = read_info(result.best)
    assert info.config.second.teacher == "" and info.config.data.modality == "rgb"
    assert info.provenance["teacher_hash"] == weights_hash(teacher)
    assert info.provenance["distil"] == distil
    network = load_checkpoint(result.best).network
    assert isinstance(network, SnippetNetwork)
    plain = train(
        config_of(tiny_index, "data.workers=0", epochs=1), tmp_path / "plain", device="cpu"
    )
    assert any(
        not torch.equal(value, weights_of(plain.best)[name])
        for name, value in weights_of(result.best).items()
    )


def test_motion_vectors_are_taught_by_flow_from_its_weights(tiny_index, streams, tmp_path):
    """EMV: teacher initialisation and supervision transfer, recognition without flow."""
    teacher = streams / "flow" / "best.safetensors"
    config = config_of(
        tiny_index,
        "data.stack=2",
        "data.flow_algorithm=motion-vectors",
        f"model.weights={teacher}",
        f"second.teacher={teacher}",
        "second.distil=soft",
        "data.workers=0",
        "optim.lr=0",
        modality="flow",
        epochs=1,
    )
    job = prepare(config, tmp_path / "run", CPU)
    session = start_session(job)
    ((x, _, _),) = job.train_clips.clips(0, epoch=0)
    student, taught = session.network.split(x[None])
    assert student.shape == taught.shape and not torch.equal(student, taught)
    session.network.eval()
    torch.testing.assert_close(session.network.first(taught), session.network.second(taught))


def test_two_optimisers_are_one_with_two_rates(tiny_index, tmp_path):
    """Each stream's own loss, as two SGDs with their own rates and clipping would do it."""
    options = ("second.loss=each", "second.lr=0.01", "optim.clip_norm=0.5", "train.precision=fp32")
    job = prepare(joint_of(tiny_index, *SGD, *options), tmp_path / "run", CPU)
    ours, theirs = start_session(job), start_session(job)
    theirs.network.load_state_dict(ours.network.state_dict())
    clips = [job.train_clips.clips(row, epoch=0)[0] for row in range(4)]
    x = torch.stack([clip[0] for clip in clips])
    labels, rows = (torch.tensor([clip[i] for clip in clips]) for i in (1, 2))
    towers = theirs.network.streams
    pair = [
        torch.optim.SGD(tower.parameters(), lr=rate, momentum=job.config.optim.momentum)
        for tower, rate in zip(towers, (0.05, 0.01), strict=True)
    ]
    for _ in range(3):
        train_batch(job, ours, x, labels, rows)
        ours.batch = 0
        for tower, part, optimizer in zip(towers, theirs.network.split(x), pair, strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                tower(part), labels, label_smoothing=job.config.optim.label_smoothing
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tower.parameters(), 0.5)
            optimizer.step()
    for name, value in theirs.network.state_dict().items():
        torch.testing.assert_close(
            ours.network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name
        )


def test_an_interrupted_joint_training_ends_with_the_same_bits(tiny_index, tmp_path):
    config = joint_of(tiny_index, *WITH_STATE, "second.distil=soft")
    train(config, tmp_path / "whole", device="cpu")
    process = start_process(train_until, config, tmp_path / "cut", 9, signal.SIGKILL)
    assert exit_code_of(process) == -signal.SIGKILL
    train(config, tmp_path / "cut", device="cpu")
    names = ("best.safetensors", "best-rgb.safetensors", "last-flow.safetensors")
    assert_same_files(tmp_path / "cut", tmp_path / "whole", *names)
    assert figures_of(tmp_path / "cut") == figures_of(tmp_path / "whole")


@pytest.mark.parametrize("fusion", ["scores", "conv"])
def test_two_processes_train_two_streams_as_one_does(fusion, tiny_index, tmp_path):
    index = part_of_index(tiny_index, tmp_path / "index", train=8)
    options = (WITHOUT_BATCH_NORM, *SGD, f"second.fusion={fusion}", "train.precision=fp32")
    several = joint_of(index, *options, batch=2)
    assert exit_codes_of_ranks(train_here, several, tmp_path / "several") == [0, 0]
    train(joint_of(index, *options, batch=4), tmp_path / "one", device="cpu")
    assert_close_files(tmp_path / "several", tmp_path / "one", atol=1e-4)


@pytest.fixture(scope="module")
def stored(streams, tiny_index):
    """Pooled features of both streams: six clips of every video."""
    paths = [streams / name / "best.safetensors" for name in ("rgb", "flow")]
    folder = streams / "features"
    test = TestOptions(device="cpu", protocol="uniform-10")
    write_features(paths, folder, options=FeatureOptions(test=test))
    return folder


def head_of(index, streams, stored, *overrides):
    return config_of(
        index,
        f"data.features={stored}",
        f"model.weights={streams / 'rgb' / 'best.safetensors'}",
        "model.consensus=lstm",
        "model.finetune_from=consensus",
        "data.num_segments=5",
        "data.workers=0",
        "optim.lr=0.01",
        *overrides,
        epochs=3,
    )


def both_of(index, streams, stored, *overrides):
    weights = f"second.weights={streams / 'flow' / 'best.safetensors'}"
    two = ("second.modality=flow", "second.stack=2", "second.fusion=features", weights)
    return head_of(index, streams, stored, *two, *overrides)


def test_a_head_that_learned_on_features_is_a_whole_network(tiny_index, streams, stored, tmp_path):
    result = train(head_of(tiny_index, streams, stored), tmp_path / "run", device="cpu")
    base = weights_of(streams / "rgb" / "best.safetensors")
    found = weights_of(result.best)
    same = [name for name in found if name.startswith("backbone.")]
    assert same and all(torch.equal(found[name], base[name]) for name in same)
    losses = [line["train_loss"] for line in figures_of(tmp_path / "run")]
    assert losses[-1] < losses[0]
    # From the videos themselves it gives what it gives on their features.
    network = load_checkpoint(result.best).network
    scores = score_checkpoint(
        result.best,
        tmp_path / "s.npz",
        part="val",
        options=TestOptions(device="cpu", protocol="centre-1"),
    )
    assert network.joined == 5 and scores.values.shape[0] == 6


def test_features_of_two_streams_train_one_head_of_both(tiny_index, streams, stored, tmp_path):
    config = both_of(tiny_index, streams, stored)
    result = train(config, tmp_path / "run", device="cpu")
    checkpoint = load_checkpoint(result.best)
    assert isinstance(checkpoint.network, FeatureStreams)
    for name, part in (("rgb", "first"), ("flow", "second")):
        base = weights_of(streams / name / "best.safetensors")
        found = weights_of(result.best)
        key = "backbone.features.0.0.weight"
        assert torch.equal(found[f"{part}.{key}"], base[key])
    scores = score_checkpoint(
        result.best,
        tmp_path / "s.npz",
        options=TestOptions(device="cpu", protocol="centre-1"),
    )
    assert np.isfinite(scores.values).all()


def test_a_head_on_features_resumes_to_the_same_bits_and_in_two_processes(
    tiny_index, streams, stored, tmp_path
):
    config = both_of(tiny_index, streams, stored, *WITH_STATE)
    train(config, tmp_path / "whole", device="cpu")
    process = start_process(train_until, config, tmp_path / "cut", 9, signal.SIGKILL)
    assert exit_code_of(process) == -signal.SIGKILL
    train(config, tmp_path / "cut", device="cpu")
    assert_same_files(tmp_path / "cut", tmp_path / "whole")
    plain = ("train.precision=fp32", *SGD, "model.dropout=")
    one = both_of(tiny_index, streams, stored, *plain)
    several = override(one, ["train.batch_size=2"])
    assert exit_codes_of_ranks(train_here, several, tmp_path / "several") == [0, 0]
    train(one, tmp_path / "one", device="cpu")
    assert_close_files(tmp_path / "several", tmp_path / "one", atol=1e-4)


def test_features_that_do_not_fit_are_refused(tiny_index, streams, stored, tmp_path):
    cases = (
        (("model.finetune_from=",), UsageError, "trains the consensus alone: set model.finetune_"),
        (("model.weights=none",), UsageError, r"model.weights=none: give the checkpoint file"),
        (("augment.mixup=0.5",), UsageError, "augment.mixup, cutmix and repeats cannot be"),
        (("data.stack=2",), UsageError, "sees images with stack=1, not 2: set the same"),
        (("data.num_segments=11",), KinemaError, "have 10 clips of a video, but data.num_segments"),
        ((f"data.features={tmp_path}",), KinemaError, "there is no rgb-train.safetensors in it"),
        (
            (f"model.weights={streams / 'rgb' / 'last.safetensors'}",),
            KinemaError,
            "features of another network than the rgb stream starts from",
        ),
    )
    if weights_hash(streams / "rgb" / "last.safetensors") == weights_hash(
        streams / "rgb" / "best.safetensors"
    ):
        cases = cases[:-1]  # the last epoch was the best
    for overrides, kind, message in cases:
        with pytest.raises(kind, match=message):
            prepare(head_of(tiny_index, streams, stored, *overrides), tmp_path / "run", CPU)


def test_a_teacher_of_other_classes_is_refused(tiny_index, streams, tmp_path):
    from kinema.engine.checkpoint import CheckpointInfo, save_checkpoint

    path = streams / "flow" / "best.safetensors"
    checkpoint, info = load_checkpoint(path), read_info(path)
    other = replace(info, classes=tuple(f"c{i}" for i in range(len(info.classes))))
    assert isinstance(other, CheckpointInfo)
    save_checkpoint(tmp_path / "other.safetensors", checkpoint.network, other)
    teacher = f"second.teacher={tmp_path / 'other.safetensors'}"
    config = config_of(tiny_index, teacher, "second.distil=soft")
    with pytest.raises(KinemaError, match=r"was trained on other classes .* a teacher knows the"):
        prepare(config, tmp_path / "run", CPU)
