"""TRN: what the order of snippets says (Zhou et al., arXiv 1711.08496).

Shapes: B videos, N snippets, D features per snippet, K classes.
"""

import math

import torch
from torch import Tensor, nn

from kinema.errors import KinemaError, UsageError

_HIDDEN = 256
_TUPLES_PER_SCALE = 3


class Relation(nn.Module):
    """One relation of all N snippets: their features side by side, one hidden layer, K scores."""

    def __init__(self, num_segments: int, *, features: int, num_classes: int) -> None:
        super().__init__()
        self.num_segments = _at_least_two(num_segments, "trn")
        self.mlp = _mlp(num_segments * features, num_classes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        _check(x_BND, self.num_segments)
        out: Tensor = self.mlp(x_BND.flatten(1))
        return out


class MultiScaleRelation(nn.Module):
    """Sum of the relations of N, N - 1, … 2 snippets in their order.

    Each size has its own weights, shared by up to 3 tuples of snippets: drawn anew in each
    training step (from torch's generator, all tuples equally likely), and in evaluation fixed ones,
    spread evenly over all tuples in lexicographic order, so that a test can be repeated. (The
    authors draw at random in tests too.)
    """

    def __init__(self, num_segments: int, *, features: int, num_classes: int) -> None:
        super().__init__()
        self.num_segments = _at_least_two(num_segments, "trn-multiscale")
        self.scales = tuple(range(num_segments, 1, -1))
        self.mlps = nn.ModuleList(_mlp(scale * features, num_classes) for scale in self.scales)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        _check(x_BND, self.num_segments)
        scores = [
            mlp(x_BND[:, list(chosen)].flatten(1))
            for scale, mlp in zip(self.scales, self.mlps, strict=True)
            for chosen in self.tuples(scale)
        ]
        return torch.stack(scores).sum(0)

    def tuples(self, scale: int) -> list[tuple[int, ...]]:
        """Return the snippets of this pass's relations of one size."""
        total = math.comb(self.num_segments, scale)
        count = min(_TUPLES_PER_SCALE, total)
        if self.training and total > count:
            ranks: set[int] = set()
            while len(ranks) < count:
                ranks.add(int(torch.randint(total, ())))
        else:
            ranks = {(2 * i + 1) * total // (2 * count) for i in range(count)}
        return [combination(rank, size=scale, among=self.num_segments) for rank in sorted(ranks)]


def combination(rank: int, *, size: int, among: int) -> tuple[int, ...]:
    """Return the combination of `size` numbers below `among` with this place in their list.

    The list is in lexicographic order, as that of ``itertools.combinations``, and is not made.
    """
    chosen: list[int] = []
    for number in range(among):
        left = size - len(chosen)
        if not left:
            break
        beginning_here = math.comb(among - number - 1, left - 1)
        if rank < beginning_here:
            chosen.append(number)
        else:
            rank -= beginning_here
    return tuple(chosen)


def _mlp(features: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, num_classes)
    )


def _at_least_two(num_segments: int, name: str) -> int:
    if num_segments < 2:
        raise UsageError(
            f"model.consensus={name} relates snippets to each other, but data.num_segments="
            f"{num_segments}: set it to 2 or more (the published networks have 8)."
        )
    return num_segments


def _check(x_BND: Tensor, num_segments: int) -> None:
    if x_BND.shape[1] != num_segments:
        raise KinemaError(
            f"This network relates {num_segments} snippets per video, but was given "
            f"{x_BND.shape[1]}: give it as many as in training."
        )
