"""From the scores of a video's snippets to the score of the video (TSN, arXiv 1705.02953).

Shapes: B videos, N snippets, K classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.config import Consensus
from kinema.errors import KinemaError
from kinema.models.relation import MultiScaleRelation, Relation
from kinema.models.temporal_heads import TEMPORAL_HEADS


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


# What a consensus takes of every snippet: outputs of the backbone's last layer, features before
# its classifier, or the feature map. With the last two the classifier is the consensus's own.
Reads = Literal["outputs", "features", "maps"]
READS: dict[Consensus, Reads] = {**dict.fromkeys(TEMPORAL_HEADS, "features"), "tle": "maps"}
_RELATIONS: tuple[Consensus, ...] = ("trn", "trn-multiscale")
# Those that relate the snippets of a video to each other, so they see those of a clip together.
JOINING: frozenset[Consensus] = frozenset({*_RELATIONS, *READS})
_RELATION_FEATURES = 256  # width of a snippet's features before the relations (TRN)


def consensus_reads(name: Consensus) -> Reads:
    """Return what a consensus takes of every snippet."""
    return READS.get(name, "outputs")


def consensus_width(name: Consensus, *, num_classes: int) -> int:
    """Return the outputs that a backbone needs: the classes, but for TRN's features."""
    return _RELATION_FEATURES if name in _RELATIONS else num_classes


def build_consensus(
    name: Consensus,
    *,
    topk: int = 3,
    num_segments: int | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Return the module (B, N, D) -> (B, K) for one that reads outputs; D is `consensus_width`.

    Args:
        name: the rule.
        topk: how many snippets `topk` averages.
        num_segments: snippets per video in training, for `weighted` and TRN.
        num_classes: K, for TRN.

    Raises:
        KinemaError: `topk` below 1, or `weighted` or TRN without `num_segments`.
    """
    if name == "weighted":
        if num_segments is None:
            raise KinemaError(
                f"model.consensus={name} learns weights for each training snippet: "
                "give build_network the num_segments of the training."
            )
        return Weighted(num_segments)
    if name == "trn" or name == "trn-multiscale":
        return _relation(name, num_segments=num_segments, num_classes=num_classes)
    if topk < 1:
        raise KinemaError(f"model.topk={topk} is not possible: it must be at least 1.")
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "average": average,
        "sum": total,
        "max": maximum,
        "topk": partial(top, k=topk),
    }
    return Fixed(rules[name])


def _relation(
    name: Literal["trn", "trn-multiscale"], *, num_segments: int | None, num_classes: int | None
) -> nn.Module:
    if num_segments is None or num_classes is None:
        raise KinemaError(
            f"model.consensus={name} learns scores for each number of snippets: give "
            "build_network the num_segments of the training."
        )
    kind = Relation if name == "trn" else MultiScaleRelation
    return kind(num_segments, features=_RELATION_FEATURES, num_classes=num_classes)
