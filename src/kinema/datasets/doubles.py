"""Files with the same content: one video that was stored twice, perhaps under two labels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from kinema.datasets.listing import Listed


def same_content(videos: Sequence[Listed], hashes: Mapping[Path, str]) -> list[list[Listed]]:
    """Return the sets of two and more videos with the same bytes, each in the given order.

    Args:
        videos: what was listed.
        hashes: SHA-256 of every path.
    """
    by_hash: dict[str, list[Listed]] = defaultdict(list)
    for video in videos:
        by_hash[hashes[video.path]].append(video)
    return [same for same in by_hash.values() if len(same) > 1]


def rejected_doubles(doubles: Sequence[Sequence[Listed]]) -> dict[str, str]:
    """Return id -> reason of the videos to leave out.

    The first of each set stays; where the labels differ none does, for one of them is wrong.
    """
    reasons: dict[str, str] = {}
    for same in doubles:
        first = same[0]
        if len({video.label for video in same}) == 1:
            for video in same[1:]:
                reasons[video.id] = f"same content as '{first.id}'"
            continue
        for video in same:
            other = next(v for v in same if v.label != video.label)
            reasons[video.id] = (
                f"same content as '{other.id}', which has another label ('{other.label}', "
                f"here '{video.label}'): remove the wrong one"
            )
    return reasons
