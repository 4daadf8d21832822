"""The command line: one command per verb, each an import and one call of `kinema.api`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import (
    BOUND,
    DEVICE,
    FLOW_SIZE,
    GROUP,
    OUT,
    OVERRIDES,
    PROTOCOL,
    QUALITY,
    SEED,
    TEST_FRACTION,
    TEST_GROUPS,
    VAL_FRACTION,
    Algorithm,
    Dataset,
    Modality,
    Part,
    Precision,
    Quality,
    Rule,
    numbers,
    part_of,
    words,
)
from kinema.console import say, show, table
from kinema.errors import KinemaError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Two-stream video action recognition: from a folder of videos to a tested classifier.",
)


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if debug:
        os.environ["KINEMA_DEBUG"] = "1"


@app.command()
def run(
    data: Annotated[Path, typer.Argument(help="Folder of videos, one folder per class, or a CSV.")],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, typer.Option(help="A name of `kinema recipes`.")] = "scratch",
    streams: Annotated[str, typer.Option(help="Streams, separated by commas.")] = "rgb,flow",
    group: Annotated[str, GROUP] = "",
    test_fraction: Annotated[float, TEST_FRACTION] = 0.2,
    val_fraction: Annotated[float, VAL_FRACTION] = 0.15,
    test_groups: Annotated[str, TEST_GROUPS] = "",
    algorithm: Annotated[Algorithm, typer.Option(help="Flow algorithm.")] = Algorithm.dis,
    flow_size: Annotated[str, FLOW_SIZE] = "short:128",
    protocol: Annotated[str, PROTOCOL] = "",
    seed: Annotated[int, SEED] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Index, flow, training of all streams, test, fusion and report; can be stopped and resumed."""
    from kinema.datasets.splits import SplitRule
    from kinema.flow.extract import FlowOptions
    from kinema.pipeline import RunOptions

    rule = SplitRule(
        group=group,
        test_fraction=test_fraction,
        val_fraction=val_fraction,
        test_groups=words(test_groups),
        seed=seed,
    )
    options = RunOptions(
        recipe=recipe,
        streams=words(streams),
        rule=rule,
        flow=FlowOptions(algorithm=algorithm.value, size=flow_size),
        protocol=protocol,
        overrides=(f"train.seed={seed}", *(overrides or ())),
        device=device,
    )
    api.run(data, out, options=options)


@app.command()
def demo(out: Annotated[Path, OUT] = Path("kinema-demo")) -> None:
    """Make sample videos, train and test both streams on them, fuse, and write the report."""
    api.demo(out)


