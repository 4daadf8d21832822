"""`kinema bench train`: what it counts and times, and that memory is what it says."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from helpers_cli import kinema
from helpers_engine import exit_code_of, start_process
from kinema import training_speed as module
from kinema.config import override
from kinema.errors import UsageError
from kinema.recipes import recipe
from kinema.training_speed import bench_train, measure

SMALL = ("train.batch_size=3", "data.crop=32", "augment.repeats=2")


def config_of(*overrides, name="tiny", modality="rgb"):
    return override(recipe(name, modality), (*SMALL, *overrides))


def measured(config, *, steps=2, warmup=1):
    return measure(config, num_classes=5, steps=steps, warmup=warmup, device="cpu")


def test_the_command_measures_in_a_process_of_its_own():
    done = kinema(
        "bench", "train", "--recipe", "tiny", "--classes", "5", "--steps", "2", "--warmup", "1",
        "--device", "cpu", "--json", *SMALL,
    )  # fmt: skip
    assert done.code == 0, done.err
    (one,) = json.loads(done.out)
    assert one["clip_shape"] == [2, 1, 3, 32, 32]
    assert one["clips_per_step"] == 6
    assert one["clips_per_second"] == pytest.approx(6 / one["seconds_per_step"])
    # Convolutions 3-16-32-48-64 with BatchNorm, then 64 x 5 weights and 5 biases.
    assert one["parameters"] == 9 * (48 + 512 + 1536 + 3072) + 2 * 160 + 325
    assert one["multiply_adds"] == 9 * (48 * 256 + 512 * 64 + 1536 * 16 + 3072 * 4) + 320
    assert (one["device"], one["precision"], one["steps"]) == ("cpu", "fp32", 2)
    assert one["peak_bytes"] > 1e5
    assert one["peak_is"].startswith("resident memory of the process above")


def test_save_memory_is_measured_without_it_too(monkeypatch):
    monkeypatch.setattr(
        module, "ProcessPoolExecutor", lambda number, mp_context: ThreadPoolExecutor(number)
    )
    config = config_of("model.save_memory=true")
    plain, saving = bench_train(config, num_classes=5, steps=1, warmup=0, device="cpu")
    assert (plain.save_memory, saving.save_memory) == (False, True)
    assert plain.multiply_adds == saving.multiply_adds
    (alone,) = bench_train(config_of(), num_classes=5, steps=1, warmup=0, device="cpu")
    assert not alone.save_memory


def test_the_table(monkeypatch):
    monkeypatch.setattr(
        module, "ProcessPoolExecutor", lambda number, mp_context: ThreadPoolExecutor(number)
    )
    arguments = ("--recipe", "tiny", "--modality", "flow", "--device", "cpu", "--steps", "1")
    done = kinema("bench", "train", *arguments, *SMALL)
    assert done.code == 0, done.err
    assert "tiny, flow: 0.05 M parameters (0.05 M trained)" in done.out
    assert "A step has 6 clips of 2 x 3 images of 2 channels, 32x32; cpu, fp32" in done.out
    assert "clips/s" in done.out
    assert "peak MiB" in done.out


def test_warm_up_is_left_out_and_groups_of_batches_are_one_step(monkeypatch):
    times = iter([9.0, 0.5, 0.25, 1.0])
    timed = module._timed_step
    batches = []

    def watched(job, session, batch):
        timed(job, session, batch)
        batches.append(session.batch)
        return next(times)

    monkeypatch.setattr(module, "_timed_step", watched)
    found = measured(config_of("optim.accumulate=2"), steps=3)
    assert batches == [2, 4, 6, 8]
    assert found.seconds_per_step == 0.5
    assert found.clips_per_step == 12
    assert found.clips_per_second == 24


@pytest.mark.parametrize("overrides", [("augment.mixup=0.8",), ("optim.loss_on=snippet",)])
def test_it_takes_the_steps_of_a_training(monkeypatch, overrides):
    seen = []
    plain = module.train_batch

    def watched(job, session, *batch):
        before = [value.clone() for value in session.network.parameters()]
        figures = plain(job, session, *batch)
        assert all(
            torch.equal(a, b) for a, b in zip(before, session.network.parameters(), strict=True)
        )
        seen.append((figures["clips"], session.step, bool(session.optimizer.state)))
        return figures

    monkeypatch.setattr(module, "train_batch", watched)
    measured(config_of(*overrides))
    assert seen == [(6.0, 1, True), (6.0, 2, True), (6.0, 3, True)]


def test_no_weights_are_fetched_and_no_video_is_read():
    config = config_of("model.pretrained=true", "model.weights=/nowhere.safetensors")
    assert measured(config, steps=1, warmup=0).parameters > 0


def hold_100_mib_for_a_moment():
    peak = module._process_peak()
    before = peak()
    held = torch.ones(25, 2**20)
    del held
    assert before < 20 * 2**20
    assert abs(peak() - 100 * 2**20) < 20 * 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux keeps the peak")
def test_the_peak_of_the_process_counts_what_was_there_for_a_moment():
    """In a process of its own, as ever: another one may have free memory to use again."""
    assert exit_code_of(start_process(hold_100_mib_for_a_moment)) == 0


@pytest.mark.parametrize(
    ("options", "overrides", "message"),
    [
        ({"steps": 0}, (), "0 steps after 2"),
        ({"warmup": -1}, (), "after -1"),
        ({}, ("train.batch_size=0",), "batch_size=0 is not possible"),
        ({}, ("optim.accumulate=0",), "accumulate=0 is not possible"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(options, overrides, message):
    with pytest.raises(UsageError, match=message):
        bench_train(config_of(*overrides), **options)


def test_the_function_of_the_package_stays_a_function():
    """A module of the same name would take its place once it is imported."""
    import kinema as package

    assert callable(package.bench_train)
