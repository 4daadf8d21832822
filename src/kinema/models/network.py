"""The two-stream network: one 2D backbone over a video's snippets, and a consensus of them.

Shapes: B videos, N snippets, T images per snippet, C channels, H and W pixels, K classes.
"""

import dataclasses
from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.config import ModelConfig, Normalise
from kinema.errors import KinemaError
from kinema.models.backbones import create_backbone
from kinema.models.consensus import build_consensus
from kinema.models.modality import Modality, get_modality


class SnippetNetwork(nn.Module):
    """Scores of videos from uint8 snippets; everything after uint8 happens on its own device.

    `backbone` keeps timm's split (``forward_features``, ``forward_head``); `feature_dim` is the
    width before its classifier.

    Args:
        backbone: 2D network with logits as output.
        modality: what the images are.
        stack: images per snippet after the modality's own preparation.
        consensus: (B, N, K) -> (B, K).
        normalise: rule for `Modality.prepare`.
        input_bn: BatchNorm without scale and shift on the stacked input channels, behind
            `prepare` (epsilon 0.001 and momentum 0.99, as in the Keras system of Elkomy).
        partial_bn: every BatchNorm of the backbone but its first keeps its statistics and
            parameters, also under ``train()``. That of `input_bn` is not counted and goes on.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        modality: Modality,
        stack: int,
        consensus: nn.Module,
        normalise: Normalise = "standard",
        input_bn: bool = False,
        partial_bn: bool = False,
    ) -> None:
        super().__init__()
        channels = modality.input_channels(stack)
        self.modality, self.stack, self.normalise = modality, stack, normalise
        self.partial_bn = partial_bn
        self.input_bn: nn.Module = nn.Identity()
        if input_bn:
            self.input_bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01, affine=False)
        self.backbone, self.consensus = backbone, consensus
        self.train(self.training)

    @property
    def feature_dim(self) -> int:
        """Width of the features before the classifier."""
        return cast(int, self.backbone.head_hidden_size)

    def train(self, mode: bool = True) -> "SnippetNetwork":
        """Set training or evaluation mode; with `partial_bn` the frozen layers stay frozen."""
        super().train(mode)
        if self.partial_bn:
            for layer in _later_batch_norms(self.backbone):
                layer.eval().requires_grad_(False)
        return self

    def snippet_logits(self, x_BNTCHW: Tensor) -> Tensor:
        """Return the logits of every snippet, (B, N, K).

        Args:
            x_BNTCHW: uint8 images, T = `modality.images_read(stack)`.

        Raises:
            KinemaError: T or C is not what the network was made for.
        """
        self._check(x_BNTCHW)
        x_BNTCHW = x_BNTCHW.to(next(self.parameters()).device, non_blocking=True)
        x = self.modality.prepare(x_BNTCHW, normalise=self.normalise)
        num_videos, num_snippets = x.shape[:2]
        x_folded = self.input_bn(x.flatten(0, 1).flatten(1, 2))
        logits: Tensor = self.backbone(x_folded)
        return logits.reshape(num_videos, num_snippets, -1)

    def forward(self, x_BNTCHW: Tensor) -> Tensor:
        """Return the logits of the videos after the consensus, (B, K)."""
        out: Tensor = self.consensus(self.snippet_logits(x_BNTCHW))
        return out

    def _check(self, x_BNTCHW: Tensor) -> None:
        images, channels = self.modality.images_read(self.stack), self.modality.channels_per_image
        if x_BNTCHW.ndim != 6 or x_BNTCHW.shape[2:4] != (images, channels):
            raise KinemaError(
                f"This {self.modality.name} network takes {images} images of {channels} channels "
                f"per snippet, (B, N, {images}, {channels}, H, W), but was given "
                f"{tuple(x_BNTCHW.shape)}: use the modality and stack that it was made for."
            )


def _later_batch_norms(backbone: nn.Module) -> Iterator[nn.Module]:
    layers = (module for module in backbone.modules() if isinstance(module, _BatchNorm))
    next(layers, None)
    yield from layers


def build_network(
    model: ModelConfig,
    *,
    modality: str,
    stack: int,
    num_classes: int,
    num_segments: int | None = None,
) -> SnippetNetwork:
    """Build the network of a configuration, without fetching or reading any weights.

    The backbone starts as its authors initialise it; `kinema.weights.pretrained.initialise` puts
    weights in. With ``normalise=standard``, rgb takes the mean and std that the backbone's
    published weights were trained with (ImageNet's, but for some such as Xception's 0.5).

    Args:
        model: the section `model` of a configuration.
        modality: rgb, flow or rgbdiff.
        stack: images per snippet.
        num_classes: outputs.
        num_segments: snippets per video in training; needed for ``consensus=weighted`` alone.

    Raises:
        UsageError: an unknown backbone or modality.
        KinemaError: values that do not go together.
    """
    images = get_modality(modality)
    if stack < 1:
        raise KinemaError(f"data.stack={stack} is not possible: a snippet has at least 1 image.")
    backbone = create_backbone(
        model.backbone,
        in_channels=images.input_channels(stack),
        num_classes=num_classes,
        dropout=model.dropout,
    )
    published = getattr(backbone, "pretrained_cfg", {})
    if images.name == "rgb" and published.get("mean") and published.get("std"):
        mean, std = tuple(published["mean"]), tuple(published["std"])
        images = dataclasses.replace(images, mean=mean, std=std)
    return SnippetNetwork(
        backbone=backbone,
        modality=images,
        stack=stack,
        consensus=build_consensus(model.consensus, topk=model.topk, num_segments=num_segments),
        normalise=model.normalise,
        input_bn=model.input_bn,
        partial_bn=model.partial_bn,
    )
