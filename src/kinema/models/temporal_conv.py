"""Convolutions over time on the features of a video's snippets.

Shapes: B videos, N snippets, D features per snippet, M maps, U units, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.models.head_shape import HeadShape

_KERNELS = (5, 7)  # of Temporal-Inception, snippets
_STAGES = 4


class TemporalConv(nn.Module):
    """Features to U channels, blocks of two convolutions over 3 snippets, mean over time, scores.

    Each block is residual, with LayerNorm before it, so that single videos and any number of
    snippets are possible.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        units = shape.width
        self.drop = nn.Dropout(shape.dropout)
        self.first = nn.Linear(shape.features, units)
        self.blocks = nn.ModuleList(_ConvBlock(units) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(units)
        self.fc = nn.Linear(units, shape.num_classes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        x_BNU = self.first(self.drop(x_BND))
        for block in self.blocks:
            x_BNU = block(x_BNU)
        out: Tensor = self.fc(self.norm(x_BNU).mean(1))
        return out


class _ConvBlock(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(units)
        self.conv1 = nn.Conv1d(units, units, 3, padding=1)
        self.conv2 = nn.Conv1d(units, units, 3, padding=1)

    def forward(self, x_BNU: Tensor) -> Tensor:
        y_BUN = self.conv1(self.norm(x_BNU).transpose(1, 2)).relu()
        out: Tensor = x_BNU + self.conv2(y_BUN).transpose(1, 2)
        return out


class TemporalInception(nn.Module):
    """Temporal-Inception (Ma et al., arXiv 1703.10667) on all features as rows of one map.

    Four stages; each convolves over 5 and over 7 snippets in time (the same filters for all
    features), with BatchNorm, ReLU and max pooling that halves the time, and doubles the maps: 16
    at the end. Dropout of whole maps, one layer of U units with BatchNorm and ReLU, scores. 25
    snippets become 12, 6, 3 and 1; whatever is left after the last stage is pooled, and nothing is
    pooled where one is left, so any number is possible.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        stages, before = [], 1
        for _ in range(_STAGES):
            stages.append(_InceptionStage(before, before))
            before *= len(_KERNELS)
        self.stages = nn.ModuleList(stages)
        self.drop = nn.Dropout2d(shape.dropout)
        self.hidden = nn.Linear(before * shape.features, shape.width)
        self.norm = nn.BatchNorm1d(shape.width)
        self.fc = nn.Linear(shape.width, shape.num_classes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        x_BMDN = x_BND.transpose(1, 2)[:, None]
        for stage in self.stages[:-1]:
            x_BMDN = stage(x_BMDN)
            if x_BMDN.shape[-1] > 1:
                x_BMDN = functional.max_pool2d(x_BMDN, (1, 2))
        x_BMD1 = self.stages[-1](x_BMDN).amax(-1, keepdim=True)
        hidden_BU = self.norm(self.hidden(self.drop(x_BMD1).flatten(1))).relu()
        out: Tensor = self.fc(hidden_BU)
        return out


class _InceptionStage(nn.Module):
    """Two convolutions side by side, `maps` each."""

    def __init__(self, before: int, maps: int) -> None:
        super().__init__()
        self.flows = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, maps, (1, kernel), padding=(0, kernel // 2)),
                nn.BatchNorm2d(maps),
                nn.ReLU(inplace=True),
            )
            for kernel in _KERNELS
        )

    def forward(self, x_BMDN: Tensor) -> Tensor:
        return torch.cat([flow(x_BMDN) for flow in self.flows], 1)
