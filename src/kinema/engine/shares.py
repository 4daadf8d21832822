"""What a video counts in an optimiser step, whatever the number of processes and the last batch."""

from kinema.engine.runtime import Runtime


def group_size(num_items: int, *, batch: int, batch_size: int, accumulate: int, world: int) -> int:
    """Return how many videos, over all processes, are in the group of batches that `batch` is of.

    Args:
        num_items: videos of an epoch.
        batch: number in the epoch, from 0.
        batch_size: videos per process.
        accumulate: batches per optimiser step.
        world: processes.
    """
    group = batch_size * world * accumulate
    return min(group, num_items - batch // accumulate * group)


def video_weight(num_items: int, *, batch: int, batch_size: int, place: Runtime) -> float:
    """Return what each video of this process's batch counts.

    A last batch with fewer videos than processes is dealt out in turn, so that every process has
    one: those that several have count as one video together.
    """
    rest = num_items - batch * batch_size * place.world
    if rest >= place.world:
        return 1.0
    return 1.0 / len(range(place.rank % rest, place.world, rest))
