"""Training of a MotionNet without labels: its flow must warp each frame onto the one before.

The loop has what that of `kinema.engine.train` has: resume, precision, several processes, log.

Shapes: B clips, T frames, C channels, H, W.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kinema.config import AugmentConfig, DataConfig, OptimConfig
from kinema.console import progress, say
from kinema.data.clips import ClipItem, ClipSpec, TrainClips
from kinema.data.loader import TrainLoader, train_loader
from kinema.datasets.index import check_files, read_index
from kinema.engine.items import part_items
from kinema.engine.log import RunLog
from kinema.engine.motion_config import MotionConfig, check_motion, rate_settings
from kinema.engine.optim import Plateau, current_rate, learning_rate, set_rate
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
from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.flow.motion_file import load_motion, save_motion
from kinema.flow.motion_network import build_motion_network, motion_input
from kinema.models.flow_losses import PAPER_LOSS, TINY_LOSS, flow_loss

State = TrainingState[nn.Module]
_LOSSES = {"motionnet": PAPER_LOSS, "motionnet-tiny": TINY_LOSS}
_PARTS = ("total", "photometric", "ssim", "smooth")
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
    """Train a MotionNet on the training videos of an index and leave `last.safetensors` in `out`.

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
            _tell(place, resume_line(state, settings.epochs))
        is_open = state.epoch < settings.epochs
        log = RunLog(out, first_epoch=state.epoch) if place.is_main and is_open else None
        loader = _loader(job, state)
        saver = Saver(
            out, place, index_hash=job.index_hash, every_seconds=settings.save_every_seconds
        )
        figures: dict[str, Any] = {}
        while state.epoch < settings.epochs:
            started = time.monotonic()
            figures = _train_epoch(job, state, loader, stop, saver)
            _check_finite(job, state)
            is_last = state.epoch == settings.epochs
            if is_last or saver.is_due:
                _write(job, state, figures)
            figures["seconds"] = time.monotonic() - started
            if log:
                log.write({"epoch": state.epoch - 1, "step": state.step, **figures})
            _tell(place, _epoch_line(state.epoch, settings.epochs, figures))
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
    items = part_items(index, "train", classes=index.classes, data=frames)
    if not items:
        raise KinemaError(f"{folder / 'index.csv'} has no video in the part 'train'.")
    out.mkdir(parents=True, exist_ok=True)
    spec = ClipSpec(
        stream="rgb",
        length=data.frames,
        interval=data.interval,
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
    model: nn.Module = network
    if place.world > 1:
        ids = [place.device.index] if place.device.type == "cuda" else None
        model = DistributedDataParallel(network, device_ids=ids)
    optimizer = torch.optim.Adam(
        [{"params": list(network.parameters()), "scale": 1.0}],
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
    )
    fp16 = place.dtype is torch.float16
    return TrainingState(
        network=network,
        model=model,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(place.device.type, enabled=fp16),
        plateau=Plateau(OptimConfig()),
        average=None,
    )


def _loader(job: _Job, state: State) -> TrainLoader:
    config, place = job.config, job.runtime
    return train_loader(
        job.clips,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        epoch=state.epoch,
        start_batch=state.batch,
        rank=place.rank,
        world=place.world,
        workers=config.data.workers,
    )


def _train_epoch(
    job: _Job, state: State, loader: TrainLoader, stop: StopSignal, saver: Saver
) -> dict[str, Any]:
    """Train the rest of an epoch; returns its figures."""
    config, place = job.config, job.runtime
    first, total = state.batch, job.batches_per_epoch
    waited, started = 0.0, time.monotonic()
    loader.set_epoch(state.epoch, start_batch=first)
    batches = iter(loader)
    sums = state.sums or dict.fromkeys((*_PARTS, "clips"), 0.0)
    title = f"epoch {state.epoch + 1}/{config.train.epochs}"
    with progress(total - first, title, show=place.is_main) as advance:
        while state.batch < total:
            asked = time.monotonic()
            x_BNTCHW, _, rows_B = next(batches)
            waited += time.monotonic() - asked
            for name, value in _train_batch(job, state, x_BNTCHW, rows_B).items():
                sums[name] += value
            state.batch += 1
            state.sums = sums
            advance(1, f"loss {sums['total'] / sums['clips']:.4f}")
            if state.batch < total:
                saver.pause(state, stop)
    seconds = time.monotonic() - started
    *parts, clips = place.sum(*(sums[name] for name in (*_PARTS, "clips")))
    world_clips = config.train.batch_size * config.data.clips * place.world
    means = dict(zip(_PARTS, (part / clips for part in parts), strict=True))
    figures = {
        "lr": current_rate(state.optimizer),
        "train_loss": means.pop("total"),
        **means,
        "clips_per_second": (total - first) * world_clips / seconds,
        "data_wait": waited / seconds,
    }
    state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
    return figures


def _train_batch(
    job: _Job, state: State, x_BNTCHW: torch.Tensor, rows_B: torch.Tensor
) -> dict[str, float]:
    """Do an optimiser step; returns what the epoch sums up."""
    config, place = job.config, job.runtime
    batch_size, num_items = config.train.batch_size, len(job.items)
    weight = video_weight(num_items, batch=state.batch, batch_size=batch_size, place=place)
    frames_BTCHW = x_BNTCHW.flatten(0, 1).to(place.device, non_blocking=True).float() / 255
    frames_BTCHW = motion_input(state.network, frames_BTCHW)
    with place.autocast():
        flows = state.model(frames_BTCHW)
    parts = flow_loss(flows, frames_BTCHW, _LOSSES[config.model.network])
    value = float(parts["total"].detach().sum())
    if any(place.sum(not math.isfinite(value))):
        raise _not_finite(job, state, value, rows_B)
    # The mean over the whole step, whatever the size of its batches and of the world.
    videos = group_size(
        num_items, batch=state.batch, batch_size=batch_size, accumulate=1, world=place.world
    )
    share = place.world * weight / (videos * config.data.clips)
    state.scaler.scale(parts["total"].sum() * share).backward()  # type: ignore[no-untyped-call]
    _step(job, state)
    sums = {name: float(part.detach().sum()) * weight for name, part in parts.items()}
    return {**sums, "clips": len(frames_BTCHW) * weight}


def _step(job: _Job, state: State) -> None:
    config, optimizer = job.config, state.optimizer
    rate = learning_rate(
        rate_settings(config.optim),
        step=state.step,
        steps_per_epoch=job.batches_per_epoch,
        epochs=config.train.epochs,
    )
    set_rate(optimizer, rate)
    if config.optim.clip_norm:
        state.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), config.optim.clip_norm)
    state.scaler.step(optimizer)
    state.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    state.step += 1


