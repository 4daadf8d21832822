"""Training of a MotionNet: it learns, resumes to the same bits, on two processes as on one."""

import os
import signal

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helpers_engine import (
    assert_close_files,
    assert_same_files,
    exit_code_of,
    exit_codes_of_ranks,
    figures_of,
    start_process,
)
from helpers_flow import moving, write_video
from kinema.cli import app
from kinema.config import override
from kinema.datasets.build import build_index
from kinema.datasets.splits import SplitRule
from kinema.engine.motion_config import motion_config
from kinema.engine.train_motion import train_motion
from kinema.errors import KinemaError, UsageError
from kinema.flow.motion_file import load_motion, read_motion
from kinema.flow.motion_network import full_flow

pytest_plugins = ["helpers_engine_index"]

SMALL = (
    "data.resize=64x64",
    "data.crop=64",
    "data.clips=2",
    "data.workers=0",
    "train.threads=1",
    "train.precision=fp32",
    "train.batch_size=4",
    "train.epochs=2",
    "data.made=0",
    "optim.ema=0",
)


def config_of(index, *overrides):
    return override(motion_config(), [f"data.index={index}", *SMALL, *overrides])


def train_here(config, out):
    torch.set_num_threads(1)
    train_motion(config, out, device="cpu")


def train_stopped(config, out, batches):
    """SIGTERM at the begin of a batch."""
    from kinema.engine import train_motion as module

    step, left = module.optimiser_step, batches

    def counted(*arguments, **options):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        step(*arguments, **options)

    module.optimiser_step = counted
    torch.set_num_threads(1)
    try:
        train_motion(config, out, device="cpu")
    except KinemaError as error:
        (out / "errors.txt").write_text(str(error))
        raise SystemExit(1) from error


