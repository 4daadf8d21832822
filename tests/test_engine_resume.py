"""A training that is killed or stopped anywhere and started again ends as if undisturbed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from random import Random

import pytest

from helpers_engine import (
    WITH_STATE,
    assert_same_files,
    config_of,
    error_text,
    exit_code_of,
    figures_of,
    part_of_index,
    start_process,
    train_here,
    train_killed,
    train_until,
)
from kinema.config import override
from kinema.engine.log import read_metrics
from kinema.engine.train import train
from kinema.errors import KinemaError

pytest_plugins = ("helpers_engine_index",)

EPOCHS, ACCUMULATE = 3, 2  # 12 videos in batches of 4: groups of two batches and of one


def full_config(index, *overrides, modality="rgb"):
    accumulate = f"optim.accumulate={ACCUMULATE}"
    return config_of(index, *WITH_STATE, accumulate, *overrides, epochs=EPOCHS, modality=modality)


@pytest.fixture(scope="module")
def undisturbed(tiny_index, tmp_path_factory):
    """A training from begin to end in a process of its own."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert exit_code_of(start_process(train_here, full_config(tiny_index), out)) == 0
    return out


def assert_same_runs(out, undisturbed):
    assert_same_files(out, undisturbed)
    figures = figures_of(out)
    assert [line["epoch"] for line in figures] == list(range(EPOCHS))
    assert figures == figures_of(undisturbed)


@pytest.mark.parametrize(("seed", "workers"), [(1, 0), (3, 2)])
def test_killed_at_any_moment_the_training_ends_bit_equal(
    tiny_index, undisturbed, tmp_path, seed, workers
):
    # 9 batches and about 20 files in all: some lives end in a batch, some in the middle of a save.
    config = full_config(tiny_index, f"data.workers={workers}")
    random, killed = Random(seed), 0
    while True:
        process = start_process(train_killed, config, tmp_path, random.randint(4, 14))
        code = exit_code_of(process)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        assert killed < 20
    assert killed >= 2
    assert_same_runs(tmp_path, undisturbed)


