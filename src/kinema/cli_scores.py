"""Commands that work on finished scores (and features): fusion, comparison, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinema import api
from kinema.cli_options import (
    FUSED_CHECKPOINTS,
    FUSION_METHOD,
    FUSION_SEED,
    HTML_FILE,
    LIST_OF_CLASSES,
    LIST_OF_IDS,
    NUM_SPLITS,
    SAVE_FUSED,
    SCORE_FILE,
    SCORE_FILES,
    SEARCH_ON,
    TRAIN_ON,
    WEIGHTS,
    FusionMethod,
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

if TYPE_CHECKING:
    from kinema.scores import Scores
    from kinema.trained_fusion import TrainedFusion


def fuse(
    paths: Annotated[list[Path], SCORE_FILES],
    rule: Annotated[Rule | None, typer.Option(help="What is added up; else softmax.")] = None,
    weights: Annotated[str, WEIGHTS] = "",
    search_on: Annotated[str, SEARCH_ON] = "",
    train_on: Annotated[str, TRAIN_ON] = "",
    method: Annotated[FusionMethod | None, FUSION_METHOD] = None,
    seed: Annotated[int, FUSION_SEED] = 0,
    splits: Annotated[int, NUM_SPLITS] = 0,
    out: Annotated[Path | None, SCORE_FILE] = None,
    checkpoints: Annotated[str, FUSED_CHECKPOINTS] = "",
    save: Annotated[Path | None, SAVE_FUSED] = None,
    ids: Annotated[Path | None, LIST_OF_IDS] = None,
    classes: Annotated[Path | None, LIST_OF_CLASSES] = None,
) -> None:
    """Fuse score files by video id, also of older systems.

    By a rule and weights, or as it is learned on other videos (--train-on, --method). With
    --splits 3, {} in the names stands for 1, 2 and 3; the means over the splits are shown. With
    --save, the networks and their fusion become one file.
    """
    from kinema.metrics import mean_over_splits
    from kinema.stored_fusion import as_learned, average_by

    if len(paths) < 2:
        raise UsageError(f"Only {paths[0]} is given: fusion needs two score files at least.")
    _check_kind_of_fusion(rule, weights, search_on, train_on, method, seed)
    validation = [Path(name) for name in words(search_on or train_on)]
    outs, saves = [score_path(out)] if out else [], _saves(save, checkpoints)
    networks = [Path(name) for name in words(checkpoints)]
    check_split_names([*paths, *validation, *outs, *saves, *networks], splits)
    name: Any = rule.value if rule else "softmax"
    per_split = []
    for split in range(1, splits + 1) or [0]:
        files, others = of_split(paths, split), of_split(validation, split)
        target = of_split(outs, split)[0] if outs else None
        if method:
            learned = api.fuse_trained(
                files, others, method=method.value, seed=seed, out=target, ids=ids, classes=classes
            )
            fusion = as_learned(learned) if saves else None
            per_split.append(_show_learned(learned, method.value, split))
        else:
            fused, chosen, streams = api.fuse(
                files,
                rule=name,
                weights=numbers(weights) or None,
                search_on=others,
                out=target,
                ids=ids,
                classes=classes,
            )
            fusion, shown = average_by(name, chosen), [str(path) for path in paths]
            per_split.append(_show_added(shown, fused, chosen, streams, rule=name, split=split))
        if saves and fusion:
            kept, own = of_split(saves, split)[0], of_split(networks, split)
            api.save_fused(kept, own, scores=files, fusion=fusion, train_on=others)
    if splits:
        names = per_split[0]
        show_split_means({name: mean_over_splits([f[name] for f in per_split]) for name in names})
    for path in outs:
        show(f"Scores: {path}")
    for path in saves:
        show(f"Fused checkpoint: {path}")


def _saves(save: Path | None, checkpoints: str) -> list[Path]:
    if bool(save) != bool(checkpoints):
        raise UsageError(
            "--save and --checkpoints belong together: the file to write, and the checkpoint of "
            "every score file in the same order (or the folder of the run)."
        )
    if save and save.suffix != ".safetensors":
        raise UsageError(f"--save {save} is not possible: a checkpoint ends in .safetensors.")
    return [save] if save else []


def _check_kind_of_fusion(
    rule: object, weights: str, search_on: str, train_on: str, method: object, seed: int
) -> None:
    """Refuse options of which some would be ignored."""
    if weights and search_on:
        raise UsageError("Give --weights or --search-on, not both.")
    if bool(train_on) != bool(method):
        raise UsageError(
            "--method and --train-on belong together: how a fusion is learned, and the validation "
            "files that it is learned on."
        )
    if method and (rule or weights or search_on):
        raise UsageError(
            "A learned fusion (--method) has no --rule, --weights or --search-on: leave them out."
        )
    if seed and not method:
        raise UsageError("--seed is of a learned fusion: add --method and --train-on.")


def _show_added(
    names: list[str],
    fused: "Scores",
    weights: Sequence[float],
    streams: Sequence["Scores"],
    *,
    rule: str,
    split: int,
) -> dict[str, dict[str, Any]]:
    from kinema.fusion import gain_per_class
    from kinema.metrics import summary

    figures = {
        **{name: summary(stream) for name, stream in zip(names, streams, strict=True)},
        "fused": summary(fused),
    }
    show_fusion(figures, weights, gain_per_class(fused, streams), rule=rule, split=split)
    return figures


def _show_learned(learned: "TrainedFusion", method: str, split: int) -> dict[str, dict[str, Any]]:
    from kinema.metrics import describe, summary

    figures = summary(learned.scores)
    where = f" of split {split}" if split else ""
    show(f"Fused{where} by {method}: {describe(figures)}")
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in learned.facts.items())
    show(f"Learned: {settings}.")
    return {"fused": figures}


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " : ".join(map(_plain, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
