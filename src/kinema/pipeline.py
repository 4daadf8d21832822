"""One command from a folder of videos to a report: every step can be stopped and taken up again."""

import dataclasses
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from kinema.config import Config, ModalityName, override, to_dict
from kinema.console import say
from kinema.datasets.build import build_index
from kinema.datasets.index import Index, read_index
from kinema.datasets.splits import SplitRule
from kinema.engine.checkpoint import add_provenance
from kinema.engine.items import flow_jobs
from kinema.engine.protocols import find_protocol
from kinema.engine.train import train
from kinema.errors import KinemaError
from kinema.files import read_json, write_json
from kinema.flow.extract import extract_flow
from kinema.flow.job import FlowOptions
from kinema.fusion import Rule, fuse, gain_per_class, search_weights
from kinema.html_report import write_report
from kinema.metrics import describe, summary
from kinema.recipes import recipe
from kinema.samples import make_samples
from kinema.scores import Scores, save_scores
from kinema.testing import TestOptions, score_checkpoint

_DEMO_OVERRIDES = ("train.epochs=12",)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run does; a run that is taken up again must have the same."""

    recipe: str = "scratch"
    streams: tuple[str, ...] = ("rgb", "flow")
    rule: SplitRule = field(default_factory=SplitRule)
    flow: FlowOptions = field(default_factory=lambda: FlowOptions(size="short:128"))
    protocol: str = ""  # empty: the recipe's
    overrides: tuple[str, ...] = ()  # "section.field=value", or "flow.section.field=value"
    device: str = "auto"


def run(data: Path, out: Path, *, options: RunOptions | None = None) -> dict[str, Any]:
    """Index, flow, training of all streams, test, fusion and report.

    Returns:
        What `out/results.json` holds: every figure of the report.

    Raises:
        KinemaError: bad data, or `out` holds a run with other options.
    """
    options = options or RunOptions()
    configs = {stream: stream_config(options, stream, out) for stream in options.streams}
    _settle_options(data, out, options)
    clock = _Clock(out / "seconds.json")
    index = _index(data, out, options, clock)
    if "flow" in options.streams:
        with clock.step("flow"):
            _extract(index, out, options)
    for stream, config in configs.items():
        say(f"Training the {stream} stream ({config.recipe}: {config.model.backbone}).")
        with clock.step(f"train {stream}"):
            train(config, out / stream, device=options.device)
    with clock.step("test"):
        has_val = bool(index.part("val"))
        rule = _rule(options, configs)
        val = {s: _scores(s, "val", out, options) for s in configs} if has_val else {}
        weights = _fusion_weights(val, configs, out, rule)
        test = {s: _scores(s, "test", out, options) for s in configs}
    results = _results(index, configs, test, out)
    if len(test) > 1:
        results["fusion"] = _fusion(test, weights, rule, out)
    results |= {
        "command": shlex.join(["kinema", *sys.argv[1:]]) if sys.argv[1:] else "",
        "commands": _commands(data, out, options, results.get("fusion", {})),
        "seconds": clock.seconds,
        "peak_memory_bytes": _peak_memory_bytes(),
    }
    write_json(out / "results.json", results)
    report = write_report(out)
    _tell(results)
    say(f"Report: {report}")
    return results


def stream_config(options: RunOptions, stream: str, out: Path) -> Config:
    """Return the configuration of one stream's training.

    Raises:
        UsageError: an unknown recipe or override.
    """
    config = recipe(options.recipe, stream)
    flow = options.flow
    data = dataclasses.replace(
        config.data,
        index=str(out / "index"),
        flow_store=str(out / "flow-store") if stream == "flow" else "",
        flow_algorithm=flow.algorithm,
        flow_bound=flow.bound,
        flow_size=flow.size,
    )
    config = dataclasses.replace(config, data=data, protocol=options.protocol or config.protocol)
    own = [own_override(text, stream) for text in options.overrides]
    return override(config, [text for text in own if text])


def own_override(assignment: str, stream: str) -> str:
    """Return an override as it holds for one stream: "flow.optim.lr=1" is for flow alone."""
    first, _, rest = assignment.partition(".")
    if first not in get_args(ModalityName):
        return assignment
    return rest if first == stream else ""


def demo(out: Path) -> dict[str, Any]:
    """Make a sample data set and run everything on it.

    Its classes differ in appearance and in motion: neither stream alone can tell them apart.

    Returns:
        What `run` returns.
    """
    make_samples(out / "videos")
    options = RunOptions(overrides=_DEMO_OVERRIDES)
    return run(out / "videos", out / "run", options=options)


class _Clock:
    """Seconds per step, kept over interruptions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            write_json(self._path, self.seconds)


def _settle_options(data: Path, out: Path, options: RunOptions) -> None:
    path = out / "run.json"
    wanted = {"data": str(data), **to_dict(options)}
    wanted.pop("device")
    wanted = _plain(wanted)
    if path.exists():
        before = read_json(path)
        other = [name for name in wanted if before.get(name) != wanted[name]]
        if other:
            raise KinemaError(
                f"{out} holds a run with {other[0]}={before.get(other[0])} instead of "
                f"{wanted[other[0]]}: choose another --out, or the same options to go on with it."
            )
    write_json(path, wanted)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return `value` as JSON would give it back."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _index(data: Path, out: Path, options: RunOptions, clock: _Clock) -> Index:
    folder = out / "index"
    if not (folder / "index.csv").exists():
        with clock.step("index"):
            report = build_index(data, folder, rule=options.rule)
        for message in report.messages:
            say(message)
    index = read_index(folder)
    for part in ("train", "test"):
        if not index.part(part):
            raise KinemaError(f"The index of {data} has no video in the part '{part}'.")
    return index


