"""One command from a folder of videos to a report: every step can be stopped and taken up again."""

import dataclasses
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from kinema.config import Config, ModalityName, load_config, override, to_dict
from kinema.console import say
from kinema.datasets.build import build_index
from kinema.datasets.index import Index, absolute, check_files, read_index
from kinema.datasets.splits import SplitRule
from kinema.engine.checkpoint import add_provenance, read_info
from kinema.engine.items import flow_jobs, with_flow
from kinema.engine.protocols import find_protocol
from kinema.engine.train import train
from kinema.errors import KinemaError, UsageError
from kinema.files import write_json
from kinema.flow.extract import extract_flow
from kinema.flow.job import FlowOptions
from kinema.fused_checkpoint import save_fused
from kinema.fusion import Rule, gain_per_class, search_weights
from kinema.fusion_plans import chosen_fusions
from kinema.html_report import write_report
from kinema.metrics import summary
from kinema.packing.manifest import is_packed
from kinema.recipes import recipe
from kinema.run_folder import (
    Clock,
    command_line,
    finished_results,
    has_settings,
    keep_settings,
    own_command,
    peak_memory_bytes,
    same_settings,
)
from kinema.run_fusions import BaseRun, compare_fusions
from kinema.run_scores import current_scores
from kinema.samples import make_samples
from kinema.scores import Scores, save_scores
from kinema.stored_fusion import average_by
from kinema.testing import Part, TestOptions

