"""The streams of a configuration: one, or two that are read from the same places of the videos."""

import math
from dataclasses import replace
from pathlib import Path

from kinema.config import Config, SecondConfig
from kinema.errors import UsageError

_USUAL_STACKS = {"rgb": 1, "rgbdiff": 5, "flow": 10}


def has_second(config: Config) -> bool:
    """Tell whether the result of a training has two streams (a teacher is no part of it)."""
    return bool(config.second.modality)


def stream_name(config: Config) -> str:
    """Return ``rgb``, ``flow`` or ``rgbdiff``, or two of them such as ``rgb+flow``."""
    first = config.data.modality
    return f"{first}+{config.second.modality}" if has_second(config) else first


def first_stream(config: Config) -> Config:
    """Return the configuration of the first stream alone."""
    return replace(config, second=SecondConfig())


def second_stream(config: Config) -> Config:
    """Return the configuration of the second stream alone.

    Raises:
        UsageError: there is none.
    """
    second = config.second
    if not second.modality:
        raise UsageError("There is no second stream: set second.modality, such as flow.")
    data = replace(
        config.data,
        modality=second.modality,
        stack=second.stack or _USUAL_STACKS[second.modality],
        interval=second.interval,
        flow_store=second.flow_store or config.data.flow_store,
    )
    model = replace(
        config.model,
        backbone=second.backbone or config.model.backbone,
        weights=second.weights,
        motion="",
        motion_weights="",
    )
    return replace(config, data=data, model=model, second=SecondConfig())


def stream_configs(config: Config) -> tuple[Config, ...]:
    """Return the configuration of every stream alone, the first one's first."""
    first = first_stream(config)
    return (first, second_stream(config)) if has_second(config) else (first,)


def check_streams(config: Config) -> None:
    """Refuse settings of the second stream that do not go together.

    Raises:
        UsageError: says which, and what is allowed.
    """
    second = config.second
    if second.modality and second.teacher:
        raise UsageError(
            "second.modality trains both networks, second.teacher one by the other: give one of "
            "them."
        )
    if not (second.modality or second.teacher):
        _check_none(second)
        return
    for name, least in (("stack", 0), ("interval", 1)):
        value = getattr(second, name)
        if value < least:
            raise UsageError(f"second.{name}={value} is not possible: {least} or more.")
    for name in ("lr", "distil_weight"):
        value = getattr(second, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"second.{name}={value:g} is not possible: 0 or more.")
    if not (math.isfinite(second.temperature) and second.temperature > 0):
        raise UsageError(f"second.temperature={second.temperature:g} is not possible: above 0.")
    if config.augment.randaugment:
        raise UsageError(
            "augment.randaugment changes colours, which flow has none of: it cannot be drawn for "
            "two streams. Leave it empty."
        )
    _check_teacher(config) if second.teacher else _check_fusion(config)


def _check_none(second: SecondConfig) -> None:
    if second.distil != "none":
        raise UsageError(
            f"second.distil={second.distil} needs a network to learn from: set "
            "second.teacher=CHECKPOINT, such as RUN/flow/best.safetensors, or "
            "second.modality=flow to train both together."
        )
    if second != SecondConfig():
        raise UsageError(
            "The section `second` has settings, but there is no second stream: set "
            "second.modality=flow (trained together) or second.teacher=CHECKPOINT."
        )


def _check_teacher(config: Config) -> None:
    second = config.second
    if not Path(second.teacher).is_file():
        raise UsageError(
            f"second.teacher={second.teacher}: there is no such file. Give a checkpoint, such as "
            "RUN/flow/best.safetensors."
        )
    if second.distil == "none":
        raise UsageError(
            "second.teacher teaches nothing with second.distil=none: choose soft (its "
            "probabilities) or features (what is before its classifier)."
        )
    if second.fusion != "scores":
        raise UsageError(f"second.fusion={second.fusion} is for two networks that stay together.")


def _check_fusion(config: Config) -> None:
    second, consensus = config.second, config.model.consensus
    if second.fusion == "features":
        if second.distil != "none" or second.loss != "all":
            raise UsageError(
                "second.fusion=features gives one score of both streams: second.loss and "
                "second.distil have nothing to compare."
            )
        return
    if second.fusion == "scores":
        return
    if second.distil != "none":
        raise UsageError(
            f"second.fusion={second.fusion} makes one network of both: there is nothing that one "
            "could teach the other. Leave second.distil=none."
        )
    if consensus not in ("average", "sum"):
        raise UsageError(
            f"second.fusion={second.fusion} needs model.consensus=average or sum, not {consensus}."
        )
    if second.fusion in ("concat", "bilinear") and second.layer:
        raise UsageError(
            f"second.fusion={second.fusion} changes how many channels there are, so no layer can "
            "follow: leave second.layer empty, or choose sum, max or conv."
        )
