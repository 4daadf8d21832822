"""What a training works on: its videos, and its network and optimiser in their first state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kinema.config import Config
from kinema.console import say
from kinema.data.clips import ClipItem, TrainClips
from kinema.data.mirrored import mirror_rule
from kinema.datasets.index import check_files, read_index
from kinema.datasets.summary import keyframe_cost, packing_pays
from kinema.engine.evaluate import clip_spec
from kinema.engine.items import part_items
from kinema.engine.mixing import check_mixing
from kinema.engine.optim import Average, Plateau, build_optimizer
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Runtime
from kinema.engine.session import Session
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of
from kinema.models.activations import save_memory
from kinema.models.network import build_network, joined_snippets
from kinema.weights.pretrained import initialise


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same during a training."""

    config: Config
    out: Path
    runtime: Runtime
    train_clips: TrainClips
    train_items: tuple[ClipItem, ...]
    val_items: tuple[ClipItem, ...]
    classes: tuple[str, ...]
    protocol: Protocol
    class_weights: torch.Tensor | None
    index_hash: str

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one process in an epoch."""
        world_batch = self.config.train.batch_size * self.runtime.world
        return math.ceil(len(self.train_items) / world_batch)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the last group of batches may be smaller."""
        return math.ceil(self.batches_per_epoch / self.config.optim.accumulate)


def prepare(config: Config, out: Path, place: Runtime) -> Job:
    """Read the index and make the clips.

    Raises:
        KinemaError: no index, no training video, files or flow that are missing.
    """
    if not config.data.index:
        raise KinemaError("No data: give the folder that `kinema index` made (data.index=FOLDER).")
    check_mixing(config.augment)
    _check_settings(config)
    folder, data = Path(config.data.index), config.data
    joined = joined_snippets(config.model, data.num_segments)
    if joined > 1 and config.optim.loss_on == "snippet":
        raise UsageError(
            "optim.loss_on=snippet is for networks that judge each snippet alone; this one (TSM, "
            "TRN or fusion over time) sees them together: set optim.loss_on=video."
        )
    index = read_index(folder)
    check_files(index)
    train_items, val_items = (
        part_items(index, part, classes=index.classes, data=data) for part in ("train", "val")
    )
    if not train_items:
        raise KinemaError(f"{folder / 'index.csv'} has no video in the part 'train'.")
    reads_videos = data.modality != "flow" and not (data.frame_store or data.cache_mb)
    if reads_videos and packing_pays(index):
        say(keyframe_cost(index))
    mirror, label_map, line = mirror_rule(config.augment, index.classes)
    if line and place.is_main:
        say(line)
    out.mkdir(parents=True, exist_ok=True)
    clips = TrainClips(
        train_items,
        clip_spec(data, joined=joined),
        replace(config.augment, mirror=mirror),
        seed=config.train.seed,
        cache_bytes=data.cache_mb * 2**20,
        label_map=label_map,
    )
    weights = None
    if config.optim.class_weights == "balanced":
        weights = _balanced_weights(train_items, len(index.classes)).to(place.device)
    return Job(
        config=config,
        out=out,
        runtime=place,
        train_clips=clips,
        train_items=train_items,
        val_items=val_items,
        classes=index.classes,
        protocol=find_protocol(config.protocol),
        class_weights=weights,
        index_hash=sha256_of(folder / "index.csv"),
    )


def _check_settings(config: Config) -> None:
    """Refuse numbers that no clip can have, and TSM without neighbours to shift to."""
    data = config.data
    for name in ("num_segments", "stack", "interval", "crop"):
        if getattr(data, name) < 1:
            raise UsageError(f"data.{name}={getattr(data, name)} is not possible: 1 or more.")
    if not (math.isfinite(data.fps) and data.fps >= 0):
        raise UsageError(
            f"data.fps={data.fps:g} is not possible: give images per second, or 0 for all of them."
        )
    if config.model.shift != "none" and data.num_segments < 2:
        raise UsageError(
            f"model.shift={config.model.shift} moves channels between snippets, but "
            "data.num_segments=1: set it to 2 or more (the published networks have 8)."
        )


def _balanced_weights(items: Sequence[ClipItem], num_classes: int) -> torch.Tensor:
    counts = np.bincount([item.label for item in items], minlength=num_classes)
    return torch.tensor(len(items) / (num_classes * np.maximum(counts, 1)), dtype=torch.float32)


def start_session(job: Job) -> Session:
    """Build network and optimiser in their first state, the same in every process."""
    config, place = job.config, job.runtime
    torch.manual_seed(config.train.seed)
    network = build_network(
        config.model,
        modality=config.data.modality,
        stack=config.data.stack,
        num_classes=len(job.classes),
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )
    if place.is_main:  # first and alone: it may fetch a file that the others then find
        report = initialise(network, config.model)
        if report:
            say(f"Weights: {report.summary()}")
    place.barrier()
    if not place.is_main:
        initialise(network, config.model)
    network.to(place.device)
    if config.train.channels_last:
        network.channels_last()
    network.train()
    if config.model.save_memory:
        if config.train.compile:
            raise UsageError(
                "model.save_memory=true and train.compile=true do not go together: set one of "
                "them to false."
            )
        save_memory(network.backbone)
    model: nn.Module = network
    if place.world > 1:
        ids = [place.device.index] if place.device.type == "cuda" else None
        model = DistributedDataParallel(network, device_ids=ids)
    if config.train.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    torch.manual_seed(config.train.seed + place.rank)
    fp16 = place.dtype is torch.float16
    return Session(
        network=network,
        model=model,
        optimizer=build_optimizer(network, config.optim, modality=config.data.modality),
        scaler=torch.amp.GradScaler(place.device.type, enabled=fp16),
        plateau=Plateau(config.optim),
        average=Average(network, config.optim.ema) if config.optim.ema else None,
    )
