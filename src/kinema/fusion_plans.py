"""What `kinema run --fusion` trains: the settings of every fusion, made from its streams'."""

import importlib.util
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from kinema.config import Config, DataConfig, Fusion, SecondConfig, TemporalHead
from kinema.errors import UsageError, did_you_mean
from kinema.trained_fusion import Method

NetworkFusion = Literal["joint", "conv", "tle", "rgb-taught", "hidden", "motion-vectors", "emv"]

ON_SCORES: tuple[str, ...] = get_args(Method)
OVER_TIME: tuple[str, ...] = get_args(TemporalHead)
NETWORKS: tuple[str, ...] = get_args(NetworkFusion)
FUSIONS = (*ON_SCORES, *OVER_TIME, *NETWORKS)

FEATURE_CLIPS = 10  # of a video, for fusion over time
FEATURE_PASSES = 3  # random ones of every training video
_HEAD_EPOCHS, _HEAD_BATCH, _HEAD_RATE = 60, 32, 1e-3
_FINE_SHARE = 3  # networks that begin with finished ones learn for 1/3 of their epochs …
_FINE_RATE = 0.3  # … at this share of the rate
_TEMPERATURE = 2.0


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The finished streams that a fusion begins with."""

    rgb: Config
    flow: Config
    rgb_file: Path
    flow_file: Path


def chosen_fusions(text: str, *, has_val: bool) -> tuple[str, ...]:
    """Return the names in "NAME,NAME" or "all".

    "all" leaves out what cannot be trained here: fusions of scores without validation videos, and
    svm without scikit-learn.

    Args:
        text: as given.
        has_val: there are validation videos, which fusions of scores learn on.

    Raises:
        UsageError: an unknown name, or one that cannot be trained here.
    """
    has_svm = importlib.util.find_spec("sklearn") is not None
    if text == "all":
        left_out = ON_SCORES if not has_val else () if has_svm else ("svm",)
        return tuple(name for name in FUSIONS if name not in left_out)
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in FUSIONS:
            raise UsageError(
                f"There is no fusion '{name}'.{did_you_mean(name, FUSIONS)} Choose all, or some of "
                f"{', '.join(FUSIONS)}."
            )
        if name == "svm" and not has_svm:
            raise UsageError(
                "The fusion 'svm' needs scikit-learn: pip install 'kinema[svm]', or choose another."
            )
        if name in ON_SCORES and not has_val:
            raise UsageError(
                f"The fusion '{name}' learns on validation videos, of which this data set has "
                "none: set --val-fraction above 0, or choose another."
            )
    return names


def head_over_time(name: str, streams: Streams, *, features: Path) -> Config:
    """Return the training of a consensus on the stored features of both streams."""
    both = _both(streams, fusion="features")
    return replace(
        both,
        recipe=f"run-{name}",
        data=replace(both.data, features=str(features), num_segments=FEATURE_CLIPS),
        model=replace(
            both.model,
            consensus=name,  # type: ignore[arg-type]
            finetune_from="consensus",
            dropout=(0.5,),
        ),
        optim=replace(
            both.optim,
            name="adamw",
            lr=_HEAD_RATE,
            momentum=0.9,
            weight_decay=0.05,
            schedule="onecycle",
            warmup_epochs=0.0,
            accumulate=1,
            layer_decay=1.0,
        ),
        augment=replace(both.augment, mixup=0.0, cutmix=0.0, repeats=1),
        train=replace(both.train, epochs=_HEAD_EPOCHS, batch_size=_HEAD_BATCH, keep="last"),
        protocol="centre-1",
    )


def joint(streams: Streams) -> Config:
    """Return the training of both networks together, with the losses of each and of their sum."""
    return _fine(_both(streams, fusion="scores"), "joint")


def conv(streams: Streams) -> Config:
    """Return that of convolutional fusion at the last map, with both towers kept."""
    both = _both(streams, fusion="conv")
    return _fine(replace(both, second=replace(both.second, keep="both")), "conv")


def tle(streams: Streams) -> tuple[Config, Config]:
    """Return both steps of Temporal Linear Encoding: the new layers alone, then everything.

    The second one begins with the files of the first, which are not named yet.
    """
    both = _both(streams, fusion="scores")
    both = replace(both, model=replace(both.model, consensus="tle"))
    fine = _fine(both, "tle")
    first = replace(
        both,
        recipe="run-tle",
        model=replace(both.model, finetune_from="consensus"),
        train=replace(both.train, epochs=max(fine.train.epochs // 2, 1)),
    )
    return first, fine


def begin_with(config: Config, *, first: Path, second: Path) -> Config:
    """Return a training of two streams that begins with two files."""
    return replace(
        config,
        model=replace(config.model, weights=str(first)),
        second=replace(config.second, weights=str(second)),
    )


def rgb_taught(streams: Streams) -> Config:
    """Return the training of the rgb stream with the flow stream as its teacher."""
    rgb = replace(streams.rgb, recipe="run-rgb-taught")
    return replace(rgb, second=_teacher(streams.flow, streams.flow_file))


def hidden(streams: Streams, *, motion: Path) -> Config:
    """Return the second stage of the hidden stream, on the flow stream's weights."""
    flow = streams.flow
    rgb = replace(
        streams.rgb,
        data=replace(streams.rgb.data, stack=flow.data.stack + 1, interval=flow.data.interval),
        model=replace(
            flow.model,
            weights=str(streams.flow_file),
            motion="motionnet-tiny",
            motion_weights=str(motion),
        ),
    )
    return _fine(rgb, "hidden")


def motion_vectors(streams: Streams, *, store: Path, taught: bool) -> Config:
    """Return the training of the motion-vector stream, from nothing or taught by flow (EMV)."""
    flow = streams.flow
    data = replace(
        flow.data, flow_store=str(store), flow_algorithm="motion-vectors", flow_weights=""
    )
    config = replace(flow, data=data, recipe="run-emv" if taught else "run-motion-vectors")
    if not taught:
        return config
    return replace(
        config,
        model=replace(config.model, weights=str(streams.flow_file)),
        second=_teacher(flow, streams.flow_file),
    )


def _teacher(config: Config, file: Path) -> SecondConfig:
    return SecondConfig(
        teacher=str(file),
        distil="soft",
        temperature=_TEMPERATURE,
        flow_store=config.data.flow_store,
    )


def _both(streams: Streams, *, fusion: Fusion) -> Config:
    """Return a training of both streams that begins with their weights."""
    rgb, flow = streams.rgb, streams.flow
    settings = {
        field.name: getattr(flow.data, field.name)
        for field in fields(DataConfig)
        if field.name.startswith("flow_")
    }
    return replace(
        rgb,
        data=replace(rgb.data, **settings),
        model=replace(rgb.model, weights=str(streams.rgb_file)),
        second=SecondConfig(
            modality="flow",
            stack=flow.data.stack,
            interval=flow.data.interval,
            backbone=flow.model.backbone,
            weights=str(streams.flow_file),
            fusion=fusion,
            loss="all",
        ),
    )


def _fine(config: Config, name: str) -> Config:
    epochs = max(config.train.epochs // _FINE_SHARE, 1)
    return replace(
        config,
        recipe=f"run-{name}",
        optim=replace(config.optim, lr=config.optim.lr * _FINE_RATE),
        train=replace(config.train, epochs=epochs),
    )
