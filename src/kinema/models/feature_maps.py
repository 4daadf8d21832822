"""What a consensus reads from inside a backbone, and what of the backbone that leaves unused.

Shapes: B snippets, P positions of the feature map (space, or time and space), C channels.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kinema.errors import UsageError
from kinema.models.tle import MapShape
from kinema.models.torchvision_clips import MViTClips


def drop_classifier(backbone: nn.Module) -> None:
    """Take the classifier out: ``forward_head(x, pre_logits=True)`` has no need of it."""
    if hasattr(backbone, "reset_classifier"):  # timm
        backbone.reset_classifier(0)  # type: ignore[operator]
        return
    classifier = backbone.get_classifier()  # type: ignore[operator]
    for name, module in list(backbone.named_modules()):
        if module is classifier:
            backbone.set_submodule(name, nn.Identity())


def map_positions(backbone: nn.Module, x: Tensor) -> Tensor:
    """Return the last feature map position by position, (B, P, C).

    Maps (B, C, H, W) and (B, C, T, H, W), maps with the channels last, and the tokens of
    transformers without their class tokens.

    Raises:
        UsageError: the backbone gives one vector for its input.
    """
    found = backbone.forward_features(x)  # type: ignore[operator]
    if not isinstance(found, Tensor) or found.ndim not in (3, 4, 5):
        raise UsageError(
            f"model.consensus=tle needs a feature map, but {type(backbone).__name__} gives only "
            "one vector per snippet: choose another backbone, or a consensus that reads vectors, "
            "such as transformer."
        )
    if found.ndim == 3:
        return found[:, _class_tokens(backbone) :]
    if _channels_last(backbone, found):
        return found.flatten(1, -2)
    return found.flatten(2).transpose(1, 2)


def keep_up_to_map(backbone: nn.Module, example: Tensor) -> MapShape:
    """Remove what lies behind the feature map, and return the map's shape.

    Layers that the map does not need (the fully connected ones of VGG, the last convolution of
    MobileNet v3) become identities; parameters of layers that run in vain are frozen.

    Args:
        backbone: changed in place.
        example: an input, (1, C, H, W) or (1, C, T, H, W), on torch's meta device.
    """
    drop_classifier(backbone)
    x_BPC = keep_up_to(backbone, example, read=map_positions)
    return MapShape(positions=x_BPC.shape[1], channels=x_BPC.shape[2])


def keep_up_to(
    backbone: nn.Module, example: Tensor, *, read: Callable[[nn.Module, Tensor], Tensor]
) -> Tensor:
    """Remove what is not needed to read something from a network; returns it, on the meta device.

    Args:
        backbone: changed in place.
        example: an input on torch's meta device.
        read: of (network, input), what will be read.
    """
    shadow = copy.deepcopy(backbone).to("meta").eval()
    ran: set[str] = set()
    for name, module in shadow.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    trained = {name: p for name, p in shadow.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        found = read(shadow, example)
        slopes = torch.autograd.grad(found.sum(), list(trained.values()), allow_unused=True)
    unused = {name for name, slope in zip(trained, slopes, strict=True) if slope is None}
    for name in _idle(backbone, ran=ran, unused=unused):
        backbone.set_submodule(name, nn.Identity())
    for name, parameter in backbone.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)
    return found


def _idle(backbone: nn.Module, *, ran: set[str], unused: set[str]) -> list[str]:
    """Return the largest modules with parameters of which nothing ran."""
    idle: list[str] = []
    for name, module in backbone.named_modules():
        parameters = [f"{name}.{inside}" for inside, _ in module.named_parameters()]
        inside_idle = any(name.startswith(f"{outer}.") for outer in idle)
        if not name or inside_idle or not parameters or not unused.issuperset(parameters):
            continue
        if not any(other == name or other.startswith(f"{name}.") for other in ran):
            idle.append(name)
    return idle


def _class_tokens(backbone: nn.Module) -> int:
    if isinstance(backbone, MViTClips):
        return 1
    return int(getattr(backbone, "num_prefix_tokens", 0))


def _channels_last(backbone: nn.Module, found: Tensor) -> bool:
    width = getattr(backbone, "num_features", getattr(backbone, "head_hidden_size", 0))
    return bool(found.shape[-1] == width != found.shape[1])
