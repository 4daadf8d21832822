"""Complete the parts that a data set gives, or make them where it gives none."""

from collections.abc import Sequence
from dataclasses import replace

from kinema.datasets.listing import Listed
from kinema.datasets.part_checks import check_groups, check_labels, divided_groups
from kinema.datasets.splits import SplitRule, hold_out, make_splits


def split_columns(videos: Sequence[Listed]) -> list[tuple[str, ...]]:
    """Return the part of each video, once per given split (none given: one column of "")."""
    return list(zip(*((video.splits or (video.split,)) for video in videos), strict=True))


def divide(
    videos: Sequence[Listed], rule: SplitRule, *, official: bool
) -> tuple[list[Listed], list[str]]:
    """Give every video its part.

    Given parts stay as they are. Where validation is missing it is cut from training by `rule`;
    so is a test part, except in official splits. Groups named in `rule.test_groups` replace a
    given split.

    Args:
        videos: usable videos.
        rule: how parts are made.
        official: the splits are published ones: they are followed as they are.

    Returns:
        The videos with their parts, and what there is to say about them.

    Raises:
        KinemaError: a group is on both sides of a given split, a part has a class that training
            lacks, or no test part can be made.
    """
    given = split_columns(videos)
    is_given = any(any(column) for column in given)
    if is_given and not rule.test_groups:
        messages = [
            line
            for number, column in enumerate(given, start=1)
            for line in _check_given(videos, column, number, rule, official=official)
        ]
        columns = [_completed(videos, column, rule, official=official) for column in given]
    else:
        messages = _how_made(videos, rule, replaces_given=is_given)
        columns = [
            make_splits(
                videos,
                test_fraction=rule.test_fraction,
                val_fraction=rule.val_fraction,
                test_groups=rule.test_groups,
                seed=rule.seed,
            )
        ]
    if not official:
        for column in columns:
            check_labels(videos, column)
    several = len(columns) > 1
    rows = zip(*columns, strict=True)
    return [
        replace(video, split=row[0], splits=tuple(row) if several else ())
        for video, row in zip(videos, rows, strict=True)
    ], messages


def _completed(
    videos: Sequence[Listed], parts: Sequence[str], rule: SplitRule, *, official: bool
) -> tuple[str, ...]:
    completed = tuple(parts)
    fractions = {"val": rule.val_fraction}
    if not official:
        fractions = {"test": rule.test_fraction, **fractions}
    for number, (part, fraction) in enumerate(fractions.items()):
        if part not in parts:
            training = [v for v, p in zip(videos, completed, strict=True) if p == "train"]
            held = hold_out(training, fraction=fraction, seed=rule.seed + number)
            completed = tuple(
                part if video.id in held else p for video, p in zip(videos, completed, strict=True)
            )
    return completed


def _check_given(
    videos: Sequence[Listed], parts: Sequence[str], number: int, rule: SplitRule, *, official: bool
) -> list[str]:
    """Return what there is to say about a given split."""
    if not official:
        check_groups(videos, parts)
        if "test" in parts:
            return []
        held = f"{rule.test_fraction:.0%} of training is held out as test"
        return [f"No test part is given: {held if rule.test_fraction else 'none is made'}."]
    divided = divided_groups(videos, parts)
    if not divided:
        return []
    group, where = next(iter(divided.items()))
    return [
        f"Official split {number} has {len(divided)} groups on both sides, as published, "
        f"such as '{group}': {where}."
    ]


def _how_made(videos: Sequence[Listed], rule: SplitRule, *, replaces_given: bool) -> list[str]:
    """Return what there is to say about parts that are made here."""
    if rule.test_groups:
        replaced = "The given split is replaced. " if replaces_given else ""
        return [f"{replaced}The test part is given by group: {', '.join(rule.test_groups)}."]
    num_groups = len({video.group for video in videos if video.group})
    if not num_groups:
        return [
            f"No groups are known: parts are drawn at random within each class (seed {rule.seed}). "
            "If several videos share a person, scene or source, give --group."
        ]
    alone = sum(not video.group for video in videos)
    also = f"; {alone} videos without a group count as one each" if alone else ""
    return [f"Parts are made of whole groups ({num_groups}, seed {rule.seed}){also}."]
