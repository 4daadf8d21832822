"""Training in less memory: the inside of every block is computed again in the backward pass.

Of a block, only the input is kept (Chen et al. 2016, "Training deep nets with sublinear memory
cost"), for about a third more computation. The result is the same to the bit: random layers see
the same random numbers again, and BatchNorm moves its running statistics once.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from kinema.errors import UsageError
from kinema.models.bn_inception import BNInception

_LONG = 6  # a plain list of so many layers or more is cut into pieces


def save_memory(backbone: nn.Module) -> int:
    """Let every block of a network forget its activations until the backward pass needs them.

    A block is a member of a list of blocks (``layer1.0`` of a ResNet, ``blocks.3`` of a
    transformer), else the largest module that holds no such list; a long list of single layers
    (VGG) is cut into pieces of about the square root of its length.

    Returns:
        How many blocks there are.

    Raises:
        UsageError: the network has none.
    """
    if isinstance(backbone, BNInception):  # its blocks are no modules
        backbone.run_block = partial(  # type: ignore[method-assign]
            _run, backbone, backbone.run_block
        )
        return backbone.num_blocks
    blocks = list(_blocks(backbone))
    if not blocks:
        raise UsageError(
            f"model.save_memory=true is not possible: the network {type(backbone).__name__} is "
            "not made of blocks. Set model.save_memory=false, or take smaller batches with "
            "optim.accumulate."
        )
    for block in blocks:
        if _is_long(block):
            layers = tuple(block.children())
            block.forward = partial(_run_pieces, block, layers)
        else:
            block.forward = partial(_run, block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module, *, is_root: bool = True) -> Iterator[nn.Module]:
    if not is_root and not any(_is_list_of_blocks(inside) for inside in module.modules()):
        if any(True for _ in module.children()):
            yield module
        return
    for child in module.children():
        yield from _blocks(child, is_root=False)


def _is_list_of_blocks(module: nn.Module) -> bool:
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    return sum(any(True for _ in child.children()) for child in module.children()) > 1


def _is_long(block: nn.Module) -> bool:
    return type(block) is nn.Sequential and len(block) >= _LONG


def _run(
    module: nn.Module,
    forward: Callable[..., Any],
    *arguments: Any,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    if not (module.training and torch.is_grad_enabled()):
        return forward(*arguments, **options)
    # A list may grow before the backward pass (DenseNet collects its features in one).
    kept = [list(value) if isinstance(value, list) else value for value in arguments]
    return checkpoint(
        forward,
        *kept,
        use_reentrant=False,
        context_fn=partial(_contexts, module),
        **options,
    )


def _run_pieces(block: nn.Module, layers: Sequence[nn.Module], x: torch.Tensor) -> torch.Tensor:
    size = math.ceil(math.sqrt(len(layers)))
    for begin in range(0, len(layers), size):
        x = _run(block, partial(_through, layers[begin : begin + size]), x)
    return x


def _through(layers: Sequence[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds the forward pass, and what surrounds its repetition."""
    return nullcontext(), _kept_statistics(module)


@contextmanager
def _kept_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm, in training, normalise by the batch as ever but leave its statistics."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
