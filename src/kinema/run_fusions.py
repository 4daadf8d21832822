"""`kinema run --fusion`: fusions and networks beyond the average, trained on a run's streams."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from kinema import fusion_plans as plans
from kinema.config import Config
from kinema.console import say
from kinema.datasets.index import Index
from kinema.engine.checkpoint import weights_hash
from kinema.engine.items import flow_jobs
from kinema.engine.motion_config import motion_config
from kinema.engine.train import train
from kinema.engine.train_motion import train_motion
from kinema.errors import KinemaError
from kinema.feature_run import FeatureOptions, write_features
from kinema.files import read_json, write_json
from kinema.flow.extract import extract_flow
from kinema.flow.options import FlowOptions
from kinema.fused_checkpoint import save_fused
from kinema.fusion import Rule, fuse
from kinema.metrics import summary
from kinema.prediction import PredictOptions, predict
from kinema.run_folder import Clock
from kinema.run_scores import current_scores
from kinema.scores import Scores, load_scores, save_scores
from kinema.stored_fusion import as_learned
from kinema.testing import TestOptions
from kinema.trained_fusion import Method, fuse_trained

_TIMED_VIDEOS = 5  # the prediction of so many is timed, after one that is not
_ALONE = ("hidden", "motion-vectors", "emv")  # in place of flow: also fused with rgb


@dataclass(frozen=True, kw_only=True)
class BaseRun:
    """A run whose streams are trained and scored."""

    out: Path
    index: Index
    configs: Mapping[str, Config]
    test: Mapping[str, Scores]
    val: Mapping[str, Scores]  # empty without validation videos
    rule: Rule
    clock: Clock
    protocol: str  # that the user asked for, or empty
    device: str

    @property
    def streams(self) -> plans.Streams:
        """The finished rgb and flow stream."""
        return plans.Streams(
            rgb=self.configs["rgb"],
            flow=self.configs["flow"],
            rgb_file=self.file("rgb"),
            flow_file=self.file("flow"),
        )

    @cached_property
    def features(self) -> Path:
        """The folder of both streams' features, stored once for all fusions over time."""
        return _features(self)

    def file(self, stream: str) -> Path:
        """Return the checkpoint of a stream."""
        return self.out / stream / "best.safetensors"

    def scores_file(self, name: str) -> Path:
        """Return where the test scores of a fusion are kept."""
        return self.folder(name) / "scores" / "test.npz"

    def folder(self, name: str) -> Path:
        """Return the folder of a fusion."""
        return self.out / "fusion" / name


def compare_fusions(names: Sequence[str], run: BaseRun, *, average: Scores) -> list[dict[str, Any]]:
    """Train and score fusions; returns a row of the comparison for each stream and fusion.

    Args:
        names: of `kinema.fusion_plans.FUSIONS`.
        run: what they begin with.
        average: the weighted scores of all streams.
    """
    rows = [
        _row(run, stream, "stream", [run.file(stream)], scores)
        for stream, scores in run.test.items()
    ]
    files = [run.file(stream) for stream in run.test]
    rows.append(_row(run, "average", "scores", files, average))
    rows[-1]["training_seconds"] = sum(row["training_seconds"] for row in rows[:-1])
    for name in names:
        say(f"Fusion {name}.")
        with run.clock.step(f"fusion {name}"):
            file = _train(name, run)
        rows += _rows_of(name, run, file)
    return rows


def _train(name: str, run: BaseRun) -> Path:
    """Train one fusion and return its checkpoint."""
    if name in plans.ON_SCORES:
        return _on_scores(name, run)
    if name in plans.OVER_TIME:
        config = plans.head_over_time(name, run.streams, features=run.features)
        return train(config, run.folder(name), device=run.device).best
    if name in _PLANS:
        return train(_PLANS[name](run.streams), run.folder(name), device=run.device).best
    return _NETWORKS[name](run)


def _on_scores(name: str, run: BaseRun) -> Path:
    file = run.folder(name) / "best.safetensors"
    learned = fuse_trained(
        list(run.test.values()), list(run.val.values()), method=cast(Method, name)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        [run.out / stream / "scores" / f"{part}.npz" for stream in run.test]
        for part in ("test", "val")
    ]
    checkpoints = [run.file(stream) for stream in run.test]
    save_fused(file, checkpoints, scores=parts[0], fusion=as_learned(learned), train_on=parts[1])
    save_scores(learned.scores, run.scores_file(name))
    return file


def _features(run: BaseRun) -> Path:
    folder = run.out / "features"
    files = [run.file("rgb"), run.file("flow")]
    marks = {stream: weights_hash(run.file(stream)) for stream in ("rgb", "flow")}
    noted = folder / "streams.json"
    if folder.exists() and (not noted.exists() or read_json(noted) != marks):
        shutil.rmtree(folder)  # of streams that were trained anew
    folder.mkdir(parents=True, exist_ok=True)
    write_json(noted, marks)
    test = TestOptions(device=run.device)
    passes = FeatureOptions(
        part="train",
        augment=True,
        passes=plans.FEATURE_PASSES,
        snippets=plans.FEATURE_CLIPS,
        test=test,
    )
    write_features(files, folder, options=passes)
    if run.val:
        uniform = replace(test, protocol=f"uniform-{plans.FEATURE_CLIPS}")
        write_features(files, folder, options=FeatureOptions(part="val", test=uniform))
    return folder


