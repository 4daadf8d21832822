"""The hidden stream: flow estimated from RGB inside the network that recognises by it.

Zhu et al., Hidden Two-Stream Convolutional Networks (ACCV 2018): MotionNet stacked on a temporal
network, trained end to end from RGB; the estimated flow is cut at ±20 pixels before it.

Shapes: B videos, N snippets, T images, C channels, H, W.
"""

from pathlib import Path

from torch import Tensor, nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.flow.motion_file import load_motion
from kinema.flow.motion_network import build_motion_network, full_flow

BOUND = 20.0  # pixels
_ZERO, _SCALE = 128.0, 127.0  # uint8 of stored flow: no motion, and from there to the bound
_FRAMES = {"motionnet": 11}  # that a network must see; others: two at least


class HiddenFlow(nn.Module):
    """RGB frames to flow images, as a store of flow with the bound 20 has them (not rounded).

    Args:
        name: of the network, see `kinema.flow.motion_network`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.motion = name, build_motion_network(name)

    def forward(self, x_BNTCHW: Tensor) -> Tensor:
        """Return flow (B, N, T-1, 2, H, W) on the scale 0 to 255 from uint8 RGB frames."""
        frames_BTCHW = x_BNTCHW.flatten(0, 1).float() / 255
        flow_BT2HW = full_flow(self.motion, frames_BTCHW).clamp(-BOUND, BOUND)
        images_BT2HW = flow_BT2HW * (_SCALE / BOUND) + _ZERO
        return images_BT2HW.view(*x_BNTCHW.shape[:2], *images_BT2HW.shape[1:])


def check_hidden(model: ModelConfig, *, modality: str, stack: int) -> None:
    """Refuse settings of the hidden stream that do not go together.

    Raises:
        UsageError: says which.
    """
    if not model.motion:
        if model.motion_weights:
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


def load_hidden(hidden: HiddenFlow, path: Path) -> None:
    """Give the hidden stream the weights that `kinema train-motion` wrote.

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
