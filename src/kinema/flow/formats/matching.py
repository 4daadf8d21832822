"""Which of the videos that were found are wanted, and under which id."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kinema.errors import KinemaError
from kinema.flow.formats.videos import OldVideo

Failures = tuple[tuple[str, str], ...]  # id and reason


@dataclass(frozen=True, kw_only=True)
class OneStride:
    """The videos at one stride."""

    stride: int
    videos: tuple[OldVideo, ...]
    failures: Failures


@dataclass(frozen=True, kw_only=True)
class Named:
    """The videos under their final ids."""

    videos: dict[str, OldVideo]
    left_out: int  # found, but not asked for
    missing: tuple[str, ...]  # asked for, but not found
    failures: Failures


def one_stride(videos: Sequence[OldVideo]) -> OneStride:
    """Choose the stride: 1 where any video has it, else the only one.

    Raises:
        KinemaError: there are several, and 1 is none of them.
    """
    strides = sorted({video.stride for video in videos})
    if 1 not in strides and len(strides) > 1:
        raise KinemaError(
            f"There is flow at the strides {', '.join(map(str, strides))}: a folder of stores "
            "holds one. Put the files of each into a folder of its own."
        )
    stride = 1 if 1 in strides else strides[0]
    chosen = tuple(video for video in videos if video.stride == stride)
    have = {video.id for video in chosen}
    lacking = {video.id: video.stride for video in videos if video.id not in have}
    failures = tuple(
        (video_id, f"it has flow at stride {other} only, others have stride {stride}.")
        for video_id, other in lacking.items()
    )
    return OneStride(stride=stride, videos=chosen, failures=failures)


def by_id(videos: Sequence[OldVideo], ids: Sequence[str] | None) -> Named:
    """Give every video its id.

    Without `ids` it is the path that it was found at. With them, a video gets the id that is this
    path, or else the one with the same last part, whatever the case of the letters: the old
    layouts of UCF101 have no folders of classes, and spell HandstandPushups in two ways.

    Raises:
        KinemaError: none of the videos has one of the ids.
    """
    wanted = _Wanted(ids) if ids is not None else None
    groups: dict[str, list[OldVideo]] = {}
    left_out = 0
    for video in videos:
        video_id = wanted.find(video.id) if wanted else video.id
        if video_id is None:
            left_out += 1
        else:
            groups.setdefault(video_id, []).append(video)
    if not groups:
        raise KinemaError(
            f"None of the {len(videos)} videos is in the index: there is '{videos[0].id}', the "
            f"index has '{next(iter(ids or ['none']), 'none')}'."
        )
    failures = tuple(
        (video_id, f"there is flow of it {len(group)} times: {_places(group)}.")
        for video_id, group in groups.items()
        if len(group) > 1
    )
    return Named(
        videos={video_id: group[0] for video_id, group in groups.items() if len(group) == 1},
        left_out=left_out,
        missing=tuple(name for name in ids or () if name not in groups),
        failures=failures,
    )


def _places(group: Iterable[OldVideo]) -> str:
    return ", ".join(f"{video.id} ({video.layout})" for video in group)


class _Wanted:
    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = set(ids)
        self._by_last: dict[str, set[str]] = {}
        for name in ids:
            self._by_last.setdefault(_last(name), set()).add(name)

    def find(self, found: str) -> str | None:
        if found in self._ids:
            return found
        same = self._by_last.get(_last(found), set())
        return next(iter(same)) if len(same) == 1 else None


def _last(name: str) -> str:
    return name.rpartition("/")[2].casefold()
