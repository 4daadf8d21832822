"""From a folder of videos to an index: list, open every file, divide, write."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kinema import __version__
from kinema.datasets.counts import count_notes, num_frames_of, segment_of
from kinema.datasets.detect import list_data
from kinema.datasets.divide import divide, split_columns
from kinema.datasets.doubles import rejected_doubles, same_content
from kinema.datasets.index import (
    CLASSES_FILE,
    INDEX_FILE,
    Index,
    Video,
    absolute,
    read_index,
    write_index,
)
from kinema.datasets.layouts import layout_notes
from kinema.datasets.listing import Listed, Listing
from kinema.datasets.names import DatasetName
from kinema.datasets.no_gc import no_gc
from kinema.datasets.part_checks import check_groups
from kinema.datasets.scan import CACHE_FILE, Scan, scan, with_fps
from kinema.datasets.splits import SplitRule
from kinema.datasets.summary import describe
from kinema.datasets.unchanged import remember, remembered, state_of
from kinema.errors import KinemaError
from kinema.files import replacing

REJECTED_FILE = "rejected.csv"


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What `build_index` made and what it left out."""

    folder: Path  # of the index
    rejected: tuple[tuple[Path, str], ...]  # file and reason, as in rejected.csv
    absent: int  # videos of official lists that are not there
    official_counts: tuple[tuple[int, int], ...]  # (train, test) in each split's own lists
    messages: tuple[str, ...]  # one line each

    @cached_property
    def index(self) -> Index:
        """The index, read at its first use."""
        return read_index(self.folder)


def build_index(
    data: Path,
    out: Path,
    *,
    dataset: DatasetName = "auto",
    splits_folder: Path | None = None,
    rule: SplitRule | None = None,
    min_frames: int = 2,
    strict: bool = False,
    fps: float = 0.0,
    workers: int | None = None,
) -> BuildReport:
    """Make `index.csv` and `classes.txt` in `out` from the videos in `data`.

    Bad files (unreadable, empty, audio only, truncated, too short, doubled) are written to
    `rejected.csv` there, with the reason; the rest goes on. A second call is fast: only new and
    changed files are opened.

    Args:
        data: folder of videos, or a CSV file.
        out: folder to write to.
        dataset: the layout; "auto" looks at what is there.
        splits_folder: official lists of UCF101 or HMDB51, where they are not in `data`.
        rule: groups, and how parts are made where they are not given.
        min_frames: videos with fewer frames are rejected.
        strict: fail if any file is rejected.
        fps: frames per second of videos that do not tell it, as images; 0: stays unknown.
        workers: files opened at the same time; None for one per core.

    Raises:
        KinemaError: nothing to index, fewer than two classes, a group on both sides of a split, a
            class without training videos, or, if `strict`, any bad file.
    """
    rule = rule or SplitRule()
    data, out = absolute(data), absolute(out)
    settings = f"{__version__} {dataset} {rule} {min_frames} {fps}"
    places = [data, *([absolute(splits_folder)] if splits_folder else [])]
    state = state_of(places, settings=settings, skip=out)
    known = remembered(out, state) if state else None
    if known:
        return BuildReport(
            folder=out,
            rejected=(),
            absent=known["absent"],
            official_counts=tuple((train, test) for train, test in known["official_counts"]),
            messages=tuple(known["messages"]),
        )
    with no_gc():
        listing = list_data(
            data, dataset=dataset, splits_folder=splits_folder, group=rule.group, out=out
        )
        # before the files are opened, which takes long
        if not listing.official_counts and not rule.test_groups:
            for column in split_columns(listing.videos):
                check_groups(listing.videos, column)
    found = scan((video.path for video in listing.videos), cache=out / CACHE_FILE, workers=workers)
    with no_gc():
        found = with_fps(found, fps)
        report = _divide_and_write(
            listing, found, out, rule=rule, min_frames=min_frames, strict=strict
        )
    inside = all(video.path.is_relative_to(data) for video in listing.videos)
    if state and inside and not report.rejected:  # rejected files are tried again
        _remember(report, state)
    return report


def _remember(report: BuildReport, state: str) -> None:
    told = {name: getattr(report, name) for name in ("absent", "official_counts", "messages")}
    names = (INDEX_FILE, CLASSES_FILE, REJECTED_FILE)
    remember(report.folder, state, files=names, report=told)