@app.command()
def index(
    data: Annotated[Path, typer.Argument(help="Folder of videos, or a CSV file.")],
    out: Annotated[Path, OUT],
    dataset: Annotated[Dataset, typer.Option(help="Layout of the data.")] = Dataset.auto,
    splits: Annotated[Path | None, typer.Option(help="Folder of official split files.")] = None,
    group: Annotated[str, GROUP] = "",
    test_fraction: Annotated[float, TEST_FRACTION] = 0.2,
    val_fraction: Annotated[float, VAL_FRACTION] = 0.15,
    test_groups: Annotated[str, TEST_GROUPS] = "",
    min_frames: Annotated[int, typer.Option(help="Reject videos with fewer frames.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on any bad file.")] = False,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """List and check the videos, divide them into parts, write index.csv and classes.txt."""
    from kinema.datasets.splits import SplitRule

    rule = SplitRule(
        group=group,
        test_fraction=test_fraction,
        val_fraction=val_fraction,
        test_groups=words(test_groups),
        seed=seed,
    )
    report = api.index(
        data,
        out,
        dataset=dataset.value,
        splits_folder=splits,
        rule=rule,
        min_frames=min_frames,
        strict=strict,
    )
    show("\n".join(report.messages))


@app.command()
def flow(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    out: Annotated[Path, OUT],
    algorithm: Annotated[Algorithm, typer.Option(help="Flow algorithm.")] = Algorithm.dis,
    bound: Annotated[float, BOUND] = 20.0,
    size: Annotated[str, FLOW_SIZE] = "short:256",
    quality: Annotated[Quality, QUALITY] = Quality.standard,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    shard: Annotated[str, typer.Option(help="Part i of n, as i/n from 0, for job arrays.")] = "0/1",
    verify: Annotated[bool, typer.Option("--verify", help="Only check what is stored.")] = False,
) -> None:
    """Store the optical flow of every video, one small file each; goes on where it stopped."""
    from kinema.flow.job import FlowOptions

    if verify:
        bad = api.verify_flow(index_folder, out)
        show("\n".join(f"{video}: {reason}" for video, reason in bad) or "All stores are whole.")
    else:
        options = FlowOptions(
            algorithm=algorithm.value, bound=bound, size=size, quality=quality.value
        )
        summary = api.extract_flow(
            index_folder, out, options=options, workers=workers or None, shard=part_of(shard)
        )
        show(summary.describe())
        bad = summary.failures
    if bad:
        raise typer.Exit(1)


@app.command()
def train(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, typer.Option(help="A name of `kinema recipes`.")] = "scratch",
    modality: Annotated[Modality, typer.Option(help="Which stream.")] = Modality.rgb,
    flow_store: Annotated[
        Path | None, typer.Option("--flow", help="Folder of stored flow; none: on the fly.")
    ] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train one stream; an interrupted training goes on to the same result."""
    result = api.train(
        index_folder,
        out,
        recipe=recipe,
        modality=modality.value,
        flow_store=flow_store,
        overrides=overrides or (),
        device=device,
    )
    show(f"Checkpoint: {result.best}")


@app.command()
def test(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints (.safetensors).")],
    protocol: Annotated[str, PROTOCOL] = "",
    part: Annotated[Part, typer.Option(help="Which part of the index.")] = Part.test,
    index_folder: Annotated[
        str, typer.Option("--index", help="Another index than the training's.")
    ] = "",
    flow_store: Annotated[
        str | None, typer.Option("--flow", help="Folder of stored flow; '': on the fly.")
    ] = None,
    official_split: Annotated[int, typer.Option(help="1 to 3, where there are several.")] = 0,
    precision: Annotated[Precision, typer.Option(help="Number format.")] = Precision.fp32,
    views_per_pass: Annotated[int, typer.Option(help="Bounds the memory.")] = 32,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Score file to write.")] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Score videos by a named protocol and write a score file beside each checkpoint."""
    from kinema.metrics import describe, summary
    from kinema.testing import TestOptions

    if out and len(checkpoints) > 1:
        raise UsageError("--out names one score file: give one checkpoint, or leave it out.")
    options = TestOptions(
        index=index_folder,
        protocol=protocol,
        flow_store=flow_store,
        official_split=official_split,
        device=device,
        precision=precision.value,
        views_per_pass=views_per_pass,
    )
    for checkpoint in checkpoints:
        name = f"{part.value}-{Path(protocol).stem}" if protocol else part.value
        path = out or checkpoint.parent / "scores" / f"{name}.npz"
        scores = api.test(checkpoint, path, part=part.value, options=options)
        show(f"{checkpoint} by {scores.protocol}: {describe(summary(scores))}\nScores: {path}")


@app.command()
def fuse(
    paths: Annotated[list[Path], typer.Argument(help="Score files, one per stream.")],
    rule: Annotated[Rule, typer.Option(help="What is added up.")] = Rule.softmax,
    weights: Annotated[str, typer.Option(help="One per file, as 1,1.5; none: equal.")] = "",
    search_on: Annotated[
        str, typer.Option(help="Validation score files, by commas: search the weights there.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Score file to write.")] = None,
    ids: Annotated[Path | None, typer.Option(help="List of the videos, for older files.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Class names, for older files.")] = None,
) -> None:
    """Fuse score files by video id, also those of older systems."""
    from kinema.fusion import gain_per_class
    from kinema.metrics import describe, summary

    if weights and search_on:
        raise UsageError("Give --weights or --search-on, not both.")
    fused, chosen, streams = api.fuse(
        paths,
        rule=rule.value,
        weights=numbers(weights) or None,
        search_on=[Path(name) for name in words(search_on)],
        out=out,
        ids=ids,
        classes=classes,
    )
    for path, weight, stream in zip(paths, chosen, streams, strict=True):
        show(f"{path} (weight {weight:g}): {describe(summary(stream))}")
    show(f"fused by {rule.value}: {describe(summary(fused))}")
    gains = sorted(gain_per_class(fused, streams).items(), key=lambda item: -item[1])
    changed = [(name, f"{100 * gain:+.1f}") for name, gain in gains if gain]
    if changed:
        table("Gain over the best stream, points", ("class", "gain"), changed)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Score file.")],
    b: Annotated[Path, typer.Argument(help="Score file of the same videos.")],
    ids: Annotated[Path | None, typer.Option(help="List of the videos, for older files.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Class names, for older files.")] = None,
) -> None:
    """Compare two score files: difference with interval, McNemar's test, classes won and lost."""
    comparison = api.compare(a, b, ids=ids, classes=classes)
    table(f"A = {a}, B = {b}", ("", ""), comparison.rows())
    for title, changes in (("won by B", comparison.won), ("lost by B", comparison.lost)):
        if changes:
            rows = [(c.name, f"{100 * c.difference:+.1f}", str(c.num_videos)) for c in changes]
            table(f"Classes {title}", ("class", "points", "videos"), rows)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML file.")] = None,
) -> None:
    """Write one HTML file with all results of a run, readable without a network."""
    show(f"Report: {api.report(run_folder, out=out)}")