_BY_OPTION = "a run stores its flow by --algorithm and --flow-size"
_DECIDED_BY_RUN = {
    "data.index": "a run makes its own index",
    "data.modality": "choose by --streams",
    "data.flow_store": _BY_OPTION,
    "data.flow_algorithm": _BY_OPTION,
    "data.flow_weights": _BY_OPTION,
    "data.flow_size": _BY_OPTION,
    "data.flow_bound": _BY_OPTION,
    "data.flow_stride": _BY_OPTION,
    "data.flow_gray": _BY_OPTION,
    "data.flow_warp": _BY_OPTION,
    "data.frame_store": "a run reads RUN/frame-store where `kinema pack` has made it",
    "data.features": "a run makes its own, see --fusion",
    "second": "the streams of a run are trained alone, see --fusion, or `kinema train`",
    "protocol": "choose by --protocol",
    "recipe": "choose by --recipe",
}
# Small enough for five minutes on two cores.
_DEMO_OVERRIDES = (
    "model.backbone=tiny",
    "model.dropout=",
    "optim.lr=0.003",
    "train.epochs=80",
    "flow.data.interval=1",  # the sample videos are short
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run does; once there is an index, a store or a training, it keeps its settings."""

    recipe: str = "scratch"
    streams: tuple[str, ...] = ("rgb", "flow")
    rule: SplitRule = field(default_factory=SplitRule)
    flow: FlowOptions = field(default_factory=lambda: FlowOptions(size="short:240"))
    protocol: str = ""  # empty: the recipe's
    overrides: tuple[str, ...] = ()  # "section.field=value", or "flow.section.field=value"
    fusion: str = ""  # fusions beyond the average: "NAME,NAME" or "all"
    device: str = "auto"


def run(data: Path, out: Path, *, options: RunOptions | None = None) -> dict[str, Any]:
    """Index, flow, training of all streams, test, fusion and report.

    What is done already is not done again: a run that was stopped goes on, a finished one stays
    as it is.

    Returns:
        What `out/results.json` holds: every figure of the report.

    Raises:
        KinemaError: bad data, or what `out` holds already was made with other options.
        UsageError: options that cannot be, or more than one process.
    """
    options = options or RunOptions()
    _check_place(data, out)
    _check_fusions(options)
    configs = _configs(options, out)
    settings = _settings(data, options)
    is_same = same_settings(out, settings, fixed=("data", "rule"))
    before = finished_results(out) if is_same else {}
    clock = Clock(out / "seconds.json", stopped=bool(before))
    index = _index(data, out, options, clock)
    fusions = chosen_fusions(options.fusion, has_val=bool(index.part("val")))
    if not has_settings(out):
        keep_settings(out, settings)
    if "flow" in configs:
        with clock.step("flow"):
            _extract(index, out, options)
    for stream, config in configs.items():
        say(f"Training the {stream} stream ({config.recipe}: {config.model.backbone}).")
        with clock.step(f"train {stream}"):
            train(config, out / stream, device=options.device)
    with clock.step("test"):
        has_val = bool(index.part("val"))
        rule = _rule(configs)
        parts: tuple[Part, ...] = ("val", "test") if has_val else ("test",)
        scores = {part: _scores(part, configs, index, out, options) for part in parts}
        weights = _fusion_weights(scores.get("val", {}), configs, out, rule)
    results = _results(index, configs, scores["test"], out)
    if len(configs) > 1:
        fusion = average_by(rule, list(weights.values()))
        average = fusion.fuse(list(scores["test"].values()))
        results["fusion"] = _fusion(average, scores["test"], weights, rule, out)
        files = [out / stream / "scores" / "test.npz" for stream in configs]
        checkpoints = [out / stream / "best.safetensors" for stream in configs]
        save_fused(out / "fused.safetensors", checkpoints, scores=files, fusion=fusion)
    if fusions:
        base = BaseRun(
            out=out,
            index=index,
            configs=configs,
            test=scores["test"],
            val=scores.get("val", {}),
            rule=rule,
            clock=clock,
            protocol=options.protocol,
            device=options.device,
        )
        results["fusions"] = compare_fusions(fusions, base, average=average)
    results |= {
        "command": before.get("command") or own_command(),
        "commands": _commands(data, out, options, results.get("fusion", {})),
        "seconds": clock.seconds,
        "peak_memory_bytes": before.get("peak_memory_bytes") or peak_memory_bytes(),
    }
    keep_settings(out, settings)
    write_json(out / "results.json", results)
    write_report(out)
    return results


def _check_place(data: Path, out: Path) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "`kinema run` works in one process, not under torchrun: start it plainly, or use "
            "`kinema index` and `flow`, then `train` and `test` under torchrun."
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: choose a folder.")
    if absolute(out).is_relative_to(absolute(data)):
        raise UsageError(
            f"--out {out} lies in the folder of the videos, {data}: what is written there would "
            "be taken for videos later. Choose a folder outside of it."
        )


def _check_fusions(options: RunOptions) -> None:
    if options.fusion and not {"rgb", "flow"} <= set(options.streams):
        raise UsageError("--fusion joins the rgb and the flow stream: leave --streams=rgb,flow.")
    chosen_fusions(options.fusion, has_val=True)  # the names; the rest when the videos are known


def _configs(options: RunOptions, out: Path) -> dict[str, Config]:
    streams = options.streams
    if not streams or len(set(streams)) < len(streams):
        raise UsageError(
            f"The streams '{','.join(streams)}' cannot be trained: give each of them once, such "
            "as rgb,flow."
        )
    for text in options.overrides:
        stream = text.partition(".")[0]
        if stream in get_args(ModalityName) and stream not in streams:
            raise UsageError(f"'{text}' is for a stream that is not trained: see --streams.")
    return {stream: stream_config(options, stream, out) for stream in streams}


def stream_config(options: RunOptions, stream: str, out: Path) -> Config:
    """Return the configuration of one stream's training.

    Raises:
        UsageError: an unknown recipe, protocol or override, or one that a run decides itself.
    """
    config = recipe(options.recipe, stream)
    data = dataclasses.replace(
        with_flow(config.data, options.flow),
        index=str(absolute(out / "index")),
        flow_store=str(absolute(out / "flow-store")) if stream == "flow" else "",
        frame_store=_frame_store(out, stream),
    )
    config = dataclasses.replace(config, data=data, protocol=options.protocol or config.protocol)
    own = [own_override(text, stream) for text in options.overrides]
    for text in own:
        name = text.partition("=")[0].strip()
        decided = _DECIDED_BY_RUN.get("second" if name.startswith("second.") else name)
        if decided:
            raise UsageError(f"'{name}' is not to be set: {decided}.")
    config = override(config, [text for text in own if text])
    find_protocol(config.protocol)
    return config


def _frame_store(out: Path, stream: str) -> str:
    """Return the store that `kinema pack` made, unless this stream's training began without it."""
    store, begun = out / "frame-store", out / stream / "config.json"
    if stream == "flow" or not is_packed(store):
        return ""
    return load_config(begun).data.frame_store if begun.exists() else str(absolute(store))


def own_override(assignment: str, stream: str) -> str:
    """Return an override as it holds for one stream: "flow.optim.lr=1" is for flow alone."""
    first, _, rest = assignment.partition(".")
    if first not in get_args(ModalityName):
        return assignment
    return rest if first == stream else ""


def demo(out: Path, *, fusion: str = "", seed: int = 0) -> dict[str, Any]:
    """Make a sample data set and run everything on it.

    Its classes differ in appearance and in motion: neither stream alone can tell them apart.

    Args:
        out: folder of the videos and the run.
        fusion: see `RunOptions`.
        seed: of the trainings.

    Returns:
        What `run` returns.
    """
    make_samples(out / "videos")
    overrides = (*_DEMO_OVERRIDES, f"train.seed={seed}")
    options = RunOptions(overrides=overrides, fusion=fusion)
    return run(out / "videos", out / "run", options=options)


def _settings(data: Path, options: RunOptions) -> dict[str, Any]:
    """Return what a run is asked to do; the device may change."""
    values = {"data": str(absolute(data)), **to_dict(options)}
    del values["device"]
    return values


def _index(data: Path, out: Path, options: RunOptions, clock: Clock) -> Index:
    folder = out / "index"
    if has_settings(out) and (folder / "index.csv").exists():
        say(f"Going on with the videos that are listed in {folder}.")
    else:
        with clock.step("index"):
            report = build_index(data, folder, rule=options.rule)
        for message in report.messages:
            say(message)
    index = read_index(folder)
    check_files(index)
    for part in ("train", "test"):
        if not index.part(part):
            raise KinemaError(f"The index of {data} has no video in the part '{part}'.")
    return index


def _extract(index: Index, out: Path, options: RunOptions) -> None:
    flow = extract_flow(flow_jobs(index), out / "flow-store", options=options.flow)
    if flow.failures:
        video, reason = flow.failures[0]
        raise KinemaError(f"No flow for {len(flow.failures)} videos (first {video}: {reason}).")


def _scores(
    part: Part, configs: dict[str, Config], index: Index, out: Path, options: RunOptions
) -> dict[str, Scores]:
    """Score a part with every stream, unless its score file is there and up to date."""
    found: dict[str, Scores] = {}
    for stream, config in configs.items():
        videos = index.part(part, official=config.data.official_split)
        found[stream] = current_scores(
            out / stream / "best.safetensors",
            out / stream / "scores" / f"{part}.npz",
            part=part,
            ids=[video.id for video in videos],
            protocol=config.protocol,
            options=TestOptions(protocol=options.protocol, device=options.device),
            name=f"the {stream} stream",
        )
    return found


def _rule(configs: dict[str, Config]) -> Rule:
    """Probabilities are averaged, unless the protocol sums logits, which have no fixed scale."""
    sums = any(find_protocol(config.protocol).aggregate == "sum" for config in configs.values())
    return "logits" if sums else "softmax"


def _fusion_weights(
    val: dict[str, Scores], configs: dict[str, Config], out: Path, rule: Rule
) -> dict[str, float]:
    """Search the weights on the validation part (equal ones without it); note them in the files."""
    weights: dict[str, float] = dict.fromkeys(configs, 1.0)
    if len(configs) == 1:
        return weights
    if val:
        found = search_weights(list(val.values()), rule=rule)
        weights = dict(zip(val, found, strict=True))
    for stream, weight in weights.items():
        path = out / stream / "best.safetensors"
        facts = {"fusion_weight": weight, "fusion_rule": rule}
        if not facts.items() <= read_info(path).provenance.items():
            add_provenance(path, facts)
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
    fused: Scores, test: dict[str, Scores], weights: dict[str, float], rule: Rule, out: Path
) -> dict[str, Any]:
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
    lines = [command_line("index", data, "-o", index, options=_index_options(options.rule))]
    if "flow" in options.streams:
        flow = options.flow
        settings = {"algorithm": flow.algorithm, "bound": f"{flow.bound:g}", "size": flow.size}
        lines.append(command_line("flow", index, "-o", store, options=settings))
    for stream in options.streams:
        folder = out / stream
        own: dict[str, object] = {"recipe": options.recipe, "modality": stream}
        own |= {"flow": store} if stream == "flow" else {}
        overrides = filter(None, (own_override(text, stream) for text in options.overrides))
        lines.append(command_line("train", index, "-o", folder, *overrides, options=own))
        words = (folder / "best.safetensors", "-o", folder / "scores" / "test.npz")
        lines.append(command_line("test", *words, options={"protocol": options.protocol}))
    if fusion:
        files = [out / stream / "scores" / "test.npz" for stream in options.streams]
        weights = ",".join(f"{weight:g}" for weight in fusion["weights"].values())
        rule = {"rule": fusion["rule"], "weights": weights}
        lines.append(command_line("fuse", *files, options=rule))
    return lines


def _index_options(rule: SplitRule) -> dict[str, object]:
    given = dataclasses.asdict(rule)
    return given | {"test_groups": ",".join(rule.test_groups)}
