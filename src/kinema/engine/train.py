"""Training: one loop for every network, modality and number of processes.

Shapes: B videos, N snippets, T images, C channels, H, W, K classes.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from kinema.config import Config
from kinema.data.loader import TrainLoader
from kinema.engine.checkpoint import CheckpointInfo, save_checkpoint
from kinema.engine.epoch import Epoch, state_loader
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.job import Job, prepare, start_session
from kinema.engine.log import RunLog
from kinema.engine.mixing import MixedBatch, draw_mixture, mix
from kinema.engine.on_features import feature_logits, learning_part
from kinema.engine.optim import averaged
from kinema.engine.pausing import Saver, all_finite, resume_line
from kinema.engine.protocols import Protocol
from kinema.engine.runtime import runtime
from kinema.engine.session import (
    Session,
    StopSignal,
    restore_session,
    settle_config,
    stop_signals,
)
from kinema.engine.shares import group_size, video_weight
from kinema.engine.steps import REMEDY, optimiser_step, refuse_not_finite
from kinema.errors import KinemaError
from kinema.models.two_streams import ScoreStreams
from kinema.streams import stream_configs

_LINE_SECONDS = 2.0  # epochs that are quicker are not all told


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
            place.tell(resume_line(session, settings.epochs))
        is_open = session.epoch < settings.epochs
        log = RunLog(out, first_epoch=session.epoch) if place.is_main and is_open else None
        loader = state_loader(
            job.train_clips, session, place, settings=settings, workers=config.data.workers
        )
        saver = Saver(
            out, place, index_hash=job.index_hash, every_seconds=settings.save_every_seconds
        )
        told = -math.inf
        while session.epoch < settings.epochs:
            started = time.monotonic()
            figures = _train_epoch(job, session, loader, stop, saver)
            figures |= _finish_epoch(job, session, saver)
            figures["seconds"] = time.monotonic() - started
            if log:
                log.write({"epoch": session.epoch - 1, "step": session.step, **figures})
            is_last = session.epoch == settings.epochs
            if is_last or time.monotonic() - told >= _LINE_SECONDS:
                place.tell(_epoch_line(session.epoch, settings.epochs, figures))
                told = time.monotonic()
            if is_last:
                saver.save(session)
            else:
                saver.pause(session, stop)
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


def _train_epoch(
    job: Job, session: Session, loader: TrainLoader, stop: StopSignal, saver: Saver
) -> dict[str, Any]:
    """Train the rest of an epoch; returns its figures."""
    config, total = job.config, job.batches_per_epoch
    left = Epoch(session, loader, job.runtime, num_batches=total, epochs=config.train.epochs)
    with left as epoch:
        for x_BNTCHW, labels_B, rows_B in epoch:
            epoch.add(train_batch(job, session, x_BNTCHW, labels_B, rows_B))
            if session.batch % config.optim.accumulate == 0 and session.batch < total:
                saver.pause(session, stop)
        return epoch.finish(clips_per_batch=config.train.batch_size * config.augment.repeats)


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
            output = session.model(x_BNTCHW)
        loss, logits_BK = job.loss(output, targets)
        value = float(loss.detach())
        refuse_not_finite(
            value, rows_B, items=job.train_items, state=session, place=place, remedy=_kept(job)
        )
        # The mean over the whole group, whatever the size of its batches and of the world.
        clips = snippets * config.augment.repeats * _group_size(job, session.batch)
        share = place.world * weight / clips
        session.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    if ends_group:
        optimiser_step(
            session,
            config.optim,
            steps_per_epoch=job.steps_per_epoch,
            epochs=config.train.epochs,
            clipped=job.clipped_parts(session.network),
        )
    hits = int((logits_BK.argmax(1) == labels_B).sum())
    share = weight / snippets
    return {
        "train_loss": value * share,
        "train_top1": hits * share,
        "clips": len(rows_B) * weight,
    }


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


def _check_weights(job: Job, session: Session) -> None:
    """The loss of the next epoch would tell too late: the checkpoint would be overwritten."""
    if not all_finite(session.network):
        raise KinemaError(
            f"The weights are no longer finite after the last step of epoch {session.epoch}. "
            f"{_kept(job)}"
        )


def _kept(job: Job) -> str:
    return f"The checkpoints of earlier epochs in {job.out} are untouched. {REMEDY}"


def _finish_epoch(job: Job, session: Session, saver: Saver) -> dict[str, float]:
    """Validate with the averaged weights where there are some; keep the best and the last."""
    _check_weights(job, session)
    with averaged(session.average, session.network):
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
            _write_checkpoint(job, session, "best", figures)
        if last or saver.is_due:
            _write_checkpoint(job, session, "last", figures)
        return figures


def _validate(job: Job, session: Session) -> dict[str, float]:
    if job.val_features:
        head = learning_part(session.network)
        logits = feature_logits(head, job.val_features, device=job.runtime.device)
        labels = job.val_features.labels
    else:
        logits, labels = _video_logits(job, session)
    loss = float(cross_entropy(logits, labels))
    session.plateau.update(loss)
    return {"val_loss": loss, "val_top1": float((logits.argmax(1) == labels).float().mean())}


def _video_logits(job: Job, session: Session) -> tuple[torch.Tensor, torch.Tensor]:
    network, config = job.result(session.network), job.result_config
    protocol = Protocol(
        name="validation",
        rule="tsn-val",
        num_clips=config.data.num_segments // network.joined,
        resize="train",
        aggregate="sum" if config.model.consensus == "sum" else "mean",  # as the loss does
    )
    settings = TestSettings(
        config=config, protocol=protocol, classes=job.classes, show_progress=False
    )
    scores = evaluate(network, job.val_items, settings, runtime=job.runtime)
    return torch.from_numpy(scores.values), torch.from_numpy(scores.labels)


def _write_checkpoint(job: Job, session: Session, name: str, figures: dict[str, float]) -> None:
    if not job.runtime.is_main:
        return
    provenance = {
        "epoch": session.epoch,
        "step": session.step,
        "index_sha256": job.index_hash,
        "num_train_videos": len(job.train_items),
        "torch": torch.__version__,
        **job.taught_by,
        **figures,
    }
    info = CheckpointInfo(
        config=job.result_config, classes=job.classes, protocol=job.protocol, provenance=provenance
    )
    network = job.result(session.network)
    save_checkpoint(job.out / f"{name}.safetensors", network, info)
    if isinstance(network, ScoreStreams):  # each can be used without the other
        for stream, own in zip(network.streams, stream_configs(job.config), strict=True):
            path = job.out / f"{name}-{own.data.modality}.safetensors"
            save_checkpoint(path, stream, replace(info, config=own))


def _epoch_line(epoch: int, epochs: int, figures: dict[str, Any]) -> str:
    parts = [f"epoch {epoch}/{epochs}", f"loss {figures['train_loss']:.3f}"]
    parts.append(f"train {100 * figures['train_top1']:.1f} %")
    if "val_top1" in figures:
        parts.append(f"val {100 * figures['val_top1']:.1f} %")
    parts.append(f"{figures['clips_per_second']:.1f} clips/s")
    parts.append(f"{100 * figures['data_wait']:.0f} % waiting for data")
    return ", ".join(parts)
