"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of the clips of one batch.

As in timm's batch mode, clip i is mixed with the i-th from the batch's end, and one lambda holds
for the whole batch. What is drawn comes from (seed, epoch, batch) alone, so a training that is
taken up again draws the same, and so do all processes of one step.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kinema.config import AugmentConfig
from kinema.errors import UsageError

_OWN_STREAM = 0x6D6978  # keeps these draws apart from those of clips, which have the same seed


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What was drawn for a batch: its own share `lam`, and CutMix's rectangle (else None)."""

    lam: float
    rows: tuple[int, int] | None = None  # first, and the one after the last
    columns: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class MixedBatch:
    """Clips, and what the loss compares their logits with."""

    clips: (
        Tensor  # (B, N, T, C, H, W), float with the scale 0..255 where mixup was used, else uint8
    )
    targets: Tensor  # (B,) classes, or (B, K) probabilities where the batch was mixed
    labels: Tensor  # (B,) of the larger share, for the accuracy


def check_mixing(augment: AugmentConfig) -> None:
    """Refuse a Beta distribution that there is not.

    Raises:
        UsageError: a negative value.
    """
    for name, alpha in (("mixup", augment.mixup), ("cutmix", augment.cutmix)):
        if not (0 <= alpha < math.inf):
            raise UsageError(
                f"augment.{name}={alpha} is not possible: lambda is drawn from Beta(a, a) with a "
                "above 0, such as 0.8; 0 turns it off."
            )


def draw_mixture(
    augment: AugmentConfig, *, side: int, seed: int, epoch: int, batch: int
) -> Mixture | None:
    """Draw how a batch is mixed; None where neither mixup nor CutMix is asked for.

    With both, one of them is taken with probability one half. CutMix's lambda is that of the area
    that is left when its rectangle, whose centre is anywhere, was cut at the border.

    Args:
        augment: with the alphas of both.
        side: of the square images, pixels.
        seed: of the training.
        epoch: from 0.
        batch: of the epoch, from 0.
    """
    if not (augment.mixup or augment.cutmix):
        return None
    rng = np.random.default_rng((seed, epoch, batch, _OWN_STREAM))
    cuts = bool(augment.cutmix) and (not augment.mixup or rng.random() < 0.5)
    alpha = augment.cutmix if cuts else augment.mixup
    lam = float(rng.beta(alpha, alpha))
    if not cuts:
        return Mixture(lam=lam)
    half = int(side * math.sqrt(1 - lam)) // 2
    rows, columns = (_around(int(rng.integers(side)), half, side) for _ in range(2))
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    return Mixture(lam=1 - area / side**2, rows=rows, columns=columns)


def _around(centre: int, half: int, side: int) -> tuple[int, int]:
    return max(centre - half, 0), min(centre + half, side)


def mix(
    mixture: Mixture | None, x_BNTCHW: Tensor, labels_B: Tensor, *, num_classes: int
) -> MixedBatch:
    """Mix each clip with its partner from the other end of the batch, and their labels."""
    if mixture is None:
        return MixedBatch(clips=x_BNTCHW, targets=labels_B, labels=labels_B)
    lam, others_B = mixture.lam, labels_B.flip(0)
    if mixture.rows and mixture.columns:
        rows, columns = slice(*mixture.rows), slice(*mixture.columns)
        mixed = x_BNTCHW.clone()
        mixed[..., rows, columns] = x_BNTCHW.flip(0)[..., rows, columns]
    else:
        images = x_BNTCHW.float()
        mixed = torch.lerp(images.flip(0), images, lam)
    own_BK, other_BK = (one_hot(y, num_classes).float() for y in (labels_B, others_B))
    return MixedBatch(
        clips=mixed,
        targets=lam * own_BK + (1 - lam) * other_BK,
        labels=labels_B if lam >= 0.5 else others_B,
    )
