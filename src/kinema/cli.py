"""The command line: one command per verb, each an import and one call of `kinema.api`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from kinema import (
    __version__,
    api,
    cli_data,
    cli_doctor,
    cli_download,
    cli_features,
    cli_frames,
    cli_models,
    cli_motion,
    cli_scores,
)
from kinema.cli_bench import bench_app
from kinema.cli_flow import flow_app
from kinema.cli_options import (
    ALGORITHM,
    CHECKPOINTS,
    DATA,
    DEVICE,
    FLOW_SIZE,
    FLOW_STORE,
    FRAME_STORE,
    FUSION,
    GROUP,
    INDEX,
    INPUTS,
    OFFICIAL_SPLIT,
    OTHER_FLOW_STORE,
    OTHER_INDEX,
    OUT,
    OVERLAYS,
    OVERRIDES,
    PROTOCOL,
    RECIPE,
    SCORE_FILE,
    SEED,
    STREAMS,
    TEST_FRACTION,
    TEST_GROUPS,
    TOP,
    VAL_FRACTION,
    VIEWS_PER_PASS,
    WEIGHTS,
    Algorithm,
    Modality,
    Part,
    Precision,
    checkpoints_and_sources,
    numbers,
    score_path,
    words,
)
from kinema.cli_tables import (
    show_checks,
    show_predictions,
    show_recipes,
    show_run,
)
from kinema.console import say, show
from kinema.errors import KinemaError, UsageError

_STOPPED_BY_CTRL_C = 130


class _InOrderOfWork(TyperGroup):
    """Lists groups of commands between their neighbours and not at the end."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        names = [name for name in super().list_commands(ctx) if name not in ("flow", "index")]
        names.insert(names.index("frames"), "index")
        names.insert(names.index("pack") + 1, "flow")
        return names


app = typer.Typer(
    cls=_InOrderOfWork,
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
    fusion: Annotated[str, FUSION] = "",
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
        fusion=fusion,
        device=device,
    )
    show_run(api.run(data, out, options=options), out)


@app.command()
def demo(
    out: Annotated[Path, OUT] = Path("kinema-demo"),
    fusion: Annotated[str, FUSION] = "",
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Of training.")] = 0,
) -> None:
    """Make sample videos and do everything on them."""
    show_run(api.demo(out, fusion=fusion, seed=seed), out / "run")


app.command()(cli_download.download)
app.add_typer(cli_data.index_app, name="index")
app.command()(cli_doctor.doctor)
app.command()(cli_frames.frames)
app.command()(cli_data.pack)
app.add_typer(flow_app, name="flow")


@app.command()
def train(
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, RECIPE] = "scratch",
    modality: Annotated[Modality, typer.Option(help="Which stream.")] = Modality.rgb,
    flow_store: Annotated[Path | None, FLOW_STORE] = None,
    frame_store: Annotated[Path | None, FRAME_STORE] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train one stream; a stopped training goes on to the same result."""
    result = api.train(
        index_folder,
        out,
        recipe=recipe,
        modality=modality.value,
        flow_store=flow_store,
        frame_store=frame_store,
        overrides=overrides or (),
        device=device,
    )
    show(f"Checkpoint: {result.best}")


app.command()(cli_motion.train_motion)


@app.command()
def test(
    checkpoints: Annotated[list[Path], CHECKPOINTS],
    protocol: Annotated[str, PROTOCOL] = "",
    part: Annotated[Part, typer.Option(help="Of the index.")] = Part.test,
    index_folder: Annotated[str, OTHER_INDEX] = "",
    flow_store: Annotated[str | None, OTHER_FLOW_STORE] = None,
    official_split: Annotated[int, OFFICIAL_SPLIT] = 0,
    precision: Annotated[Precision, typer.Option(help="Of the network.")] = Precision.fp32,
    views_per_pass: Annotated[int, VIEWS_PER_PASS] = 0,
    out: Annotated[Path | None, SCORE_FILE] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Score videos by a named protocol.

    Writes a score file beside each checkpoint: scores/PART.npz, or scores/PART-PROTOCOL.npz; that
    of another file than best.safetensors begins with its name.
    """
    from kinema.ensemble import find_checkpoints
    from kinema.metrics import describe, summary
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
        own = name if file.stem in ("best", "fused") else f"{file.stem}-{name}"
        path = score_path(out or file.parent / "scores" / f"{own}.npz")
        scores = api.test(file, path, part=part.value, options=options)
        show(f"{file} by {scores.protocol}: {describe(summary(scores))}\nScores: {path}")


app.command()(cli_features.features)
app.command()(cli_scores.fuse)
app.command()(cli_scores.compare)
app.command()(cli_scores.report)


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


app.command()(cli_models.models)


@app.command()
def recipes() -> None:
    """List the named recipes and test protocols."""
    show_recipes()


app.add_typer(bench_app, name="bench")


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
