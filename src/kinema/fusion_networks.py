"""Small networks that turn the scores of several streams into one, from their average onwards.

Every one is the average of the streams' probabilities at its start, and what it learns is drawn
back to that by the square of the distance, so on what it learned from, its log-loss is never worse
than the average's. They are fitted as a whole by L-BFGS, so the result is the same every time.

Shapes: S streams, R rows, K classes, D numbers per stream.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinema.fusion_tables import StreamTable

NetworkMethod = Literal["weights", "mlp", "gated", "bilinear"]

RANK = 16  # of the bilinear form of two streams
HIDDEN = 64  # units of the MLP
_ITERATIONS = 100
_WIDE = 4096  # numbers in a row above which single precision is used


@dataclass(frozen=True, kw_only=True)
class FusionNetwork:
    """A fitted network: parameters and what they stand for."""

    method: NetworkMethod
    parameters: tuple[Tensor, ...]

    def log_probabilities(self, table: StreamTable) -> NDArray[np.float64]:
        """Return float64 (R, K)."""
        with torch.no_grad():
            found = _FORWARD[self.method](self.parameters, _inputs(table))
        return np.asarray(found.double().numpy())

    def facts(self) -> dict[str, list[float]]:
        """Return what can be read off: weights (sum 1) and temperatures, where they are fixed."""
        if self.method != "weights":
            return {}
        log_t_S, bias_S = self.parameters
        return {
            "weights": bias_S.softmax(0).tolist(),
            "temperatures": log_t_S.exp().tolist(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, by the place of each parameter."""
        return {f"{place:02}": value.numpy() for place, value in enumerate(self.parameters)}

    @classmethod
    def of_arrays(
        cls, method: NetworkMethod, arrays: Mapping[str, NDArray[Any]]
    ) -> "FusionNetwork":
        """Return the network of what `arrays` gave."""
        tensors = (torch.tensor(arrays[name]) for name in sorted(arrays))
        return cls(method=method, parameters=tuple(tensors))


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """The table as tensors: `x` S times (R, D), `log_p` (S, R, K) of scores."""

    x: tuple[Tensor, ...]
    log_p: Tensor | None
    num_classes: int

    def average(self) -> Tensor | float:
        """Return the logarithm of the average of the streams; 0 of features."""
        if self.log_p is None:
            return 0.0
        return self.log_p.logsumexp(0) - math.log(len(self.log_p))


def _inputs(table: StreamTable) -> _Inputs:
    dtype = torch.float32 if sum(rows.shape[1] for rows in table.x) > _WIDE else torch.float64
    return _Inputs(
        x=tuple(torch.from_numpy(rows).to(dtype) for rows in table.x),
        log_p=torch.from_numpy(np.stack(table.log_p)).to(dtype) if table.log_p else None,
        num_classes=len(table.classes),
    )


