"""What a training consists of at any moment, and how it is saved and taken up again."""

import dataclasses
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from kinema.config import from_dict, to_dict
from kinema.engine.checkpoint import load_state, save_state
from kinema.engine.optim import Average, Plateau
from kinema.engine.runtime import Runtime
from kinema.errors import KinemaError, UsageError
from kinema.files import read_json, write_json
from kinema.models.video_network import VideoNetwork

_FREE_TO_CHANGE = {
    "data.workers",
    "data.cache_mb",
    "train.threads",
    "train.save_every_seconds",
}


NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(kw_only=True)
class TrainingState(Generic[NetworkT]):
    """The state of a training; everything that a resume must restore is in here."""

    network: NetworkT
    model: nn.Module  # the network as it is called: possibly compiled and data-parallel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    plateau: Plateau
    average: Average | None
    epoch: int = 0
    batch: int = 0  # batches of the epoch that are done
    step: int = 0  # optimiser steps since the start
    best_top1: float = -1.0
    best_loss: float = math.inf
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch so far, this process


Session = TrainingState[VideoNetwork]  # of a network that recognises


def save_session(
    path: Path, session: TrainingState[Any], runtime: Runtime, *, index_hash: str
) -> None:
    """Write the state of all processes to one file."""
    processes = runtime.gather({"random": _random_state(runtime), "sums": session.sums})
    if not runtime.is_main:
        return
    state = {
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "scaler": session.scaler.state_dict(),
        "plateau": session.plateau.state_dict(),
        "average": session.average.values if session.average else None,
        "processes": processes,
        "index_hash": index_hash,
        "progress": {name: getattr(session, name) for name in _PROGRESS},
    }
    save_state(path, state)


_PROGRESS = ("epoch", "batch", "step", "best_top1", "best_loss")


def restore_session(
    path: Path, session: TrainingState[Any], runtime: Runtime, *, index_hash: str
) -> bool:
    """Take up a saved state; False where there is none.

    Raises:
        KinemaError: the state belongs to another index or another number of processes.
    """
    if not path.exists():
        return False
    state = load_state(path)
    if state["index_hash"] != index_hash:
        raise KinemaError(
            f"{path} belongs to a training on another index: it cannot be resumed on this one. "
            "Choose another output folder, or put the old index back."
        )
    if len(state["processes"]) != runtime.world:
        raise KinemaError(
            f"{path} was written by a training with {len(state['processes'])} processes and "
            f"cannot be resumed with {runtime.world}: start the same number."
        )
    session.network.load_state_dict(state["network"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.scaler.load_state_dict(state["scaler"])
    session.plateau.load_state_dict(state["plateau"])
    if session.average:
        device = next(session.network.parameters()).device
        session.average.values = {k: v.to(device) for k, v in state["average"].items()}
    for name, value in state["progress"].items():
        setattr(session, name, value)
    mine = state["processes"][runtime.rank]
    session.sums = mine["sums"]
    torch.set_rng_state(mine["random"]["cpu"])
    if runtime.device.type == "cuda":
        torch.cuda.set_rng_state(mine["random"]["cuda"], runtime.device)
    return True


def _random_state(runtime: Runtime) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if runtime.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(runtime.device)
    return states


def settle_config(config: Any, out: Path, runtime: Runtime) -> None:  # noqa: ANN401
    """Write the configuration, or check that an interrupted training had the same one.

    Args:
        config: of any kind of training: a dataclass of sections.
        out: the run folder.
        runtime: where the training runs.

    Raises:
        KinemaError: the folder holds a training with other settings.
    """
    path = out / "config.json"
    if path.exists():
        old, new = _flat(_held(config, path)), _flat(config)
        other = [name for name in new if old[name] != new[name] and name not in _FREE_TO_CHANGE]
        if other:
            raise KinemaError(
                f"{out} holds a training with {other[0]}={old[other[0]]} instead of "
                f"{new[other[0]]}"
                + (f" and {len(other) - 1} more differences" if len(other) > 1 else "")
                + ": choose another output folder, or the same settings to go on with it."
            )
    runtime.barrier()
    if runtime.is_main:
        write_json(path, to_dict(config))


def _held(config: Any, path: Path) -> Any:  # noqa: ANN401
    try:
        return from_dict(type(config), read_json(path))
    except UsageError as error:
        raise KinemaError(
            f"{path} does not go with this training: choose another output folder. {error}"
        ) from error


def _flat(config: Any) -> dict[str, Any]:  # noqa: ANN401
    flat: dict[str, Any] = {}
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if dataclasses.is_dataclass(value):
            fields = to_dict(value).items()
            flat.update({f"{section.name}.{name}": item for name, item in fields})
        else:
            flat[section.name] = value
    return flat


@dataclass
class StopSignal:
    """Whether the process was asked to stop (SIGTERM or Ctrl-C)."""

    name: str = ""


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Note SIGTERM and SIGINT instead of dying, so that the state can be saved first."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def note(number: int, _frame: FrameType | None) -> None:
        stop.name = signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
