"""Which layers of a backbone come before which: for freezing its first part and for layer decay."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.errors import UsageError, did_you_mean


def batch_norms(backbone: nn.Module) -> list[nn.Module]:
    """Return the BatchNorm layers in the order in which the backbone registers them."""
    return [module for module in backbone.modules() if isinstance(module, _BatchNorm)]


def part_before(
    backbone: nn.Module, layer: str
) -> tuple[tuple[nn.Module, ...], tuple[nn.Parameter, ...]]:
    """Return the modules before a layer, and parameters that belong to no smaller module.

    "Before" is the order in which the backbone registers its layers, which is that of the
    forward pass for all networks here.

    Args:
        backbone: the network.
        layer: a name such as ``layer4`` or ``blocks.8``.

    Raises:
        UsageError: there is no such layer.
    """
    modules: list[nn.Module] = []
    parameters: list[nn.Parameter] = []
    here, path = backbone, ""
    for name in layer.split("."):
        children = dict(here.named_children())
        if name not in children:
            inside = f" in {path}" if path else ""
            raise UsageError(
                f"model.finetune_from={layer}: there is no layer '{name}'{inside}."
                f"{did_you_mean(name, children)} Choose one of {', '.join(children) or 'none'}."
            )
        parameters += here.parameters(recurse=False)
        for before, child in children.items():
            if before == name:
                break
            modules.append(child)
        here, path = children[name], f"{path}.{name}".lstrip(".")
    return tuple(modules), tuple(parameters)


def layer_depths(backbone: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter by its name, from 0 at the input.

    A layer is a direct child of the backbone, or one block where that child is a list of blocks;
    parameters of no layer (class token, position embedding) are at depth 0.
    """
    prefixes = list(_layers(backbone))
    depths: dict[str, int] = {}
    for name, _ in backbone.named_parameters():
        found = [i for i, prefix in enumerate(prefixes) if name.startswith(f"{prefix}.")]
        depths[name] = found[0] if found else 0
    used = {depth: rank for rank, depth in enumerate(sorted(set(depths.values())))}
    return {name: used[depth] for name, depth in depths.items()}


def _layers(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of layers; lists of blocks, also in a single container, are opened."""
    children = list(module.named_children())
    for name, child in children:
        inside = f"{prefix}{name}"
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1:
            yield from (f"{inside}.{block}" for block, _ in child.named_children())
        elif len(children) == 1 or _holds_blocks(child):
            yield from _layers(child, f"{inside}.")
        else:
            yield inside


def _holds_blocks(module: nn.Module) -> bool:
    """Tell whether a module is a trunk around a list of blocks (as transformers' networks have)."""
    return any(isinstance(part, nn.ModuleList) and len(part) > 1 for part in module.modules())
