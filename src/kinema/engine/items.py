"""From the videos of an index to the clips that are trained and tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kinema.config import Config, DataConfig
from kinema.data.clips import ClipItem
from kinema.datasets.index import (
    INDEX_FILE,
    Index,
    Video,
    absolute,
    check_files,
    read_index,
)
from kinema.datasets.listing import id_of, video_files
from kinema.errors import KinemaError
from kinema.flow.convert import UNKNOWN
from kinema.flow.formats.root import is_old_flow, old_flow_of
from kinema.flow.formats.videos import OldVideo
from kinema.flow.job import FlowJob
from kinema.flow.manifest import MANIFEST, stored_options
from kinema.flow.options import FlowOptions
from kinema.flow.store import flow_path
from kinema.framing.job import FrameJob
from kinema.packing.job import PackJob
from kinema.streams import has_second, second_stream
from kinema.video.images import is_there
from kinema.video.packed import store_path


def clip_items(
    videos: Sequence[Video],
    *,
    classes: Sequence[str],
    flow_store: str = "",
    frame_store: str = "",
    flow_stride: int = 1,
) -> tuple[ClipItem, ...]:
    """Return one item per video, labels as positions in `classes`.

    Args:
        videos: rows of an index.
        classes: what the network knows.
        flow_store: folder made by `kinema flow`, or flow of an older tool; empty: flow is computed
            on the fly.
        frame_store: folder made by `kinema pack`; empty: RGB frames come from the videos.
        flow_stride: which flow of an older tool, where it has several.

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
    old: Mapping[str, OldVideo] = {}
    if flows and videos and is_old_flow(flows):
        old = old_flow_of(flows, [video.id for video in videos], stride=flow_stride)
        flows = None
    items = tuple(
        ClipItem(
            id=video.id,
            path=video.path,
            label=positions[video.label],
            num_frames=video.num_frames,
            fps=video.fps,
            segment=video.segment,
            flow_path=flow_path(flows, video.id) if flows else None,
            frame_path=store_path(frames, video.id) if frames else None,
            old_flow=old.get(video.id),
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
        advice = f"run `kinema {verb}` again, it goes on where it stopped."
        if len(missing) == len(paths):
            advice = f"give the folder that `kinema {verb}` made of this index."
        raise KinemaError(
            f"{len(missing)} of {len(paths)} videos have no {what} in {folder} "
            f"(first: {missing[0]}): {advice}"
        )


def flow_jobs(index: Index) -> list[FlowJob]:
    """Return what the extraction of flow needs of an index."""
    return [
        FlowJob(id=video.id, path=video.path, num_frames=video.num_frames, segment=video.segment)
        for video in index.videos
    ]


def pack_jobs(index: Index) -> list[PackJob]:
    """Return what the packing of frames needs of an index."""
    return [
        PackJob(id=video.id, path=video.path, num_frames=video.num_frames, segment=video.segment)
        for video in index.videos
    ]


def frame_jobs(source: Path, out: Path) -> list[FrameJob]:
    """Return what the writing of images needs of an index, a folder of videos or one video.

    Args:
        source: any of these.
        out: where the images will go; left out where it is in `source`.

    Raises:
        KinemaError: there is nothing.
    """
    source, out = absolute(source), absolute(out)
    if (source / INDEX_FILE).is_file():
        index = read_index(source)
        check_files(index)
        return [_frame_job(video) for video in index.videos]
    paths = video_files(source, skip=out) if source.is_dir() else [source]
    if not paths or not is_there(paths[0]):
        what = "holds no video" if source.is_dir() else "does not exist"
        raise KinemaError(f"{source} {what}: give an index, a folder of videos or a video.")
    root = source if source.is_dir() and paths != [source] else source.parent
    return [
        FrameJob(id=id_of(path.relative_to(root), is_folder=path.is_dir()), path=path)
        for path in paths
    ]


def _frame_job(video: Video) -> FrameJob:
    return FrameJob(
        id=video.id,
        path=video.path,
        label=video.label,
        num_frames=video.num_frames,
        fps=video.fps,
        segment=video.segment,
    )


def part_items(
    index: Index, part: str, *, classes: Sequence[str], config: Config
) -> tuple[ClipItem, ...]:
    """Return the items of the part ``train``, ``val`` or ``test`` of an index, as a run reads them.

    Those of two streams carry the item of the second one.
    """
    items = stream_items(index, part, classes=classes, data=config.data)
    if not has_second(config):
        return items
    others = stream_items(index, part, classes=classes, data=second_stream(config).data)
    return tuple(replace(item, second=other) for item, other in zip(items, others, strict=True))


def stream_items(
    index: Index, part: str, *, classes: Sequence[str], data: DataConfig
) -> tuple[ClipItem, ...]:
    """Return the items of a part for one stream."""
    is_flow = data.modality == "flow"
    return clip_items(
        index.part(part, official=data.official_split),
        classes=classes,
        flow_store=data.flow_store if is_flow else "",
        frame_store="" if is_flow else data.frame_store,
        flow_stride=data.flow_stride,
    )


def with_stored_flow(data: DataConfig, store: Path) -> DataConfig:
    """Return `data` with what a folder of flow tells of itself.

    Flow of an older tool tells nothing: its bound is what `data` says, its algorithm is unknown,
    so that no other flow can be computed in its place.

    Raises:
        KinemaError: there is no flow.
    """
    if not (store / MANIFEST).is_file() and is_old_flow(store):
        return replace(data, flow_algorithm=UNKNOWN)
    return with_flow(data, stored_options(store))


def with_flow(data: DataConfig, options: FlowOptions) -> DataConfig:
    """Return `data` with the settings of flow that these options stand for."""
    return replace(
        data,
        flow_algorithm=options.algorithm,
        flow_weights=options.weights,
        flow_bound=options.bound,
        flow_size=options.size,
        flow_stride=options.stride,
        flow_gray=options.gray,
        flow_warp=options.warp,
    )
