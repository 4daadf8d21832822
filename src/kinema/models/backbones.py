"""2D backbones by name: those of the two-stream literature by short names, any other from timm.

Every backbone has timm's interface: ``forward_features``, ``forward_head(x, pre_logits=True)``,
``get_classifier``, ``num_features`` and ``head_hidden_size`` (width before the classifier).
3D ones are in `kinema.models.clip_backbones`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, cast

import timm
from timm.models.vgg import VGG
from torch import nn

from kinema.errors import KinemaError, UsageError, did_you_mean
from kinema.models.bn_inception import BNInception
from kinema.models.branched_motion import BranchedMotion
from kinema.models.tiny import TinyNet


class _Builder(Protocol):
    def __call__(self, *, in_channels: int, num_classes: int, dropout: float) -> nn.Module: ...


OWN_BACKBONES: dict[str, _Builder] = {
    "bn_inception": BNInception,
    "tiny": TinyNet,
}

# They see RGB frames alone, see `kinema.models.branched_motion`.
BRANCHED_BACKBONES: dict[str, _Builder] = {
    "branched-motionnet": partial(BranchedMotion, "motionnet"),
    "branched-motionnet-tiny": partial(BranchedMotion, "motionnet-tiny"),
}

# The tag after the dot says which published weights are meant: torchvision's first ones, which
# the two-stream systems started from. `legacy_xception` is the network of Chollet's paper and of
# Keras; `mobilenetv1_100` is MobileNet v1 at full width.
TIMM_BACKBONES: dict[str, str] = {
    "resnet18": "resnet18.tv_in1k",
    "resnet34": "resnet34.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnet152": "resnet152.tv_in1k",
    "vgg16": "vgg16.tv_in1k",
    "vgg16_bn": "vgg16_bn.tv_in1k",
    "vgg19": "vgg19.tv_in1k",
    "densenet121": "densenet121.tv_in1k",
    "densenet161": "densenet161.tv_in1k",
    "inception_v3": "inception_v3.tv_in1k",
    "xception": "legacy_xception.tf_in1k",
    "mobilenet": "mobilenetv1_100.ra4_e3600_r224_in1k",
}

SHORT_NAMES: tuple[str, ...] = (*OWN_BACKBONES, *TIMM_BACKBONES)


def create_backbone(
    name: str,
    *,
    in_channels: int = 3,
    num_classes: int | None = None,
    dropout: Sequence[float] = (),
    drop_path: float = 0.0,
    pretrained: bool = False,
) -> nn.Module:
    """Build a network that gives logits.

    Args:
        name: a short name, or any name of timm (with or without a weights tag).
        in_channels: channels of the input images.
        num_classes: outputs; None: 1000, those of ImageNet.
        dropout: probabilities; one value goes before the classifier (VGG: behind both fully
            connected layers), two values are for VGG alone, in the order fc6, fc7; none is 0.
        drop_path: stochastic depth of the last block, for networks of timm that have it.
        pretrained: let timm fetch ImageNet weights (`kinema.weights` decides when and explains
            failures). Its own rule for channel counts other than 3 is not ours: use 3 here.

    Raises:
        UsageError: an unknown name.
        KinemaError: dropout values that the network has no place for.
    """
    own = {**OWN_BACKBONES, **BRANCHED_BACKBONES}
    if name in own:
        check_dropout(name, dropout, places=1)
        if drop_path:
            raise _no_drop_path(name)
        return own[name](
            in_channels=in_channels,
            num_classes=1000 if num_classes is None else num_classes,
            dropout=dropout[0] if dropout else 0.0,
        )
    full_name = TIMM_BACKBONES.get(name, name)
    _check_known(name, full_name)
    try:
        backbone: nn.Module = timm.create_model(
            full_name,
            pretrained=pretrained,
            in_chans=in_channels,
            num_classes=num_classes,
            drop_rate=dropout[0] if dropout else 0.0,
            **_only_if_set(drop_path_rate=drop_path),
        )
    except TypeError as error:
        if drop_path:
            raise _no_drop_path(name) from error
        raise KinemaError(
            f"timm's '{name}' cannot be built for {in_channels} channels with dropout: {error}."
        ) from error
    _set_dropout(name, backbone, dropout)
    return backbone


def _check_known(name: str, full_name: str) -> None:
    known = timm.is_model(full_name)
    tag = full_name.partition(".")[2]
    if known and tag and full_name not in timm.list_models(f"{full_name}*", pretrained=True):
        tags = ", ".join(timm.list_models(f"{full_name.partition('.')[0]}.*", pretrained=True))
        raise UsageError(f"timm has no weights '{name}'. Choose {tags or 'a name without tag'}.")
    if not known:
        hint = did_you_mean(name, [*SHORT_NAMES, *BRANCHED_BACKBONES, *timm.list_models()])
        raise UsageError(
            f"Unknown backbone '{name}'.{hint} Short names: {', '.join(SHORT_NAMES)}; any other 2D "
            "network of timm goes by its timm name, and `kinema models` lists 3D networks."
        )


def _only_if_set(*, drop_path_rate: float) -> dict[str, Any]:
    """Most networks of timm do not know stochastic depth, not even that of 0."""
    return {"drop_path_rate": drop_path_rate} if drop_path_rate else {}


def _no_drop_path(name: str) -> UsageError:
    return UsageError(f"The network '{name}' has no stochastic depth: set model.drop_path=0.")


def check_dropout(name: str, dropout: Sequence[float], *, places: int) -> None:
    """Refuse more values than `places`, and values outside [0, 1).

    Raises:
        KinemaError: such values.
    """
    if len(dropout) > places:
        raise KinemaError(
            f"model.dropout has {len(dropout)} values, but {name} takes {places}: "
            "two values are for the VGG networks."
        )
    for value in dropout:
        if not 0 <= value < 1:
            raise KinemaError(f"model.dropout={value} is not possible: give a value in [0, 1).")


def _set_dropout(name: str, backbone: nn.Module, dropout: Sequence[float]) -> None:
    is_vgg = isinstance(backbone, VGG)
    check_dropout(name, dropout, places=2 if is_vgg else 1)
    if is_vgg and len(dropout) == 2:
        cast(nn.Dropout, backbone.get_submodule("head.drop")).p = dropout[1]
