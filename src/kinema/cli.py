"""The command line: one command per verb, each an import and one call of `kinema.api`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kinema import __version__, api
from kinema.cli_options import (
    ALGORITHM,
    BOUND,
    CHECKPOINTS,
    DATA,
    DEVICE,
    FLOW_SIZE,
    FLOW_STORE,
    GROUP,
    HTML_FILE,
    INDEX,
    INPUTS,
    LIST_OF_CLASSES,
    LIST_OF_IDS,
    MIN_FRAMES,
    OFFICIAL_SPLIT,
    OTHER_FLOW_STORE,
    OTHER_INDEX,
    OUT,
    OVERLAYS,
    OVERRIDES,
    PROTOCOL,
    RECIPE,
    SCORE_FILE,
    SCORE_FILES,
    SEARCH_ON,
    SEED,
    SHARD,
    SPLITS,
    STREAMS,
    TEST_FRACTION,
    TEST_GROUPS,
    TOP,
    VAL_FRACTION,
    VIEWS_PER_PASS,
    WEIGHTS,
    WORKERS,
    Algorithm,
    Dataset,
    Modality,
    Part,
    Precision,
    Quality,
    Rule,
    checkpoints_and_sources,
    numbers,
    part_of,
    score_path,
    words,
)
from kinema.cli_tables import (
    show_checks,
    show_comparison,
    show_fusion,
    show_predictions,
    show_recipes,
    show_run,
)
from kinema.console import say, show
from kinema.errors import KinemaError, UsageError

_STOPPED_BY_CTRL_C = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    help="Two-stream video action recognition: from a folder of videos to a tested classifier.",
    epilog="\b\nkinema demo\nkinema run VIDEOS --out RUN\nkinema predict RUN CLIP.mp4",
)


@app.callback(invoke_without_command=True)
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if debug:
        os.environ["KINEMA_DEBUG"] = "1"
    if version:
        show(__version__)
        raise typer.Exit


@app.command()
def run(
    data: Annotated[Path, DATA],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, RECIPE] = "scratch",
    streams: Annotated[str, STREAMS] = "rgb,flow",
    group: Annotated[str, GROUP] = "",
    test_fraction: Annotated[float, TEST_FRACTION] = 0.2,
    val_fraction: Annotated[float, VAL_FRACTION] = 0.15,
    test_groups: Annotated[str, TEST_GROUPS] = "",
    algorithm: Annotated[Algorithm, ALGORITHM] = Algorithm.dis,
    flow_size: Annotated[str, FLOW_SIZE] = "short:240",
    protocol: Annotated[str, PROTOCOL] = "",
    seed: Annotated[int, SEED] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Do everything, from a folder of videos to a report.

    Index, flow, training of all streams, test, fusion, report. It can be stopped at any moment:
    the same command goes on from there.
    """
    from kinema.datasets.splits import SplitRule
    from kinema.flow.job import FlowOptions
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
    show_run(api.run(data, out, options=options), out)


@app.command()
def demo(out: Annotated[Path, OUT] = Path("kinema-demo")) -> None:
    """Make sample videos and do everything on them."""
    show_run(api.demo(out), out / "run")


