"""Which video is for training, validation or test, where the data set does not say so.

Videos of one group (a person, a scene, a source film) always stay together; where groups are
known, nothing is ever drawn per video. Everything here is arithmetic on names: the same videos
and the same seed give the same parts.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError, did_you_mean


class Grouped(Protocol):
    """What must be known of a video to choose its part."""

    @property
    def id(self) -> str:
        """Name of the video."""
        ...

    @property
    def label(self) -> str:
        """Name of its class."""
        ...

    @property
    def group(self) -> str:
        """Name of its group, empty where unknown (it is then a group of its own)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How parts are made where the data set does not give them.

    Raises:
        UsageError: a fraction is not in [0, 1).
    """

    group: str = ""  # regular expression that finds the group in the id, or a column of the CSV
    test_fraction: float = 0.2  # of the groups, or of each class's videos without groups; 0: none
    val_fraction: float = 0.15  # of what remains for training
    test_groups: tuple[str, ...] = ()  # exactly these groups are the test part
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test_fraction", "val_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(
                    f"{name.replace('_', '-')} is {value}: give a number from 0 up to, but not "
                    "including, 1 (0.2 holds out a fifth)."
                )


def groups_by_pattern(
    ids: Sequence[str], pattern: str, *, columns: Sequence[str] = ()
) -> list[str]:
    """Find the group in each id: the first bracket of the expression, or all that it matches.

    Args:
        ids: names of videos.
        pattern: regular expression, searched anywhere in the id.
        columns: columns that could have been meant instead, for the message.

    Raises:
        UsageError: not a regular expression, or it does not match every id.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"The group '{pattern}' is not a regular expression: {error}.") from error
    matches = [expression.search(id) for id in ids]
    unmatched = [id for id, match in zip(ids, matches, strict=True) if not match]
    if unmatched:
        column_hint = f" It is no column either ({', '.join(columns)})." if columns else ""
        raise UsageError(
            f"The group '{pattern}' is not found in {len(unmatched)} of {len(ids)} video ids, for "
            f"example '{unmatched[0]}'.{column_hint} Give a regular expression that matches every "
            "id, such as '(s[0-9]+)'."
        )
    return [match.group(1 if expression.groups else 0) or "" for match in matches if match]


def make_splits(
    videos: Sequence[Grouped],
    *,
    test_fraction: float = 0.2,
    val_fraction: float = 0.0,
    test_groups: Collection[str] = (),
    seed: int = 0,
) -> tuple[str, ...]:
    """Return ``train``, ``val`` or ``test`` for each video.

    Whole groups are held out where any is known, so that each class has about its share in every
    part. Without groups each class is divided at random.

    Args:
        videos: any order; the result does not depend on it.
        test_fraction: share of the groups (videos without groups) for test; 0 for no test part.
        val_fraction: share of the remaining ones for validation; 0 for none.
        test_groups: exactly these groups are the test part instead.
        seed: of the drawing.

    Raises:
        KinemaError: a group is not there, or no test part can be held out.
    """
    if test_groups:
        test = _named_groups(videos, test_groups)
    else:
        test = hold_out(videos, fraction=test_fraction, seed=seed)
        if test_fraction > 0 and not test:
            raise KinemaError(_no_test_part(videos))
    rest = [video for video in videos if video.id not in test]
    val = hold_out(rest, fraction=val_fraction, seed=seed + 1)
    return tuple(
        "test" if video.id in test else "val" if video.id in val else "train" for video in videos
    )


def hold_out(videos: Sequence[Grouped], *, fraction: float, seed: int) -> frozenset[str]:
    """Return the ids of the held-out videos; every class keeps at least one video outside.

    A class that lies in a single group stays outside altogether; the result is empty where
    nothing can be held out.
    """
    if fraction <= 0 or not videos:
        return frozenset()
    rng = np.random.default_rng(seed)
    ordered = sorted(videos, key=lambda video: video.id)
    if any(video.group for video in ordered):
        return _hold_out_groups(ordered, fraction, rng)
    by_label: dict[str, list[str]] = defaultdict(list)
    for video in ordered:
        by_label[video.label].append(video.id)
    held: list[str] = []
    for label in sorted(by_label):
        ids = by_label[label]
        count = min(max(1, int(fraction * len(ids) + 0.5)), len(ids) - 1)
        held.extend(ids[i] for i in rng.permutation(len(ids))[:count])
    return frozenset(held)


