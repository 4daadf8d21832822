"""The network of one stream: a 2D or 3D backbone over a video's snippets, and a consensus of them.

Shapes: B videos, N snippets, T images per snippet, C channels, H and W pixels, K classes.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from kinema.config import Normalise
from kinema.errors import KinemaError
from kinema.models.branched_motion import BranchedMotion
from kinema.models.consensus import Reads
from kinema.models.feature_maps import map_positions
from kinema.models.hidden_flow import HiddenFlow
from kinema.models.modality import Modality
from kinema.models.temporal_shift import TemporalShift


class MotionOutputs(NamedTuple):
    """What the losses of a network go by that estimates flow."""

    logits: Tensor  # (B, K)
    flow_loss: Tensor  # (B,): `kinema.models.flow_losses` of the snippets' flow


class SnippetNetwork(nn.Module):
    """Scores of videos from uint8 snippets; everything after uint8 happens on its own device.

    `backbone` keeps timm's split (``forward_features``, ``forward_head``); `feature_dim` is the
    width before its classifier. A 2D backbone sees the images of a snippet as one image of T * C
    channels, a 3D one sees them in time.

    Args:
        backbone: network with logits (or what the consensus takes) as output.
        modality: what the images are.
        stack: images per snippet after the modality's own preparation.
        consensus: (B, N, what it reads) -> (B, K).
        reads: what the consensus takes of every snippet: outputs (K), features before the
            classifier (D), or the feature map (positions, channels).
        normalise: rule for `Modality.prepare`.
        is_clip: the backbone is 3D, (B, C, T, H, W).
        input_bn: BatchNorm without scale and shift on the input channels, behind `prepare`
            (epsilon 0.001 and momentum 0.99, as in the Keras system of Elkomy).

    `joined` says how many snippets the network must see together; 1: each by itself.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        modality: Modality,
        stack: int,
        consensus: nn.Module,
        reads: Reads = "outputs",
        normalise: Normalise = "standard",
        is_clip: bool = False,
        input_bn: bool = False,
    ) -> None:
        super().__init__()
        self.modality, self.stack, self.normalise = modality, stack, normalise
        self.is_clip, self.reads, self.joined = is_clip, reads, 1
        self._shift: TemporalShift | None = None
        self.input_bn: nn.Module = nn.Identity()
        if input_bn:
            channels = modality.channels_per_image if is_clip else modality.input_channels(stack)
            kind = nn.BatchNorm3d if is_clip else nn.BatchNorm2d
            self.input_bn = kind(channels, eps=1e-3, momentum=0.01, affine=False)
        self.backbone, self.consensus = backbone, consensus
        self.hidden: HiddenFlow | None = None
        # A tuple: torch does not register them a second time.
        self._frozen: tuple[nn.Module, ...] = ()

    @property
    def snippet_shape(self) -> tuple[int, int]:
        """Images and channels of a snippet as they are read, (T, C)."""
        if self.hidden:
            return self.stack + 1, 3
        return self.modality.images_read(self.stack), self.modality.channels_per_image

    @property
    def negated_channels(self) -> tuple[int, ...]:
        """Channels of an image as it is read that change their sign in a mirror."""
        return () if self.hidden else self.modality.negated_channels

    @property
    def feature_dim(self) -> int:
        """Width of the features before the classifier."""
        return cast(int, self.backbone.head_hidden_size)

    def freeze(
        self, layers: tuple[nn.Module, ...], parameters: tuple[nn.Parameter, ...] = ()
    ) -> None:
        """Let layers keep their statistics and parameters, also under ``train()``.

        Args:
            layers: those of the backbone.
            parameters: others that stay as they are and belong to none of these.
        """
        self._frozen = layers
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.train(self.training)

    def join(self, num_snippets: int, *, shift: TemporalShift | None = None) -> None:
        """Say that the network relates the snippets of a video (TSM, TRN, fusion over time).

        Args:
            num_snippets: how many it sees together.
            shift: what shifts channels between them inside the backbone (TSM).
        """
        self.joined, self._shift = num_snippets, shift

    def see_rgb(self, hidden: HiddenFlow) -> None:
        """Let a network of flow estimate it itself, from RGB frames (one more than pairs)."""
        self.hidden = hidden

    def train(self, mode: bool = True) -> "SnippetNetwork":
        """Set training or evaluation mode; frozen layers stay frozen."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval().requires_grad_(False)
        return self

    def channels_last(self) -> None:
        """Lay the weights out with the channels innermost, which convolutions compute fastest."""
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self.parameters():
            if parameter.ndim in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])

    def snippet_logits(self, x_BNTCHW: Tensor) -> Tensor:
        """Return what the consensus reads of every snippet: logits (B, N, K), unless it is another.

        Args:
            x_BNTCHW: uint8 images, T and C of `snippet_shape`.

        Raises:
            KinemaError: T or C is not what the network was made for.
        """
        found = self._read(self.folded(x_BNTCHW))
        return found.reshape(*x_BNTCHW.shape[:2], *found.shape[1:])

    def folded(self, x_BNTCHW: Tensor) -> Tensor:
        """Return the backbone's input, all snippets of all videos: (B * N, …).

        Raises:
            KinemaError: T or C is not what the network was made for.
        """
        self._check(x_BNTCHW)
        x_BNTCHW = x_BNTCHW.to(next(self.parameters()).device, non_blocking=True)
        images_BNTCHW = self.hidden(x_BNTCHW) if self.hidden else x_BNTCHW
        x = self.modality.prepare(images_BNTCHW, normalise=self.normalise)
        if self._shift:
            self._shift.num_snippets = x.shape[1]
        x = x.flatten(0, 1)
        folded: Tensor = self.input_bn(x.transpose(1, 2) if self.is_clip else x.flatten(1, 2))
        return folded

    def _read(self, x_folded: Tensor) -> Tensor:
        if self.reads == "maps":
            return map_positions(self.backbone, x_folded)
        if self.reads == "features":
            found = self.backbone.forward_features(x_folded)  # type: ignore[operator]
            found = self.backbone.forward_head(found, pre_logits=True)  # type: ignore[operator]
        else:
            found = self.backbone(x_folded)
        return cast(Tensor, found).flatten(1)

    def forward(self, x_BNTCHW: Tensor) -> "Tensor | MotionOutputs":
        """Return the logits of the videos after the consensus, (B, K).

        In training with a loss of flow, `MotionOutputs`.
        """
        out: Tensor = self.consensus(self.snippet_logits(x_BNTCHW))
        source = self.flow_source
        if source is None or not (source.keeps_loss and self.training):
            return out
        flow_loss_BN = source.flow_loss_S.reshape(x_BNTCHW.shape[:2])
        return MotionOutputs(out, flow_loss_BN.mean(1))

    @property
    def flow_source(self) -> HiddenFlow | BranchedMotion | None:
        """What estimates flow inside."""
        return self.backbone if isinstance(self.backbone, BranchedMotion) else self.hidden

    def keep_flow_loss(self) -> None:
        """Let training return the loss without labels of the estimated flow beside the logits."""
        if self.flow_source:
            self.flow_source.keep_loss()

    def _check(self, x_BNTCHW: Tensor) -> None:
        extra = 1 if self.hidden else self.modality.extra_frames
        images: int | str
        images, channels = self.snippet_shape
        fits = x_BNTCHW.ndim == 6 and x_BNTCHW.shape[3] == channels
        if self.is_clip:  # of any length, if the backbone can
            images = "T"
            fits = fits and x_BNTCHW.shape[2] > extra
        else:
            fits = fits and x_BNTCHW.shape[2] == images
        if not fits:
            raise KinemaError(
                f"This {self.modality.name} network takes {images} images of {channels} channels "
                f"per snippet, (B, N, {images}, {channels}, H, W), but was given "
                f"{tuple(x_BNTCHW.shape)}: use the modality and stack that it was made for."
            )
