"""Optimiser steps against the formula, groups of batches, precision, and losses that fail."""

import hashlib
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from helpers_engine import (
    SGD,
    WITHOUT_BATCH_NORM,
    assert_close_files,
    config_of,
    figures_of,
    part_of_index,
    weights_of,
)
from kinema.data.loader import epoch_batches
from kinema.datasets.index import read_index, write_index
from kinema.engine import train as module
from kinema.engine.checkpoint import load_state
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.job import prepare, start_session
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import Runtime
from kinema.engine.train import train
from kinema.errors import KinemaError, UsageError

pytest_plugins = ("helpers_engine_index",)

CPU = Runtime(device=torch.device("cpu"))


def sha256_of_files(folder):
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")
    }


def job_of(config, out):
    job = prepare(config, out, CPU)
    return job, start_session(job)


def clips_of(job, rows, *, epoch=0):
    """The clips (B, N, T, C, H, W) of these videos and their labels."""
    clips = [job.train_clips.clip(row, epoch=epoch) for row in rows]
    return torch.stack([clip[0] for clip in clips]), torch.tensor([clip[1] for clip in clips])


# Groups of whole batches, a last group of fewer batches, and one with a smaller batch.
@pytest.mark.parametrize(
    ("videos", "batch", "accumulate"), [(12, 2, 3), (12, 2, 4), (11, 3, 2), (12, 5, 2)]
)
def test_a_group_of_batches_is_one_large_batch(tiny_index, tmp_path, videos, batch, accumulate):
    index = part_of_index(tiny_index, tmp_path / "index", train=videos)
    common = (WITHOUT_BATCH_NORM, *SGD, "optim.clip_norm=0.5", "optim.momentum=0.5")
    group = (*common, f"optim.accumulate={accumulate}")
    for name, config in (
        ("group", config_of(index, *group, batch=batch, epochs=1)),
        ("whole", config_of(index, *common, batch=batch * accumulate, epochs=1)),
    ):
        train(config, tmp_path / name, device="cpu")
    assert_close_files(tmp_path / "group", tmp_path / "whole", atol=1e-6)
    one, two = figures_of(tmp_path / "group")[0], figures_of(tmp_path / "whole")[0]
    assert one["step"] == two["step"] == math.ceil(videos / (batch * accumulate))
    # No step lies between the batches of a group, so their losses are those of the large batch.
    assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-5)
    assert one["val_loss"] == pytest.approx(two["val_loss"], abs=1e-5)


def smoothed(logits, labels, *, amount):
    """Cross-entropy with the target 1 - amount + amount / K for the label, amount / K else."""
    num_classes = logits.shape[1]
    targets = one_hot(labels, num_classes) * (1 - amount) + amount / num_classes
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def balanced(logits, labels, *, counts):
    """Each video by number of videos / (classes x videos of its class), mean over videos."""
    weights = counts.sum() / (len(counts) * counts.float())
    losses = -logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (weights[labels] * losses).mean()


def uneven_index(index, folder):
    """Classes with 1 and 2 training videos."""
    whole = read_index(index)
    dropped = [video for video in whole.videos if video.split == "train"][::4]
    videos = tuple(video for video in whole.videos if video not in dropped)
    write_index(replace(whole, videos=videos), folder)
    return folder


