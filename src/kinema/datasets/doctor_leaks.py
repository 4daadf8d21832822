"""What makes a test part too easy: the same videos, or the same sources, on both sides."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

from kinema.datasets.doctor_finding import Finding, ids, many, parts_of, some, splits_of
from kinema.datasets.index import Index, Video
from kinema.datasets.part_checks import divided_groups

_UCF101_SOURCE = re.compile(r"(.*_g\d+)_c\d+")
_FROM_LISTS = "Official lists are kept as published; say so beside the results."


def leaks(index: Index) -> list[Finding]:
    """Return videos with the same content, divided groups, and files cut into several parts."""
    same = _same_content(index.videos)
    parts = parts_of(index)
    across = [videos for videos in same if _in_two_parts(videos, parts)]
    labels = [videos for videos in same if len({video.label for video in videos}) > 1]
    within = [videos for videos in same if videos not in across and videos not in labels]
    found = []
    if across:
        count = sum(len(videos) - 1 for videos in across)
        a, b = _two_sides(across[0], parts)
        found.append(
            Finding(
                level="problem",
                topic="duplicates",
                text=(
                    f"{many(count, 'videos', 'have')} the same content as a video of another part, "
                    f"such as '{a.id}' and '{b.id}': the test is too easy."
                ),
                advice=f"Keep one of each and run `kinema index` again. {_FROM_LISTS}",
                examples=ids([a, b, *(v for videos in across[1:] for v in videos)]),
            )
        )
    if labels:
        first = labels[0][0]
        other = next(video for video in labels[0] if video.label != first.label)
        found.append(
            Finding(
                level="problem",
                topic="labels",
                text=(
                    f"{many(len(labels), 'videos', 'are')} there under two labels, such as "
                    f"'{first.id}' ('{first.label}') and '{other.id}' ('{other.label}')."
                ),
                advice="Remove the wrong one of each.",
                examples=ids([first, other, *(v for videos in labels[1:] for v in videos)]),
            )
        )
    if within:
        count = sum(len(videos) - 1 for videos in within)
        found.append(
            Finding(
                level="warning",
                topic="duplicates",
                text=f"{many(count, 'videos', 'have')} the same content as another of the same "
                f"part and class, such as {some(ids(within[0]), 2)}.",
                advice="Keep one of each, or they count twice.",
                examples=ids([video for videos in within for video in videos]),
            )
        )
    return [*found, *_cut_files(index, parts), *_divided_groups(index)]


def _same_content(videos: Sequence[Video]) -> list[list[Video]]:
    """Return the sets of videos with the same bytes, where their segments overlap."""
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        by_content[video.sha256 or str(video.path)].append(video)
    found = []
    for alike in by_content.values():
        cluster: list[Video] = []
        end = 0.0
        for video in sorted(alike, key=lambda v: v.segment_start or 0):
            if cluster and (video.segment_start or 0) >= end:
                found.append(cluster)
                cluster, end = [], 0.0
            cluster.append(video)
            end = max(end, video.segment_end if video.segment_end is not None else float("inf"))
        found.append(cluster)
    return [cluster for cluster in found if len(cluster) > 1]


def _in_two_parts(videos: Sequence[Video], parts: dict[str, tuple[str, ...]]) -> bool:
    columns = zip(*(parts[video.id] for video in videos), strict=True)
    return any(len(set(column) - {""}) > 1 for column in columns)


def _two_sides(videos: Sequence[Video], parts: dict[str, tuple[str, ...]]) -> tuple[Video, Video]:
    for i, first in enumerate(videos):
        for other in videos[i + 1 :]:
            if _in_two_parts([first, other], parts):
                return first, other
    return videos[0], videos[1]


def _cut_files(index: Index, parts: dict[str, tuple[str, ...]]) -> list[Finding]:
    """Warn of files whose segments lie in several parts: neighbours look alike."""
    by_path: dict[str, list[Video]] = defaultdict(list)
    for video in index.videos:
        if video.segment_start is not None:
            by_path[str(video.path)].append(video)
    divided = [videos for videos in by_path.values() if _in_two_parts(videos, parts)]
    if not divided:
        return []
    return [
        Finding(
            level="warning",
            topic="groups",
            text=f"Segments of {many(len(divided), 'files')} lie in several parts, such as those "
            f"of {divided[0][0].path.name}: neighbours in one file look alike.",
            advice="Give the file as the group: a column `group` in the table.",
            examples=ids([videos[0] for videos in divided]),
        )
    ]


def _divided_groups(index: Index) -> list[Finding]:
    videos: Sequence[Video] = index.videos
    named = any(video.group for video in videos)
    if not named:
        videos = [_with_source(video) for video in videos]
        if not any(video.group for video in videos):
            return [
                Finding(
                    level="warning",
                    topic="groups",
                    text="No groups are known: videos of one person, scene or source film may lie "
                    "on both sides of the split.",
                    advice="If some belong together, index again with --group (see the guide).",
                )
            ]
    found = []
    for name, parts in splits_of(index):
        divided = divided_groups(videos, parts)
        if divided:
            group, where = next(iter(divided.items()))
            inside = [video for video in videos if video.group in divided]
            found.append(
                Finding(
                    level="problem",
                    topic="groups",
                    text=f"{many(len(divided), 'groups', 'lie')} on both sides of {name}, such as "
                    f"'{group}': {where}.",
                    advice="Move each group to one part, or index again without the given parts. "
                    + _FROM_LISTS,
                    examples=ids(inside),
                )
            )
    return found


def _with_source(video: Video) -> Video:
    """Return the video with the source of its name as group, where it is named as in UCF101."""
    match = _UCF101_SOURCE.fullmatch(video.id)
    return dataclasses.replace(video, group=match[1]) if match else video
