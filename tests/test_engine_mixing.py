"""Mixup and CutMix: draws, mixtures, and training steps with them against the formula."""

import signal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from helpers_engine import (
    SGD,
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
    train_killed,
    weights_of,
)
from kinema.config import AugmentConfig
from kinema.data.loader import epoch_batches
from kinema.engine.job import prepare, start_session
from kinema.engine.mixing import Mixture, check_mixing, draw_mixture, mix
from kinema.engine.runtime import Runtime
from kinema.engine.train import train
from kinema.errors import UsageError

pytest_plugins = ("helpers_engine_index",)

CPU = Runtime(device=torch.device("cpu"))


def drawn(num=4000, *, side=32, **alphas):
    augment = AugmentConfig(**alphas)
    return [draw_mixture(augment, side=side, seed=3, epoch=1, batch=i) for i in range(num)]


@pytest.mark.parametrize("alpha", [0.2, 0.8, 3.0])
def test_lambda_is_drawn_from_beta(alpha):
    lams = [mixture.lam for mixture in drawn(mixup=alpha)]
    assert np.mean(lams) == pytest.approx(0.5, abs=0.03)
    assert np.var(lams) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    assert all(mixture.rows is None for mixture in drawn(mixup=alpha, num=10))


def test_cutmix_counts_the_area_that_is_left():
    mixtures = drawn(cutmix=1.0, side=224)
    for mixture in mixtures:
        (top, bottom), (left, right) = mixture.rows, mixture.columns
        assert 0 <= top <= bottom <= 224
        assert 0 <= left <= right <= 224
        assert mixture.lam == pytest.approx(1 - (bottom - top) * (right - left) / 224**2)
    # Sides of s = sqrt(1 - lambda), lambda uniform, around a uniform centre and cut at the
    # border: the mean length is s - s^2/4, so the mean area E[s^2 - s^3/2 + s^4/16].
    expected = 1 / 2 - 2 / 5 / 2 + 1 / 3 / 16
    assert 1 - np.mean([m.lam for m in mixtures]) == pytest.approx(expected, rel=0.05)
    places = [sum(m.rows) / 2 for m in mixtures]
    assert np.mean(places) == pytest.approx(112, abs=5)


def test_with_both_one_of_them_is_taken_half_of_the_time():
    mixtures = drawn(mixup=0.8, cutmix=1.0)
    assert sum(m.rows is None for m in mixtures) == pytest.approx(2000, rel=0.08)


def test_draws_come_from_seed_epoch_and_batch_alone():
    augment, place = AugmentConfig(mixup=0.8, cutmix=1.0), {"side": 32, "seed": 3}
    state = torch.get_rng_state()
    one = draw_mixture(augment, epoch=1, batch=5, **place)
    assert (
        one == draw_mixture(augment, epoch=1, batch=5, **place) == drawn(mixup=0.8, cutmix=1.0)[5]
    )
    others = [
        draw_mixture(augment, epoch=2, batch=5, **place),
        draw_mixture(augment, epoch=1, batch=6, **place),
        draw_mixture(augment, epoch=1, batch=5, side=32, seed=4),
    ]
    assert len({one.lam, *(other.lam for other in others)}) == 4
    assert torch.equal(torch.get_rng_state(), state)
    assert draw_mixture(AugmentConfig(), epoch=1, batch=5, **place) is None


