"""From the videos of an index to the clips that are trained and tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kinema.config import DataConfig
from kinema.data.clips import ClipItem
from kinema.datasets.index import Index, Video
from kinema.errors import KinemaError
from kinema.flow.job import FlowJob
from kinema.flow.options import FlowOptions
from kinema.flow.store import flow_path
from kinema.packing.job import PackJob
from kinema.video.packed import store_path


def clip_items(
    videos: Sequence[Video], *, classes: Sequence[str], flow_store: str = "", frame_store: str = ""
) -> tuple[ClipItem, ...]:
    """Return one item per video, labels as positions in `classes`.

    Args:
        videos: rows of an index.
        classes: what the network knows.
        flow_store: folder made by `kinema flow`; empty: flow is computed on the fly.
        frame_store: folder made by `kinema pack`; empty: RGB frames come from the videos.

    Raises:
        KinemaError: a label is not among `classes`, or a stored file is missing.
    """
    positions = {name: i for i, name in enumerate(classes)}
    unknown = sorted({video.label for video in videos} - set(positions))
    if unknown:
        raise KinemaError(
            f"The index has the label '{unknown[0]}', which the network was not trained on. "
            f"It knows {len(classes)} classes: {', '.join(list(classes)[:10])}"
            f"{', …' if len(classes) > 10 else ''}."
        )
    flows, frames = (Path(store) if store else None for store in (flow_store, frame_store))
    items = tuple(
        ClipItem(
            id=video.id,
            path=video.path,
            label=positions[video.label],
            num_frames=video.num_frames,
            flow_path=flow_path(flows, video.id) if flows else None,
            frame_path=store_path(frames, video.id) if frames else None,
        )
        for video in videos
    )
    _refuse_missing({item.id: item.flow_path for item in items}, "flow", flow_store)
    _refuse_missing({item.id: item.frame_path for item in items}, "pack", frame_store)
    return items


def _refuse_missing(paths: Mapping[str, Path | None], verb: str, folder: str) -> None:
    missing = [video for video, path in paths.items() if path and not path.is_file()]
    if missing:
        what = {"flow": "flow", "pack": "frames"}[verb]
        raise KinemaError(
            f"{len(missing)} of {len(paths)} videos have no {what} in {folder} "
            f"(first: {missing[0]}): run `kinema {verb}` again, it goes on where it stopped."
        )


def flow_jobs(index: Index) -> list[FlowJob]:
    """Return what the extraction of flow needs of an index."""
    return [
        FlowJob(id=video.id, path=video.path, num_frames=video.num_frames) for video in index.videos
    ]


def pack_jobs(index: Index) -> list[PackJob]:
    """Return what the packing of frames needs of an index."""
    return [
        PackJob(id=video.id, path=video.path, num_frames=video.num_frames) for video in index.videos
    ]


def part_items(
    index: Index, part: str, *, classes: Sequence[str], data: DataConfig
) -> tuple[ClipItem, ...]:
    """Return the items of the part ``train``, ``val`` or ``test`` of an index, as `data` asks."""
    is_flow = data.modality == "flow"
    return clip_items(
        index.part(part, official=data.official_split),
        classes=classes,
        flow_store=data.flow_store if is_flow else "",
        frame_store="" if is_flow else data.frame_store,
    )


def with_flow(data: DataConfig, options: FlowOptions) -> DataConfig:
    """Return `data` with the settings of flow that these options stand for."""
    return replace(
        data,
        flow_algorithm=options.algorithm,
        flow_bound=options.bound,
        flow_size=options.size,
        flow_stride=options.stride,
        flow_gray=options.gray,
        flow_warp=options.warp,
    )
