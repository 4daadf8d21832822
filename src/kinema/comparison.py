"""Two score files of the same videos side by side: is the difference more than luck?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kinema.metrics import RESAMPLES, confusion, ranks
from kinema.scores import Scores, align


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class in both score files."""

    name: str
    num_videos: int
    accuracy_a: float
    accuracy_b: float

    @property
    def difference(self) -> float:
        """Accuracy of B minus that of A."""
        return self.accuracy_b - self.accuracy_a


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How score file B does against score file A.

    Attributes:
        num_videos: videos in both.
        top1_a: accuracy of A.
        top1_b: accuracy of B.
        difference: B minus A.
        interval: 95 % interval of the difference (paired bootstrap over videos).
        p_value: exact McNemar test, two-sided: how likely a difference at least this large is
            where both are equally good.
        only_a: videos that A alone gets right.
        only_b: videos that B alone gets right.
        classes: each class that occurs, in the order of the classes.
    """

    num_videos: int
    top1_a: float
    top1_b: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    classes: tuple[ClassChange, ...]

    @property
    def won(self) -> tuple[ClassChange, ...]:
        """Classes in which B is better, the largest gain first."""
        better = (change for change in self.classes if change.difference > 0)
        return tuple(sorted(better, key=lambda change: -change.difference))

    @property
    def lost(self) -> tuple[ClassChange, ...]:
        """Classes in which B is worse, the largest loss first."""
        worse = (change for change in self.classes if change.difference < 0)
        return tuple(sorted(worse, key=lambda change: change.difference))

    def rows(self) -> list[tuple[str, str]]:
        """Return the figures as pairs of what and how much, for a table."""
        low, high = self.interval
        return [
            ("videos", str(self.num_videos)),
            ("top-1 of A", f"{100 * self.top1_a:.2f} %"),
            ("top-1 of B", f"{100 * self.top1_b:.2f} %"),
            ("difference B - A", f"{100 * self.difference:+.2f} points"),
            ("95 % interval", f"{100 * low:+.2f} to {100 * high:+.2f} points"),
            ("McNemar p", f"{self.p_value:.3g}"),
            ("right only in A", str(len(self.only_a))),
            ("right only in B", str(len(self.only_b))),
            ("classes won by B", str(len(self.won))),
            ("classes lost by B", str(len(self.lost))),
        ]

    def class_rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return changed classes as rows: name, videos, A, B, difference; gains come first."""
        return [
            (
                change.name,
                str(change.num_videos),
                f"{100 * change.accuracy_a:.1f}",
                f"{100 * change.accuracy_b:.1f}",
                f"{100 * change.difference:+.1f}",
            )
            for change in (*self.won, *reversed(self.lost))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {
            **asdict(self),
            "classes_won": [change.name for change in self.won],
            "classes_lost": [change.name for change in self.lost],
        }


def compare(a: Scores, b: Scores, *, seed: int = 0) -> Comparison:
    """Compare two score files video by video, joined by id.

    Args:
        a: the reference.
        b: what is compared with it.
        seed: of the bootstrap.

    Raises:
        KinemaError: videos, classes or labels that do not fit, or an unknown label.
    """
    a, b = align([a, b])
    right_a, right_b = ranks(a) == 0, ranks(b) == 0
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    lost, won = int(only_a.sum()), int(only_b.sum())
    return Comparison(
        num_videos=len(a.ids),
        top1_a=float(right_a.mean()),
        top1_b=float(right_b.mean()),
        difference=(won - lost) / len(a.ids),
        interval=_paired_interval(lost, won, len(a.ids), seed),
        p_value=mcnemar(lost, won),
        only_a=tuple(a.ids[i] for i in np.flatnonzero(only_a)),
        only_b=tuple(a.ids[i] for i in np.flatnonzero(only_b)),
        classes=_classes(a, b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p of McNemar's test.

    Of the videos that one side alone gets right, each side has one half in the mean; the p is
    twice the binomial tail, at most 1, in whole numbers up to the last division.
    """
    total = only_a + only_b
    term, tail = 1, 0
    for i in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (total - i) // (i + 1)
    return min(1.0, 2 * tail / (1 << total))


def _paired_interval(lost: int, won: int, count: int, seed: int) -> tuple[float, float]:
    """Resample whole pairs: the numbers lost, won and unchanged are then multinomial."""
    shares = [lost / count, won / count, (count - lost - won) / count]
    drawn = np.random.default_rng(seed).multinomial(count, shares, RESAMPLES)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / count, [0.025, 0.975])
    return float(low), float(high)


def _classes(a: Scores, b: Scores) -> tuple[ClassChange, ...]:
    counts_a, counts_b = confusion(a), confusion(b)
    return tuple(
        ClassChange(
            name=name,
            num_videos=int(counts_a[i].sum()),
            accuracy_a=float(counts_a[i, i] / counts_a[i].sum()),
            accuracy_b=float(counts_b[i, i] / counts_b[i].sum()),
        )
        for i, name in enumerate(a.classes)
        if counts_a[i].any()
    )
