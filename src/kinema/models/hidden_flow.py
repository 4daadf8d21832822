"""The hidden stream: flow estimated from RGB inside the network that recognises by it.

Zhu et al., Hidden Two-Stream Convolutional Networks (ACCV 2018): MotionNet stacked on a temporal
network, trained end to end from RGB; the estimated flow is cut at ±20 pixels before it.

Shapes: B videos, N snippets, T images, C channels, H, W.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.flow.motion_file import load_motion
from kinema.flow.motion_network import (
    at_frame_size,
    build_motion_network,
    motion_input,
    widened,
)
from kinema.models.branched_motion import PREFIX, BranchedMotion
from kinema.models.flow_losses import LOSSES, flow_loss

BOUND = 20.0  # pixels
_ZERO, _SCALE = 128.0, 127.0  # uint8 of stored flow: no motion, and from there to the bound
_SMALLEST = 64  # side of frames whose coarsest scale still has neighbouring pixels
_FRAMES = {"motionnet": 11}  # that a network must see; others: two at least


class HiddenFlow(nn.Module):
    """RGB frames to flow images, as a store of flow with the bound 20 has them (not rounded).

    Args:
        name: of the network, see `kinema.flow.motion_network`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.motion = name, build_motion_network(name)
        self.keeps_loss, self.flow_loss_S = False, torch.zeros(0)

    def keep_loss(self) -> None:
        """Let training keep stage 1's loss of every snippet, `flow_loss_S`."""
        self.keeps_loss = True

    def forward(self, x_BNTCHW: Tensor) -> Tensor:
        """Return flow (B, N, T-1, 2, H, W) on the scale 0 to 255 from uint8 RGB frames."""
        frames_STCHW = x_BNTCHW.flatten(0, 1).float() / 255
        height, width = frames_STCHW.shape[3:]
        frames_STCHW = widened(motion_input(self.motion, frames_STCHW))
        flows = self.motion(frames_STCHW)
        if self.keeps_loss and self.training:
            self.flow_loss_S = flow_loss(flows, frames_STCHW, LOSSES[self.name])["total"]
        flow_BT2HW = at_frame_size(flows[0], height=height, width=width).clamp(-BOUND, BOUND)
        images_BT2HW = flow_BT2HW * (_SCALE / BOUND) + _ZERO
        return images_BT2HW.view(*x_BNTCHW.shape[:2], *images_BT2HW.shape[1:])


def check_hidden(model: ModelConfig, *, modality: str, stack: int, crop: int) -> None:
    """Refuse settings of the hidden stream that do not go together.

    Raises:
        UsageError: says which.
    """
    is_branched = model.backbone.startswith(PREFIX)
    if is_branched and model.normalise != "unit":
        raise UsageError(
            f"model.backbone={model.backbone} sees frames of 0 to 1: set model.normalise=unit."
        )
    if model.motion_loss and not (is_branched or model.motion):
        raise UsageError(
            f"model.motion_loss={model.motion_loss} is of no use where no flow is estimated: set "
            f"model.motion, or model.backbone={PREFIX}motionnet-tiny."
        )
    if model.motion_loss and crop < _SMALLEST:
        raise UsageError(
            f"model.motion_loss={model.motion_loss} compares flow at five scales, for which "
            f"data.crop={crop} is too small: set it to {_SMALLEST} or more."
        )
    if not model.motion:
        if model.motion_weights and not is_branched:
            raise UsageError(
                f"model.motion_weights={model.motion_weights} is of no use without model.motion: "
                "set model.motion=motionnet-tiny, or the network that the file holds."
            )
        return
    if modality != "rgb":
        raise UsageError(
            f"model.motion={model.motion} estimates flow from RGB frames, but data.modality="
            f"{modality}: set data.modality=rgb."
        )
    needed = _FRAMES.get(model.motion, 2)
    if stack < needed or (model.motion in _FRAMES and stack != needed):
        raise UsageError(
            f"model.motion={model.motion} takes {needed} frames"
            f"{'' if model.motion in _FRAMES else ' at least'}, but data.stack={stack}: set "
            "data.stack=11 for 10 flow pairs."
        )


def load_hidden(hidden: HiddenFlow | BranchedMotion, path: Path) -> None:
    """Give what estimates flow the weights that `kinema train-motion` wrote.

    Raises:
        KinemaError: no such file, or of another network.
    """
    network, name = load_motion(path)
    if name != hidden.name:
        raise KinemaError(
            f"{path} holds the network {name}, but model.motion={hidden.name}: set "
            f"model.motion={name}."
        )
    hidden.motion.load_state_dict(network.state_dict())