def _hold_out_groups(
    videos: Sequence[Grouped], fraction: float, rng: np.random.Generator
) -> frozenset[str]:
    members: dict[str, list[Grouped]] = defaultdict(list)
    for video in videos:
        members[_group_key(video)].append(video)
    names = sorted(members)
    names = [names[i] for i in rng.permutation(len(names))]  # ties go to the first
    counts = [Counter(video.label for video in members[name]) for name in names]
    chosen = _Choice(counts).choose(fraction)
    return frozenset(video.id for i in chosen for video in members[names[i]])


def _group_key(video: Grouped) -> str:
    return video.group or f"\0{video.id}"


class _Choice:
    """Greedy choice of groups that keeps each class's share near a growing target.

    The cost of a choice is the sum over classes of (held share - target)^2. Adding group g, which
    has n videos of a class with t in all, changes it by the sum over its classes of
    (n/t)^2 + 2 (n/t) (held share - target): the terms are kept up to date per class.
    """

    def __init__(self, counts: Sequence[Counter[str]]) -> None:
        self._labels = [sorted(count) for count in counts]
        rows: dict[str, list[int]] = defaultdict(list)
        for i, labels in enumerate(self._labels):
            for label in labels:
                rows[label].append(i)
        self._rows = {label: np.array(group) for label, group in rows.items()}
        self._share: dict[str, NDArray[np.float64]] = {}
        num_groups = len(counts)
        self._squares, self._sums, self._held = np.zeros((3, num_groups))
        self._uncovered = np.zeros(num_groups, dtype=np.int64)  # classes not yet held out
        self._blocked = np.zeros(num_groups, dtype=bool)  # taken, or would empty a class
        for label, group in self._rows.items():
            number = np.array([counts[i][label] for i in group], dtype=np.float64)
            share = number / number.sum()
            self._share[label] = share
            self._squares[group] += share**2
            self._sums[group] += share
            self._uncovered[group] += 1
        self._left = dict.fromkeys(self._rows, 1.0)  # share of the class that is not held out
        for label in self._rows:
            self._block(label)

    def choose(self, fraction: float) -> list[int]:
        """Return positions of about `fraction` of the groups.

        More are taken, up to half, while that brings in classes that were not held out yet.
        """
        num_groups = len(self._blocked)
        wanted = max(1, int(fraction * num_groups + 0.5))
        chosen: list[int] = []
        while len(chosen) < max(wanted, num_groups // 2):
            target = fraction * min((len(chosen) + 1) / wanted, 1.0)
            cost = self._squares + 2 * (self._held - target * self._sums)
            cost = np.where(self._blocked, np.inf, cost - 1e3 * self._uncovered)
            best = int(np.argmin(cost))
            covers_more = self._uncovered[best] > 0
            if self._blocked[best] or (len(chosen) >= wanted and not covers_more):
                break
            self._take(best)
            chosen.append(best)
        return chosen

    def _take(self, best: int) -> None:
        self._blocked[best] = True
        for label in self._labels[best]:
            rows, share = self._rows[label], self._share[label]
            own = float(share[rows == best][0])
            if self._left[label] == 1.0:
                self._uncovered[rows] -= 1
            self._held[rows] += share * own
            self._left[label] -= own
            self._block(label)

    def _block(self, label: str) -> None:
        """Block the groups that hold all that is left of a class."""
        rows, share = self._rows[label], self._share[label]
        self._blocked[rows[share >= self._left[label] - 1e-9]] = True


def _named_groups(videos: Sequence[Grouped], names: Iterable[str]) -> frozenset[str]:
    known = {video.group for video in videos if video.group}
    for name in names:
        if name not in known:
            raise KinemaError(
                f"There is no group '{name}' among the {len(known)} groups of this data set"
                f"{': ' + ', '.join(sorted(known)[:10]) if known else ''}."
                f"{did_you_mean(name, known)}"
            )
    wanted = set(names)
    return frozenset(video.id for video in videos if video.group in wanted)


def _no_test_part(videos: Sequence[Grouped]) -> str:
    num_groups = len({_group_key(video) for video in videos})
    if any(video.group for video in videos):
        return (
            f"No test part can be held out by group: there are {num_groups} groups and every class "
            "lies in one of them. Give other groups (--group REGEX; '.*' makes every video a group "
            "of its own) or parts of your own (train/ and test/ folders, a column 'split')."
        )
    return (
        "No test part can be held out: every class has a single video. Add videos, or give "
        "--test-fraction 0."
    )
