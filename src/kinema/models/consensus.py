"""From the scores of a video's snippets to the score of the video (TSN, arXiv 1705.02953).

Shapes: B videos, N snippets, K classes.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.config import Consensus
from kinema.errors import KinemaError


def average(x_BNK: Tensor) -> Tensor:
    """Return the mean over the snippets, (B, K)."""
    return x_BNK.mean(1)


def total(x_BNK: Tensor) -> Tensor:
    """Return the sum over the snippets, (B, K)."""
    return x_BNK.sum(1)


def maximum(x_BNK: Tensor) -> Tensor:
    """Return the highest score of every class, (B, K)."""
    return x_BNK.amax(1)


def top(x_BNK: Tensor, *, k: int) -> Tensor:
    """Return the mean of every class's `k` highest scores (all, where there are fewer), (B, K)."""
    return x_BNK.topk(min(k, x_BNK.shape[1]), dim=1).values.mean(1)


class Weighted(nn.Module):
    """Weighted mean with one learned weight per snippet, all equal at the start.

    The weights are the softmax of free parameters: positive, with the sum 1. They belong to the
    places of the `num_segments` training snippets in the video. For another number of snippets
    they are interpolated linearly between these places and scaled to the sum 1 again.
    """

    def __init__(self, num_segments: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_segments))

    def weights(self, num_snippets: int) -> Tensor:
        """Return the weights of `num_snippets` snippets, (N,)."""
        weights = self.weight.softmax(0)
        if num_snippets == len(weights):
            return weights
        moved = functional.interpolate(
            weights[None, None], size=num_snippets, mode="linear", align_corners=False
        )[0, 0]
        return moved / moved.sum()

    def forward(self, x_BNK: Tensor) -> Tensor:
        """Return the weighted mean, (B, K)."""
        return (x_BNK * self.weights(x_BNK.shape[1]).to(x_BNK.dtype)[:, None]).sum(1)


class Fixed(nn.Module):
    """A consensus without parameters."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rule = rule

    def forward(self, x_BNK: Tensor) -> Tensor:
        """Return the scores of the videos, (B, K)."""
        return self._rule(x_BNK)


def build_consensus(
    name: Consensus, *, topk: int = 3, num_segments: int | None = None
) -> nn.Module:
    """Return the module (B, N, K) -> (B, K) for a name.

    Args:
        name: the rule.
        topk: how many snippets `topk` averages.
        num_segments: snippets per video in training, for `weighted` alone.

    Raises:
        KinemaError: `topk` below 1, or `weighted` without `num_segments`.
    """
    if name == "weighted":
        if num_segments is None:
            raise KinemaError(
                "model.consensus=weighted learns one weight per training snippet: "
                "give build_network the num_segments of the training."
            )
        return Weighted(num_segments)
    if topk < 1:
        raise KinemaError(f"model.topk={topk} is not possible: it must be at least 1.")
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "average": average,
        "sum": total,
        "max": maximum,
        "topk": partial(top, k=topk),
    }
    return Fixed(rules[name])
