"""The verbs of the command line as functions; each loads what it needs when it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kinema.config import Config, override
from kinema.errors import UsageError

if TYPE_CHECKING:
    from kinema.comparison import Comparison
    from kinema.datasets.build import BuildReport
    from kinema.datasets.detect import DatasetName
    from kinema.datasets.splits import SplitRule
    from kinema.engine.train import TrainResult
    from kinema.flow.convert import ConvertSummary
    from kinema.flow.extract import FlowSummary
    from kinema.flow.job import FlowOptions
    from kinema.flow.store import Quality
    from kinema.fusion import Rule
    from kinema.packing.pack import PackSummary
    from kinema.pipeline import RunOptions
    from kinema.prediction import Predictions, PredictOptions
    from kinema.scores import Scores
    from kinema.testing import Part, TestOptions


def index(
    data: Path | str,
    out: Path | str,
    *,
    dataset: DatasetName = "auto",
    splits_folder: Path | None = None,
    rule: SplitRule | None = None,
    min_frames: int = 2,
    strict: bool = False,
    workers: int | None = None,
) -> BuildReport:
    """Make an index from a folder of videos or a CSV file: see `kinema.datasets.build`."""
    from kinema.datasets.build import build_index

    return build_index(
        Path(data),
        Path(out),
        dataset=dataset,
        splits_folder=splits_folder,
        rule=rule,
        min_frames=min_frames,
        strict=strict,
        workers=workers,
    )


def extract_flow(
    index_folder: Path | str,
    out: Path | str,
    *,
    options: FlowOptions | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    ray: str = "",
) -> FlowSummary:
    """Store the optical flow of every video of an index: see `kinema.flow.extract`."""
    from kinema.datasets.index import check_files, read_index
    from kinema.engine.items import flow_jobs
    from kinema.flow.extract import extract_flow as extract

    videos = read_index(Path(index_folder))
    check_files(videos)
    return extract(
        flow_jobs(videos), Path(out), options=options, workers=workers, shard=shard, ray=ray
    )


def verify_flow(index_folder: Path | str, out: Path | str) -> tuple[tuple[str, str], ...]:
    """Check every store of an index; return (id, reason) of those that are not whole."""
    from kinema.datasets.index import read_index
    from kinema.engine.items import flow_jobs
    from kinema.flow.extract import verify_flow as verify

    return verify(flow_jobs(read_index(Path(index_folder))), Path(out))


def convert_flow(
    source: Path | str,
    out: Path | str,
    *,
    bound: float = 20.0,
    algorithm: str = "unknown",
    index_folder: Path | str | None = None,
    quality: Quality = "standard",
    workers: int | None = None,
) -> ConvertSummary:
    """Pack the flow images of older tools into stores: see `kinema.flow.convert`.

    Args:
        source: folder or archive of flow images.
        out: folder of the stores.
        bound: pixels per frame at the ends of the images' scale.
        algorithm: what the flow was computed with, if known.
        index_folder: the stores are named as this index names its videos.
        quality: of the stores.
        workers: processes; None takes one per core.
    """
    from kinema.datasets.index import read_index
    from kinema.flow.convert import convert

    index = read_index(Path(index_folder)) if index_folder else None
    return convert(
        Path(source),
        Path(out),
        bound=bound,
        algorithm=algorithm,
        ids=[video.id for video in index.videos] if index else None,
        quality=quality,
        workers=workers,
    )


def pack(
    index_folder: Path | str,
    out: Path | str,
    *,
    short_side: int | None = 256,
    quality: Quality = "standard",
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> PackSummary:
    """Store the frames of every video of an index for fast reading: see `kinema.packing.pack`."""
    from kinema.datasets.index import check_files, read_index
    from kinema.engine.items import pack_jobs
    from kinema.packing.pack import pack as pack_videos

    videos = read_index(Path(index_folder))
    check_files(videos)
    return pack_videos(
        pack_jobs(videos),
        Path(out),
        short_side=short_side,
        quality=quality,
        workers=workers,
        shard=shard,
    )


def verify_pack(index_folder: Path | str, out: Path | str) -> tuple[tuple[str, str], ...]:
    """Check every store of frames; return (id, reason) of those that are not whole."""
    from kinema.datasets.index import read_index
    from kinema.engine.items import pack_jobs
    from kinema.packing.pack import verify_pack as verify

    return verify(pack_jobs(read_index(Path(index_folder))), Path(out))


def train(
    index_folder: Path | str,
    out: Path | str,
    *,
    recipe: str = "scratch",
    modality: Literal["rgb", "flow", "rgbdiff"] = "rgb",
    flow_store: Path | str | None = None,
    frame_store: Path | str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> TrainResult:
    """Train one stream by a named recipe: see `kinema.engine.train`.

    Args:
        index_folder: what `index` made.
        out: run folder; a training that was stopped there goes on.
        recipe: a name of `kinema.recipes`.
        modality: which stream.
        flow_store: folder of stored flow; None computes flow on the fly.
        frame_store: folder of packed frames; None reads the videos.
        overrides: ``section.field=value``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    from kinema.engine.train import train as train_network
    from kinema.recipes import recipe as named_recipe

    config = named_recipe(recipe, modality)
    config = with_sources(
        config,
        Path(index_folder),
        flow_store=Path(flow_store) if flow_store else None,
        frame_store=Path(frame_store) if frame_store else None,
    )
    return train_network(override(config, overrides), Path(out), device=device)


