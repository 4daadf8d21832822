"""3D backbones by name: networks that see all images of a snippet at once.

Every backbone takes (B, C, T, H, W) and has timm's interface: ``forward_features``,
``forward_head(x, pre_logits=True)``, ``get_classifier`` and ``head_hidden_size`` (width before the
classifier). `pretrained_cfg` holds ``mean`` and ``std`` of the published weights' RGB images and
``first_conv``, the names of the layers that read the images.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from torch import nn

from kinema.errors import UsageError
from kinema.models import (
    clip_resnet,
    csn,
    hf_clips,
    i3d,
    resnet3d,
    slowfast,
    torchvision_clips,
    x3d,
)
from kinema.models.backbones import check_dropout
from kinema.models.clip_shape import ClipShape


class _Builder(Protocol):
    def __call__(self, shape: ClipShape, /) -> nn.Module: ...


CLIP_BACKBONES: dict[str, _Builder] = {
    "i3d": i3d.InceptionI3D,
    "i3d_resnet50": clip_resnet.i3d_resnet50,
    "i3d_resnet101": clip_resnet.i3d_resnet101,
    "c2d_resnet50": clip_resnet.c2d_resnet50,
    "slowonly_resnet50": clip_resnet.slowonly_resnet50,
    "slowonly_resnet101": clip_resnet.slowonly_resnet101,
    "slowfast_4x16_resnet50": slowfast.slowfast_4x16_resnet50,
    "slowfast_8x8_resnet50": slowfast.slowfast_8x8_resnet50,
    "slowfast_4x16_resnet101": slowfast.slowfast_4x16_resnet101,
    "slowfast_8x8_resnet101": slowfast.slowfast_8x8_resnet101,
    "x3d_xs": x3d.x3d_xs,
    "x3d_s": x3d.x3d_s,
    "x3d_m": x3d.x3d_m,
    "x3d_l": x3d.x3d_l,
    "ircsn_resnet50": csn.ircsn_resnet50,
    "ircsn_resnet101": csn.ircsn_resnet101,
    "ircsn_resnet152": csn.ircsn_resnet152,
    "ipcsn_resnet50": csn.ipcsn_resnet50,
    **torchvision_clips.TORCHVISION_CLIPS,
    **resnet3d.RESNET3D,
    **resnet3d.RESNET2P1D,
    **hf_clips.HF_CLIPS,
}
# Those with stochastic depth, and those that take non-local blocks.
_WITH_DROP_PATH: frozenset[str] = frozenset(
    {*torchvision_clips.WITH_DROP_PATH, *hf_clips.WITH_DROP_PATH}
)
_WITH_NONLOCAL: frozenset[str] = frozenset(
    {"i3d_resnet50", "i3d_resnet101", "c2d_resnet50", "slowonly_resnet50", "slowonly_resnet101"}
)


def is_clip_backbone(name: str) -> bool:
    """Tell whether a backbone sees its images as a clip (3D) instead of as stacked channels."""
    return name in CLIP_BACKBONES or name.startswith(hf_clips.HUB)


def create_clip_backbone(
    name: str, shape: ClipShape, *, dropout: Sequence[float] = ()
) -> nn.Module:
    """Build a 3D network that gives logits, (B, C, T, H, W) -> (B, K).

    Args:
        name: a key of `CLIP_BACKBONES`, or ``hf:ORG/NAME``.
        shape: what it is built for; `dropout` there is taken from the next argument.
        dropout: probability before the classifier; none is 0.

    Raises:
        UsageError: settings that this network has no place for.
        KinemaError: more than one dropout value, or images too few or too small for it.
    """
    check_dropout(name, dropout, places=1)
    if shape.drop_path and name not in _WITH_DROP_PATH:
        raise UsageError(f"The network '{name}' has no stochastic depth: set model.drop_path=0.")
    if shape.nonlocal_blocks and name not in _WITH_NONLOCAL:
        raise UsageError(
            f"The network '{name}' takes no non-local blocks: set model.nonlocal_blocks=0, or "
            f"choose {', '.join(sorted(_WITH_NONLOCAL))}."
        )
    builder = CLIP_BACKBONES.get(name) or partial(hf_clips.from_hub, name)
    return builder(replace(shape, dropout=dropout[0] if dropout else 0.0))
