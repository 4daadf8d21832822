"""Several processes do what one does: training by torchrun, stopping, failing, and testing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from helpers_engine import (
    SGD,
    WITH_STATE,
    WITHOUT_BATCH_NORM,
    assert_close_files,
    assert_same_files,
    config_of,
    error_text,
    exit_codes_of_ranks,
    figures_of,
    part_of_index,
    train_here,
    train_killed,
    train_stopped_on_one,
)
from kinema.datasets.index import read_index
from kinema.engine.checkpoint import load_checkpoint
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.items import stream_items
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import Runtime
from kinema.engine.train import train
from kinema.errors import KinemaError
from kinema.scores import load_scores
from kinema.testing import TestOptions, score_checkpoint

pytest_plugins = ("helpers_engine_index",)

OPTIONS = (WITHOUT_BATCH_NORM, *SGD)


def assert_equal_trainings(several, one, *, step):
    assert_close_files(several, one, atol=1e-4)
    lines, expected = figures_of(several), figures_of(one)
    assert len(lines) == len(expected) == 2
    for line, other in zip(lines, expected, strict=True):
        for name in ("train_loss", "val_loss", "train_top1", "val_top1", "lr"):
            assert line[name] == pytest.approx(other[name], abs=1e-5), name
    assert lines[-1]["step"] == expected[-1]["step"] == step


def test_torchrun_equals_one_process_with_the_doubled_batch(tiny_index, tmp_path):
    """11 videos in batches of 2 x 4: the last global batch has three, two for one process."""
    index = part_of_index(tiny_index, tmp_path / "index", train=11)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    work = ["-m", "kinema", "train", str(index), "--out", str(tmp_path / "several")]
    overrides = (*OPTIONS, "train.epochs=2", "train.batch_size=4", "data.workers=1")
    result = subprocess.run(
        [sys.executable, *launch, *work, "--recipe", "tiny", "--device", "cpu", *overrides],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("epoch 2/2") == 1  # one process speaks
    train(config_of(index, *OPTIONS, batch=8), tmp_path / "one", device="cpu")
    assert_equal_trainings(tmp_path / "several", tmp_path / "one", step=4)


def test_groups_of_batches_and_a_last_video_that_both_processes_take(tiny_index, tmp_path):
    """9 videos in batches of 2 x 1: the last one is used twice, and counts once."""
    index = part_of_index(tiny_index, tmp_path / "index", train=9)
    options = (*OPTIONS, "optim.accumulate=2", "optim.loss_on=snippet")
    several = config_of(index, *options, batch=2)
    assert exit_codes_of_ranks(train_here, several, tmp_path / "several") == [0, 0]
    train(config_of(index, *options, batch=4), tmp_path / "one", device="cpu")
    assert_equal_trainings(tmp_path / "several", tmp_path / "one", step=4)


@pytest.fixture(scope="module")
def stateful(tiny_index, tmp_path_factory):
    """Two processes, BatchNorm and everything that has a state; an undisturbed training."""
    config = config_of(tiny_index, *WITH_STATE, "optim.accumulate=2", batch=2, epochs=3)
    out = tmp_path_factory.mktemp("stateful")
    assert exit_codes_of_ranks(train_here, config, out) == [0, 0]
    return config, out


def test_killed_processes_go_on_to_the_same_result(stateful, tmp_path):
    config, undisturbed = stateful
    codes = exit_codes_of_ranks(train_killed, config, tmp_path, 14)  # batch 3 of 3 in epoch 2
    assert 0 not in codes
    assert (tmp_path / "state.pt").exists()
    assert exit_codes_of_ranks(train_here, config, tmp_path) == [0, 0]
    assert_same_files(tmp_path, undisturbed)
    assert figures_of(tmp_path) == figures_of(undisturbed)


def test_a_signal_to_one_process_stops_all(stateful, tmp_path):
    config, undisturbed = stateful
    assert exit_codes_of_ranks(train_stopped_on_one, config, tmp_path, 4) == [1, 1]
    assert "Stopped by a signal in epoch 2 after batch 2" in error_text(tmp_path, 0)
    assert "Stopped by SIGTERM in epoch 2 after batch 2" in error_text(tmp_path, 1)
    assert exit_codes_of_ranks(train_here, config, tmp_path) == [0, 0]
    assert_same_files(tmp_path, undisturbed)
    assert figures_of(tmp_path) == figures_of(undisturbed)


def test_a_state_of_two_processes_is_not_for_one(stateful):
    config, out = stateful
    with pytest.raises(KinemaError, match=r"with 2 processes and cannot be resumed with 1"):
        train(config, out, device="cpu")


def test_all_processes_validate_with_the_statistics_that_are_saved(stateful):
    """Each process has statistics of BatchNorm of its own batches: the first one's are meant."""
    config, out = stateful
    checkpoint = load_checkpoint(out / "last.safetensors")
    index = read_index(Path(config.data.index))
    settings = TestSettings(
        config=config,
        protocol=Protocol(rule="tsn-val", num_clips=2, resize="train"),
        classes=index.classes,
    )
    items = stream_items(index, "val", classes=index.classes, data=config.data)
    cpu = Runtime(device=torch.device("cpu"))
    scores = evaluate(checkpoint.network, items, settings, runtime=cpu)
    loss = cross_entropy(torch.from_numpy(scores.values), torch.from_numpy(scores.labels))
    assert figures_of(out)[-1]["val_loss"] == pytest.approx(loss.item(), rel=1e-5)


