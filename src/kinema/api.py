"""The verbs of the command line as functions; each loads what it needs when it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kinema.api_data import convert_flow as convert_flow
from kinema.api_data import doctor as doctor
from kinema.api_data import download as download
from kinema.api_data import export_index as export_index
from kinema.api_data import extract_flow as extract_flow
from kinema.api_data import frames as frames
from kinema.api_data import index as index
from kinema.api_data import pack as pack
from kinema.api_data import verify_flow as verify_flow
from kinema.api_data import verify_pack as verify_pack
from kinema.api_motion import train_motion as train_motion
from kinema.config import Config, override

if TYPE_CHECKING:
    from kinema.comparison import Comparison
    from kinema.engine.train import TrainResult
    from kinema.feature_run import FeatureOptions
    from kinema.fusion import Rule
    from kinema.pipeline import RunOptions
    from kinema.prediction import Predictions, PredictOptions
    from kinema.scores import Scores
    from kinema.stored_fusion import Fusion
    from kinema.testing import Part, TestOptions
    from kinema.trained_fusion import Method, TrainedFusion
    from kinema.training_speed import TrainBench


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
        modalities=(modality, override(config, overrides).second.modality),
    )
    config = _with_absolute_paths(override(config, overrides))
    return train_network(config, Path(out), device=device)


def _with_absolute_paths(config: Config) -> Config:
    """Return `config` with absolute paths of files that only some trainings read."""
    from kinema.datasets.index import absolute

    def full(path: str) -> str:
        return str(absolute(Path(path))) if path else ""

    second, data = config.second, config.data
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, features=full(data.features)),
        second=dataclasses.replace(
            second, teacher=full(second.teacher), flow_store=full(second.flow_store)
        ),
    )


def with_sources(
    config: Config,
    index_folder: Path,
    *,
    flow_store: Path | None = None,
    frame_store: Path | None = None,
    modalities: Sequence[str] = (),
) -> Config:
    """Return `config` for an index and its stores, with the settings that the flow was made by.

    All are kept as absolute paths: a checkpoint is used from any folder. A store that none of the
    `modalities` (that of `config`, unless they are given) reads is left out.
    """
    from kinema.datasets.index import absolute

    data = dataclasses.replace(config.data, index=str(absolute(index_folder)))
    modalities = modalities or (data.modality,)
    if frame_store and {"rgb", "rgbdiff"} & set(modalities):
        data = dataclasses.replace(data, frame_store=str(absolute(frame_store)))
    if flow_store and "flow" in modalities:
        from kinema.engine.items import with_stored_flow

        data = with_stored_flow(data, flow_store)
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


def extract_features(
    checkpoints: Sequence[Path | str],
    out: Path | str,
    *,
    options: FeatureOptions | None = None,
) -> list[Path]:
    """Write what networks see before their classifier: see `kinema.feature_run`."""
    from kinema.feature_run import write_features

    return write_features([Path(path) for path in checkpoints], Path(out), options=options)


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


def fuse_trained(
    paths: Sequence[Path | str],
    train_on: Sequence[Path | str],
    *,
    method: Method,
    seed: int = 0,
    out: Path | str | None = None,
    ids: Path | None = None,
    classes: Path | None = None,
) -> TrainedFusion:
    """Fuse score files, or feature files, as it is learned on others: see `kinema.trained_fusion`.

    Args:
        paths: score files (feature files for svm and mlp), of Kinema or of an older system.
        train_on: the same streams' files of the validation part, in the same order.
        method: ``weights``, ``svm``, ``mlp``, ``gated`` or ``bilinear``.
        seed: of cross-validation and random layers.
        out: where to write the fused scores.
        ids: list of the videos of `paths`, for files of older systems.
        classes: their class names, in order.
    """
    from kinema.scores import save_scores
    from kinema.stream_files import read_streams
    from kinema.trained_fusion import fuse_trained as fuse_streams

    files, training = [Path(path) for path in paths], [Path(path) for path in train_on]
    found = fuse_streams(
        *read_streams(files, training, ids=ids, classes=classes), method=method, seed=seed
    )
    if out:
        save_scores(found.scores, Path(out))
    return found


def save_fused(
    out: Path | str,
    checkpoints: Sequence[Path | str],
    *,
    scores: Sequence[Path | str],
    fusion: Fusion,
    train_on: Sequence[Path | str] = (),
) -> None:
    """Write the networks of several streams and their fusion to one file.

    Args:
        out: the file, .safetensors; `predict` and `test` take it.
        checkpoints: of one stream each, or the folder of a run.
        scores: their score files, which were fused, in the same order.
        fusion: ``average_by(rule, weights)`` or ``as_learned(what fuse_trained gave)``, of
            `kinema.stored_fusion`.
        train_on: the score files that weights were searched on, or that it was learned on.
    """
    from kinema.ensemble import find_checkpoints
    from kinema.fused_checkpoint import save_fused as write_fused

    write_fused(
        Path(out),
        find_checkpoints([Path(path) for path in checkpoints]),
        scores=[Path(path) for path in scores],
        fusion=fusion,
        train_on=[Path(path) for path in train_on],
    )


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


def demo(out: Path | str, *, fusion: str = "", seed: int = 0) -> dict[str, Any]:
    """Make sample videos and run everything on them: see `kinema.pipeline`."""
    from kinema.pipeline import demo as run_demo

    return run_demo(Path(out), fusion=fusion, seed=seed)


def bench_train(
    *,
    recipe: str = "scratch",
    modality: Literal["rgb", "flow", "rgbdiff"] = "rgb",
    overrides: Sequence[str] = (),
    num_classes: int = 101,
    steps: int = 10,
    warmup: int = 2,
    device: str = "auto",
) -> list[TrainBench]:
    """Time training steps of a recipe on synthetic clips: see `kinema.training_speed`."""
    from kinema.recipes import recipe as named_recipe
    from kinema.training_speed import bench_train as bench

    config = override(named_recipe(recipe, modality), overrides)
    return bench(config, num_classes=num_classes, steps=steps, warmup=warmup, device=device)


def list_models(pattern: str = "") -> list[dict[str, Any]]:
    """Return what is known of every network with a short name: see `kinema.models.catalog`.

    Args:
        pattern: a part of the name, or a glob such as ``x3d*``; empty: all.

    Returns:
        name, kind (2D or 3D), frames and size of the usual input, parameters, multiply-adds for
        one snippet of it, weights (the data that the published ones saw; empty: none), source.

    Raises:
        UsageError: no name fits.
    """
    from kinema.errors import UsageError
    from kinema.models.catalog import catalog
    from kinema.weights.kinetics import published_data

    found = catalog(pattern)
    if not found:
        raise UsageError(f"No network is called '{pattern}': `kinema models` lists all.")
    return [{**dataclasses.asdict(entry), "weights": published_data(entry.name)} for entry in found]


def checks() -> dict[str, dict[str, str]]:
    """Return versions, devices, codecs and threads: see `kinema.environment`."""
    from kinema.environment import environment

    return environment()
