"""The report of a run: one HTML file that needs nothing else, neither files nor the network."""

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kinema.charts import Estimate, Line, confusion_chart, interval_chart, line_chart
from kinema.engine.log import read_metrics
from kinema.errors import KinemaError
from kinema.files import read_json, write_text
from kinema.html_templates import html_templates
from kinema.mistakes import Mistake, example_of, most_confused, thumbnail, video_paths
from kinema.scores import load_scores

_COLOURS = {"rgb": "c-rgb", "flow": "c-flow", "fused": "c-fused"}
_OTHER_COLOURS = ("c-third", "c-fourth")
_PACKAGES = ("kinema", "torch", "torchvision", "timm", "numpy", "opencv-python-headless", "av")
_OPTIONAL = (
    "kinema",
    "videos",
    "seconds",
    "peak_memory_bytes",
    "command",
    "commands",
    "fusion",
    "fusions",
)
_LEARNS_ON = {
    "stream": "videos",
    "scores": "scores",
    "time": "features over time",
    "network": "videos",
}
_FEW_VIDEOS = 100  # below this an accuracy is uncertain by several points


@dataclass(frozen=True, kw_only=True)
class Result:
    """The test figures of one stream, or of all streams together."""

    name: str
    colour: str
    metrics: Mapping[str, Any]

    def share(self, key: str) -> float | None:
        """Return a figure between 0 and 1, None where there is none."""
        return _number(self.metrics.get(key))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the top-1 accuracy."""
        ends = [_number(end) for end in self.metrics.get("top1_interval") or ()]
        return (ends[0], ends[1]) if len(ends) == 2 and None not in ends else None  # type: ignore[return-value]

    @property
    def per_class(self) -> Mapping[str, float | None]:
        """Accuracy of each class; None where the test has no video of it."""
        found = self.metrics.get("per_class") or {}
        return {name: _number(value) for name, value in found.items()}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder and return its path.

    Args:
        run: a folder made by `kinema run`.
        out: the HTML file; ``RUN/report.html`` unless given.

    Raises:
        KinemaError: the run has no results yet, or they name no stream.
    """
    path = run / "results.json"
    if not path.is_file():
        raise KinemaError(
            f"There is nothing to report in {run}: results.json is missing. "
            f"Let `kinema run DATA --out {run}` go through to its end first."
        )
    results = read_json(path)
    if not isinstance(results, dict) or not results.get("streams"):
        raise KinemaError(f"{path} names no tested stream: run `kinema run` again.")
    templates = html_templates()
    templates.filters.update(percent=_percent, points=_points, duration=_duration, size=_size)
    page = templates.get_template("report.html.jinja").render(_values(run, results))
    out = out or run / "report.html"
    write_text(out, page)
    return out


