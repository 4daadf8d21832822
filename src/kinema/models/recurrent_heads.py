"""LSTMs over the features of a video's snippets.

Shapes: B videos, N snippets, D features per snippet, U units, K classes.
"""

import torch
from torch import Tensor, nn

from kinema.models.head_shape import HeadShape
from kinema.models.precision import full_precision

_SEGMENTS = 3


class _LSTM(nn.Module):
    """Dropout before the first layer and behind each; float32, also under autocast."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.layers = nn.LSTM(
            shape.features,
            shape.width,
            shape.layers,
            batch_first=True,
            dropout=shape.dropout if shape.layers > 1 else 0.0,
        )
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x_BND: Tensor) -> Tensor:
        with full_precision(x_BND.device):
            states_BNU, _ = self.layers(self.drop(x_BND.float()))
            out: Tensor = self.drop(states_BNU)
            return out


class _LSTMHead(nn.Module):
    """What the heads share: the LSTM, and the layer that makes scores of its states."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.lstm = _LSTM(shape)
        self.fc = nn.Linear(shape.width, shape.num_classes)


class StackedLSTM(_LSTMHead):
    """Beyond Short Snippets (Ng et al., arXiv 1503.08909; 5 layers of 512 there).

    Every snippet has its scores; their mean has weights that rise linearly, 1 for the first to N
    for the last, before they are scaled to the sum 1. (The paper averages probabilities.) Any
    number of snippets is possible.
    """

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        scores_BNK: Tensor = self.fc(self.lstm(x_BND))
        rising_N = torch.arange(
            1, x_BND.shape[1] + 1, dtype=scores_BNK.dtype, device=scores_BNK.device
        )
        return (scores_BNK * (rising_N / rising_N.sum())[:, None]).sum(1)


class SegmentLSTM(_LSTMHead):
    """TS-LSTM (Ma et al., arXiv 1703.10667): mean of the snippets in each of three segments, LSTM.

    The segments are equal parts in the order of time, the first ones a snippet longer where N is
    no multiple of 3; fewer than 3 snippets are as many segments. The last state gives the scores.
    """

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        parts = x_BND.tensor_split(min(_SEGMENTS, x_BND.shape[1]), dim=1)
        pooled_BSD = torch.stack([part.mean(1) for part in parts], 1)
        out: Tensor = self.fc(self.lstm(pooled_BSD)[:, -1])
        return out
