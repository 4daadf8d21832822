"""Training: one loop for every network, modality and number of processes.

Shapes: B videos, N snippets, T images, C channels, H, W, K classes.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kinema.config import Config
from kinema.console import progress, say
from kinema.data.loader import TrainLoader, train_loader
from kinema.engine.checkpoint import CheckpointInfo, save_checkpoint
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.job import Job, prepare, start_session
from kinema.engine.log import RunLog
from kinema.engine.mixing import MixedBatch, draw_mixture, mix
from kinema.engine.optim import current_rate, learning_rate, set_rate
from kinema.engine.pausing import Saver, all_finite, resume_line
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import Runtime, runtime
from kinema.engine.session import (
    Session,
    StopSignal,
    restore_session,
    settle_config,
    stop_signals,
)
from kinema.engine.shares import group_size, video_weight
from kinema.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training leaves."""

    best: Path
    last: Path
    val_top1: float | None
    epochs: int


def train(config: Config, out: Path, *, device: str = "auto") -> TrainResult:
    """Train a network and leave `best.safetensors` and `last.safetensors` in the folder `out`.

    A training that was interrupted goes on where its last state was saved, to the same result.

    Args:
        config: the run; `config.data.index` is the folder with index.csv.
        out: the run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        KinemaError: bad data, a loss that is not finite, or a stop signal (the state is saved).
    """
    settings = config.train
    with (
        runtime(device=device, precision=settings.precision, threads=settings.threads) as place,
        stop_signals() as stop,
    ):
        job = prepare(config, out, place)
        session = start_session(job)  # may fail: the folder is then free for other settings
        settle_config(config, out, place)
        if restore_session(out / "state.pt", session, place, index_hash=job.index_hash):
            _tell(place, resume_line(session, settings.epochs))
        is_open = session.epoch < settings.epochs
        log = RunLog(out, first_epoch=session.epoch) if place.is_main and is_open else None
        loader = _loader(job, session)
        saver = Saver(
            out, place, index_hash=job.index_hash, every_seconds=settings.save_every_seconds
        )
        while session.epoch < settings.epochs:
            started = time.monotonic()
            figures = _train_epoch(job, session, loader, stop, saver)
            figures |= _finish_epoch(job, session, saver)
            figures["seconds"] = time.monotonic() - started
            if log:
                log.write({"epoch": session.epoch - 1, "step": session.step, **figures})
            _tell(place, _epoch_line(session.epoch, settings.epochs, figures))
            if session.epoch < settings.epochs:
                saver.pause(session, stop)
                continue
            saver.save(session)
        if log:
            log.close()
        place.barrier()
        top1 = session.best_top1 if job.val_items else None
        return TrainResult(
            best=out / "best.safetensors",
            last=out / "last.safetensors",
            val_top1=top1,
            epochs=session.epoch,
        )


def _loader(job: Job, session: Session) -> TrainLoader:
    config, place = job.config, job.runtime
    return train_loader(
        job.train_clips,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        epoch=session.epoch,
        start_batch=session.batch,
        rank=place.rank,
        world=place.world,
        workers=config.data.workers,
    )


def _train_epoch(
    job: Job, session: Session, loader: TrainLoader, stop: StopSignal, saver: Saver
) -> dict[str, Any]:
    """Train the rest of an epoch; returns its figures."""
    config, place = job.config, job.runtime
    first, total = session.batch, job.batches_per_epoch
    waited, started = 0.0, time.monotonic()
    loader.set_epoch(session.epoch, start_batch=first)
    batches = iter(loader)
    sums = session.sums or {"loss": 0.0, "right": 0.0, "clips": 0.0}
    title = f"epoch {session.epoch + 1}/{config.train.epochs}"
    with progress(total - first, title, show=place.is_main) as advance:
        while session.batch < total:
            asked = time.monotonic()
            x_BNTCHW, labels_B, rows_B = next(batches)
            waited += time.monotonic() - asked
            for name, value in train_batch(job, session, x_BNTCHW, labels_B, rows_B).items():
                sums[name] += value
            session.batch += 1
            session.sums = sums
            advance(1, f"loss {sums['loss'] / sums['clips']:.3f}")
            if session.batch % config.optim.accumulate == 0 and session.batch < total:
                saver.pause(session, stop)
    seconds = time.monotonic() - started
    loss_sum, hits, clips = place.sum(sums["loss"], sums["right"], sums["clips"])
    world_clips = config.train.batch_size * config.augment.repeats * place.world
    figures = {
        "lr": current_rate(session.optimizer),
        "train_loss": loss_sum / clips,
        "train_top1": hits / clips,
        "clips_per_second": (total - first) * world_clips / seconds,
        "data_wait": waited / seconds,
    }
    session.epoch, session.batch, session.sums = session.epoch + 1, 0, {}
    return figures