def fit_network(
    method: NetworkMethod, table: StreamTable, *, strength: float, seed: int
) -> FusionNetwork:
    """Fit by the mean log-loss, plus `strength` times the squared distance from the start.

    Args:
        method: which network.
        table: rows with labels.
        strength: infinite: the start itself, the average.
        seed: of the random first layers of mlp and bilinear.
    """
    inputs, forward = _inputs(table), _FORWARD[method]
    start = _START[method](inputs, torch.Generator().manual_seed(seed))
    if math.isinf(strength):
        return FusionNetwork(method=method, parameters=start)
    labels_R = torch.from_numpy(table.labels)
    found = tuple(value.clone().requires_grad_() for value in start)
    optimizer = torch.optim.LBFGS(
        found, max_iter=_ITERATIONS, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def objective(parameters: tuple[Tensor, ...]) -> Tensor:
        loss = torch.nn.functional.nll_loss(forward(parameters, inputs), labels_R)
        far = sum((((now - then) ** 2).sum() for now, then in zip(parameters, start, strict=True)))
        return loss + strength * far

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(found)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    fitted = tuple(value.detach() for value in found)
    with torch.no_grad():
        better = bool(objective(fitted) <= objective(start))
    return FusionNetwork(method=method, parameters=fitted if better else start)


# Each network: its parameters at the start, and the logarithm of its probabilities (R, K).
_Parameters = tuple[Tensor, ...]


def _zeros(inputs: _Inputs, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=inputs.x[0].dtype)


def _weights_start(inputs: _Inputs, random: torch.Generator) -> _Parameters:
    count = len(inputs.x)
    return _zeros(inputs, count), _zeros(inputs, count)


def _weights(parameters: _Parameters, inputs: _Inputs) -> Tensor:
    """Weighted mean of probabilities, each stream with a temperature of its own."""
    log_t_S, bias_S = parameters
    return _mixture(log_t_S, bias_S.log_softmax(0)[:, None], inputs)


def _mixture(log_t_S: Tensor, log_share_SR: Tensor, inputs: _Inputs) -> Tensor:
    assert inputs.log_p is not None  # only scores have these methods
    log_p = (inputs.log_p / log_t_S.exp()[:, None, None]).log_softmax(2)
    return (log_p + log_share_SR[..., None]).logsumexp(0)


def _gated_start(inputs: _Inputs, random: torch.Generator) -> _Parameters:
    count, width = len(inputs.x), sum(x.shape[1] for x in inputs.x)
    return (*_weights_start(inputs, random), _zeros(inputs, width, count))


def _gated(parameters: _Parameters, inputs: _Inputs) -> Tensor:
    """The same with weights that a linear gate chooses for every video."""
    log_t_S, bias_S, gate_DS = parameters
    share_RS = (torch.cat(inputs.x, 1) @ gate_DS + bias_S).log_softmax(1)
    return _mixture(log_t_S, share_RS.T, inputs)


def _mlp_start(inputs: _Inputs, random: torch.Generator) -> _Parameters:
    width = sum(x.shape[1] for x in inputs.x)
    first = torch.randn(width, HIDDEN, generator=random, dtype=inputs.x[0].dtype)
    return (
        first,
        _zeros(inputs, HIDDEN),
        _zeros(inputs, HIDDEN, inputs.num_classes),
        _zeros(inputs, inputs.num_classes),
    )


def _mlp(parameters: _Parameters, inputs: _Inputs) -> Tensor:
    """One hidden layer over all streams; its output is added to the average's logarithm."""
    first, bias_H, last_HK, bias_K = parameters
    hidden = (torch.cat(inputs.x, 1) @ first + bias_H).tanh()
    return (inputs.average() + hidden @ last_HK + bias_K).log_softmax(1)


def _bilinear_start(inputs: _Inputs, random: torch.Generator) -> _Parameters:
    dtype, count = inputs.x[0].dtype, len(inputs.x)
    first = (torch.randn(x.shape[1], RANK, generator=random, dtype=dtype) for x in inputs.x)
    last = _zeros(inputs, math.comb(count, 2), RANK, inputs.num_classes)
    return (*first, last, _zeros(inputs, inputs.num_classes))


def _bilinear(parameters: _Parameters, inputs: _Inputs) -> Tensor:
    """Products of each two streams, as a bilinear form of low rank, added in the same way."""
    *first, last_PHK, bias_K = parameters
    hidden = [x @ factor for x, factor in zip(inputs.x, first, strict=True)]
    added: Tensor | float = inputs.average()
    for pair, (one, other) in enumerate(combinations(hidden, 2)):
        added = added + (one * other) @ last_PHK[pair]
    return (added + bias_K).log_softmax(1)


_FORWARD: dict[NetworkMethod, Callable[[_Parameters, _Inputs], Tensor]] = {
    "weights": _weights,
    "mlp": _mlp,
    "gated": _gated,
    "bilinear": _bilinear,
}
_START: dict[NetworkMethod, Callable[[_Inputs, torch.Generator], _Parameters]] = {
    "weights": _weights_start,
    "mlp": _mlp_start,
    "gated": _gated_start,
    "bilinear": _bilinear_start,
}
