"""How fast a recipe's network trains and how much memory a step takes, on synthetic clips.

The steps are those of a training: the same loop body, optimiser and precision. Decoding and
augmentation are not in it, the way of the clips to the device is.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from kinema.config import Config
from kinema.data.clips import TrainClips
from kinema.data.items import ClipItem
from kinema.engine.evaluate import clip_spec
from kinema.engine.job import Job, start_session
from kinema.engine.losses import training_loss
from kinema.engine.mixing import check_mixing
from kinema.engine.protocols import find_protocol
from kinema.engine.runtime import Runtime, runtime
from kinema.engine.session import Session
from kinema.engine.train import train_batch
from kinema.errors import UsageError
from kinema.models.describe import describe_network
from kinema.models.network import joined_snippets

_DEVICE_MEMORY = "the most that was allocated on the device in a step, weights included"
_PROCESS_MEMORY = "resident memory of the process above that before the first step"
_PRECISIONS = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_UNKNOWN_MEMORY = "not measured on this system"


@dataclass(frozen=True, kw_only=True)
class TrainBench:
    """What was measured; a step is an optimiser step, of `accumulate` batches."""

    recipe: str
    backbone: str
    modality: str
    device: str
    precision: str
    save_memory: bool
    clips_per_step: int
    clip_shape: tuple[int, ...]  # N snippets, T images, C channels, H, W, as they are read
    steps: int
    seconds_per_step: float  # median
    clips_per_second: float
    peak_bytes: int | None
    peak_is: str  # what `peak_bytes` counts
    parameters: int
    trainable: int
    multiply_adds: int  # forward pass of one snippet


def bench_train(
    config: Config,
    *,
    num_classes: int = 101,
    steps: int = 10,
    warmup: int = 2,
    device: str = "auto",
) -> list[TrainBench]:
    """Time training steps of a configuration, in a process of its own.

    With ``model.save_memory=true`` it is done without it first, so that both can be compared.

    Args:
        config: the run; weights are neither fetched nor read, the data are made up.
        num_classes: outputs of the network.
        steps: optimiser steps that are timed.
        warmup: steps before them that are not.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: settings that do not go together, or no step.
        KinemaError: the device is not there.
    """
    if steps < 1 or warmup < 0:
        raise UsageError(
            f"{steps} steps after {warmup} for warming up are not possible: take at least 1 step."
        )
    for name in ("batch_size", "accumulate"):
        value = getattr(config.train if name == "batch_size" else config.optim, name)
        if value < 1:
            raise UsageError(f"{name}={value} is not possible: take at least 1.")
    ways = (False, True) if config.model.save_memory else (False,)
    found = []
    for saves in ways:
        one = replace(config, model=replace(config.model, save_memory=saves))
        work = partial(
            measure, one, num_classes=num_classes, steps=steps, warmup=warmup, device=device
        )
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(work).result())
    return found


def measure(
    config: Config, *, num_classes: int, steps: int, warmup: int, device: str
) -> TrainBench:
    """Time training steps in this process; arguments as for `bench_train`.

    On the CPU, memory that this process holds free already is not counted: a fresh one is exact.
    """
    train = config.train
    with runtime(device=device, precision=train.precision, threads=train.threads) as place:
        job = _job(config, place, num_classes=num_classes, steps=steps + warmup)
        session = start_session(job)
        size = describe_network(session.network, image_size=config.data.crop)
        batch = _synthetic_batch(job, session.network.snippet_shape)
        peak_of_process = _process_peak()
        times = []
        for number in range(warmup + steps):
            if number == warmup and place.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(place.device)
            times.append(_timed_step(job, session, batch))
        seconds = statistics.median(times[warmup:])
        if place.device.type == "cuda":
            peak: int | None = torch.cuda.max_memory_allocated(place.device)
            peak_is = _DEVICE_MEMORY
        else:
            peak = peak_of_process()
            peak_is = _UNKNOWN_MEMORY if peak is None else _PROCESS_MEMORY
        clips = len(batch[1]) * config.optim.accumulate
        return TrainBench(
            recipe=config.recipe,
            backbone=config.model.backbone,
            modality=config.data.modality,
            device=_name_of(place.device),
            precision=_PRECISIONS[place.dtype],
            save_memory=config.model.save_memory,
            clips_per_step=clips,
            clip_shape=tuple(batch[0].shape[1:]),
            steps=steps,
            seconds_per_step=seconds,
            clips_per_second=clips / seconds,
            peak_bytes=peak,
            peak_is=peak_is,
            parameters=size.parameters,
            trainable=size.trainable,
            multiply_adds=size.multiply_adds,
        )


def _job(config: Config, place: Runtime, *, num_classes: int, steps: int) -> Job:
    """Return a training on videos that exist nowhere, long enough for all steps."""
    check_mixing(config.augment)
    config = replace(
        config,
        model=replace(config.model, pretrained=False, weights=""),
        # The weights stay as they are: noise as data could make the loss grow without bounds.
        optim=replace(config.optim, lr=0.0, class_weights="none"),
    )
    item = ClipItem(id="synthetic", path=Path(), label=0, num_frames=1)
    items = (item,) * (config.train.batch_size * config.optim.accumulate * steps)
    joined = joined_snippets(config.model, config.data.num_segments)
    clips = TrainClips(
        items[:1],
        clip_spec(config.data, joined=joined),
        config.augment,
        seed=config.train.seed,
    )
    return Job(
        config=config,
        out=Path(),
        runtime=place,
        train_clips=clips,
        train_items=items,
        val_items=(),
        classes=tuple(str(number) for number in range(num_classes)),
        protocol=find_protocol(config.protocol),
        loss=training_loss(config, class_weights=None),
        index_hash="",
    )


def _synthetic_batch(
    job: Job, snippet_shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random clips, labels and rows, as a loader gives them."""
    config = job.config
    generator = torch.Generator().manual_seed(config.train.seed)
    num_clips = config.train.batch_size * config.augment.repeats
    side = config.data.crop
    shape = (num_clips, config.data.num_segments, *snippet_shape, side, side)
    x_BNTCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels_B = torch.randint(0, len(job.classes), (num_clips,), generator=generator)
    rows_B = torch.zeros(num_clips, dtype=torch.int64)
    if job.runtime.device.type == "cuda":
        x_BNTCHW, labels_B = x_BNTCHW.pin_memory(), labels_B.pin_memory()
    return x_BNTCHW, labels_B, rows_B


def _timed_step(
    job: Job, session: Session, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> float:
    """Do one optimiser step; returns its seconds."""
    _wait(job.runtime.device)
    started = time.perf_counter()
    for _ in range(job.config.optim.accumulate):
        train_batch(job, session, *batch)
        session.batch += 1
    _wait(job.runtime.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _process_peak() -> Callable[[], int | None]:
    """Start to watch this process; what is returned tells its peak above now, in bytes.

    Linux keeps the peak itself; writing 5 to `clear_refs` starts it anew (proc(5)).
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5", encoding="ascii")
        before = _status_bytes(status, "VmRSS")
    except OSError:
        return lambda: None
    return lambda: max(_status_bytes(status, "VmHWM") - before, 0)


def _status_bytes(status: Path, name: str) -> int:
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