def train_batch(
    job: Job,
    session: Session,
    x_BNTCHW: torch.Tensor,
    labels_B: torch.Tensor,
    rows_B: torch.Tensor,
) -> dict[str, float]:
    """Add the gradient of a batch, step at the end of its group; returns what the epoch sums up."""
    config, place, weight = job.config, job.runtime, _weight(job, session.batch)
    ends_group = (
        session.batch + 1
    ) % config.optim.accumulate == 0 or session.batch + 1 == job.batches_per_epoch
    waits = place.world > 1 and not ends_group
    mixed = _mixed(job, session, x_BNTCHW, labels_B)
    x_BNTCHW, targets, labels_B = mixed.clips, mixed.targets, mixed.labels
    snippets = 1
    if config.optim.loss_on == "snippet":  # each snippet is a video of its own
        snippets = x_BNTCHW.shape[1]
        x_BNTCHW = x_BNTCHW.flatten(0, 1)[:, None]
        labels_B, targets = (y.repeat_interleave(snippets, 0) for y in (labels_B, targets))
    with session.model.no_sync() if waits else nullcontext():  # type: ignore[operator]
        with place.autocast():
            logits_BK = session.model(x_BNTCHW)
        loss = cross_entropy(
            logits_BK.float(),
            targets,
            weight=job.class_weights,
            label_smoothing=config.optim.label_smoothing,
            reduction="sum",
        )
        value = float(loss.detach())
        if any(place.sum(not math.isfinite(value))):
            raise _not_finite(job, session, value, rows_B)
        # The mean over the whole group, whatever the size of its batches and of the world.
        clips = snippets * config.augment.repeats * _group_size(job, session.batch)
        share = place.world * weight / clips
        session.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    if ends_group:
        _step(job, session)
    hits = int((logits_BK.argmax(1) == labels_B).sum())
    share = weight / snippets
    return {"loss": value * share, "right": hits * share, "clips": len(rows_B) * weight}


def _mixed(
    job: Job, session: Session, x_BNTCHW: torch.Tensor, labels_B: torch.Tensor
) -> MixedBatch:
    """Bring a batch to the device and mix its clips there, where that is asked for."""
    device = job.runtime.device
    mixture = draw_mixture(
        job.config.augment,
        side=job.config.data.crop,
        seed=job.config.train.seed,
        epoch=session.epoch,
        batch=session.batch,
    )
    return mix(
        mixture,
        x_BNTCHW.to(device, non_blocking=True),
        labels_B.to(device, non_blocking=True),
        num_classes=len(job.classes),
    )


def _group_size(job: Job, batch: int) -> int:
    return group_size(
        len(job.train_items),
        batch=batch,
        batch_size=job.config.train.batch_size,
        accumulate=job.config.optim.accumulate,
        world=job.runtime.world,
    )


def _weight(job: Job, batch: int) -> float:
    batch_size = job.config.train.batch_size
    return video_weight(len(job.train_items), batch=batch, batch_size=batch_size, place=job.runtime)


def _step(job: Job, session: Session) -> None:
    config, optimizer = job.config, session.optimizer
    rate = learning_rate(
        config.optim,
        step=session.step,
        steps_per_epoch=job.steps_per_epoch,
        epochs=config.train.epochs,
    )
    set_rate(optimizer, rate * session.plateau.factor)
    if config.optim.clip_norm:
        session.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(session.network.parameters(), config.optim.clip_norm)
    session.scaler.step(optimizer)
    session.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    session.step += 1
    if session.average:
        session.average.update(session.network)


