"""Batches from loading processes: deterministic, resumable, shared out over ranks.

Processes are forked on Linux: they share the package, the list of videos and the frame cache with
the training process instead of importing and copying them, and starting them takes milliseconds,
so they live for one epoch. Elsewhere they are started anew and kept. They compute with one thread
and touch no accelerator.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import default_collate

from kinema.data.items import ClipItem
from kinema.errors import KinemaError

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # x_BNTCHW uint8, labels_B, indices_B
TestItem = tuple[int, int, torch.Tensor]  # video, first clip, x_NTCHW uint8


class Clips(Protocol):
    """What training is done on: clips of videos, drawn anew in every epoch."""

    def __len__(self) -> int:
        """Return how many videos there are."""

    def clips(self, index: int, *, epoch: int) -> Sequence[tuple[torch.Tensor, int, int]]:
        """Return clips of a video in an epoch: (x, label, index) each."""


class WholeClips(Protocol):
    """What is tested on: see `kinema.data.clips.TestClips`."""

    @property
    def items(self) -> Sequence[ClipItem]:
        """The videos."""

    @property
    def parts(self) -> list[int]:
        """How many items hold the clips of each video."""

    @property
    def num_clips(self) -> Sequence[int]:
        """Clips of each video."""

    def __len__(self) -> int:
        """Return how many items there are."""

    def __getitem__(self, index: int) -> TestItem:
        """Return (video, first clip, x_NTCHW)."""


Sample = TypeVar("Sample")

_PREFETCH_BATCHES = 2  # per process


def epoch_batches(
    num_items: int, *, batch_size: int, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """Return the indices of one rank's batches in an epoch.

    The order of an epoch is a permutation from (seed, epoch), cut into global batches of
    `batch_size` x `world`; each rank takes its slice of every global batch, so the set of videos
    of a step does not depend on the number of ranks. The last global batch may be smaller: its
    slices then differ by at most one video (where it has fewer videos than there are ranks, some
    are used twice, because every rank needs one).
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_items)
    step = batch_size * world
    batches = [order[begin : begin + step] for begin in range(0, num_items, step)]
    if batches and len(batches[-1]) < world:
        batches[-1] = np.resize(batches[-1], world)
    return [np.array_split(batch, world)[rank].tolist() for batch in batches]


def train_loader(
    dataset: Clips,
    *,
    batch_size: int,
    seed: int,
    epoch: int = 0,
    start_batch: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 2,
) -> "TrainLoader":
    """Return the batches of an epoch; `TrainLoader.set_epoch` moves on with the same processes.

    Args:
        dataset: the clips.
        batch_size: videos per batch and rank.
        seed: of the order of the videos.
        epoch: the first one.
        start_batch: batches of that epoch that are left out, because they are done already.
        rank: of this training process.
        world: number of training processes.
        workers: loading processes; 0 loads in this one.
    """
    plan = _EpochPlan(len(dataset), batch_size=batch_size, seed=seed, rank=rank, world=world)
    plan.set_epoch(epoch, start_batch=start_batch)
    return TrainLoader(dataset, plan, workers=workers)