def _extract(index: Index, out: Path, options: RunOptions) -> None:
    flow = extract_flow(flow_jobs(index), out / "flow-store", options=options.flow)
    if flow.failures:
        video, reason = flow.failures[0]
        raise KinemaError(f"No flow for {len(flow.failures)} videos (first {video}: {reason}).")


def _scores(stream: str, part: Literal["val", "test"], out: Path, options: RunOptions) -> Scores:
    """Score a part, unless the file is there and belongs to the same weights and protocol."""
    checkpoint = out / stream / "best.safetensors"
    path = out / stream / "scores" / f"{part}.npz"
    say(f"Scoring the {part} part with the {stream} stream.")
    test = TestOptions(protocol=options.protocol, device=options.device)
    return score_checkpoint(checkpoint, path, part=part, options=test)


def _rule(options: RunOptions, configs: dict[str, Config]) -> Rule:
    """Probabilities are averaged, unless the protocol sums logits, which have no fixed scale."""
    names = [options.protocol or config.protocol for config in configs.values()]
    sums = any(find_protocol(name).aggregate == "sum" for name in names)
    return "logits" if sums else "softmax"


def _fusion_weights(
    val: dict[str, Scores], configs: dict[str, Config], out: Path, rule: Rule
) -> dict[str, float]:
    """Search the weights on the validation part (equal ones without it); note them in the files."""
    weights: dict[str, float] = dict.fromkeys(configs, 1.0)
    if val and len(configs) > 1:
        found = search_weights(list(val.values()), rule=rule)
        weights = dict(zip(val, found, strict=True))
    for stream, weight in weights.items():
        add_provenance(out / stream / "best.safetensors", {"fusion_weight": weight})
    return weights


def _results(
    index: Index,
    configs: dict[str, Config],
    test: dict[str, Scores],
    out: Path,
) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "kinema": version("kinema"),
        "python": platform.python_version(),
        "classes": list(index.classes),
        "videos": {part: len(index.part(part)) for part in ("train", "val", "test")},
        "streams": {
            stream: {
                "checkpoint": f"{stream}/best.safetensors",
                "scores": f"{stream}/scores/test.npz",
                "metrics": summary(scores),
            }
            for stream, scores in test.items()
        },
        "config": {stream: to_dict(config) for stream, config in configs.items()},
    }


def _fusion(
    test: dict[str, Scores], weights: dict[str, float], rule: Rule, out: Path
) -> dict[str, Any]:
    fused = fuse(list(test.values()), rule=rule, weights=[weights[s] for s in test])
    save_scores(fused, out / "scores" / "fused.npz")
    return {
        "rule": rule,
        "weights": weights,
        "scores": "scores/fused.npz",
        "metrics": summary(fused),
        "gain_per_class": gain_per_class(fused, list(test.values())),
    }


def _commands(data: Path, out: Path, options: RunOptions, fusion: dict[str, Any]) -> list[str]:
    """The same work as single commands."""
    index, store = out / "index", out / "flow-store"
    lines = [_line("index", data, "-o", index, **_index_options(options.rule))]
    if "flow" in options.streams:
        flow = options.flow
        settings = {"algorithm": flow.algorithm, "bound": f"{flow.bound:g}", "size": flow.size}
        lines.append(_line("flow", index, "-o", store, **settings))
    for stream in options.streams:
        folder = out / stream
        own: dict[str, object] = {"recipe": options.recipe, "modality": stream}
        own |= {"flow": store} if stream == "flow" else {}
        overrides = [own_override(text, stream) for text in options.overrides]
        lines.append(_line("train", index, "-o", folder, *filter(None, overrides), **own))
        scores = folder / "scores" / "test.npz"
        checkpoint = folder / "best.safetensors"
        lines.append(_line("test", checkpoint, "-o", scores, protocol=options.protocol))
    if fusion:
        files = [out / stream / "scores" / "test.npz" for stream in options.streams]
        weights = ",".join(f"{weight:g}" for weight in fusion["weights"].values())
        lines.append(_line("fuse", *files, rule=fusion["rule"], weights=weights))
    return lines


def _index_options(rule: SplitRule) -> dict[str, object]:
    given = dataclasses.asdict(rule)
    return given | {"test_groups": ",".join(rule.test_groups)}


def _line(verb: str, *words: object, **options: object) -> str:
    """Write a command; options without a value are left out."""
    for name, value in options.items():
        if value != "":
            words += (f"--{name.replace('_', '-')}", value)
    return shlex.join(["kinema", verb, *map(str, words)])


def _peak_memory_bytes() -> int:
    """The largest process of this run so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(who).ru_maxrss for who in whose)


def _tell(results: dict[str, Any]) -> None:
    for stream, facts in results["streams"].items():
        say(f"{stream}: {describe(facts['metrics'])}")
    if "fusion" in results:
        say(f"fused: {describe(results['fusion']['metrics'])}")
