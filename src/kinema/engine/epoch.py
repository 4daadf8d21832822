"""The batches that are left of an epoch, with a bar, the time spent waiting, and sums."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol

from kinema.console import progress
from kinema.data.loader import Batch, Clips, TrainLoader, train_loader
from kinema.engine.optim import current_rate
from kinema.engine.runtime import Runtime
from kinema.engine.session import TrainingState


class TrainSettings(Protocol):
    """What loading needs of a section `train`."""

    @property
    def batch_size(self) -> int:
        """Items per process and batch."""

    @property
    def seed(self) -> int:
        """Of the order of the items."""


def state_loader(
    clips: Clips,
    state: TrainingState[Any],
    place: Runtime,
    *,
    settings: TrainSettings,
    workers: int,
) -> TrainLoader:
    """Return the batches of this process from where the training is."""
    return train_loader(
        clips,
        batch_size=settings.batch_size,
        seed=settings.seed,
        epoch=state.epoch,
        start_batch=state.batch,
        rank=place.rank,
        world=place.world,
        workers=workers,
    )


class Epoch:
    """One epoch of a training, or the rest of it where it was interrupted.

    Iterating gives batches; after each of them `add` takes what it came to. Used as a context, so
    that the bar is closed on errors too.

    Args:
        state: the training; its batch and sums move on with every `add`.
        loader: where batches come from.
        place: this process.
        num_batches: of a whole epoch.
        epochs: of the training, for the bar.
    """

    def __init__(
        self,
        state: TrainingState[Any],
        loader: TrainLoader,
        place: Runtime,
        *,
        num_batches: int,
        epochs: int,
    ) -> None:
        self._state, self._loader, self._place = state, loader, place
        self._first, self._num_batches = state.batch, num_batches
        self._title = f"epoch {state.epoch + 1}/{epochs}"
        self._stack = ExitStack()
        self._started, self._waited = time.monotonic(), 0.0

    def __enter__(self) -> "Epoch":
        left = self._num_batches - self._first
        bar = progress(left, self._title, show=self._place.is_main)
        self._advance = self._stack.enter_context(bar)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def __iter__(self) -> Iterator[Batch]:
        self._loader.set_epoch(self._state.epoch, start_batch=self._first)
        batches = iter(self._loader)
        while self._state.batch < self._num_batches:
            asked = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - asked
            yield batch

    def add(self, values: Mapping[str, float]) -> None:
        """Count a batch: sums over its clips, such as ``train_loss``, and how many ``clips``."""
        sums = self._state.sums
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        self._state.batch += 1
        self._advance(1, f"loss {sums['train_loss'] / sums['clips']:.3f}")

    def finish(self, *, clips_per_batch: int) -> dict[str, Any]:
        """End the epoch and return its figures over all processes; sums become means per clip."""
        state, seconds = self._state, time.monotonic() - self._started
        names = sorted(state.sums)
        sums = dict(zip(names, self._place.sum(*(state.sums[n] for n in names)), strict=True))
        clips = sums.pop("clips")
        done = (self._num_batches - self._first) * clips_per_batch * self._place.world
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
        return {
            "lr": current_rate(state.optimizer),
            **{name: value / clips for name, value in sums.items()},
            "clips_per_second": done / seconds,
            "data_wait": self._waited / seconds,
        }