def _not_finite(job: Job, session: Session, loss: float, rows_B: torch.Tensor) -> KinemaError:
    mine = (loss, [job.train_items[row].id for row in dict.fromkeys(rows_B.tolist())])
    parts = [part for part in job.runtime.gather(mine) if not math.isfinite(part[0])]
    ids = ", ".join(name for _, names in parts for name in names)
    return KinemaError(
        f"The loss became {parts[0][0]} at epoch {session.epoch + 1}, batch {session.batch + 1} "
        f"(videos: {ids}). {_kept(job)}"
    )


def _check_weights(job: Job, session: Session) -> None:
    """The loss of the next epoch would tell too late: the checkpoint would be overwritten."""
    if not all_finite(session.network):
        raise KinemaError(
            f"The weights are no longer finite after the last step of epoch {session.epoch}. "
            f"{_kept(job)}"
        )


def _kept(job: Job) -> str:
    return (
        f"The checkpoints of earlier epochs in {job.out} are untouched. Lower optim.lr, set "
        "optim.clip_norm, or use train.precision=fp32, and choose another output folder."
    )


def _finish_epoch(job: Job, session: Session, saver: Saver) -> dict[str, float]:
    """Validate with the averaged weights where there are some; keep the best and the last."""
    _check_weights(job, session)
    if session.average:
        session.average.swap(session.network)
    job.runtime.share_buffers(session.network)
    figures: dict[str, float] = {}
    last = session.epoch == job.config.train.epochs
    if job.val_items and (last or session.epoch % job.config.train.validate_every == 0):
        figures = _validate(job, session)
    top1, loss = figures.get("val_top1", -1.0), figures.get("val_loss", math.inf)
    better = (top1, -loss) > (session.best_top1, -session.best_loss)
    if job.config.train.keep == "last" or not job.val_items:
        better = last
        session.best_top1, session.best_loss = top1, loss
    if better:
        session.best_top1, session.best_loss = top1, loss
        _write_checkpoint(job, session, "best.safetensors", figures)
    if last or saver.is_due:
        _write_checkpoint(job, session, "last.safetensors", figures)
    if session.average:
        session.average.swap(session.network)
    return figures


def _validate(job: Job, session: Session) -> dict[str, float]:
    protocol = Protocol(
        name="validation",
        rule="tsn-val",
        num_clips=job.config.data.num_segments // session.network.joined,
        resize="train",
        aggregate="sum" if job.config.model.consensus == "sum" else "mean",  # as the loss does
    )
    settings = TestSettings(
        config=job.config, protocol=protocol, classes=job.classes, show_progress=False
    )
    scores = evaluate(session.network, job.val_items, settings, runtime=job.runtime)
    logits = torch.from_numpy(scores.values)
    labels = torch.from_numpy(scores.labels)
    loss = float(cross_entropy(logits, labels))
    session.plateau.update(loss)
    return {"val_loss": loss, "val_top1": float((logits.argmax(1) == labels).float().mean())}


def _write_checkpoint(job: Job, session: Session, name: str, figures: dict[str, float]) -> None:
    if not job.runtime.is_main:
        return
    provenance = {
        "epoch": session.epoch,
        "step": session.step,
        "index_sha256": job.index_hash,
        "num_train_videos": len(job.train_items),
        "torch": torch.__version__,
        **figures,
    }
    info = CheckpointInfo(
        config=job.config, classes=job.classes, protocol=job.protocol, provenance=provenance
    )
    save_checkpoint(job.out / name, session.network, info)


def _tell(place: Runtime, line: str) -> None:
    if place.is_main:
        say(line)


def _epoch_line(epoch: int, epochs: int, figures: dict[str, Any]) -> str:
    parts = [f"epoch {epoch}/{epochs}", f"loss {figures['train_loss']:.3f}"]
    parts.append(f"train {100 * figures['train_top1']:.1f} %")
    if "val_top1" in figures:
        parts.append(f"val {100 * figures['val_top1']:.1f} %")
    parts.append(f"{figures['clips_per_second']:.1f} clips/s")
    parts.append(f"{100 * figures['data_wait']:.0f} % waiting for data")
    return ", ".join(parts)
