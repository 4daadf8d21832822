"""Commands that work on finished scores: fusion, comparison, report."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import (
    HTML_FILE,
    LIST_OF_CLASSES,
    LIST_OF_IDS,
    NUM_SPLITS,
    SCORE_FILE,
    SCORE_FILES,
    SEARCH_ON,
    WEIGHTS,
    Rule,
    check_split_names,
    numbers,
    of_split,
    score_path,
    words,
)
from kinema.cli_tables import show_comparison, show_fusion, show_split_means
from kinema.console import show
from kinema.errors import UsageError


def fuse(
    paths: Annotated[list[Path], SCORE_FILES],
    rule: Annotated[Rule, typer.Option(help="What is added up.")] = Rule.softmax,
    weights: Annotated[str, WEIGHTS] = "",
    search_on: Annotated[str, SEARCH_ON] = "",
    splits: Annotated[int, NUM_SPLITS] = 0,
    out: Annotated[Path | None, SCORE_FILE] = None,
    ids: Annotated[Path | None, LIST_OF_IDS] = None,
    classes: Annotated[Path | None, LIST_OF_CLASSES] = None,
) -> None:
    """Fuse score files by video id, also of older systems.

    With --splits 3, {} in the names stands for 1, 2 and 3; the means over the splits are shown.
    """
    from kinema.fusion import gain_per_class
    from kinema.metrics import mean_over_splits, summary

    if len(paths) < 2:
        raise UsageError(f"Only {paths[0]} is given: fusion needs two score files at least.")
    if weights and search_on:
        raise UsageError("Give --weights or --search-on, not both.")
    validation = [Path(name) for name in words(search_on)]
    outs = [score_path(out)] if out else []
    check_split_names([*paths, *validation, *outs], splits)
    per_split = []
    for split in range(1, splits + 1) or [0]:
        fused, chosen, streams = api.fuse(
            of_split(paths, split),
            rule=rule.value,
            weights=numbers(weights) or None,
            search_on=of_split(validation, split),
            out=of_split(outs, split)[0] if outs else None,
            ids=ids,
            classes=classes,
        )
        figures = {
            **{str(path): summary(stream) for path, stream in zip(paths, streams, strict=True)},
            "fused": summary(fused),
        }
        gains = gain_per_class(fused, streams)
        show_fusion(figures, chosen, gains, rule=rule.value, split=split)
        per_split.append(figures)
    if splits:
        show_split_means({name: mean_over_splits([f[name] for f in per_split]) for name in figures})
    for path in outs:
        show(f"Scores: {path}")


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


def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path | None, HTML_FILE] = None,
) -> None:
    """Write one HTML file with all results of a run."""
    show(f"Report: {api.report(run_folder, out=out)}")