def with_sources(
    config: Config,
    index_folder: Path,
    *,
    flow_store: Path | None = None,
    frame_store: Path | None = None,
) -> Config:
    """Return `config` for an index and its stores, with the settings that the flow was made by.

    All are kept as absolute paths: a checkpoint is used from any folder.
    """
    from kinema.datasets.index import absolute

    data = dataclasses.replace(config.data, index=str(absolute(index_folder)))
    if frame_store and data.modality != "flow":
        data = dataclasses.replace(data, frame_store=str(absolute(frame_store)))
    if flow_store and data.modality == "flow":
        from kinema.engine.items import with_flow
        from kinema.flow.manifest import stored_options
        from kinema.flow.options import STORE

        stored = stored_options(flow_store)
        if stored.format != STORE:
            raise UsageError(
                f"{flow_store} holds flow in the layout '{stored.format}': pack it with "
                "`kinema flow convert` for training."
            )
        data = with_flow(data, stored)
        data = dataclasses.replace(data, flow_store=str(absolute(flow_store)))
    return dataclasses.replace(config, data=data)


def test(
    checkpoint: Path | str,
    out: Path | str,
    *,
    part: Part = "test",
    options: TestOptions | None = None,
) -> Scores:
    """Score a part of an index by a protocol: see `kinema.testing`."""
    from kinema.testing import score_checkpoint

    return score_checkpoint(Path(checkpoint), Path(out), part=part, options=options)


def fuse(
    paths: Sequence[Path | str],
    *,
    rule: Rule = "softmax",
    weights: Sequence[float] | None = None,
    search_on: Sequence[Path | str] = (),
    out: Path | str | None = None,
    ids: Path | None = None,
    classes: Path | None = None,
) -> tuple[Scores, tuple[float, ...], list[Scores]]:
    """Fuse score files by video id: see `kinema.fusion`.

    Args:
        paths: score files, of Kinema or of an older system.
        rule: ``logits``, ``softmax`` or ``l1``.
        weights: one per file; equal ones if absent.
        search_on: the same streams' score files of the validation part, to search weights on.
        out: where to write the fused scores.
        ids: list of the videos, for files of older systems: see `kinema.score_formats.read`.
        classes: their class names, in order.

    Returns:
        The fused scores, the weights, and the scores of each stream.
    """
    from kinema.fusion import fuse as fuse_scores
    from kinema.fusion import search_weights
    from kinema.score_formats.read import read_any_scores
    from kinema.scores import save_scores

    streams = [read_any_scores(Path(path), ids=ids, classes=classes) for path in paths]
    chosen = tuple(weights) if weights else (1.0,) * len(streams)
    if search_on:
        validation = [read_any_scores(Path(path), classes=classes) for path in search_on]
        chosen = search_weights(validation, rule=rule, test=streams)
    fused = fuse_scores(streams, rule=rule, weights=chosen)
    if out:
        save_scores(fused, Path(out))
    return fused, chosen, streams


def compare(
    a: Path | str, b: Path | str, *, ids: Path | None = None, classes: Path | None = None
) -> Comparison:
    """Compare two score files of the same videos: see `kinema.comparison`.

    Args:
        a: the reference.
        b: what is compared with it.
        ids: list of the videos, for files of older systems: see `kinema.score_formats.read`.
        classes: their class names, in order.
    """
    from kinema.comparison import compare as compare_scores
    from kinema.score_formats.read import read_any_scores

    first, second = (read_any_scores(Path(path), ids=ids, classes=classes) for path in (a, b))
    return compare_scores(first, second)


def report(run_folder: Path | str, *, out: Path | str | None = None) -> Path:
    """Write the HTML report of a run: see `kinema.html_report`."""
    from kinema.html_report import write_report

    return write_report(Path(run_folder), Path(out) if out else None)


def predict(
    checkpoints: Sequence[Path | str],
    sources: Sequence[Path | str],
    *,
    options: PredictOptions | None = None,
) -> Predictions:
    """Classify videos: see `kinema.prediction`.

    Args:
        checkpoints: ``.safetensors`` files, or run folders.
        sources: video files, folders and patterns.
        options: protocol, fusion weights, device.
    """
    from kinema.prediction import predict as predict_videos

    return predict_videos(
        [Path(path) for path in checkpoints], [str(source) for source in sources], options=options
    )


def write_overlays(
    checkpoints: Sequence[Path | str],
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    options: PredictOptions | None = None,
) -> list[Path]:
    """Write a video with frame, flow and scores for each source: see `kinema.overlay_video`."""
    from kinema.overlay_video import write_overlays as write

    return write(
        [Path(path) for path in checkpoints],
        [Path(source) for source in sources],
        Path(out),
        options=options,
    )


def run(data: Path | str, out: Path | str, *, options: RunOptions | None = None) -> dict[str, Any]:
    """Do everything from a folder of videos to the report: see `kinema.pipeline`."""
    from kinema.pipeline import run as run_all

    return run_all(Path(data), Path(out), options=options)


def demo(out: Path | str) -> dict[str, Any]:
    """Make sample videos and run everything on them: see `kinema.pipeline`."""
    from kinema.pipeline import demo as run_demo

    return run_demo(Path(out))


def checks() -> dict[str, dict[str, str]]:
    """Return versions, devices, codecs and threads: see `kinema.environment`."""
    from kinema.environment import environment

    return environment()