@pytest.mark.parametrize("kind", ["video", "sum", "snippet", "smoothed", "balanced", "clipped"])
def test_one_step_is_minus_the_rate_times_the_gradient(tiny_index, tmp_path, kind):
    index = uneven_index(tiny_index, tmp_path / "index")
    options = {
        "video": (),
        "sum": ("model.consensus=sum",),
        "snippet": ("optim.loss_on=snippet",),
        "smoothed": ("optim.label_smoothing=0.3",),
        "balanced": ("optim.class_weights=balanced",),
        "clipped": ("optim.clip_norm=0.125",),
    }[kind]
    config = config_of(index, *SGD, "optim.momentum=0", *options, batch=16, epochs=1)
    job, session = job_of(config, tmp_path / "job")
    x_BNTCHW, labels_B = clips_of(job, epoch_batches(9, batch_size=16, seed=0, epoch=0)[0])
    counts = torch.bincount(labels_B, minlength=6)
    assert sorted(counts.tolist()) == [1, 1, 1, 2, 2, 2]
    snippets_BNK = session.network.snippet_logits(x_BNTCHW)
    assert snippets_BNK.shape == (9, 2, 6)
    mean_BK = snippets_BNK.mean(1)
    loss = {
        "video": lambda: cross_entropy(mean_BK, labels_B),
        "sum": lambda: cross_entropy(snippets_BNK.sum(1), labels_B),
        "snippet": lambda: cross_entropy(snippets_BNK.flatten(0, 1), labels_B.repeat_interleave(2)),
        "smoothed": lambda: smoothed(mean_BK, labels_B, amount=0.3),
        "balanced": lambda: balanced(mean_BK, labels_B, counts=counts),
        "clipped": lambda: cross_entropy(mean_BK, labels_B),
    }[kind]()
    loss.backward()
    norm = sum(value.grad.square().sum() for value in session.network.parameters()).sqrt()
    assert norm > 0.25
    scale = 0.125 / norm if kind == "clipped" else 1
    expected = {
        name: (value - 0.05 * scale * value.grad).detach()
        for name, value in session.network.named_parameters()
    }
    train(config, tmp_path / "out", device="cpu")
    found = weights_of(tmp_path / "out" / "last.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    figures = figures_of(tmp_path / "out")[0]
    assert figures["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert figures["lr"] == pytest.approx(0.05)
    flat, truth = snippets_BNK.flatten(0, 1), labels_B.repeat_interleave(2)
    if kind != "snippet":
        flat, truth = mean_BK, labels_B
    right = (flat.argmax(1) == truth).double().mean().item()
    assert figures["train_top1"] == pytest.approx(right)


@pytest.mark.parametrize("consensus", ["average", "sum", "max", "weighted"])
def test_the_validation_loss_is_that_of_the_network(tiny_index, tmp_path, consensus):
    """The consensus that is trained is the one that is validated."""
    config = config_of(tiny_index, f"model.consensus={consensus}", epochs=1)
    train(config, tmp_path / "out", device="cpu")
    job, session = job_of(config, tmp_path / "job")
    session.network.load_state_dict(weights_of(tmp_path / "out" / "last.safetensors"))
    protocol = Protocol(rule="tsn-val", num_clips=2, resize="train")
    settings = TestSettings(config=config, protocol=protocol, classes=job.classes)
    seen = []
    original = session.network.snippet_logits
    session.network.snippet_logits = lambda x: seen.append(original(x)) or seen[-1]
    scores = evaluate(session.network, job.val_items, settings, runtime=CPU)
    logits_BK = session.network.consensus(torch.cat(seen).reshape(6, 2, 6))
    expected = cross_entropy(logits_BK, torch.from_numpy(scores.labels)).item()
    assert figures_of(tmp_path / "out")[0]["val_loss"] == pytest.approx(expected, rel=1e-5)


def test_checkpoints_hold_the_average_and_the_state_goes_on_with_the_weights(
    tiny_index, tmp_path, monkeypatch
):
    step, average, raw = module.optimiser_step, {}, {}

    def watched(session, *arguments, **options):
        if not average:
            average.update({k: v.clone() for k, v in session.network.state_dict().items()})
        step(session, *arguments, **options)
        raw.update({k: v.clone() for k, v in session.network.state_dict().items()})
        for name, value in raw.items():
            if value.is_floating_point():
                average[name] = 0.75 * average[name] + 0.25 * value

    monkeypatch.setattr(module, "optimiser_step", watched)
    config = config_of(tiny_index, WITHOUT_BATCH_NORM, *SGD, "optim.ema=0.75")
    train(config, tmp_path, device="cpu")
    found = weights_of(tmp_path / "last.safetensors")
    going_on = load_state(tmp_path / "state.pt")["network"]
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(going_on[name], raw[name])
    assert any((found[name] - raw[name]).abs().max() > 1e-3 for name in raw)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_close_to_full_precision(tiny_index, tmp_path, precision):
    for name in ("fp32", precision):
        config = config_of(tiny_index, *SGD, f"train.precision={name}", epochs=1)
        train(config, tmp_path / name, device="cpu")
    exact, close = figures_of(tmp_path / "fp32")[0], figures_of(tmp_path / precision)[0]
    assert close["step"] == exact["step"] == 3
    assert close["train_loss"] != exact["train_loss"]
    assert close["train_loss"] == pytest.approx(exact["train_loss"], rel=0.05)
    weights = weights_of(tmp_path / precision / "last.safetensors")
    assert {v.dtype for v in weights.values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_the_compiled_network_trains_as_the_plain_one(tiny_index, tmp_path, monkeypatch):
    """Traced and run by torch itself: machine code would need a compiler and half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    for name in ("true", "false"):
        config = config_of(tiny_index, *SGD, f"train.compile={name}", epochs=1)
        train(config, tmp_path / name, device="cpu")
    assert_close_files(tmp_path / "true", tmp_path / "false", atol=1e-6)


def exploding(index, *overrides, **options):
    """Two quiet epochs, then a learning rate of 1e30."""
    steep = ("optim.schedule=multistep", "optim.milestones=2", "optim.gamma=1e33")
    return config_of(
        index, *SGD, *steep, "optim.lr=0.001", "train.save_every_seconds=0", *overrides, **options
    )


def test_a_loss_that_is_not_finite_names_the_videos_and_keeps_the_checkpoints(tiny_index, tmp_path):
    train(exploding(tiny_index), tmp_path / "quiet", device="cpu")
    quiet = sha256_of_files(tmp_path / "quiet")
    config = exploding(tiny_index, epochs=4)
    with pytest.raises(KinemaError) as caught:
        train(config, tmp_path / "out", device="cpu")
    message = str(caught.value)
    ids = [video.id for video in read_index(tiny_index).part("train")]
    batches = epoch_batches(12, batch_size=4, seed=0, epoch=2)
    number = next(i for i in (2, 3) if f"epoch 3, batch {i} " in message)
    named = ", ".join(ids[row] for row in batches[number - 1])
    assert f"(videos: {named})" in message
    assert message.startswith("The loss became nan") or message.startswith("The loss became inf")
    assert "Lower optim.lr" in message
    assert [line["epoch"] for line in figures_of(tmp_path / "out")] == [0, 1]
    for name in quiet:
        one, two = (weights_of(tmp_path / run / name) for run in ("quiet", "out"))
        assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tiny_index, tmp_path, monkeypatch):
    """The last step of an epoch spoils them: no loss is computed any more that would tell."""
    step = module.optimiser_step

    def spoiling(session, *arguments, **options):
        step(session, *arguments, **options)
        if session.step == 6:
            with torch.no_grad():
                next(session.network.parameters())[0] = math.nan

    monkeypatch.setattr(module, "optimiser_step", spoiling)
    config = config_of(tiny_index, "train.save_every_seconds=0", epochs=3)
    with pytest.raises(KinemaError, match=r"no longer finite after the last step of epoch 2\. The"):
        train(config, tmp_path, device="cpu")
    assert [line["epoch"] for line in figures_of(tmp_path)] == [0]
    for name in ("best", "last"):
        weights = weights_of(tmp_path / f"{name}.safetensors")
        assert all(bool(value.isfinite().all()) for value in weights.values())


def test_scores_that_overflow_are_explained(tiny_index, tmp_path):
    config = exploding(tiny_index, "optim.gamma=1e39", batch=16, epochs=3)
    with pytest.raises(KinemaError, match=r"not finite.*optim\.lr"):
        train(config, tmp_path, device="cpu")
    assert [line["epoch"] for line in figures_of(tmp_path)] == [0, 1]


def test_an_index_whose_file_has_vanished_is_one_sentence(tiny_index, tmp_path):
    whole = read_index(tiny_index)
    gone = replace(whole.videos[3], path=tmp_path / "gone.mp4")
    write_index(
        replace(whole, videos=(*whole.videos[:3], gone, *whole.videos[4:])), tmp_path / "index"
    )
    with pytest.raises(KinemaError, match=r"1 of 24 videos.*gone\.mp4.*kinema index"):
        train(config_of(tmp_path / "index"), tmp_path / "out", device="cpu")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_that_vanishes_while_training_is_one_sentence(tiny_index, tmp_path, workers):
    whole = read_index(tiny_index)
    victim = next(video for video in whole.videos if video.split == "train")
    broken = replace(victim, path=tmp_path / "broken.mp4")
    broken.path.write_bytes(b"no video")
    videos = tuple(broken if video is victim else video for video in whole.videos)
    write_index(replace(whole, videos=videos), tmp_path / "index")
    config = config_of(tmp_path / "index", f"data.workers={workers}")
    with pytest.raises(KinemaError, match=rf"The video '{victim.id}'.*cannot be read"):
        train(config, tmp_path / "out", device="cpu")


def test_without_validation_videos_the_last_epoch_is_kept(tiny_index, tmp_path):
    whole = read_index(tiny_index)
    videos = tuple(video for video in whole.videos if video.split != "val")
    write_index(replace(whole, videos=videos), tmp_path / "index")
    result = train(config_of(tmp_path / "index"), tmp_path / "out", device="cpu")
    assert result.val_top1 is None
    best, last = (weights_of(tmp_path / "out" / f"{n}.safetensors") for n in ("best", "last"))
    assert all(torch.equal(value, last[key]) for key, value in best.items())


def test_no_training_video_and_no_index_are_errors(tiny_index, tmp_path):
    index = part_of_index(tiny_index, tmp_path / "index", train=0)
    with pytest.raises(KinemaError, match=r"no video in the part 'train'"):
        train(config_of(index), tmp_path / "out", device="cpu")
    with pytest.raises(KinemaError, match=r"No data: give the folder that `kinema index` made"):
        train(config_of(""), tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.interval=0"], r"data\.interval=0 is not possible: 1 or more"),
        (["data.num_segments=0"], r"data\.num_segments=0 is not possible"),
        (["data.fps=-3"], r"data\.fps=-3 is not possible: give images per second"),
        (["data.fps=nan"], r"data\.fps=nan is not possible"),
        (["model.shift=residual", "data.num_segments=1"], r"set it to 2 or more"),
    ],
)
def test_settings_that_no_clip_can_have_leave_nothing_behind(
    tiny_index, tmp_path, overrides, message
):
    with pytest.raises(UsageError, match=message):
        prepare(config_of(tiny_index, *overrides), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()
