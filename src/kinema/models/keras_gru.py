"""The recurrent fusion network of two-stream-action-recognition (Elkomy), as Keras computes it.

Shapes: B videos, N snippets, D features per snippet, U units, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.models.head_shape import HeadShape
from kinema.models.precision import at_least_float32, full_precision


class KerasGRU(nn.Module):
    """The GRU of Keras with ``reset_after=False`` and hard sigmoid gates, Keras' defaults of 2018.

    torch's own GRU resets after the recurrent product, ``tanh(W x + b + r * (U h + b'))``, and has
    two biases; this one resets before it, ``tanh(W x + b + U (r * h))``, and has one. So weights
    of Keras fit exactly: `kernel.weight` is its kernel transposed, (3 U, D), `recurrent.weight`
    its recurrent kernel transposed, (3 U, U), `kernel.bias` its bias, (3 U,), with the gates in
    the order update, reset, candidate. Dropout is Keras' too: of the inputs, one mask per video
    and gate for all snippets. Computed in float32, also under autocast.

    Args:
        features: D.
        units: U.
        dropout: of the inputs.
    """

    def __init__(self, features: int, units: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self._units, self._dropout = units, dropout
        self.kernel = nn.Linear(features, 3 * units)
        self.recurrent = nn.Linear(units, 3 * units, bias=False)
        nn.init.xavier_uniform_(self.kernel.weight)
        nn.init.zeros_(self.kernel.bias)
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the states after every snippet, (B, N, U)."""
        with full_precision(x_BND.device):
            inputs_BNG = self._inputs(at_least_float32(x_BND))
            both = 2 * self._units  # rows of the update and the reset gate
            gates_U, candidate_U = self.recurrent.weight[:both], self.recurrent.weight[both:]
            h = inputs_BNG.new_zeros(x_BND.shape[0], self._units)
            states = []
            for x_BG in inputs_BNG.unbind(1):
                gates = _hard_sigmoid(x_BG[:, :both] + functional.linear(h, gates_U))
                update, reset = gates.chunk(2, dim=1)
                new = torch.tanh(x_BG[:, both:] + functional.linear(reset * h, candidate_U))
                h = update * h + (1 - update) * new
                states.append(h)
            return torch.stack(states, 1)

    def _inputs(self, x_BND: Tensor) -> Tensor:
        if not (self.training and self._dropout):
            out: Tensor = self.kernel(x_BND)
            return out
        masks_GB1D = functional.dropout(
            x_BND.new_ones(3, x_BND.shape[0], 1, x_BND.shape[2]), self._dropout
        )
        pairs = zip(masks_GB1D, self.kernel.weight.chunk(3), self.kernel.bias.chunk(3), strict=True)
        return torch.cat([functional.linear(x_BND * mask, w, b) for mask, w, b in pairs], -1)


class GRUAttention(nn.Module):
    """GRU, a weighted sum of its states, one SELU layer of half their width, scores.

    The weights are the softmax over time of one linear layer on the states. Any number of
    snippets is possible. With 4096 features, 128 units and 101 classes it has 1,637,350
    parameters.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        units = shape.width
        self.gru = KerasGRU(shape.features, units, dropout=shape.dropout)
        self.attention = nn.Linear(units, 1)
        self.hidden = nn.Linear(units, units // 2)
        self.fc = nn.Linear(units // 2, shape.num_classes)
        for layer in (self.attention, self.hidden, self.fc):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        states_BNU = self.gru(x_BND)
        weights_BN1 = self.attention(states_BNU).softmax(1)
        out: Tensor = self.fc(functional.selu(self.hidden((weights_BN1 * states_BNU).sum(1))))
        return out


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)  # Keras' slope; torch's own has 1/6
