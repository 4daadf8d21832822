"""The training of a network that estimates flow, as a function; loads what it needs on use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.config import override

if TYPE_CHECKING:
    from kinema.engine.train_motion import MotionResult


def train_motion(
    index_folder: Path | str,
    out: Path | str,
    *,
    network: str = "motionnet-tiny",
    frame_store: Path | str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> MotionResult:
    """Train a MotionNet without labels: see `kinema.engine.train_motion`.

    Args:
        index_folder: what `index` made; its training videos are read.
        out: run folder; a training that was stopped there goes on.
        network: a name of `kinema.flow.motion_network`.
        frame_store: folder of packed frames; None reads the videos.
        overrides: ``section.field=value``, fields of `kinema.engine.motion_config`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    from kinema.datasets.index import absolute
    from kinema.engine.motion_config import motion_config
    from kinema.engine.train_motion import train_motion as train

    config = motion_config(network)
    data = dataclasses.replace(config.data, index=str(absolute(Path(index_folder))))
    if frame_store:
        data = dataclasses.replace(data, frame_store=str(absolute(Path(frame_store))))
    config = override(dataclasses.replace(config, data=data), overrides)
    return train(config, Path(out), device=device)