@app.command()
def index(
    data: Annotated[Path, DATA],
    out: Annotated[Path, OUT],
    dataset: Annotated[Dataset, typer.Option(help="Layout of the data.")] = Dataset.auto,
    splits: Annotated[Path | None, SPLITS] = None,
    group: Annotated[str, GROUP] = "",
    test_fraction: Annotated[float, TEST_FRACTION] = 0.2,
    val_fraction: Annotated[float, VAL_FRACTION] = 0.15,
    test_groups: Annotated[str, TEST_GROUPS] = "",
    min_frames: Annotated[int, MIN_FRAMES] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on any bad file.")] = False,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """List and check the videos, and divide them into parts.

    Writes index.csv, classes.txt, and rejected.csv with every file that cannot be used.
    """
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
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    algorithm: Annotated[Algorithm, ALGORITHM] = Algorithm.dis,
    bound: Annotated[float, BOUND] = 20.0,
    size: Annotated[str, FLOW_SIZE] = "short:256",
    quality: Annotated[Quality, typer.Option(help="Of the stored flow.")] = Quality.standard,
    workers: Annotated[int, WORKERS] = 0,
    shard: Annotated[str, SHARD] = "0/1",
    verify: Annotated[bool, typer.Option("--verify", help="Only check what is stored.")] = False,
) -> None:
    """Store the optical flow of every video, one small file each.

    It can be stopped at any moment: the same command goes on from there.
    """
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
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, RECIPE] = "scratch",
    modality: Annotated[Modality, typer.Option(help="Which stream.")] = Modality.rgb,
    flow_store: Annotated[Path | None, FLOW_STORE] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train one stream; a stopped training goes on to the same result."""
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
    checkpoints: Annotated[list[Path], CHECKPOINTS],
    protocol: Annotated[str, PROTOCOL] = "",
    part: Annotated[Part, typer.Option(help="Of the index.")] = Part.test,
    index_folder: Annotated[str, OTHER_INDEX] = "",
    flow_store: Annotated[str | None, OTHER_FLOW_STORE] = None,
    official_split: Annotated[int, OFFICIAL_SPLIT] = 0,
    precision: Annotated[Precision, typer.Option(help="Of the network.")] = Precision.fp32,
    views_per_pass: Annotated[int, VIEWS_PER_PASS] = 32,
    out: Annotated[Path | None, SCORE_FILE] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Score videos by a named protocol.

    Writes a score file beside each checkpoint: scores/PART.npz, or scores/PART-PROTOCOL.npz.
    """
    from kinema.metrics import describe, summary
    from kinema.prediction import find_checkpoints
    from kinema.testing import TestOptions

    files = find_checkpoints(checkpoints)
    if out and len(files) > 1:
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
    name = f"{part.value}-{Path(protocol).stem}" if protocol else part.value
    for file in files:
        path = score_path(out or file.parent / "scores" / f"{name}.npz")
        scores = api.test(file, path, part=part.value, options=options)
        show(f"{file} by {scores.protocol}: {describe(summary(scores))}\nScores: {path}")


@app.command()
def fuse(
    paths: Annotated[list[Path], SCORE_FILES],
    rule: Annotated[Rule, typer.Option(help="What is added up.")] = Rule.softmax,
    weights: Annotated[str, WEIGHTS] = "",
    search_on: Annotated[str, SEARCH_ON] = "",
    out: Annotated[Path | None, SCORE_FILE] = None,
    ids: Annotated[Path | None, LIST_OF_IDS] = None,
    classes: Annotated[Path | None, LIST_OF_CLASSES] = None,
) -> None:
    """Fuse score files by video id, also of older systems."""
    from kinema.fusion import gain_per_class
    from kinema.metrics import summary

    if len(paths) < 2:
        raise UsageError(f"Only {paths[0]} is given: fusion needs two score files at least.")
    if weights and search_on:
        raise UsageError("Give --weights or --search-on, not both.")
    fused, chosen, streams = api.fuse(
        paths,
        rule=rule.value,
        weights=numbers(weights) or None,
        search_on=[Path(name) for name in words(search_on)],
        out=score_path(out) if out else None,
        ids=ids,
        classes=classes,
    )
    figures = {str(path): summary(stream) for path, stream in zip(paths, streams, strict=True)}
    gains = gain_per_class(fused, streams)
    show_fusion({**figures, "fused": summary(fused)}, chosen, gains, rule=rule.value)
    if out:
        show(f"Scores: {out}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Score file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Score file of the same videos.")],
    ids: Annotated[Path | None, LIST_OF_IDS] = None,
    classes: Annotated[Path | None, LIST_OF_CLASSES] = None,
) -> None:
    """Compare two score files of the same videos.

    Difference with interval, McNemar's test, classes won and lost.
    """
    show_comparison(api.compare(a, b, ids=ids, classes=classes), a, b)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path | None, HTML_FILE] = None,
) -> None:
    """Write one HTML file with all results of a run."""
    show(f"Report: {api.report(run_folder, out=out)}")


@app.command()
def predict(
    inputs: Annotated[list[str], INPUTS],
    protocol: Annotated[str, PROTOCOL] = "",
    weights: Annotated[str, WEIGHTS] = "",
    top: Annotated[int, TOP] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
    video: Annotated[Path | None, OVERLAYS] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Label videos with one checkpoint, or several fused.

    Flow is computed on the fly. Exit code 1 where a source could not be read.
    """
    from kinema.prediction import PredictOptions

    checkpoints, sources = checkpoints_and_sources(inputs)
    options = PredictOptions(protocol=protocol, weights=numbers(weights), device=device)
    found = api.predict(checkpoints, sources, options=options)
    if as_json:
        show(json.dumps(found.as_json(top), ensure_ascii=False, indent=2))
    else:
        show_predictions(found, top)
    for path, reason in found.failures:
        say(reason if str(path) in reason else f"{path}: {reason}")
    if video:
        shown = [row.source for row in found.rows]
        for path in api.write_overlays(checkpoints, shown, video, options=options):
            say(f"Overlay: {path}")
    if found.failures:
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the named recipes and test protocols."""
    show_recipes()


@app.command()
def checks() -> None:
    """Show what a bug report needs: versions, devices, codecs."""
    show_checks(api.checks())


def main() -> None:
    """Run the command line; errors of users are a sentence or two, without a traceback."""
    try:
        app(prog_name="kinema")
    except SystemExit as left:
        if left.code == _STOPPED_BY_CTRL_C:
            say("Stopped.")
        raise
    except (KinemaError, OSError) as error:
        if os.environ.get("KINEMA_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename:
            error = KinemaError(f"{error.filename}: {error.strerror}.")
        say(f"Error: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
