"""The branched form of the hidden stream: classes beside flow, from one encoder.

Zhu et al., Hidden Two-Stream Convolutional Networks (ACCV 2018), name two forms: stacked (see
`kinema.models.hidden_flow`) and branched. Here the classifier reads what the encoder of a MotionNet
has found, and the decoder is there for the loss of flow alone.

Shapes: S snippets, T frames, C channels, H, W, K classes.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import UsageError
from kinema.flow.motion_network import (
    MotionNetwork,
    build_motion_network,
    motion_input,
    widened,
)
from kinema.models.flow_losses import LOSSES, flow_loss

PREFIX = "branched-"
_COARSE = 3  # maps that the classifier reads: at 1/8, 1/16 and 1/32 of the frames
_WIDTH = 128


class BranchedMotion(nn.Module):
    """A 2D backbone over all frames of a snippet, side by side as channels, of 0 to 1.

    The classifier goes over the maps at 1/8, 1/16 and 1/32 of the frames and ends in the mean over
    all places. Sides that are no multiples of 32 are widened by their border pixels.

    Args:
        name: of the network of flow, see `kinema.flow.motion_network`.
        in_channels: 3 T; `motionnet` takes 11 frames, `motionnet-tiny` two or more.
        num_classes: K.
        dropout: before the last layer.
        width: channels of the classifier's layers.

    Raises:
        UsageError: these channels are not so many RGB frames.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        width: int = _WIDTH,
    ) -> None:
        super().__init__()
        self.name, self.motion = name, build_motion_network(name)
        self.num_frames, rest = divmod(in_channels, 3)
        needed = self._flow_network.frames
        if rest or self.num_frames < needed or (needed > 2 and self.num_frames != needed):
            raise UsageError(
                f"model.backbone={PREFIX}{name} sees {needed} RGB frames"
                f"{' or more' if needed == 2 else ''}, but was to be built for {in_channels} "
                f"channels: set data.modality=rgb and data.stack={needed}."
            )
        self.keeps_loss, self.flow_loss_S = False, torch.zeros(0)
        with torch.no_grad():
            side = torch.zeros(1, self.num_frames, self._flow_network.channels, 32, 32)
            widths = [_joined(maps).shape[1] for maps in self._flow_network.encode(side)]
        self.branch, previous = nn.ModuleList(), 0
        for read in widths[-_COARSE:]:
            self.branch.append(
                nn.Sequential(
                    nn.Conv2d(previous + read, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                )
            )
            previous = width
        self.num_features = self.head_hidden_size = width
        self.drop, self.fc = nn.Dropout(dropout), nn.Linear(width, num_classes)

        for parameter in self._decoder_parameters():
            parameter.requires_grad_(False)  # until its loss is kept, nothing comes of it

    def keep_loss(self) -> None:
        """Let training keep stage 1's loss of every snippet, `flow_loss_S`."""
        self.keeps_loss = True
        for parameter in self._decoder_parameters():
            parameter.requires_grad_(True)

    def _decoder_parameters(self) -> list[nn.Parameter]:
        named = self.motion.named_parameters()
        return [parameter for name, parameter in named if not name.startswith("encoder.")]

    @property
    def _flow_network(self) -> MotionNetwork:
        return cast(MotionNetwork, self.motion)

    def forward_features(self, x_SCHW: Tensor) -> Tensor:
        """Return the last feature map, (S, width, h, w)."""
        frames_STCHW = x_SCHW.reshape(-1, self.num_frames, 3, *x_SCHW.shape[2:])
        frames_STCHW = widened(motion_input(self.motion, frames_STCHW))
        maps = self._flow_network.encode(frames_STCHW)
        if self.keeps_loss and self.training:
            flows = self._flow_network.decode(maps)
            self.flow_loss_S = flow_loss(flows, frames_STCHW, LOSSES[self.name])["total"]
        coarse = [_joined(item) for item in maps[-_COARSE:]]
        found: Tensor = self.branch[0](coarse[0])
        for layer, read in zip(self.branch[1:], coarse[1:], strict=True):
            found = layer(torch.cat([functional.max_pool2d(found, 2), read], dim=1))
        return found

    def forward_head(self, x_SCHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (S, K), or the pooled features with `pre_logits`."""
        pooled: Tensor = self.drop(x_SCHW.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.fc

    def forward(self, x_SCHW: Tensor) -> Tensor:
        """Return logits, (S, K)."""
        return self.forward_head(self.forward_features(x_SCHW))


def _joined(maps: Tensor) -> Tensor:
    """Return a feature map with the channels of all frames, (S, C, h, w)."""
    return maps.flatten(1, 2) if maps.ndim == 5 else maps
