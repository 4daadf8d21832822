"""Old flow, in folders, archives or HDF5, packed into Kinema's stores."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema import __version__
from kinema.console import say
from kinema.errors import KinemaError, UsageError
from kinema.flow.encoding import DEFAULT_BOUND
from kinema.flow.formats.find import find_videos
from kinema.flow.formats.matching import by_id, one_stride
from kinema.flow.formats.old_flow import OldFlow
from kinema.flow.formats.pairs import fingerprint
from kinema.flow.formats.videos import OldVideo
from kinema.flow.job import remove_leftovers
from kinema.flow.manifest import pin_settings, write_manifest
from kinema.flow.options import FlowOptions
from kinema.flow.store import FlowStore, FlowWriter, Quality, check_quality, flow_path
from kinema.video.outcomes import FAULTS, VideoOutcome
from kinema.video.sizes import parse_size
from kinema.video.store_progress import Tally, watched

UNKNOWN = "unknown"
_FEW = 5


@dataclass(frozen=True, kw_only=True)
class ConvertedOptions(FlowOptions):
    """What is told of flow that another program computed; its parameters are not known."""

    def identity(self) -> dict[str, Any]:
        """Return what stores and manifests record."""
        usual = FlowOptions(
            bound=self.bound, size=self.size, quality=self.quality, stride=self.stride
        )
        return {**usual.identity(), "algorithm": self.algorithm, "parameters": {}}


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What a conversion left behind."""

    videos: int  # with a whole store, those of an earlier run included
    kept: int  # of an earlier run
    pairs: int  # converted now
    seconds: float  # taken now
    bytes: int  # of all stores of these videos
    layouts: Mapping[str, int]  # how many of the videos lay in each
    failures: tuple[tuple[str, str], ...]  # id and reason of the videos without a store
    missing: tuple[str, ...]  # ids that were asked for and have no flow

    def describe(self) -> str:
        """Return the summary as lines for the terminal."""
        layouts = ", ".join(f"{count} in {name}" for name, count in self.layouts.items())
        lines = [
            f"{self.videos} videos stored ({self.kept} of them before), {self.bytes / 1e6:.1f} MB; "
            f"{self.pairs} pairs in {self.seconds:.0f} s. Found: {layouts}."
        ]
        lines += [f"failed: {video}: {reason}" for video, reason in self.failures]
        if self.missing:
            few = ", ".join(self.missing[:_FEW]) + (" …" if len(self.missing) > _FEW else "")
            lines.append(f"no flow found for {len(self.missing)} videos of the index: {few}")
        return "\n".join(lines)