def batch_of(num=3, *, side=4):
    generator = torch.Generator().manual_seed(0)
    shape = (num, 2, 1, 3, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_mixup_by_hand():
    x, labels = batch_of(), torch.tensor([0, 2, 1])
    mixed = mix(Mixture(lam=0.3), x, labels, num_classes=4)
    expected = 0.3 * x.double() + 0.7 * x.double()[[2, 1, 0]]
    torch.testing.assert_close(mixed.clips.double(), expected, rtol=0, atol=1e-4)
    hand = torch.tensor([[0.3, 0.7, 0, 0], [0, 0, 1, 0], [0.7, 0.3, 0, 0]])
    torch.testing.assert_close(mixed.targets, hand)
    assert mixed.labels.tolist() == [1, 2, 0]  # the partner has the larger share
    assert mix(Mixture(lam=0.6), x, labels, num_classes=4).labels.tolist() == [0, 2, 1]


def test_cutmix_by_hand():
    x, labels = batch_of(), torch.tensor([0, 2, 1])
    kept = x.clone()
    mixed = mix(Mixture(lam=0.75, rows=(1, 3), columns=(2, 4)), x, labels, num_classes=3)
    expected = x.clone()
    for i in range(3):
        expected[i, ..., 1:3, 2:4] = x[2 - i, ..., 1:3, 2:4]
    assert torch.equal(mixed.clips, expected)
    assert torch.equal(x, kept)
    hand = torch.tensor([[0.75, 0.25, 0], [0, 0, 1], [0.25, 0.75, 0]])
    torch.testing.assert_close(mixed.targets, hand)


def test_without_mixing_batch_and_labels_are_the_same_objects():
    x, labels = batch_of(), torch.tensor([0, 2, 1])
    mixed = mix(None, x, labels, num_classes=4)
    assert (mixed.clips is x, mixed.targets is labels, mixed.labels is labels) == (True,) * 3


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_negative_alpha_is_refused(name):
    with pytest.raises(UsageError, match=rf"augment\.{name}=-1.*Beta\(a, a\)"):
        check_mixing(AugmentConfig(**{name: -1.0}))


def job_of(config, out):
    job = prepare(config, out, CPU)
    return job, start_session(job)


def two_sided(logits_BK, labels_B, lam, *, weight=None, smoothing=0.0):
    """Lambda times the loss with the own labels, and the rest with the partners'; sum."""
    losses = (
        cross_entropy(logits_BK, y, weight=weight, label_smoothing=smoothing, reduction="sum")
        for y in (labels_B, labels_B.flip(0))
    )
    own, other = losses
    return lam * own + (1 - lam) * other


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "smoothed", "balanced", "snippet", "repeats"])
def test_one_step_is_minus_the_rate_times_the_gradient(tiny_index, tmp_path, kind):
    index = part_of_index(tiny_index, tmp_path / "index", train=7)
    options = {
        "smoothed": ("optim.label_smoothing=0.3",),
        "balanced": ("optim.class_weights=balanced",),
        "snippet": ("optim.loss_on=snippet",),
        "repeats": ("augment.repeats=3",),
    }.get(kind, ())
    mixing = "augment.cutmix=1" if kind in ("cutmix", "snippet") else "augment.mixup=0.8"
    # Without momentum, the step of a batch of all videos is its gradient times the rate.
    config = config_of(index, *SGD, "optim.momentum=0", mixing, *options, batch=16, epochs=1)
    job, session = job_of(config, tmp_path / "job")
    rows = epoch_batches(7, batch_size=16, seed=0, epoch=0)[0]
    clips = [clip for row in rows for clip in job.train_clips.clips(row, epoch=0)]
    labels_B = torch.tensor([clip[1] for clip in clips])
    mixture = draw_mixture(config.augment, side=32, seed=0, epoch=0, batch=0)
    assert 0.02 < mixture.lam < 0.98
    mixed = mix(mixture, torch.stack([clip[0] for clip in clips]), labels_B, num_classes=6)
    snippets_BNK = session.network.snippet_logits(mixed.clips)
    logits, truth, labels = snippets_BNK.mean(1), labels_B, mixed.labels
    weight, smoothing = None, 0.3 if kind == "smoothed" else 0.0
    if kind == "balanced":
        counts = torch.bincount(labels_B, minlength=6).clamp(min=1)
        weight = 7 / (6 * counts.float())
    if kind == "snippet":
        logits = snippets_BNK.flatten(0, 1)
        truth, labels = truth.repeat_interleave(2), labels.repeat_interleave(2)
    losses = two_sided(logits, truth, mixture.lam, weight=weight, smoothing=smoothing)
    loss = losses / len(logits)
    loss.backward()
    expected = {
        name: (value - 0.05 * value.grad).detach()
        for name, value in session.network.named_parameters()
    }
    train(config, tmp_path / "out", device="cpu")
    found = weights_of(tmp_path / "out" / "last.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    figures = figures_of(tmp_path / "out")[0]
    assert figures["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    right = (logits.argmax(1) == labels).double().mean().item()
    assert figures["train_top1"] == pytest.approx(right)


def test_groups_of_batches_with_mixing_are_the_mean_of_their_clips(tiny_index, tmp_path):
    """Three batches of 2, 2 and 1 videos in one optimiser step, each with a mixture of its own."""
    index = part_of_index(tiny_index, tmp_path / "index", train=5)
    options = (*SGD, "optim.momentum=0", WITHOUT_BATCH_NORM, "augment.mixup=0.8")
    options = (*options, "augment.cutmix=1", "augment.repeats=2", "optim.accumulate=3")
    config = config_of(index, *options, batch=2, epochs=1)
    job, session = job_of(config, tmp_path / "job")
    check_one_step(job, session, [epoch_batches(5, batch_size=2, seed=0, epoch=0)], tmp_path)
    train(config, tmp_path / "out", device="cpu")
    check_step_file(session, tmp_path / "out")


def test_processes_with_mixing_take_the_step_of_all_their_clips(tiny_index, tmp_path):
    """Two processes with two videos each: partners are found within a process."""
    index = part_of_index(tiny_index, tmp_path / "index", train=4)
    options = (*SGD, "optim.momentum=0", WITHOUT_BATCH_NORM, "augment.mixup=0.8")
    config = config_of(index, *options, batch=2, epochs=1)
    job, session = job_of(config, tmp_path / "job")
    ranks = [
        epoch_batches(4, batch_size=2, seed=0, epoch=0, rank=rank, world=2) for rank in range(2)
    ]
    check_one_step(job, session, ranks, tmp_path)
    assert exit_codes_of_ranks(train_here, config, tmp_path / "out") == [0, 0]
    check_step_file(session, tmp_path / "out")


def check_one_step(job, session, ranks, tmp_path):
    """Do the step by hand: the mean of the losses of all clips of all batches."""
    total, count = 0, 0
    for batches in ranks:
        for number, rows in enumerate(batches):
            clips = [clip for row in rows for clip in job.train_clips.clips(row, epoch=0)]
            labels_B = torch.tensor([clip[1] for clip in clips])
            mixture = draw_mixture(job.config.augment, side=32, seed=0, epoch=0, batch=number)
            mixed = mix(mixture, torch.stack([clip[0] for clip in clips]), labels_B, num_classes=6)
            total = total + two_sided(session.network(mixed.clips), labels_B, mixture.lam)
            count += len(clips)
    (total / count).backward()
    with torch.no_grad():
        for value in session.network.parameters():
            value -= 0.05 * value.grad


def check_step_file(session, out):
    found = weights_of(out / "last.safetensors")
    for name, value in session.network.named_parameters():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-4, atol=1e-6)
    assert figures_of(out)[0]["step"] == 1


def test_repeats_and_processes_equal_one_process_with_the_doubled_batch(tiny_index, tmp_path):
    """7 videos in batches of 2 x 2: the last three are shared out as two and one."""
    index = part_of_index(tiny_index, tmp_path / "index", train=7)
    options = (*SGD, WITHOUT_BATCH_NORM, "augment.repeats=2", "optim.loss_on=snippet")
    options = (*options, "optim.accumulate=2")
    several = config_of(index, *options, batch=2)
    assert exit_codes_of_ranks(train_here, several, tmp_path / "several") == [0, 0]
    train(config_of(index, *options, batch=4), tmp_path / "one", device="cpu")
    assert_close_files(tmp_path / "several", tmp_path / "one", atol=1e-5)
    lines, expected = (figures_of(tmp_path / name) for name in ("several", "one"))
    for line, other in zip(lines, expected, strict=True):
        for name in ("train_loss", "train_top1", "val_loss", "lr"):
            assert line[name] == pytest.approx(other[name], abs=1e-5)


def test_a_killed_training_goes_on_to_the_same_bits(tiny_index, tmp_path):
    index = part_of_index(tiny_index, tmp_path / "index", train=6)
    config = config_of(
        index,
        "augment.mixup=0.8",
        "augment.cutmix=1",
        "augment.randaugment=m7-n4",
        "augment.erase=0.5",
        "augment.repeats=2",
        "augment.crop=short-jitter",
        "augment.short_sides=32,40",
        "model.save_memory=true",
        "model.dropout=0.4",
        "optim.layer_decay=0.8",
        "optim.label_smoothing=0.1",
        "train.save_every_seconds=0",
        batch=2,
        epochs=3,
    )
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert exit_code_of(start_process(train_killed, config, killed, 12)) == -signal.SIGKILL
    assert (killed / "state.pt").exists()
    assert exit_code_of(start_process(train_here, config, killed)) == 0
    train(config, whole, device="cpu")
    assert_same_files(killed, whole)
    assert figures_of(killed) == figures_of(whole)