def train_spoilt_on_one(config, out):
    """A loss that is not a number in the second process, at its third batch."""
    from kinema.engine import losses as module

    count, plain = 0, module.cross_entropy

    def spoilt(*arguments, **options):
        nonlocal count
        count += options.get("reduction") == "sum"
        loss = plain(*arguments, **options)
        return loss * float("nan") if count == 3 and os.environ["RANK"] == "1" else loss

    module.cross_entropy = spoilt
    train_here(config, out)


def test_a_loss_that_fails_in_one_process_stops_all_with_its_videos(tiny_index, tmp_path):
    config = config_of(tiny_index, batch=2)
    assert exit_codes_of_ranks(train_spoilt_on_one, config, tmp_path) == [1, 1]
    first, second = error_text(tmp_path, 0), error_text(tmp_path, 1)
    assert first == second
    assert "The loss became nan at epoch 1, batch 3 (videos: " in first
    assert first.count("/scene-") == 2  # the two videos of one process


def score_here(checkpoint, out, options, part):
    torch.set_num_threads(1)
    score_checkpoint(checkpoint, out, part=part, options=options)


@pytest.mark.parametrize(
    ("protocol", "part", "world"), [("tsn-25x10", "test", 2), ("slim-5", "val", 3)]
)
def test_processes_share_a_test_and_write_the_file_of_one(
    stateful, tmp_path, protocol, part, world
):
    _, run = stateful
    options = TestOptions(protocol=protocol, device="cpu", threads=1, views_per_pass=16)
    arguments = (run / "best.safetensors", tmp_path / "several.npz", options, part)
    assert exit_codes_of_ranks(score_here, *arguments, world=world) == [0] * world
    one = score_checkpoint(
        run / "best.safetensors", tmp_path / "one.npz", part=part, options=options
    )
    several = load_scores(tmp_path / "several.npz")
    assert several.ids == one.ids
    assert len(several.ids) == 6
    np.testing.assert_array_equal(several.labels, one.labels)
    np.testing.assert_allclose(several.values, one.values, rtol=0, atol=1e-6)
    assert several.clip_top1 == pytest.approx(one.clip_top1)
    assert (several.kind, several.protocol) == (one.kind, one.protocol)
    assert several.checkpoint == one.checkpoint


def test_more_processes_than_videos(tiny_index, stateful, tmp_path):
    _, run = stateful
    index = part_of_index(tiny_index, tmp_path / "index", train=1)
    options = TestOptions(index=str(index), protocol="centre-1", device="cpu", threads=1)
    arguments = (run / "best.safetensors", tmp_path / "two.npz", options, "train")
    assert exit_codes_of_ranks(score_here, *arguments) == [0, 0]
    assert len(load_scores(tmp_path / "two.npz").ids) == 1
