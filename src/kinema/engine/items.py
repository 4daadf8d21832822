"""From the videos of an index to the clips that are trained and tested on."""

from collections.abc import Sequence
from pathlib import Path

from kinema.data.clips import ClipItem
from kinema.datasets.index import Index, Video
from kinema.errors import KinemaError
from kinema.flow.job import FlowJob
from kinema.flow.store import flow_path


def clip_items(
    videos: Sequence[Video], *, classes: Sequence[str], flow_store: str = ""
) -> tuple[ClipItem, ...]:
    """Return one item per video, labels as positions in `classes`.

    Raises:
        KinemaError: a label is not among `classes`, or a stored flow file is missing.
    """
    positions = {name: i for i, name in enumerate(classes)}
    unknown = sorted({video.label for video in videos} - set(positions))
    if unknown:
        raise KinemaError(
            f"The index has the label '{unknown[0]}', which the network was not trained on. "
            f"It knows {len(classes)} classes: {', '.join(list(classes)[:10])}"
            f"{', …' if len(classes) > 10 else ''}."
        )
    store = Path(flow_store) if flow_store else None
    items = tuple(
        ClipItem(
            id=video.id,
            path=video.path,
            label=positions[video.label],
            num_frames=video.num_frames,
            flow_path=flow_path(store, video.id) if store else None,
        )
        for video in videos
    )
    missing = [item.id for item in items if item.flow_path and not item.flow_path.is_file()]
    if missing:
        raise KinemaError(
            f"{len(missing)} of {len(items)} videos have no flow in {flow_store} "
            f"(first: {missing[0]}): run `kinema flow` again, it goes on where it stopped."
        )
    return items


def flow_jobs(index: Index) -> list[FlowJob]:
    """Return what the extraction of flow needs of an index."""
    return [
        FlowJob(id=video.id, path=video.path, num_frames=video.num_frames) for video in index.videos
    ]


def part_items(
    index: Index, part: str, *, classes: Sequence[str], flow_store: str = "", official: int = 1
) -> tuple[ClipItem, ...]:
    """Return the items of the part ``train``, ``val`` or ``test`` of an index."""
    return clip_items(index.part(part, official=official), classes=classes, flow_store=flow_store)