@app.command()
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT… SOURCE…",
            help="Checkpoints or a run folder, then videos, folders or patterns.",
        ),
    ],
    protocol: Annotated[str, PROTOCOL] = "",
    weights: Annotated[str, typer.Option(help="Fusion weights, one per checkpoint.")] = "",
    top: Annotated[int, typer.Option(help="Classes shown per video.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
    video: Annotated[
        Path | None, typer.Option(help="Folder for overlay videos: frame, flow, scores.")
    ] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Label videos with one checkpoint, or with an RGB and a flow checkpoint fused."""
    from kinema.prediction import PredictOptions

    checkpoints, sources = split_inputs(inputs)
    options = PredictOptions(protocol=protocol, weights=numbers(weights), device=device)
    found = api.predict(checkpoints, sources, options=options)
    if as_json:
        show(json.dumps(found.as_json(top), ensure_ascii=False, indent=2))
    else:
        rows = [
            (str(row.source), *(f"{k} {100 * p:.1f} %" for k, p in row.top(found.classes, top)))
            for row in found.rows
        ]
        count = min(top, len(found.classes))
        table("", ("video", *(f"{i + 1}." for i in range(count))), rows)
    for path, reason in found.failures:
        say(f"{path}: {reason}")
    if video:
        for path in api.overlay(
            checkpoints, [row.source for row in found.rows], video, options=options
        ):
            say(f"Overlay: {path}")
    if found.failures:
        raise typer.Exit(1)


def split_inputs(inputs: list[str]) -> tuple[list[Path], list[str]]:
    """Divide the arguments of `predict` into checkpoints and sources.

    Raises:
        UsageError: one of the two is missing.
    """
    is_checkpoint = [
        name.endswith(".safetensors") or (Path(name) / "results.json").is_file() for name in inputs
    ]
    checkpoints = [Path(n) for n, yes in zip(inputs, is_checkpoint, strict=True) if yes]
    sources = [n for n, yes in zip(inputs, is_checkpoint, strict=True) if not yes]
    if not checkpoints:
        raise UsageError(
            "No checkpoint among the arguments: give .safetensors files or a run folder first, "
            "such as RUN/rgb/best.safetensors."
        )
    if not sources:
        raise UsageError("No video among the arguments: give a file, a folder or a pattern.")
    return checkpoints, sources


@app.command()
def recipes() -> None:
    """List the named recipes and test protocols."""
    from kinema.engine.protocols import PROTOCOLS
    from kinema.recipes import RECIPES

    rows = [(name, (make.__doc__ or "").strip().splitlines()[0]) for name, make in RECIPES.items()]
    table("Recipes", ("name", "what"), rows)
    facts = [
        (p.name, str(p.num_clips), p.crops, p.resize, f"{p.aggregate} of {p.average}")
        for p in PROTOCOLS.values()
    ]
    table("Protocols", ("name", "clips", "crops", "resize", "aggregation"), facts)


@app.command()
def checks() -> None:
    """Show versions, devices, codecs and threads: what a bug report needs."""
    for title, facts in api.checks().items():
        table(title, ("", ""), list(facts.items()))


def main() -> None:
    """Run the command line; errors of users are a sentence or two, without a traceback."""
    try:
        app()
    except KinemaError as error:
        if os.environ.get("KINEMA_DEBUG"):
            raise
        say(f"Error: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        say("Stopped.")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