def convert(
    source: Path,
    out: Path,
    *,
    bound: float = DEFAULT_BOUND,
    algorithm: str = UNKNOWN,
    size: str = "none",
    quality: Quality = "standard",
    ids: Sequence[str] | None = None,
    workers: int | None = None,
) -> ConvertSummary:
    """Pack the flow of all videos below a folder or in an archive: ``out/<id>.mp4`` each.

    The layout is found by itself, see `kinema.flow.formats.find.find_videos`. Nothing is unpacked.
    May be stopped or killed at any moment: a store is whole or absent, and the same call goes on
    where it stopped. A video that fails costs only itself.

    Args:
        source: folder, .zip, first piece .zip.001 of a cut archive, or HDF5 file.
        out: folder of the stores.
        bound: pixels that the ends of the old scale stand for; the files do not tell it.
        algorithm: by which the flow was computed. "unknown" is enough to train from the stores;
            to compute the same flow for other videos, Kinema needs the name of one of its own.
        size: to which frames were resized before: "WxH", "short:S" or "none"; for the same use.
        quality: "lossless" keeps every bit.
        ids: the ids of an index; the videos get these, see `kinema.flow.formats.matching.by_id`,
            and others are left out. None: the path of a video's folder is its id.
        workers: threads; None takes one per core.

    Raises:
        UsageError: there is no such size or quality, or the bound is not positive.
        KinemaError: nothing is found, `out` holds other flow, or the disk is full.
    """
    _check(bound, size, quality)
    started = time.monotonic()
    say(f"Looking for flow in {source}.")
    found = list(find_videos(source))
    if not found:
        raise KinemaError(f"There is no stored flow in {source}, in any of the known layouts.")
    chosen = one_stride(found)
    named = by_id(chosen.videos, ids)
    options = ConvertedOptions(
        algorithm=algorithm, bound=bound, size=size, quality=quality, stride=chosen.stride
    )
    stores = {video_id: flow_path(out, video_id) for video_id in named.videos}
    remove_leftovers([out / "manifest.json", *stores.values()])
    pin_settings(out, options)
    pending = {
        key: video for key, video in named.videos.items() if not _is_whole(stores[key], video)
    }
    say(
        f"Convert: {len(pending)} videos to do, {len(stores) - len(pending)} already done"
        + (f", {named.left_out} not in the index." if named.left_out else ".")
    )
    outcomes = _run(pending, stores, options, workers or os.cpu_count() or 1)
    write_manifest(out, options)
    failures = [*chosen.failures, *named.failures]
    failures += [(item.id, item.failure) for item in outcomes if item.failure]
    failed = {item.id for item in outcomes if item.failure}
    whole = [path for video_id, path in stores.items() if video_id not in failed]
    return ConvertSummary(
        videos=len(whole),
        kept=len(stores) - len(pending),
        pairs=sum(item.pairs for item in outcomes),
        seconds=time.monotonic() - started,
        bytes=sum(path.stat().st_size for path in whole),
        layouts=Counter(video.layout for video in named.videos.values()),
        failures=tuple(failures),
        missing=named.missing,
    )


def _check(bound: float, size: str, quality: Quality) -> None:
    parse_size(size)
    check_quality(quality)
    if not 0 < bound < float("inf"):
        raise UsageError(f"The bound must be positive (pixels), not {bound:g}.")


def _is_whole(path: Path, video: OldVideo) -> bool:
    """Return whether an earlier run has made this store."""
    try:
        return path.exists() and FlowStore(path).num_frames == video.num_pairs
    except KinemaError as error:
        say(f"{error} It is made again now.")
        return False


@dataclass(frozen=True, kw_only=True)
class _Outcome(VideoOutcome):
    pairs: int = 0


_PAIRS: Tally[_Outcome] = Tally(unit="pairs", count=lambda outcome: outcome.pairs)


def _run(
    pending: Mapping[str, OldVideo],
    stores: Mapping[str, Path],
    options: FlowOptions,
    workers: int,
) -> list[_Outcome]:
    pool = ThreadPoolExecutor(workers)  # decoding and encoding run outside the interpreter lock
    try:
        futures: list[Future[_Outcome]] = [
            pool.submit(_attempt, key, video, stores[key], options)
            for key, video in pending.items()
        ]
        outcomes = (future.result() for future in as_completed(futures))
        return list(watched(outcomes, len(pending), what="convert", tally=_PAIRS))
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(video_id: str, video: OldVideo, path: Path, options: FlowOptions) -> _Outcome:
    try:
        return _Outcome(id=video_id, pairs=convert_video(video, path, options))
    except FAULTS as error:
        return _Outcome.failed(video_id, error)


def convert_video(video: OldVideo, path: Path, options: FlowOptions) -> int:
    """Pack one video into a store; return the number of pairs.

    Raises:
        KinemaError: the old flow is incomplete or damaged, or the disk is full.
    """
    with closing(OldFlow(video, bound=options.bound)) as old:
        sha256, num_bytes = fingerprint(old.pairs)
        metadata = {
            **options.identity(),
            "kinema": __version__,
            "source": video.id,
            "source_layout": video.layout,
            "source_sha256": sha256,
            "source_bytes": num_bytes,
        }
        with FlowWriter(
            path,
            width=old.width,
            height=old.height,
            metadata=metadata,
            quality=options.quality,
        ) as writer:
            for index in range(old.num_frames):
                writer.write(old.read([index])[0])
    return writer.num_pairs
