"""Training of a MotionNet without labels: its flow must warp each frame onto the one before.

The loop has what that of `kinema.engine.train` has: resume, precision, several processes, log.

Shapes: B clips, T frames, C channels, H, W.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from kinema.config import AugmentConfig, DataConfig
from kinema.data.clips import ClipItem, ClipSpec, TrainClips
from kinema.data.loader import TrainLoader
from kinema.datasets.index import check_files, read_index
from kinema.engine.epoch import Epoch, state_loader
from kinema.engine.items import stream_items
from kinema.engine.log import RunLog
from kinema.engine.motion_config import MotionConfig, check_motion, rate_settings
from kinema.engine.optim import Average, Part, Plateau, averaged, build_optimizer
from kinema.engine.pausing import Saver, all_finite, resume_line
from kinema.engine.runtime import Runtime, runtime
from kinema.engine.session import (
    StopSignal,
    TrainingState,
    restore_session,
    settle_config,
    stop_signals,
)
from kinema.engine.shares import group_size, video_weight
from kinema.engine.steps import REMEDY, optimiser_step, refuse_not_finite
from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.flow.made_pairs import made_pairs
from kinema.flow.motion_file import load_motion, save_motion
from kinema.flow.motion_network import build_motion_network, motion_input
from kinema.models.flow_losses import LOSSES, flow_loss, known_flow_loss

State = TrainingState[nn.Module]
_MADE = (0x6D616465,)  # keeps the draws of made pairs apart from others
_MADE_WEIGHT = 0.04  # of their end-point error, pixels
_PAPER_SCALES = (1.0, 0.875, 0.75)  # of its crops


@dataclass(frozen=True, kw_only=True)
class MotionResult:
    """What a training leaves."""

    weights: Path
    loss: float  # of the last epoch that was trained now; not a number where none was
    epochs: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What stays the same during a training."""

    config: MotionConfig
    out: Path
    runtime: Runtime
    clips: TrainClips
    items: tuple[ClipItem, ...]
    index_hash: str

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one process in an epoch, each an optimiser step."""
        return math.ceil(len(self.items) / (self.config.train.batch_size * self.runtime.world))


def train_motion(config: MotionConfig, out: Path, *, device: str = "auto") -> MotionResult:
    """Train a MotionNet on the training videos of an index.

    After every epoch `last.safetensors` in `out` has the weights.

    A training that was interrupted goes on where its last state was saved, to the same result.

    Args:
        config: the run; `config.data.index` is the folder with index.csv.
        out: the run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: settings that cannot be.
        KinemaError: bad data, a loss that is not finite, or a stop signal (the state is saved).
    """
    check_motion(config)
    settings = config.train
    with (
        runtime(device=device, precision=settings.precision, threads=settings.threads) as place,
        stop_signals() as stop,
    ):
        job = _prepare(config, out, place)
        state = _start(job)
        settle_config(config, out, place)
        if restore_session(out / "state.pt", state, place, index_hash=job.index_hash):
            place.tell(resume_line(state, settings.epochs))
        is_open = state.epoch < settings.epochs
        log = RunLog(out, first_epoch=state.epoch) if place.is_main and is_open else None
        loader = state_loader(
            job.clips, state, place, settings=settings, workers=config.data.workers
        )
        saver = Saver(
            out, place, index_hash=job.index_hash, every_seconds=settings.save_every_seconds
        )
        figures: dict[str, Any] = {}
        while state.epoch < settings.epochs:
            started = time.monotonic()
            figures = _train_epoch(job, state, loader, stop, saver)
            _check_finite(job, state)
            is_last = state.epoch == settings.epochs
            _write(job, state, figures)
            figures["seconds"] = time.monotonic() - started
            if log:
                log.write({"epoch": state.epoch - 1, "step": state.step, **figures})
            place.tell(_epoch_line(state.epoch, settings.epochs, figures))
            if is_last:
                saver.save(state)
            else:
                saver.pause(state, stop)
        if log:
            log.close()
        place.barrier()
        return MotionResult(
            weights=out / "last.safetensors",
            loss=figures.get("train_loss", math.nan),
            epochs=state.epoch,
        )


def _prepare(config: MotionConfig, out: Path, place: Runtime) -> _Job:
    data = config.data
    if not data.index:
        raise KinemaError("No data: give the folder that `kinema index` made (data.index=FOLDER).")
    folder = Path(data.index)
    index = read_index(folder)
    check_files(index)
    frames = DataConfig(official_split=data.official_split, frame_store=data.frame_store)
    items = stream_items(index, "train", classes=index.classes, data=frames)
    if not items:
        raise KinemaError(f"{folder / 'index.csv'} has no video in the part 'train'.")
    out.mkdir(parents=True, exist_ok=True)
    spec = ClipSpec(
        stream="rgb",
        length=1 + (data.frames - 1) * max(data.intervals),
        num_segments=1,
        sampling="any",
        resize=data.resize,
        crop=data.crop,
    )
    is_paper = config.model.network == "motionnet"
    augment = AugmentConfig(
        crop="multiscale" if is_paper else "random",
        scales=_PAPER_SCALES,
        mirror=data.mirror,
        repeats=data.clips,
    )
    clips = TrainClips(
        items, spec, augment, seed=config.train.seed, cache_bytes=data.cache_mb * 2**20
    )
    return _Job(
        config=config,
        out=out,
        runtime=place,
        clips=clips,
        items=items,
        index_hash=sha256_of(folder / "index.csv"),
    )


def _start(job: _Job) -> State:
    """Build network and optimiser in their first state, the same in every process."""
    config, place = job.config, job.runtime
    torch.manual_seed(config.train.seed)
    network = build_motion_network(config.model.network)
    if config.model.weights:
        network, name = load_motion(Path(config.model.weights))
        if name != config.model.network:
            raise KinemaError(
                f"{config.model.weights} holds the network {name}, but model.network is "
                f"{config.model.network}: choose the one that the file has."
            )
    network.to(place.device).train()
    optim = rate_settings(config.optim)
    return TrainingState(
        network=network,
        model=place.parallel(network),
        optimizer=build_optimizer([Part(network)], optim),
        scaler=place.scaler(),
        plateau=Plateau(optim),
        average=Average(network, config.optim.ema) if config.optim.ema else None,
    )


def _train_epoch(
    job: _Job, state: State, loader: TrainLoader, stop: StopSignal, saver: Saver
) -> dict[str, Any]:
    """Train the rest of an epoch; returns its figures."""
    train, total = job.config.train, job.batches_per_epoch
    with Epoch(state, loader, job.runtime, num_batches=total, epochs=train.epochs) as epoch:
        for x_BNTCHW, _, rows_B in epoch:
            epoch.add(_train_batch(job, state, x_BNTCHW, rows_B))
            if state.batch < total:
                saver.pause(state, stop)
        return epoch.finish(clips_per_batch=train.batch_size * job.config.data.clips)


def _train_batch(
    job: _Job, state: State, x_BNTCHW: torch.Tensor, rows_B: torch.Tensor
) -> dict[str, float]:
    """Do an optimiser step; returns what the epoch sums up."""
    config, place = job.config, job.runtime
    batch_size, num_items = config.train.batch_size, len(job.items)
    weight = video_weight(num_items, batch=state.batch, batch_size=batch_size, place=place)
    rng = np.random.default_rng((config.train.seed, state.epoch, state.batch))
    interval = int(rng.choice(config.data.intervals))
    x_BTCHW = x_BNTCHW.flatten(0, 1)[:, : 1 + (config.data.frames - 1) * interval : interval]
    frames_BTCHW = x_BTCHW.to(place.device, non_blocking=True).float() / 255
    frames_BTCHW = motion_input(state.network, frames_BTCHW)
    made = _made(frames_BTCHW, config, (*_MADE, place.rank, state.epoch, state.batch))
    if made:
        frames_BTCHW = torch.cat([frames_BTCHW, made.frames.to(frames_BTCHW)])
    with place.autocast():
        flows = state.model(frames_BTCHW)
    parts = flow_loss(flows, frames_BTCHW, LOSSES[config.model.network])
    if made:
        known = known_flow_loss(
            [flow_BT2HW[-len(made.frames) :] for flow_BT2HW in flows], made.flow.to(place.device)
        )
        parts["total"][-len(made.frames) :] += _MADE_WEIGHT * known
    value = float(parts["total"].detach().sum())
    refuse_not_finite(value, rows_B, items=job.items, state=state, place=place)
    # The mean over the whole step, whatever the size of its batches and of the world.
    videos = group_size(
        num_items, batch=state.batch, batch_size=batch_size, accumulate=1, world=place.world
    )
    clips = videos * config.data.clips + config.data.made * place.world
    share = place.world * weight / clips
    state.scaler.scale(parts["total"].sum() * share).backward()  # type: ignore[no-untyped-call]
    optimiser_step(
        state,
        rate_settings(config.optim),
        steps_per_epoch=job.batches_per_epoch,
        epochs=config.train.epochs,
    )
    sums = {name: float(part.detach().sum()) * weight for name, part in parts.items()}
    return {"train_loss": sums.pop("total"), **sums, "clips": len(frames_BTCHW) * weight}


class _Made(NamedTuple):
    """Pairs whose motion was made, on the CPU."""

    frames: torch.Tensor  # (P, 2, 1, H, W), 0 to 1
    flow: torch.Tensor  # (P, 1, 2, H, W)


def _made(frames_BTCHW: torch.Tensor, config: MotionConfig, draw: tuple[int, ...]) -> _Made | None:
    """Make motion of the first frames of a batch, where that is asked for."""
    if not config.data.made:
        return None
    pictures_BHW = (frames_BTCHW[:, 0].mean(1) * 255).round().to(torch.uint8).cpu().numpy()
    rng = np.random.default_rng((config.train.seed, *draw))
    frames_PTHW, flow_P2HW = made_pairs(pictures_BHW, config.data.made, rng)
    frames_PTCHW = torch.from_numpy(frames_PTHW)[:, :, None].float() / 255
    channels = frames_BTCHW.shape[2]
    return _Made(
        frames_PTCHW.expand(-1, -1, channels, -1, -1), torch.from_numpy(flow_P2HW)[:, None]
    )


def _check_finite(job: _Job, state: State) -> None:
    if not all_finite(state.network):
        raise KinemaError(
            f"The weights are no longer finite after the last step of epoch {state.epoch}; what "
            f"earlier epochs left in {job.out} is untouched. {REMEDY}"
        )


def _write(job: _Job, state: State, figures: dict[str, Any]) -> None:
    if not job.runtime.is_main:
        return
    provenance = {
        "epoch": state.epoch,
        "step": state.step,
        "index_sha256": job.index_hash,
        "num_train_videos": len(job.items),
        "torch": torch.__version__,
        "loss": figures["train_loss"],
    }
    name = job.config.model.network
    with averaged(state.average, state.network):
        save_motion(job.out / "last.safetensors", state.network, name=name, provenance=provenance)


def _epoch_line(epoch: int, epochs: int, figures: dict[str, Any]) -> str:
    return (
        f"epoch {epoch}/{epochs}, loss {figures['train_loss']:.4f} (reconstruction "
        f"{figures['photometric']:.4f}, unlike {figures['ssim']:.4f}, smoothness "
        f"{figures['smooth']:.4f}), {figures['clips_per_second']:.1f} clips/s, "
        f"{100 * figures['data_wait']:.0f} % waiting for data"
    )
