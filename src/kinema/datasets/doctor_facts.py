"""The figures of an index that the doctor shows beside the findings."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kinema.datasets.doctor_finding import splits_of
from kinema.datasets.index import PARTS, Index

_NUM_BARS = 24


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a distribution."""

    name: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Counts over all videos of an index."""

    num_videos: int
    num_classes: int
    num_groups: int
    hours: float  # of the videos whose rate is known
    parts: dict[str, dict[str, int]]  # videos by split and part
    classes: dict[str, dict[str, int]]  # videos by class and part of the first split
    frames: tuple[int, float, int]  # fewest, median, most
    lengths: tuple[Bar, ...]  # in frames
    sizes: tuple[Bar, ...]  # width x height, the most frequent first
    rates: tuple[Bar, ...]  # frames per second, rounded
    keyframe_interval: float  # median, frames


def facts_of(index: Index) -> Facts:
    """Count what is in an index that has videos."""
    videos = index.videos
    frames = [video.num_frames for video in videos]
    splits = splits_of(index)
    classes = {name: dict.fromkeys(PARTS, 0) for name in index.classes}
    for video, part in zip(videos, splits[0][1], strict=True):
        if part:
            classes[video.label][part] += 1
    return Facts(
        num_videos=len(videos),
        num_classes=len(index.classes),
        num_groups=len({video.group for video in videos if video.group}),
        hours=sum(video.num_frames / video.fps for video in videos if video.fps) / 3600,
        parts={name: {part: parts.count(part) for part in PARTS} for name, parts in splits},
        classes=classes,
        frames=(min(frames), statistics.median(frames), max(frames)),
        lengths=_histogram(frames),
        sizes=_frequent([f"{video.width}x{video.height}" for video in videos]),
        rates=_frequent([f"{video.fps:.0f}" if video.fps else "unknown" for video in videos]),
        keyframe_interval=statistics.median(video.keyframe_interval for video in videos),
    )


def _histogram(values: Sequence[int]) -> tuple[Bar, ...]:
    """Count values in bars of equal, round width; what is longer than nearly all is in the last."""
    ordered = sorted(values)
    top = max(ordered[int(0.98 * (len(ordered) - 1))], 1)
    width = next(
        step * 10**power
        for power in range(10)
        for step in (1, 2, 5)
        if step * 10**power * _NUM_BARS >= top
    )
    counts = Counter(min(value // width, top // width + 1) for value in ordered)
    return tuple(
        Bar(name=f"{i * width}{'+' if i > top // width else ''}", count=counts[i])
        for i in range(min(counts), max(counts) + 1)
    )


def _frequent(names: Sequence[str], most: int = 8) -> tuple[Bar, ...]:
    counted = Counter(names).most_common()
    rest = sum(count for _, count in counted[most:])
    bars = [Bar(name=name, count=count) for name, count in counted[:most]]
    return (*bars, *((Bar(name="others", count=rest),) if rest else ()))