class _EpochPlan(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of the batches that are left of an epoch."""

    def __init__(
        self, num_items: int, *, batch_size: int, seed: int, rank: int, world: int
    ) -> None:
        self._num_items, self._batch_size, self._seed = num_items, batch_size, seed
        self._rank, self._world = rank, world
        self.set_epoch(0, start_batch=0)

    def set_epoch(self, epoch: int, *, start_batch: int) -> None:
        batches = epoch_batches(
            self._num_items,
            batch_size=self._batch_size,
            seed=self._seed,
            epoch=epoch,
            rank=self._rank,
            world=self._world,
        )
        self._batches = [[(epoch, index) for index in batch] for batch in batches[start_batch:]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class TrainLoader:
    """Batches (x_BNTCHW uint8, labels_B int64, indices_B int64) of the epoch that is set.

    B counts clips: with `augment.repeats` those of one video lie side by side.

    Iterating raises KinemaError with one clear sentence for a video that cannot be read, also
    where a loading process found it.
    """

    def __init__(self, dataset: Clips, plan: _EpochPlan, *, workers: int) -> None:
        self._plan = plan
        self._loader: DataLoader[Any] = DataLoader(
            _TrainGuard(dataset),
            batch_sampler=plan,
            collate_fn=_collate,
            **_process_options(min(workers, len(plan))),
        )

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        yield from _raising(self._loader)

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and how many of its batches are left out."""
        self._plan.set_epoch(epoch, start_batch=start_batch)


def test_loader(dataset: WholeClips, *, workers: int = 2) -> Iterator[TestItem]:
    """Yield all items of a test: (video, first clip, x_NTCHW uint8), parts of a video in order.

    Each loading process works on another video, so that it can read on where it stopped; items of
    as many videos as there are processes take turns.
    """
    workers = min(workers, len(dataset.items))
    loader: DataLoader[Any] = DataLoader(
        _Guard(dataset),
        batch_size=None,
        sampler=_interleaved(dataset.parts, workers),
        collate_fn=_as_it_is,
        **_process_options(workers),
    )
    yield from _raising(loader)


test_loader.__test__ = False  # type: ignore[attr-defined]  # its name is no test for pytest


def _interleaved(parts: Sequence[int], workers: int) -> list[int]:
    """Order items so that round robin gives all parts of a video to one process.

    Videos with fewer parts than others of their group are done earlier; the turns then shift.
    """
    together = max(workers, 1)
    firsts = np.cumsum([0, *parts])
    return [
        int(firsts[video]) + part
        for begin in range(0, len(parts), together)
        for part in range(max(parts[begin : begin + together]))
        for video in range(begin, min(begin + together, len(parts)))
        if part < parts[video]
    ]


@dataclass(frozen=True)
class _Failure:
    """A user's error on its way out of a loading process, without torch's traceback text."""

    message: str


class _Guard(Dataset[Any]):
    """A data set that returns errors of users as values."""

    def __init__(self, dataset: WholeClips) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> TestItem | _Failure:
        try:
            return self._dataset[index]
        except KinemaError as error:
            return _Failure(str(error))


class _TrainGuard(Dataset[Any]):
    """The same for the training clips of a video, which are asked for with their epoch."""

    def __init__(self, dataset: Clips) -> None:
        self._dataset = dataset

    def __getitem__(self, epoch_index: tuple[int, int]) -> Sequence[Any] | _Failure:
        epoch, index = epoch_index
        try:
            return self._dataset.clips(index, epoch=epoch)
        except KinemaError as error:
            return _Failure(str(error))


def _collate(samples: list[Any]) -> Any:  # noqa: ANN401
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    return tuple(default_collate([clip for clips in samples for clip in clips]))


def _as_it_is(sample: Sample) -> Sample:
    return sample


def _raising(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield what loads and raise what failed."""
    try:
        for batch in loader:
            if isinstance(batch, _Failure):
                raise KinemaError(batch.message)
            yield tuple(batch)
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise KinemaError(
            "A loading process died, most often because memory (or /dev/shm in a container) ran "
            "out. Use fewer processes (data.workers) or smaller batches (train.batch_size)."
        ) from error


def _process_options(workers: int) -> dict[str, Any]:
    """Return the options of a loader; more processes than cores would only take turns."""
    workers = min(workers, max(os.cpu_count() or 1, 2))
    options: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
        # Its own generator: without one, each epoch would move the global random state on.
        "generator": torch.Generator(),
    }
    if workers:
        forks = sys.platform == "linux"
        options["multiprocessing_context"] = "fork" if forks else None
        options["persistent_workers"] = not forks
        options["prefetch_factor"] = _PREFETCH_BATCHES
        options["worker_init_fn"] = _start_process
    return options


def _start_process(_number: int) -> None:
    # Signals that ask the training to stop are its own business: it still wants the next batch.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    os.environ["OMP_NUM_THREADS"] = "1"  # flow on the fly reads it
