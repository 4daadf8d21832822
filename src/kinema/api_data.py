"""The verbs that bring data in: indexes, stores, image folders; each loads what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinema.datasets.build import BuildReport
    from kinema.datasets.doctor import Diagnosis, DoctorOptions
    from kinema.datasets.download import DownloadOptions, DownloadReport
    from kinema.datasets.names import DatasetName, ListFormat
    from kinema.datasets.splits import SplitRule
    from kinema.flow.convert import ConvertSummary
    from kinema.flow.extract import FlowSummary
    from kinema.flow.job import FlowOptions
    from kinema.flow.store import Quality
    from kinema.framing.frames import FrameSummary
    from kinema.framing.options import FrameOptions
    from kinema.packing.pack import PackSummary


def index(
    data: Path | str,
    out: Path | str,
    *,
    dataset: DatasetName = "auto",
    splits_folder: Path | None = None,
    rule: SplitRule | None = None,
    min_frames: int = 2,
    strict: bool = False,
    fps: float = 0.0,
    workers: int | None = None,
) -> BuildReport:
    """Make an index from a folder of videos or a CSV file: see `kinema.datasets.build`."""
    from kinema.datasets.build import build_index

    return build_index(
        Path(data),
        Path(out),
        dataset=dataset,
        splits_folder=splits_folder,
        rule=rule,
        min_frames=min_frames,
        strict=strict,
        fps=fps,
        workers=workers,
    )


def download(
    name: str, out: Path | str, *, options: DownloadOptions | None = None
) -> DownloadReport:
    """Fetch and unpack a public data set by its name: see `kinema.datasets.download`."""
    from kinema.datasets.download import download as fetch_data_set

    return fetch_data_set(name, Path(out), options=options)


def export_index(
    index_folder: Path | str, out: Path | str, *, format: ListFormat, root: str = ""
) -> list[Path]:
    """Write an index as the lists of an older tool: see `kinema.datasets.export`."""
    from kinema.datasets.export import export_index as export
    from kinema.datasets.index import read_index

    return export(read_index(Path(index_folder)), Path(out), format=format, root=root)


def doctor(
    index_folder: Path | str,
    *,
    html: Path | str | None = None,
    options: DoctorOptions | None = None,
) -> Diagnosis:
    """Examine an index, and write a page if `html` names one: see `kinema.datasets.doctor`."""
    from kinema.datasets.doctor import examine
    from kinema.doctor_page import write_doctor_page

    found = examine(Path(index_folder), options=options)
    if html:
        write_doctor_page(found, Path(html))
    return found


def extract_flow(
    index_folder: Path | str,
    out: Path | str,
    *,
    options: FlowOptions | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    ray: str = "",
) -> FlowSummary:
    """Store the optical flow of every video of an index: see `kinema.flow.extract`."""
    from kinema.datasets.index import check_files, read_index
    from kinema.engine.items import flow_jobs
    from kinema.flow.extract import extract_flow as extract

    videos = read_index(Path(index_folder))
    check_files(videos)
    return extract(
        flow_jobs(videos), Path(out), options=options, workers=workers, shard=shard, ray=ray
    )


def verify_flow(index_folder: Path | str, out: Path | str) -> tuple[tuple[str, str], ...]:
    """Check every store of an index; return (id, reason) of those that are not whole."""
    from kinema.datasets.index import read_index
    from kinema.engine.items import flow_jobs
    from kinema.flow.extract import verify_flow as verify

    return verify(flow_jobs(read_index(Path(index_folder))), Path(out))


def convert_flow(
    source: Path | str,
    out: Path | str,
    *,
    bound: float = 20.0,
    algorithm: str = "unknown",
    index_folder: Path | str | None = None,
    quality: Quality = "standard",
    workers: int | None = None,
) -> ConvertSummary:
    """Pack the flow images of older tools into stores: see `kinema.flow.convert`.

    Args:
        source: folder or archive of flow images.
        out: folder of the stores.
        bound: pixels per frame at the ends of the images' scale.
        algorithm: what the flow was computed with, if known.
        index_folder: the stores are named as this index names its videos.
        quality: of the stores.
        workers: processes; None takes one per core.
    """
    from kinema.datasets.index import read_index
    from kinema.flow.convert import convert

    index = read_index(Path(index_folder)) if index_folder else None
    return convert(
        Path(source),
        Path(out),
        bound=bound,
        algorithm=algorithm,
        ids=[video.id for video in index.videos] if index else None,
        quality=quality,
        workers=workers,
    )


def pack(
    index_folder: Path | str,
    out: Path | str,
    *,
    short_side: int | None = 256,
    quality: Quality = "standard",
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> PackSummary:
    """Store the frames of every video of an index for fast reading: see `kinema.packing.pack`."""
    from kinema.datasets.index import check_files, read_index
    from kinema.engine.items import pack_jobs
    from kinema.packing.pack import pack as pack_videos

    videos = read_index(Path(index_folder))
    check_files(videos)
    return pack_videos(
        pack_jobs(videos),
        Path(out),
        short_side=short_side,
        quality=quality,
        workers=workers,
        shard=shard,
    )


def verify_pack(index_folder: Path | str, out: Path | str) -> tuple[tuple[str, str], ...]:
    """Check every store of frames; return (id, reason) of those that are not whole."""
    from kinema.datasets.index import read_index
    from kinema.engine.items import pack_jobs
    from kinema.packing.pack import verify_pack as verify

    return verify(pack_jobs(read_index(Path(index_folder))), Path(out))


def frames(
    source: Path | str,
    out: Path | str,
    *,
    options: FrameOptions | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> FrameSummary:
    """Write videos as images in the layout of an older system: see `kinema.framing.frames`.

    Args:
        source: what `index` made, or a folder of videos, or one video.
        out: folder to write to.
        options: layout, size, rate, kind of image.
        workers: processes; None takes one per core.
        shard: (i, n): take the i-th of n parts of the videos, from 0.
    """
    from kinema.engine.items import frame_jobs
    from kinema.framing.frames import write_frames

    jobs = frame_jobs(Path(source), Path(out))
    return write_frames(jobs, Path(out), options=options, workers=workers, shard=shard)
