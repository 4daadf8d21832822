"""What commands show at their end: results as tables that fit a terminal of 80 columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.console import show, table

if TYPE_CHECKING:
    from kinema.comparison import Comparison
    from kinema.prediction import Predictions

_MOST_CLASSES = 20
_RESULT_COLUMNS = ("top-1", "95 % interval", "top-3", "top-5", "mean of classes")


def show_run(results: Mapping[str, Any], folder: Path) -> None:
    """Show the figures of a run, and what can be done with it."""
    figures = {name: stream["metrics"] for name, stream in results["streams"].items()}
    fusion = results.get("fusion")
    if fusion:
        figures["fused"] = fusion["metrics"]
    count = results["videos"]["test"]
    table(f"Test on {count} videos", ("", *_RESULT_COLUMNS), _result_rows(figures))
    if fusion:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in fusion["weights"].items())
        where = "found on the validation part" if results["videos"]["val"] else "not searched"
        show(f"Fused by {fusion['rule']}, weights {weights} ({where}).")
    if fusions := results.get("fusions"):
        show_fusions(fusions)
    show(f"Report: {folder / 'report.html'}")
    show(f"Use it: kinema predict {folder} VIDEO")


def show_fusions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show the comparison of streams and fusions, in the order in which they were made."""
    table(
        "Fusions",
        ("", "top-1", "95 % interval", "training", "one video"),
        [
            (
                row["name"],
                *_result_rows({row["name"]: row["metrics"]})[0][1:3],
                f"{row['training_seconds']:.0f} s",
                f"{row['prediction_seconds']:.2f} s",
            )
            for row in rows
        ],
    )


def show_fusion(
    figures: Mapping[str, Mapping[str, Any]],
    weights: Sequence[float],
    gains: Mapping[str, float],
    *,
    rule: str,
    split: int = 0,
) -> None:
    """Show the figures of each stream and, last, of all together, and the gain per class.

    Args:
        figures: summaries by file, those of the fused scores last.
        weights: one per file.
        gains: of the fused scores over the best stream, by class.
        rule: how they were fused.
        split: which official split they are of; 0: of none.
    """
    rows = _result_rows(figures)
    listed = [(*row, f"{weight:.3g}") for row, weight in zip(rows, weights, strict=False)]
    listed.append((*rows[-1], ""))
    table(
        f"Split {split}" if split else "",
        (f"fused by {rule}", "top-1", "95 % interval", "mean of classes", "weight"),
        [(row[0], row[1], row[2], row[5], row[6]) for row in listed],
        paths=True,
    )
    changed = sorted((gain, name) for name, gain in gains.items() if gain)[::-1]
    rows_of_gains = [(name, f"{100 * gain:+.1f}") for gain, name in changed]
    _show_changes("Gain over the best stream, points", ("class", "gain"), rows_of_gains)


def show_split_means(means: Mapping[str, Mapping[str, Any]]) -> None:
    """Show top-1 of every official split and the means, by file; those of the fusion last."""
    count = next(iter(means.values()))["num_splits"]
    rows = [
        (
            name,
            *(f"{100 * share:.1f} %" for share in row["per_split"]["top1"]),
            f"{100 * row['top1']:.1f} %",
            f"{100 * row['mean_class']:.1f} %",
        )
        for name, row in means.items()
    ]
    columns = ("", *(f"split {i + 1}" for i in range(count)), "mean top-1", "mean of classes")
    show("")
    table(f"Mean over {count} splits", columns, rows, paths=True)


def show_comparison(comparison: "Comparison", a: Path, b: Path) -> None:
    """Show how score file B does against A, and the classes that changed."""
    show(f"A: {a}\nB: {b}")
    table("", ("", ""), comparison.rows())
    columns = ("class", "videos", "A, %", "B, %", "points")
    _show_changes("Classes that differ", columns, comparison.class_rows())


def show_predictions(found: "Predictions", count: int) -> None:
    """Show the most probable class of each video, what each of several streams gives it, others."""
    if not found.rows:
        return
    rows = []
    fused = len(found.rows[0].by_stream) > 1
    for row in found.rows:
        (label, share), *others = row.top(found.classes, count)
        then = ", ".join(f"{name} {100 * other:.1f}" for name, other in others)
        place = found.classes.index(label)
        alone = ", ".join(f"{name} {100 * p[place]:.1f}" for name, p in row.by_stream.items())
        shown = (str(row.source), label, f"{100 * share:.1f} %", then)
        rows.append((*shown, alone) if fused else shown)
    columns: tuple[str, ...] = ("video", "class", "", "then, %" if count > 1 else "")
    columns = (*columns, "by stream, %") if fused else columns
    table("", columns, rows, paths=True)


def show_recipes() -> None:
    """Show the named recipes and test protocols."""
    from kinema.engine.protocols import PROTOCOLS
    from kinema.recipes import RECIPES

    rows = [(name, (make.__doc__ or "").strip().splitlines()[0]) for name, make in RECIPES.items()]
    table("Recipes", ("name", "what"), rows)
    show("")
    facts = [
        (p.name, str(p.num_clips or "all"), p.crops, p.resize, f"{p.aggregate} of {p.average}")
        for p in PROTOCOLS.values()
    ]
    table("Protocols", ("name", "clips", "crops", "resize", "score of a video"), facts)


def show_checks(sections: Mapping[str, Mapping[str, str]]) -> None:
    """Show sections of names and values as one table."""
    rows: list[tuple[str, str]] = []
    for title, facts in sections.items():
        rows += [(title, ""), *((f"  {name}", value) for name, value in facts.items())]
    table("", ("", ""), rows)


def _result_rows(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows = []
    for name, metrics in figures.items():
        low, high = (100 * end for end in metrics["top1_interval"])
        shares = [f"{100 * metrics[key]:.1f} %" for key in ("top1", "top3", "top5", "mean_class")]
        rows.append((name, shares[0], f"{low:.1f} to {high:.1f}", *shares[1:]))
    return rows


def _show_changes(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show the first and the last rows: the largest gains and the largest losses."""
    if not rows:
        return
    shown = list(rows)
    if len(shown) > _MOST_CLASSES:
        half = _MOST_CLASSES // 2
        between = (f"… {len(shown) - _MOST_CLASSES} more", *[""] * (len(columns) - 1))
        shown = [*shown[:half], between, *shown[-half:]]
    show("")
    table(title, columns, shown)