def _tle(run: BaseRun) -> Path:
    folder = run.folder("tle")
    first, second = plans.tle(run.streams)
    train(first, folder / "first-step", device=run.device)
    step = folder / "first-step"
    second = plans.begin_with(
        second, first=step / "best-rgb.safetensors", second=step / "best-flow.safetensors"
    )
    return train(second, folder, device=run.device).best


def _hidden(run: BaseRun) -> Path:
    folder, data = run.folder("hidden"), run.configs["rgb"].data
    base = motion_config()
    motion = replace(
        base,
        data=replace(
            base.data,
            index=data.index,
            official_split=data.official_split,
            frame_store=data.frame_store,
            workers=data.workers,
            cache_mb=data.cache_mb,
        ),
        train=replace(
            base.train,
            seed=run.configs["rgb"].train.seed,
            threads=run.configs["rgb"].train.threads,
        ),
    )
    weights = train_motion(motion, folder / "motion", device=run.device).weights
    config = plans.hidden(run.streams, motion=weights)
    return train(config, folder, device=run.device).best


def _motion_vectors(run: BaseRun) -> Path:
    return _on_vectors(run, "motion-vectors", taught=False)


def _emv(run: BaseRun) -> Path:
    return _on_vectors(run, "emv", taught=True)


def _on_vectors(run: BaseRun, name: str, *, taught: bool) -> Path:
    store, flow = run.out / "motion-vector-store", run.configs["flow"].data
    options = FlowOptions(algorithm="motion-vectors", size=flow.flow_size, bound=flow.flow_bound)
    found = extract_flow(flow_jobs(run.index), store, options=options)
    if found.failures:
        video, reason = found.failures[0]
        raise KinemaError(
            f"No motion vectors for {len(found.failures)} videos (first {video}: {reason}): leave "
            "motion-vectors and emv out of --fusion."
        )
    config = plans.motion_vectors(run.streams, store=store, taught=taught)
    return train(config, run.folder(name), device=run.device).best


_PLANS: Mapping[str, Callable[[plans.Streams], Config]] = {  # one training, on the streams alone
    "joint": plans.joint,
    "conv": plans.conv,
    "rgb-taught": plans.rgb_taught,
}
_NETWORKS: Mapping[str, Callable[[BaseRun], Path]] = {
    "tle": _tle,
    "hidden": _hidden,
    "motion-vectors": _motion_vectors,
    "emv": _emv,
}


def _rows_of(name: str, run: BaseRun, file: Path) -> list[dict[str, Any]]:
    kind = "scores" if name in plans.ON_SCORES else "time" if name in plans.OVER_TIME else "network"
    scores = _test(name, run, file)
    rows = [_row(run, name, kind, [file], scores)]
    if name in _ALONE:
        both = fuse([run.test["rgb"], scores], rule=run.rule, weights=(1.0, 1.0))
        rows.append(_row(run, f"rgb and {name}", kind, [run.file("rgb"), file], both))
        rows[-1]["training_seconds"] = rows[0]["training_seconds"]
    return rows


def _test(name: str, run: BaseRun, file: Path) -> Scores:
    path = run.scores_file(name)
    if name in plans.ON_SCORES:  # they are what it was learned for
        return load_scores(path)
    config = run.configs["rgb"]
    videos = run.index.part("test", official=config.data.official_split)
    over_time = name in plans.OVER_TIME
    options = TestOptions(protocol="" if over_time else run.protocol, device=run.device)
    return current_scores(
        file,
        path,
        part="test",
        ids=[video.id for video in videos],
        protocol="centre-1" if over_time else config.protocol,
        options=options,
        name=f"the fusion {name}",
    )


def _row(
    run: BaseRun, name: str, kind: str, files: Sequence[Path], scores: Scores
) -> dict[str, Any]:
    """Return a row of the comparison; a row of several files is their fusion."""
    if len(files) > 1:
        save_scores(scores, run.scores_file(name))
    step = f"train {name}" if kind == "stream" else f"fusion {name}"
    return {
        "name": name,
        "kind": kind,
        "files": [str(file.relative_to(run.out)) for file in files],
        "metrics": summary(scores),
        "training_seconds": run.clock.seconds.get(step, 0.0),
        "prediction_seconds": _prediction_seconds(run, files),
    }


def _prediction_seconds(run: BaseRun, files: Sequence[Path]) -> float:
    """Time the prediction of a test video with everything: decoding, flow where needed, networks.

    It is noted, so that a run that is taken up again shows the same.
    """
    noted = run.out / "prediction-seconds.json"
    known: dict[str, float] = read_json(noted) if noted.exists() else {}
    key = " ".join(weights_hash(file) for file in files)
    if key not in known:
        videos = run.index.part("test", official=run.configs["rgb"].data.official_split)
        paths = [str(video.path) for video in videos[: _TIMED_VIDEOS + 1]]
        options = PredictOptions(device=run.device)
        predict(files, paths[:1], options=options)
        started = time.monotonic()
        predict(files, paths[1:] or paths, options=options)
        known[key] = (time.monotonic() - started) / len(paths[1:] or paths)
        write_json(noted, known)
    return known[key]
