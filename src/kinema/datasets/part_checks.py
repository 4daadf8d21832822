"""What must hold for any split: groups stay whole, training knows every class."""

from collections.abc import Sequence

from kinema.datasets.splits import Grouped
from kinema.errors import KinemaError


def divided_groups(videos: Sequence[Grouped], parts: Sequence[str]) -> dict[str, str]:
    """Return the groups that lie in two parts, each with one video on either side in words."""
    first: dict[str, tuple[str, str]] = {}
    divided: dict[str, str] = {}
    for video, part in zip(videos, parts, strict=True):
        if not (video.group and part):
            continue
        seen_part, seen_id = first.setdefault(video.group, (part, video.id))
        if seen_part != part:
            divided.setdefault(
                video.group, f"'{seen_id}' is in {seen_part}, '{video.id}' in {part}"
            )
    return divided


def check_groups(videos: Sequence[Grouped], parts: Sequence[str]) -> None:
    """Make sure that no group lies in two parts of a given split.

    Raises:
        KinemaError: one does; names the group and one video on either side.
    """
    divided = divided_groups(videos, parts)
    if divided:
        group, where = next(iter(divided.items()))
        others = f" ({len(divided) - 1} more groups likewise)" if len(divided) > 1 else ""
        raise KinemaError(
            f"The group '{group}' is on both sides of the given split: {where}{others}. "
            "Move its videos to one part, or correct the groups."
        )


def check_labels(videos: Sequence[Grouped], parts: Sequence[str]) -> None:
    """Make sure that training has every class of the other parts.

    Raises:
        KinemaError: it lacks one; names the class and a video.
    """
    trained = {video.label for video, part in zip(videos, parts, strict=True) if part == "train"}
    for video, part in zip(videos, parts, strict=True):
        if part in ("val", "test") and video.label not in trained:
            raise KinemaError(
                f"The class '{video.label}' is in {part} (video '{video.id}') but has no training "
                "video: add one, or remove the class from the other parts."
            )
