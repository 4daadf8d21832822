"""Between two optimiser steps: the state of a training is saved when it is time, or asked for."""

import time
from pathlib import Path
from typing import Any

from torch import nn

from kinema.engine.runtime import Runtime
from kinema.engine.session import StopSignal, TrainingState, save_session
from kinema.errors import KinemaError


class Saver:
    """Saves the state of a training to `state.pt` of its folder.

    Args:
        out: the run folder.
        place: where the training runs.
        index_hash: of the index that it belongs to.
        every_seconds: how often, inside an epoch.
    """

    def __init__(self, out: Path, place: Runtime, *, index_hash: str, every_seconds: float) -> None:
        self._out, self._place, self._index_hash = out, place, index_hash
        self._every_seconds, self._saved = every_seconds, time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time, for this process."""
        return time.monotonic() - self._saved >= self._every_seconds

    def save(self, session: TrainingState[Any]) -> None:
        """Save the state now."""
        path = self._out / "state.pt"
        save_session(path, session, self._place, index_hash=self._index_hash)
        self._saved = time.monotonic()

    def pause(self, session: TrainingState[Any], stop: StopSignal) -> None:
        """Save the state when it is time for any process; leave when one was asked to.

        Raises:
            KinemaError: asked to stop; says how to go on.
        """
        asked, due = self._place.sum(bool(stop.name), self.is_due)
        if not (asked or due):
            return
        self.save(session)
        if asked:
            raise KinemaError(
                f"Stopped by {stop.name or 'a signal'} in epoch {session.epoch + 1} after batch "
                f"{session.batch}: the state is saved in {self._out}, "
                "the same command goes on from there."
            )


def resume_line(session: TrainingState[Any], epochs: int) -> str:
    """Say where a training goes on."""
    if session.epoch == epochs:
        return f"All {epochs} epochs are done already."
    return f"Going on in epoch {session.epoch + 1} after batch {session.batch}."


def all_finite(network: nn.Module) -> bool:
    """Tell whether all weights are finite numbers."""
    return all(bool(value.isfinite().all()) for value in network.parameters())