def _not_finite(job: _Job, state: State, loss: float, rows_B: torch.Tensor) -> KinemaError:
    mine = (loss, [job.items[row].id for row in dict.fromkeys(rows_B.tolist())])
    parts = [part for part in job.runtime.gather(mine) if not math.isfinite(part[0])]
    ids = ", ".join(name for _, names in parts for name in names)
    return KinemaError(
        f"The loss became {parts[0][0]} at epoch {state.epoch + 1}, batch {state.batch + 1} "
        f"(videos: {ids}). {_REMEDY}"
    )


_REMEDY = (
    "Lower optim.lr, set optim.clip_norm, or use train.precision=fp32, and choose another output "
    "folder."
)


def _check_finite(job: _Job, state: State) -> None:
    if not all_finite(state.network):
        raise KinemaError(
            f"The weights are no longer finite after the last step of epoch {state.epoch}; what "
            f"earlier epochs left in {job.out} is untouched. {_REMEDY}"
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
    save_motion(job.out / "last.safetensors", state.network, name=name, provenance=provenance)


def _tell(place: Runtime, line: str) -> None:
    if place.is_main:
        say(line)


def _epoch_line(epoch: int, epochs: int, figures: dict[str, Any]) -> str:
    return (
        f"epoch {epoch}/{epochs}, loss {figures['train_loss']:.4f} (reconstruction "
        f"{figures['photometric']:.4f}, unlike {figures['ssim']:.4f}, smoothness "
        f"{figures['smooth']:.4f}), {figures['clips_per_second']:.1f} clips/s, "
        f"{100 * figures['data_wait']:.0f} % waiting for data"
    )