def _divide_and_write(
    listing: Listing, found: Scan, out: Path, *, rule: SplitRule, min_frames: int, strict: bool
) -> BuildReport:
    kept, bad, notes = _good_videos(listing, found, min_frames)
    rejected = (*listing.rejected, *bad)
    _write_rejected(out / REJECTED_FILE, rejected)
    _check_rejected(rejected, kept, out / REJECTED_FILE, strict=strict)
    may_be_images = [v.path for v in kept if found.probes[v.path].keyframe_interval == 1]
    images = layout_notes(may_be_images, total=len(kept))
    classes, dropped = _classes_left(listing, kept)
    divided, said = divide(kept, rule, official=bool(listing.official_counts))
    index = Index(videos=tuple(_row(video, found) for video in divided), classes=classes)
    write_index(index, out)
    return BuildReport(
        folder=out,
        rejected=rejected,
        absent=listing.absent,
        official_counts=listing.official_counts,
        messages=(*listing.messages, *images, *notes, *dropped, *said, *describe(index, rejected)),
    )


def _good_videos(
    listing: Listing, found: Scan, min_frames: int
) -> tuple[list[Listed], list[tuple[Path, str]], list[str]]:
    """Return usable videos, the others with reasons, and notes."""
    good: list[Listed] = []
    reasons: dict[str, str] = {}
    for video in listing.videos:
        reason = _fault(video, found, min_frames)
        if reason:
            reasons[video.id] = reason
        else:
            good.append(video)
    doubles = _doubles(good, found)
    notes = count_notes(good, found.probes)
    if listing.official_counts and doubles:
        first, second = doubles[0][:2]
        notes.append(
            f"{sum(len(same) - 1 for same in doubles)} videos have the same content as another, "
            f"kept as the official lists name them, such as '{first.id}' and '{second.id}'."
        )
    else:
        reasons.update(rejected_doubles(doubles))
    kept = [video for video in good if video.id not in reasons]
    bad = [(video.path, reasons[video.id]) for video in listing.videos if video.id in reasons]
    return kept, bad, notes


def _fault(video: Listed, found: Scan, min_frames: int) -> str:
    """Return why a video cannot be used; empty where it can."""
    probe = found.probes.get(video.path)
    if probe is None:
        return found.failures[video.path]
    try:
        num_frames = num_frames_of(video, probe)
    except KinemaError as error:
        return str(error)
    if num_frames < min_frames:
        frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
        return f"has {frames}, at least {min_frames} are needed"
    return ""


def _doubles(videos: Sequence[Listed], found: Scan) -> list[list[Listed]]:
    """Return the sets of videos with the same content; two segments are the same if all is."""
    keyed: list[Listed] = []
    hashes: dict[Path, str] = {}
    for video in videos:
        probe = found.probes[video.path]
        segment = segment_of(video, probe)
        key = video.path / f"{segment}" if segment else video.path
        keyed.append(replace(video, path=key) if segment else video)
        hashes[key] = f"{probe.sha256} {segment}"
    return same_content(keyed, hashes)


def _write_rejected(path: Path, rejected: Sequence[tuple[Path, str]]) -> None:
    with (
        replacing(path, unless_equal=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows((file.as_posix(), reason) for file, reason in rejected)


def _check_rejected(
    rejected: Sequence[tuple[Path, str]], kept: Sequence[Listed], listed_in: Path, *, strict: bool
) -> None:
    if rejected and (strict or not kept):
        path, reason = rejected[0]
        advice = "Remove them, or index without --strict." if kept else "No video is left."
        raise KinemaError(
            f"{len(rejected)} files cannot be used, the first is {path}: {reason}. "
            f"All are in {listed_in}. {advice}"
        )


def _classes_left(
    listing: Listing, kept: Sequence[Listed]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes, without those that lost all their videos, and a line on each of these.

    Official class lists stay whole: the numbers of their classes are known.
    """
    if listing.official_counts:
        return listing.classes, ()
    labels = {video.label for video in kept}
    lost = [name for name in listing.classes if name not in labels]
    if len(labels) < 2:
        raise KinemaError(
            f"At least two classes are needed, but only '{next(iter(labels))}' has usable videos"
            f"{f' (none is left of {lost[0]!r}, see {REJECTED_FILE})' if lost else ''}."
        )
    messages = tuple(f"The class '{name}' has no usable video: it is left out." for name in lost)
    return tuple(name for name in listing.classes if name in labels), messages


def _row(video: Listed, found: Scan) -> Video:
    probe = found.probes[video.path]
    segment = segment_of(video, probe)
    return Video(
        id=video.id,
        path=video.path,
        label=video.label,
        split=video.split,
        group=video.group,
        num_frames=num_frames_of(video, probe),
        fps=probe.fps,
        width=probe.width,
        height=probe.height,
        keyframe_interval=probe.keyframe_interval,
        segment_start=segment[0] if segment else None,
        segment_end=segment[1] if segment else None,
        splits=video.splits,
        sha256=probe.sha256,
    )