def _values(run: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what the template shows."""
    streams, fused = _results(results)
    best = max(streams, key=lambda stream: stream.share("top1") or 0)
    head = fused or best
    classes = list(results.get("classes") or head.per_class)
    curves = {stream.name: read_metrics(run / stream.name / "metrics.jsonl") for stream in streams}
    counts = head.metrics.get("confusion") or []
    mistakes = _mistakes(run, results, counts, classes) if counts else []
    return {
        "title": run.resolve().name,
        "results": {**dict.fromkeys(_OPTIONAL), **results},
        "head": head,
        "best": best,
        "fused": fused,
        "streams": streams,
        "rows": [*streams, *([fused] if fused else [])],
        "classes": classes,
        "intervals": interval_chart(
            _estimates([*streams, *([fused] if fused else [])]),
            chance=1 / len(classes) if classes else None,
        ),
        "fusion_rows": _fusion_rows(results.get("fusions") or []),
        "charts": _training_charts(streams, curves),
        "training": [_training_row(stream, curves[stream.name]) for stream in streams],
        "confusion": confusion_chart(counts, classes=classes) if counts else None,
        "class_rows": _class_rows(head, counts, classes),
        "gains": _gains(results, best, fused),
        "mistakes": mistakes,
        "configs": {name: _sections(c) for name, c in (results.get("config") or {}).items()},
        "environment": _flat(results.get("environment") or _environment()),
        "warnings": _warnings(results, curves, best, fused, mistakes),
    }


def _results(results: Mapping[str, Any]) -> tuple[list[Result], Result | None]:
    streams: list[Result] = []
    others = list(_OTHER_COLOURS)
    for name, values in results["streams"].items():
        colour = _COLOURS.get(name) or (others.pop(0) if others else _OTHER_COLOURS[-1])
        streams.append(Result(name=name, colour=colour, metrics=values.get("metrics") or {}))
    metrics = (results.get("fusion") or {}).get("metrics")
    fused = Result(name="fused", colour=_COLOURS["fused"], metrics=metrics) if metrics else None
    return streams, fused


def _estimates(rows: Sequence[Result]) -> list[Estimate]:
    found = []
    for row in rows:
        value, (low, high) = row.share("top1"), row.interval or (None, None)
        if value is not None:
            found.append(
                Estimate(name=row.name, colour=row.colour, value=value, low=low, high=high)
            )
    return found


def _fusion_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparison of fusions, with what each gains over the average of scores."""
    average = next((row["metrics"]["top1"] for row in rows if row["name"] == "average"), None)
    highest = max((row["metrics"]["top1"] for row in rows), default=None)
    return [
        {
            "name": row["name"],
            "learns_on": "nothing" if row["name"] == "average" else _LEARNS_ON[row["kind"]],
            "top1": row["metrics"]["top1"],
            "low": row["metrics"]["top1_interval"][0],
            "high": row["metrics"]["top1_interval"][1],
            "gain": None if average is None else row["metrics"]["top1"] - average,
            "training_seconds": row["training_seconds"],
            "prediction_seconds": row["prediction_seconds"],
            "best": row["metrics"]["top1"] == highest,
        }
        for row in rows
    ]


def _training_charts(
    streams: Sequence[Result], curves: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Draw loss and accuracy over the epochs, training dashed and validation solid."""
    charts = {}
    for title, key, percent in (("Loss", "loss", False), ("Accuracy", "top1", True)):
        lines = [
            Line(
                name=f"{stream.name}, {label}",
                colour=stream.colour,
                points=[
                    (line["epoch"] + 1, value)
                    for line in curves[stream.name]
                    if (value := _number(line.get(f"{part}_{key}"))) is not None
                ],
                dashed=part == "train",
            )
            for part, label in (("train", "training"), ("val", "validation"))
            for stream in streams
        ]
        charts[title] = line_chart(lines, title=title, x_label="epoch", percent=percent)
    return {title: chart for title, chart in charts.items() if chart is not None}


def _training_row(stream: Result, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def mean(key: str) -> float | None:
        found = [value for line in lines if (value := _number(line.get(key))) is not None]
        return sum(found) / len(found) if found else None

    tops = [(_number(line.get("val_top1")), -line["epoch"]) for line in lines]
    top, epoch = max(((top, epoch) for top, epoch in tops if top is not None), default=(None, 0))
    return {
        "stream": stream,
        "epochs": len(lines),
        "best_epoch": 1 - epoch if top is not None else None,
        "val_top1": top,
        "seconds": mean("seconds"),
        "clips_per_second": mean("clips_per_second"),
        "data_wait": mean("data_wait"),
    }


def _class_rows(
    head: Result, counts: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[tuple[str, int | None]]:
    """Return each class with its number of test videos, the hardest first."""
    totals = [sum(row) for row in counts] if counts else [None] * len(classes)
    rows = [
        (name, total)
        for name, total in zip(classes, totals, strict=False)
        if head.per_class.get(name) is not None
    ]
    return sorted(rows, key=lambda row: head.per_class[row[0]] or 0)


def _gains(
    results: Mapping[str, Any], best: Result, fused: Result | None
) -> list[tuple[str, float]]:
    """Return by how much fusion changes each class against the best stream, losses first."""
    if fused is None:
        return []
    given = results["fusion"].get("gain_per_class") or {
        name: value - (best.per_class.get(name) or 0)
        for name, value in fused.per_class.items()
        if value is not None
    }
    gains = [(name, value) for name, gain in given.items() if (value := _number(gain)) is not None]
    return sorted(gains, key=lambda gain: gain[1])


def _mistakes(
    run: Path, results: Mapping[str, Any], counts: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[Mistake]:
    """Return the most confused pairs with an example video of each, where it is still there."""
    pairs = most_confused(counts, classes=classes)
    source = results.get("fusion") or next(iter(results["streams"].values()))
    path = run / str(source.get("scores", ""))
    if not path.is_file():
        return pairs
    try:
        scores = load_scores(path)
    except KinemaError:
        return pairs
    paths = video_paths(run / "index")
    found = []
    for pair in pairs:
        example = example_of(pair, scores)
        picture = thumbnail(paths[example]) if example in paths else ""
        found.append(dataclasses.replace(pair, example=example, thumbnail=picture))
    return found


def _sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a configuration as named sections of plain settings."""
    general = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    sections = {name: dict(value) for name, value in config.items() if isinstance(value, Mapping)}
    return {**({"run": general} if general else {}), **sections}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections of settings as one."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(value if isinstance(value, Mapping) else {name: value})
    return found


def _environment() -> dict[str, str]:
    """Return the versions that this report is written with."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _warnings(
    results: Mapping[str, Any],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    best: Result,
    fused: Result | None,
    mistakes: Sequence[Mistake],
) -> list[str]:
    """Say in sentences what a reader of the figures must know."""
    found = [str(text) for text in results.get("warnings") or ()]
    num_videos = best.metrics.get("num_videos")
    if num_videos and num_videos < _FEW_VIDEOS:
        found.append(f"Only {num_videos} test videos: mind the intervals, not the first decimal.")
    change = (fused.share("top1") or 0) - (best.share("top1") or 0) if fused else 0.0
    if change < 0:
        found.append(
            f"Fusion is {-change * 100:.1f} points below {best.name} alone: "
            "use that stream alone, or give the streams other weights."
        )
    for name, lines in curves.items():
        if not lines:
            found.append(f"There are no training figures of {name} in this run folder.")
        elif not any(_number(line.get("val_top1")) is not None for line in lines):
            found.append(f"{name} was trained without a validation split: its last epoch is used.")
    known = [value for value in (fused or best).per_class.values() if value is not None]
    absent = len(results.get("classes") or known) - len(known)
    if absent:
        which = "1 class has" if absent == 1 else f"{absent} classes have"
        found.append(f"{which} no test video: the mean of the classes leaves that out.")
    if any(not mistake.thumbnail for mistake in mistakes):
        found.append("Some example pictures are missing: their videos are not where they were.")
    return found


def _number(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value * 100:.1f}\N{NARROW NO-BREAK SPACE}%"


def _points(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def _duration(seconds: float) -> str:
    """Return seconds as people say them: ``3.2 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