@pytest.fixture(scope="module")
def whole(tiny_index, tmp_path_factory):
    """A training that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train_here(config_of(tiny_index), out)
    return out


def test_what_a_training_leaves(whole):
    lines = figures_of(whole)
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[-1]["step"] == 6  # 12 videos in batches of 4, twice
    assert all(0 < line["train_loss"] < 1 for line in lines)
    entry = read_motion(whole / "last.safetensors")
    assert entry["network"] == "motionnet-tiny"
    assert entry["provenance"]["num_train_videos"] == 12
    assert entry["provenance"]["loss"] == lines[-1]["train_loss"]
    assert (whole / "state.pt").exists()


@pytest.mark.parametrize("batches", [1, 4])
def test_a_stopped_training_goes_on_to_the_same_bits(tiny_index, whole, tmp_path, batches):
    out = tmp_path / "run"
    assert exit_code_of(start_process(train_stopped, config_of(tiny_index), out, batches)) == 1
    assert "Stopped by SIGTERM" in (out / "errors.txt").read_text()
    train_here(config_of(tiny_index), out)
    assert_same_files(whole, out, "last.safetensors")
    assert figures_of(out) == figures_of(whole)


def test_two_processes_do_what_one_does(tiny_index, whole, tmp_path):
    out = tmp_path / "run"
    config = config_of(tiny_index, "train.batch_size=2")
    assert exit_codes_of_ranks(train_here, config, out) == [0, 0]
    assert_close_files(whole, out, atol=3e-4)  # Adam makes much of gradients near to zero
    for one, other in zip(figures_of(whole), figures_of(out), strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)


def test_other_settings_need_another_folder(tiny_index, whole):
    with pytest.raises(KinemaError, match=r"optim.lr=0.002 instead of 0.1"):
        train_motion(config_of(tiny_index, "optim.lr=0.1"), whole, device="cpu")
    assert train_motion(config_of(tiny_index), whole, device="cpu").epochs == 2


def test_a_training_begins_with_the_weights_of_another(tiny_index, whole, tmp_path):
    weights = whole / "last.safetensors"
    config = config_of(tiny_index, f"model.weights={weights}", "optim.lr=1e-9", "train.epochs=1")
    result = train_motion(config, tmp_path / "run", device="cpu")
    assert_close_files(whole, tmp_path / "run", atol=1e-6)
    assert result.loss < figures_of(whole)[0]["train_loss"] * 1.5
    with pytest.raises(KinemaError, match="holds the network motionnet-tiny, but"):
        train_motion(
            config_of(
                tiny_index, f"model.weights={weights}", "model.network=motionnet", "data.frames=11"
            ),
            tmp_path / "other",
            device="cpu",
        )


def test_half_precision(tiny_index, tmp_path):
    config = config_of(tiny_index, "train.precision=bf16", "train.epochs=1")
    assert np.isfinite(train_motion(config, tmp_path / "run", device="cpu").loss)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.crop=100", "data.crop=100 is not possible: .* a multiple of 32"),
        ("data.frames=1", "takes 2 frames at least"),
        ("data.clips=0", "data.clips=0 is not possible: it is 1 at least"),
        ("model.network=flownet", "There is no network 'flownet' for motion"),
        ("optim.lr=0", "it is above 0"),
    ],
)
def test_what_is_refused(tiny_index, tmp_path, setting, message):
    with pytest.raises(UsageError, match=message):
        train_motion(config_of(tiny_index, setting), tmp_path / "run", device="cpu")


def test_the_published_network_takes_eleven_frames(tiny_index, tmp_path):
    config = config_of(tiny_index, "model.network=motionnet")
    with pytest.raises(UsageError, match="motionnet takes 11 frames"):
        train_motion(config, tmp_path / "run", device="cpu")


def test_a_loss_that_is_not_finite_is_told(tiny_index, tmp_path):
    config = config_of(tiny_index, "optim.lr=1e30", "optim.clip_norm=0", "optim.warmup_epochs=0")
    with pytest.raises(KinemaError, match="Lower optim"):
        train_motion(config, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_it_learns_motion_without_labels(tmp_path):
    motions = [(3, 0), (-3, 1), (0, 3), (2, -3), (-2, -2), (1, 2), (3, 3), (-3, -1)]
    for i, (dx, dy) in enumerate(motions):
        frames = moving(8, dx, dy, height=64, width=64, seed=i)
        write_video(tmp_path / "videos" / f"class {i % 2}" / f"v{i}.mp4", frames)
    rule = SplitRule(test_fraction=0, val_fraction=0)
    build_index(tmp_path / "videos", tmp_path / "index", rule=rule)
    overrides = ("data.frames=2", "data.clips=4", "train.epochs=25")
    config = config_of(tmp_path / "index", *overrides, "data.cache_mb=50")
    train_motion(config, tmp_path / "run", device="cpu")
    network, _ = load_motion(tmp_path / "run" / "last.safetensors")
    errors, lengths = [], []
    for seed, (dx, dy) in enumerate([(2, 1), (-2, 2), (3, -2)]):  # unseen pictures
        frames = moving(2, dx, dy, height=64, width=64, seed=100 + seed)
        x = torch.from_numpy(frames)[None, :, None].float() / 255
        with torch.inference_mode():
            flow = full_flow(network, x)[0, 0, :, 8:-8, 8:-8].numpy()
        truth = np.array([dx, dy])[:, None, None]
        errors.append(np.linalg.norm(flow - truth, axis=0).mean())
        lengths.append(np.linalg.norm(truth))
    assert np.mean(errors) < 0.6 * np.mean(lengths)


def test_the_command(tiny_index, tmp_path):
    out = tmp_path / "run"
    result = CliRunner().invoke(
        app, ["train-motion", str(tiny_index), "-o", str(out), *SMALL, "train.epochs=1"]
    )
    assert result.exit_code == 0, result.output
    assert f"Weights: {out / 'last.safetensors'}" in result.output.replace("\n", "")
    flow = tmp_path / "flow"
    extraction = ["flow", str(tiny_index), "-o", str(flow), "--size", "none", "--workers", "1"]
    weights = ["--algorithm", "motionnet", "--weights", str(out / "last.safetensors")]
    result = CliRunner().invoke(app, [*extraction, *weights])
    assert result.exit_code == 0, result.output
    assert len(list(flow.rglob("*.mp4"))) == 24


def test_made_pairs_and_averaged_weights_resume_to_the_same_bits(tiny_index, tmp_path):
    """Both have a state, or draws, of their own; what is kept is the average."""
    overrides = ("data.made=2", "optim.ema=0.9", "data.clips=1")
    config = config_of(tiny_index, *overrides)
    train_motion(config, tmp_path / "whole", device="cpu")
    process = start_process(train_stopped, config, tmp_path / "run", 2)
    assert exit_code_of(process) == 1
    train_motion(config, tmp_path / "run", device="cpu")
    assert_same_files(tmp_path / "run", tmp_path / "whole", "last.safetensors")
    without = config_of(tiny_index, "data.made=2", "data.clips=1")
    train_motion(without, tmp_path / "plain", device="cpu")
    kept, _ = load_motion(tmp_path / "whole" / "last.safetensors")
    last, _ = load_motion(tmp_path / "plain" / "last.safetensors")
    pairs = zip(kept.parameters(), last.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("override_text", "message"),
    [
        ("data.made=-1", "data.made=-1 is not possible with data.frames=2"),
        ("data.intervals=0,1", "data.intervals=0 is not possible: it is 1 at least"),
        ("optim.ema=1", r"optim\.ema=1\.0 is not possible: from 0 to below 1"),
    ],
)
def test_draws_that_cannot_be_are_refused(override_text, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        train_motion(override(motion_config(), [override_text]), tmp_path, device="cpu")