def test_killed_from_outside_while_processes_load(tiny_index, undisturbed, tmp_path):
    config = full_config(tiny_index, "data.workers=2")
    process = start_process(train_here, config, tmp_path)
    wait_for(tmp_path / "state.pt", process)
    process.kill()
    process.join()
    assert exit_code_of(start_process(train_here, config, tmp_path)) == 0
    assert_same_runs(tmp_path, undisturbed)


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        alive = process.poll() is None if hasattr(process, "poll") else process.is_alive()
        assert alive, "the training ended before it saved its state"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_sigterm_to_the_whole_group_saves_and_says_so(tiny_index, undisturbed, tmp_path):
    """As a job scheduler or a terminal sends it: to the loading processes too."""
    config = full_config(tiny_index, "data.workers=2")
    overrides = [
        f"{section}.{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
        for section in ("data", "model", "augment", "optim", "train")
        for name, v in vars(getattr(config, section)).items()
        if v not in ((), "")
    ]
    command = [sys.executable, "-m", "kinema", "train", str(tiny_index), "--out", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--recipe", "tiny", "--device", "cpu", *overrides],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(tmp_path / "state.pt", process)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: Stopped by SIGTERM in epoch " in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert len(read_metrics(tmp_path / "metrics.jsonl")) < EPOCHS
    assert exit_code_of(start_process(train_here, config, tmp_path)) == 0
    assert_same_runs(tmp_path, undisturbed)


@pytest.mark.parametrize("modality", ["flow", "rgbdiff"])
def test_other_modalities_and_schedules_resume_bit_equal(tiny_index, tmp_path, modality):
    index = part_of_index(tiny_index, tmp_path / "index", train=7)
    config = full_config(
        index,
        "optim.name=sgd",
        "optim.schedule=plateau",
        "optim.patience=0",
        "optim.groups=tsn",
        "optim.warmup_epochs=0.5",
        modality=modality,
    )
    out, whole = tmp_path / "killed", tmp_path / "whole"
    assert exit_code_of(start_process(train_killed, config, out, 12)) == -signal.SIGKILL
    assert (out / "state.pt").exists()
    assert exit_code_of(start_process(train_here, config, out)) == 0
    train(config, whole, device="cpu")
    assert_same_runs(out, whole)


def contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


def test_a_finished_training_says_so_and_changes_nothing(
    tiny_index, undisturbed, capsys, monkeypatch
):
    before = contents(undisturbed)
    result = train(full_config(tiny_index), undisturbed, device="cpu")
    assert contents(undisturbed) == before
    assert capsys.readouterr().err == f"All {EPOCHS} epochs are done already.\n"
    assert (result.epochs, result.best) == (EPOCHS, undisturbed / "best.safetensors")
    assert result.val_top1 == max(line["val_top1"] for line in figures_of(undisturbed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=0.2", r"training with optim\.lr=0\.005 instead of 0\.2: choose another"),
        ("train.epochs=9", r"train\.epochs=3 instead of 9"),
        ("model.dropout=", r"model\.dropout=\(0\.4,\) instead of \(\)"),
        ("protocol=slim-5", r"protocol=centre-1 instead of slim-5"),
    ],
)
def test_other_settings_are_refused_by_name(tiny_index, undisturbed, change, message):
    before = contents(undisturbed)
    config = override(full_config(tiny_index), [change])
    with pytest.raises(KinemaError, match=message):
        train(config, undisturbed, device="cpu")
    assert contents(undisturbed) == before


def test_several_other_settings_are_counted(tiny_index, undisturbed):
    config = override(full_config(tiny_index), ["optim.lr=0.2", "train.seed=3", "optim.ema=0"])
    with pytest.raises(KinemaError, match=r"train|optim.*and 2 more differences"):
        train(config, undisturbed, device="cpu")


def test_settings_without_influence_may_change(tiny_index, undisturbed):
    changes = ["data.workers=1", "train.threads=2", "data.cache_mb=4"]
    config = override(full_config(tiny_index), [*changes, "train.save_every_seconds=9"])
    assert train(config, undisturbed, device="cpu").epochs == EPOCHS


def test_the_state_of_another_index_is_refused(tiny_index, tmp_path):
    index = part_of_index(tiny_index, tmp_path / "index", train=4)
    config = config_of(index, epochs=1)
    train(config, tmp_path / "out", device="cpu")
    part_of_index(tiny_index, index, train=5)
    with pytest.raises(KinemaError, match=r"state\.pt belongs to a training on another index"):
        train(config, tmp_path / "out", device="cpu")


def test_the_state_of_more_processes_is_refused(tiny_index, undisturbed, monkeypatch):
    from kinema.engine import session

    load = session.load_state
    monkeypatch.setattr(
        session, "load_state", lambda path: load(path) | {"processes": [None, None, None]}
    )
    with pytest.raises(KinemaError, match=r"training with 3 processes and cannot.* with 1: start"):
        train(full_config(tiny_index), undisturbed, device="cpu")


def test_a_broken_state_is_one_sentence(tiny_index, tmp_path):
    config = config_of(tiny_index, epochs=1)
    train(config, tmp_path, device="cpu")
    state = (tmp_path / "state.pt").read_bytes()
    for broken in (b"", state[: len(state) // 2], b"not a state"):
        (tmp_path / "state.pt").write_bytes(broken)
        with pytest.raises(KinemaError, match=r"state\.pt is not the whole state.*remove it"):
            train(config, tmp_path, device="cpu")
    assert not (tmp_path / "errors-0.txt").exists()


def test_a_stop_by_hand_tells_where(tiny_index, tmp_path):
    config = config_of(tiny_index)
    arguments = (config, tmp_path, 5, signal.SIGINT)  # two files, then the third batch of three
    assert exit_code_of(start_process(train_until, *arguments)) == 1
    assert "Stopped by SIGINT in epoch 2 after batch 0" in error_text(tmp_path)
