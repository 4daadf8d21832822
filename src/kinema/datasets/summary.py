"""What there is to say about a finished index, one line each."""

from collections.abc import Sequence
from pathlib import Path

from kinema.datasets.index import PARTS, Index

_FEW_KEYFRAMES = 3
_COSTLY_FRAMES = 10  # decoded frames per random frame from which a hint is given


def describe(index: Index, rejected: Sequence[tuple[Path, str]]) -> list[str]:
    """Return lines on the parts, classes that a part lacks, files left out, and reading cost."""
    lines = _parts(index)
    if rejected:
        path, reason = rejected[0]
        count = f"{len(rejected)} files are" if len(rejected) > 1 else "1 file is"
        lines.append(f"{count} left out (see rejected.csv), the first is {path.name}: {reason}.")
    lines.append(keyframe_cost(index))
    return lines


def keyframe_cost(index: Index) -> str:
    """Say how many frames must be decoded on average to read one random frame.

    A decoder starts at a keyframe: with one every K frames, a random frame needs (K + 1) / 2.
    """
    videos, cost = index.videos, _cost_of_a_frame(index)
    few = sum(
        video.num_frames < (_FEW_KEYFRAMES - 0.5) * video.keyframe_interval for video in videos
    )
    line = (
        f"Keyframe spacing: a random frame costs {cost:.0f} decoded frames on average; "
        f"{few} of {len(videos)} videos have fewer than {_FEW_KEYFRAMES} keyframes."
    )
    return f"{line} For training on RGB, `kinema pack` makes it 1." if packing_pays(index) else line


def packing_pays(index: Index) -> bool:
    """Tell whether training on RGB decodes many frames for one, which a store of frames saves."""
    return _cost_of_a_frame(index) >= _COSTLY_FRAMES


def _cost_of_a_frame(index: Index) -> float:
    """Return how many frames are decoded for a random one, on average."""
    return sum((video.keyframe_interval + 1) / 2 for video in index.videos) / len(index.videos)


def _parts(index: Index) -> list[str]:
    num_splits = max(1, len(index.videos[0].splits))
    num_groups = len({video.group for video in index.videos if video.group})
    groups = f", {num_groups} groups" if num_groups else ""
    lines = [f"{len(index.videos)} videos, {len(index.classes)} classes{groups}."]
    for number in range(1, num_splits + 1):
        parts = {part: index.part(part, official=number) for part in PARTS}
        counts = ", ".join(f"{len(videos)} {part}" for part, videos in parts.items())
        name = f"Split {number}" if num_splits > 1 else "Parts"
        lacking = [
            _lacking(index, part, {video.label for video in videos})
            for part, videos in parts.items()
            if part != "val"
        ]
        lines.append(f"{name}: {counts}{''.join(lacking)}.")
    return lines


def _lacking(index: Index, part: str, labels: set[str]) -> str:
    missing = [name for name in index.classes if name not in labels]
    if not missing or not labels:
        return ""
    names = f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
    return f"; {part} lacks {len(missing)} classes ({names})"
