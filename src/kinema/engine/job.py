"""What a training works on: its videos, and its network and optimiser in their first state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kinema.config import Config
from kinema.console import say
from kinema.data.clips import ClipItem, TrainClips
from kinema.data.feature_clips import FeatureClips
from kinema.data.loader import Clips
from kinema.data.mirrored import mirror_rule
from kinema.data.paired import PairedTrainClips
from kinema.datasets.index import Index, check_files, read_index
from kinema.datasets.summary import keyframe_cost, packing_pays
from kinema.engine.checkpoint import load_checkpoint, read_info, weights_hash
from kinema.engine.evaluate import clip_spec
from kinema.engine.items import part_items, stream_items, with_stored_flow
from kinema.engine.losses import Loss, training_loss
from kinema.engine.mixing import check_mixing
from kinema.engine.on_features import check_on_features, feature_clips, learning_part
from kinema.engine.optim import Average, Part, Plateau, build_optimizer
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Runtime
from kinema.engine.session import Session
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of
from kinema.models.activations import save_memory
from kinema.models.network import joined_snippets
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.two_streams import ScoreStreams, TwoStreamNetwork
from kinema.models.video_network import VideoNetwork, build_video_network
from kinema.streams import (
    check_streams,
    first_stream,
    has_second,
    second_stream,
    stream_configs,
)
from kinema.weights.pretrained import initialise

# What both streams must have in common to see the same places of the videos.
_SHARED_BY_STREAMS = (
    "index",
    "official_split",
    "num_segments",
    "sampling",
    "resize",
    "crop",
    "fps",
    "spread",
    "short",
    "frame_store",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same during a training."""

    config: Config
    out: Path
    runtime: Runtime
    train_clips: Clips
    train_items: tuple[ClipItem, ...]
    val_items: tuple[ClipItem, ...]
    classes: tuple[str, ...]
    protocol: Protocol
    loss: Loss
    index_hash: str
    val_features: FeatureClips | None = None  # in place of the validation videos

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one process in an epoch."""
        world_batch = self.config.train.batch_size * self.runtime.world
        return math.ceil(len(self.train_items) / world_batch)

    @property
    def result_config(self) -> Config:
        """The configuration of what is tested and kept: a teacher is no part of it."""
        return first_stream(self.config) if self.config.second.teacher else self.config

    @property
    def taught_by(self) -> dict[str, Any]:
        """What a result should tell of its teacher."""
        second = self.config.second
        if not second.teacher:
            return {}
        named = {"teacher": second.teacher, "teacher_hash": weights_hash(Path(second.teacher))}
        return named | {k: getattr(second, k) for k in ("distil", "distil_weight", "temperature")}

    def result(self, network: VideoNetwork) -> VideoNetwork:
        """Return the network that is tested and kept."""
        if isinstance(network, TwoStreamNetwork) and self.config.second.teacher:
            return network.first
        return network

    def clipped_parts(self, network: VideoNetwork) -> tuple[nn.Module, ...]:
        """Return what is clipped by its own norm: networks that do not share a loss."""
        if isinstance(network, ScoreStreams) and self.config.second.loss == "each":
            return network.streams
        return ()

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
    check_streams(config)
    if config.data.features:
        check_on_features(config)
    _check_settings(config)
    folder, data = Path(config.data.index), config.data
    index = read_index(folder)
    check_files(index)
    train_items, val_items = (
        part_items(index, part, classes=index.classes, config=config) for part in ("train", "val")
    )
    if not train_items:
        raise KinemaError(f"{folder / 'index.csv'} has no video in the part 'train'.")
    out.mkdir(parents=True, exist_ok=True)
    if data.features:
        train_clips: Clips = feature_clips(config, train_items, "train")
    else:
        train_clips = _train_clips(config, index, train_items, place)
    weights = None
    if config.optim.class_weights == "balanced":
        weights = _balanced_weights(train_items, len(index.classes)).to(place.device)
    return Job(
        config=config,
        out=out,
        runtime=place,
        train_clips=train_clips,
        train_items=train_items,
        val_items=val_items,
        classes=index.classes,
        protocol=find_protocol(config.protocol),
        loss=training_loss(config, class_weights=weights),
        index_hash=sha256_of(folder / "index.csv"),
        val_features=(
            feature_clips(config, val_items, "val") if data.features and val_items else None
        ),
    )


def _train_clips(
    config: Config, index: Index, items: tuple[ClipItem, ...], place: Runtime
) -> Clips:
    data = config.data
    reads_videos = data.modality != "flow" and not (data.frame_store or data.cache_mb)
    if reads_videos and packing_pays(index):
        say(keyframe_cost(index))
    mirror, label_map, line = mirror_rule(config.augment, index.classes)
    if line:
        place.tell(line)
    clips = partial(
        TrainClips,
        augment=replace(config.augment, mirror=mirror),
        seed=config.train.seed,
        cache_bytes=data.cache_mb * 2**20,
        label_map=label_map,
    )
    first = clips(items, clip_spec(data, joined=joined_snippets(config.model, data.num_segments)))
    other = _other_stream(config, index)
    if not other:
        return first
    others = stream_items(index, "train", classes=index.classes, data=other.data)
    return PairedTrainClips(first, clips(others, clip_spec(other.data)))


def _other_stream(config: Config, index: Index) -> Config | None:
    """Return the configuration of the second stream, or of the teacher on this training's clips.

    Raises:
        KinemaError: the teacher knows other classes.
    """
    if has_second(config):
        return second_stream(config)
    if not config.second.teacher:
        return None
    path = Path(config.second.teacher)
    info = read_info(path)
    if info.classes != index.classes:
        raise KinemaError(
            f"{path} was trained on other classes ({len(info.classes)}: "
            f"{', '.join(info.classes[:3])}, …) than the index has ({len(index.classes)}: "
            f"{', '.join(index.classes[:3])}, …): a teacher knows the same ones."
        )
    own, data = info.config.data, config.data
    if own.modality == "flow":
        own = replace(own, flow_store=config.second.flow_store)
        if own.flow_store:
            own = with_stored_flow(own, Path(own.flow_store))
    shared = {name: getattr(data, name) for name in _SHARED_BY_STREAMS}
    return replace(info.config, data=replace(own, **shared))


def _check_settings(config: Config) -> None:
    """Refuse numbers that no clip can have, and TSM without neighbours to shift to."""
    data = config.data
    for name in ("num_segments", "stack", "interval", "crop"):
        if getattr(data, name) < 1:
            raise UsageError(f"data.{name}={getattr(data, name)} is not possible: 1 or more.")
    joined = joined_snippets(config.model, data.num_segments)
    if joined > 1 and config.optim.loss_on == "snippet":
        raise UsageError(
            "optim.loss_on=snippet is for networks that judge each snippet alone; this one (TSM, "
            "TRN or fusion over time) sees them together: set optim.loss_on=video."
        )
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
    network = build_video_network(config, num_classes=len(job.classes))
    if place.is_main:  # first and alone: it may fetch a file that the others then find
        for line in _initialise(network, config):
            say(line)
    place.barrier()
    if not place.is_main:
        _initialise(network, config)
    if config.second.teacher and isinstance(network, SnippetNetwork):
        network = _taught(network, config)
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
        for stream in _streams(network):
            save_memory(stream.backbone)
    model = place.parallel(learning_part(network) if config.data.features else network)
    if config.train.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    torch.manual_seed(config.train.seed + place.rank)
    return Session(
        network=network,
        model=model,
        optimizer=build_optimizer(_parts(network, config), config.optim),
        scaler=place.scaler(),
        plateau=Plateau(config.optim),
        average=Average(network, config.optim.ema) if config.optim.ema else None,
    )


def _streams(network: VideoNetwork) -> tuple[SnippetNetwork, ...]:
    return network.streams if isinstance(network, TwoStreamNetwork) else (network,)


def _initialise(network: VideoNetwork, config: Config) -> list[str]:
    """Put the weights in that the configuration asks for; says what was found."""
    configs, lines = stream_configs(config), []
    for stream, own in zip(_streams(network), configs, strict=True):
        report = initialise(stream, own.model)
        if report:
            whose = f" of {own.data.modality}" if len(configs) > 1 else ""
            lines.append(f"Weights{whose}: {report.summary()}")
    return lines


def _taught(network: SnippetNetwork, config: Config) -> ScoreStreams:
    teacher = load_checkpoint(Path(config.second.teacher)).network
    if not isinstance(teacher, SnippetNetwork):
        raise UsageError(
            f"second.teacher={config.second.teacher} has two streams: give a network of one, such "
            "as best-flow.safetensors beside it."
        )
    features = config.second.distil == "features"
    return ScoreStreams(network, teacher, features=features, taught=True)


def _parts(network: VideoNetwork, config: Config) -> list[Part]:
    """Return what the optimiser has, with the rate of the second stream where it has its own."""
    if not isinstance(network, TwoStreamNetwork):
        return [Part(network, config.data.modality)]
    second = config.second
    scale = second.lr / config.optim.lr if second.lr and config.optim.lr else 1.0
    parts = [
        Part(network.first, config.data.modality),
        Part(network.second, second.modality, scale),
    ]
    between = [child for child in network.children() if child not in network.streams]
    return parts + [Part(child) for child in between]
