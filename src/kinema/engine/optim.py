"""Optimisers, their parameter groups, and learning rates as a pure function of progress."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kinema.config import OptimConfig
from kinema.errors import UsageError
from kinema.models.freezing import layer_depths

_NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
_ONECYCLE_RISE = 0.3  # share of the run in which the rate rises (torch's OneCycleLR)
_ONECYCLE_START = 25.0  # the first rate is lr / 25
_ONECYCLE_END = 1e4  # the last rate is the first one / 10,000


@dataclass(frozen=True)
class Part:
    """A network, or a part of one, with a learning rate of its own."""

    network: nn.Module
    modality: str = ""  # what its first convolution sees
    scale: float = 1.0  # of the scheduled rate


def build_optimizer(parts: Sequence[Part], config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser over the trainable parameters of all parts.

    Every group carries `scale`, which multiplies the scheduled learning rate.
    """
    groups = [
        {**group, "scale": group["scale"] * part.scale}
        for part in parts
        for group in parameter_groups(part.network, config, modality=part.modality)
    ]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            dampening=config.dampening,
            nesterov=config.nesterov,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=(config.momentum, 0.999))


def parameter_groups(
    network: nn.Module, config: OptimConfig, *, modality: str
) -> Iterator[dict[str, Any]]:
    """Yield parameter groups by `config.groups`.

    - ``plain``: one group, one weight decay.
    - ``no-decay``: no weight decay for biases and normalisation layers.
    - ``tsn``: the policies of tsn-pytorch: biases at twice the rate without decay, BatchNorm
      without decay, and for flow the first convolution at 5 (weight) and 10 (bias) times the
      rate.

    With ``layer_decay`` these rates are multiplied by `layer_scales`.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    first_conv = next((m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
    depth_scales = layer_scales(network, config.layer_decay)
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_bias, is_norm = name == "bias", isinstance(module, _NORM_LAYERS)
            scale, decay = 1.0, config.weight_decay
            if config.groups != "plain" and (is_bias or is_norm):
                decay = 0.0
            if config.groups == "tsn" and not is_norm:
                scale = 2.0 if is_bias else 1.0
                if module is first_conv and modality == "flow":
                    scale *= 5.0
            scale *= depth_scales.get(f"{path}.{name}", 1.0)
            kinds.setdefault((scale, decay), []).append(parameter)
    for (scale, decay), parameters in kinds.items():
        yield {"params": parameters, "scale": scale, "weight_decay": decay}


def layer_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor on the rate of every parameter of ``network.backbone``, by its full name.

    The last layer, the classifier, has 1, each layer before it `decay` times that of the next
    (Clark et al. 2020; Bao et al. 2022 for images). Layers are those of
    `kinema.models.freezing.layer_depths`; one that is normalisation alone counts with the layer
    before it, as in timm. Everything behind the backbone has 1.

    Raises:
        UsageError: not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise UsageError(
            f"optim.layer_decay={decay} is not possible: give a factor above 0 and at most 1, "
            "such as 0.75; 1 turns it off."
        )
    if decay == 1:
        return {}
    depths = layer_depths(network.get_submodule("backbone"))
    own = {
        depth
        for name, depth in depths.items()
        if not isinstance(
            network.get_submodule(f"backbone.{name}".rpartition(".")[0]), _NORM_LAYERS
        )
    }
    ranks = {depth: sum(i in own for i in range(1, depth + 1)) for depth in depths.values()}
    last = max(ranks.values())
    return {f"backbone.{name}": decay ** (last - ranks[depth]) for name, depth in depths.items()}


def learning_rate(config: OptimConfig, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the rate of optimiser step `step` (from 0), before group scales and plateaus."""
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        rise = config.lr - config.warmup_lr
        return config.warmup_lr + rise * (step + 1) / (warmup_steps + 1)
    total = max(steps_per_epoch * epochs - warmup_steps, 1)
    done = step - warmup_steps
    if config.schedule == "multistep":
        epoch = step // steps_per_epoch
        return config.lr * config.gamma ** sum(epoch >= mark for mark in config.milestones)
    if config.schedule == "cosine":
        return _anneal(config.lr, config.min_lr, done / total)
    if config.schedule == "onecycle":
        return _onecycle(config.lr, done, total)
    return config.lr


def _onecycle(peak: float, done: int, total: int) -> float:
    start = peak / _ONECYCLE_START
    rise = max(_ONECYCLE_RISE * total - 1, 1e-9)
    if done <= rise:
        return _anneal(start, peak, done / rise)
    return _anneal(peak, start / _ONECYCLE_END, (done - rise) / max(total - 1 - rise, 1e-9))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


class Plateau:
    """Factor on the rate: times `gamma` after `patience` epochs without a lower loss.

    The rule of torch's ReduceLROnPlateau (mode min, relative threshold 1e-4).
    """

    def __init__(self, config: OptimConfig) -> None:
        self._active = config.schedule == "plateau"
        self._gamma, self._patience, self._lr = config.gamma, config.patience, config.lr
        self._min_lr = config.min_lr
        self.factor, self.best_loss, self.bad_epochs = 1.0, math.inf, 0

    def update(self, loss: float) -> None:
        """Take the validation loss of an epoch."""
        if not self._active:
            return
        if loss < self.best_loss * (1 - 1e-4):
            self.best_loss, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self._patience:
            self.factor = max(self.factor * self._gamma, self._min_lr / self._lr)
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        """Return the state for a resume."""
        return {"factor": self.factor, "best_loss": self.best_loss, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take the state of `state_dict`."""
        self.factor, self.best_loss = state["factor"], state["best_loss"]
        self.bad_epochs = int(state["bad_epochs"])


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def current_rate(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate that was set last, without the scale of any group."""
    group = optimizer.param_groups[0]
    return float(group["lr"] / group["scale"])


class Average:
    """Exponential moving average of all floating parameters and buffers (EMA)."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values = {name: value.detach().clone() for name, value in _floats(network)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present values."""
        for name, value in _floats(network):
            self.values[name].lerp_(value, 1 - self._decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the network's values with the averaged ones (again: back)."""
        for name, value in _floats(network):
            held = self.values[name].clone()
            self.values[name].copy_(value)
            value.copy_(held)


@contextmanager
def averaged(average: Average | None, network: nn.Module) -> Iterator[None]:
    """Give the network its averaged weights, where there are some, for a ``with`` block."""
    if average is None:
        yield
        return
    average.swap(network)
    try:
        yield
    finally:
        average.swap(network)


def _floats(network: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    return ((k, v) for k, v in network.state_dict().items() if v.is_floating_point())
