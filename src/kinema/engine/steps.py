"""Optimiser steps, with clipped gradients, and only for losses that are numbers."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kinema.config import OptimConfig
from kinema.data.items import ClipItem
from kinema.engine.optim import learning_rate, set_rate
from kinema.engine.runtime import Runtime
from kinema.engine.session import TrainingState
from kinema.errors import KinemaError

REMEDY = (
    "Lower optim.lr, set optim.clip_norm, or use train.precision=fp32, and choose another output "
    "folder."
)


def optimiser_step(
    state: TrainingState[Any],
    optim: OptimConfig,
    *,
    steps_per_epoch: int,
    epochs: int,
    clipped: Iterable[nn.Module] = (),
) -> None:
    """Step by the gradients that are there, and forget them.

    Args:
        state: the training.
        optim: its schedule and `clip_norm`.
        steps_per_epoch: of the schedule.
        epochs: of the schedule.
        clipped: parts whose gradients are clipped each by its own norm; none: all together.
    """
    optimizer = state.optimizer
    rate = learning_rate(optim, step=state.step, steps_per_epoch=steps_per_epoch, epochs=epochs)
    set_rate(optimizer, rate * state.plateau.factor)
    if optim.clip_norm:
        state.scaler.unscale_(optimizer)
        for part in tuple(clipped) or (state.network,):
            nn.utils.clip_grad_norm_(part.parameters(), optim.clip_norm)
    state.scaler.step(optimizer)
    state.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.average:
        state.average.update(state.network)


def refuse_not_finite(
    loss: float,
    rows_B: torch.Tensor,
    *,
    items: tuple[ClipItem, ...],
    state: TrainingState[Any],
    place: Runtime,
    remedy: str = REMEDY,
) -> None:
    """Stop all processes where the loss of one is no finite number.

    Raises:
        KinemaError: names the videos of its batch.
    """
    if not any(place.sum(not math.isfinite(loss))):
        return
    mine = (loss, [items[row].id for row in dict.fromkeys(rows_B.tolist())])
    parts = [part for part in place.gather(mine) if not math.isfinite(part[0])]
    ids = ", ".join(name for _, names in parts for name in names)
    raise KinemaError(
        f"The loss became {parts[0][0]} at epoch {state.epoch + 1}, batch {state.batch + 1} "
        f"(videos: {ids}). {remedy}"
    )
