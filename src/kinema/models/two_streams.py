"""Networks of two streams: both see the same places of a video and meet before the result.

A snippet of both streams is one image of all their channels, those of the first stream before
those of the second: what loads, mixes, cuts and batches snippets needs to know no more.

Shapes: B videos, N snippets, T images per snippet, C channels, X channels of both streams together,
S scores (one per stream, or one of both), D features, K classes.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from kinema.errors import KinemaError
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.stream_fusion import BilinearFusion, MapFusion, through_layer, up_to_layer


class StreamOutputs(NamedTuple):
    """What the losses of two streams go by."""

    logits: Tensor  # (S, B, K)
    features: Tensor | None = None  # (S, B, D) before the classifiers, mean over the snippets


class TwoStreamNetwork(nn.Module):
    """What all networks of two streams have.

    As in torchvision's networks with auxiliary classifiers, `forward` returns more in training:
    `StreamOutputs`; otherwise it returns the fused logits (B, K).

    Args:
        first: network of the first stream.
        second: network of the second stream.
        adds: the logits of all scores are added, not averaged (as they were trained).
    """

    def __init__(
        self, first: SnippetNetwork, second: SnippetNetwork, *, adds: bool = False
    ) -> None:
        super().__init__()
        self.first, self.second, self.adds = first, second, adds
        self.joined = max(first.joined, second.joined)
        self.is_clip = first.is_clip or second.is_clip
        shapes = (first.snippet_shape, second.snippet_shape)
        self._shapes, self._sizes = shapes, [images * channels for images, channels in shapes]

    @property
    def consensus(self) -> nn.Module:
        """That of the first stream."""
        return self.first.consensus

    @property
    def negated_channels(self) -> tuple[int, ...]:
        """Those of the X channels that change their sign in a mirror."""
        found, before = [], 0
        for stream, (images, channels) in zip(self.streams, self._shapes, strict=True):
            for image in range(images):
                found += [before + image * channels + c for c in stream.negated_channels]
            before += images * channels
        return tuple(found)

    @property
    def snippet_shape(self) -> tuple[int, int]:
        """Images and channels of a snippet as they are given, (1, X)."""
        return 1, sum(self._sizes)

    @property
    def streams(self) -> tuple[SnippetNetwork, SnippetNetwork]:
        """Both networks."""
        return self.first, self.second

    def channels_last(self) -> None:
        """Lay the weights of both out with the channels innermost."""
        for stream in self.streams:
            stream.channels_last()

    def split(self, x_BN1XHW: Tensor) -> list[Tensor]:
        """Return the snippets of both streams, (B, N, T, C, H, W) each.

        Raises:
            KinemaError: other channels than the streams have together.
        """
        if x_BN1XHW.ndim != 6 or x_BN1XHW.shape[2:4] != (1, sum(self._sizes)):
            raise KinemaError(
                f"This network of two streams takes snippets of {sum(self._sizes)} channels, "
                f"(B, N, 1, {sum(self._sizes)}, H, W), but was given {tuple(x_BN1XHW.shape)}: use "
                "the streams and stacks that it was made for."
            )
        parts = torch.split(x_BN1XHW[:, :, 0], self._sizes, dim=2)
        return [
            part.reshape(*part.shape[:2], *shape, *part.shape[3:])
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def fused(self, logits_SBK: Tensor) -> Tensor:
        """Return the scores as one, (B, K)."""
        logits = logits_SBK.float()
        return logits.sum(0) if self.adds else logits.mean(0)

    def outputs(self, x_BN1XHW: Tensor) -> StreamOutputs:
        """Return the scores of every video that the losses see."""
        raise NotImplementedError

    def forward(self, x_BN1XHW: Tensor) -> Tensor | StreamOutputs:
        """Return `outputs` in training, otherwise the fused logits (B, K)."""
        found = self.outputs(x_BN1XHW)
        return found if self.training else self.fused(found.logits)

    def snippet_logits(self, x_BN1XHW: Tensor) -> Tensor:
        """Return the fused logits of every snippet by itself, (B, N, K)."""
        alone = x_BN1XHW.flatten(0, 1)[:, None]
        logits = self.fused(self.outputs(alone).logits)
        return logits.reshape(*x_BN1XHW.shape[:2], -1)


class ScoreStreams(TwoStreamNetwork):
    """Two networks that meet in their scores.

    Args:
        first: network of the first stream.
        second: network of the second stream.
        adds: see `TwoStreamNetwork`.
        features: what is before the classifiers is put out too, for losses that compare it.
        taught: the second network is a teacher: it stays in evaluation mode, without gradients.

    Raises:
        KinemaError: features of another width.
    """

    def __init__(
        self,
        first: SnippetNetwork,
        second: SnippetNetwork,
        *,
        adds: bool = False,
        features: bool = False,
        taught: bool = False,
    ) -> None:
        super().__init__(first, second, adds=adds)
        self.taught = taught
        if taught:
            second.requires_grad_(False).eval()
        self._seen: list[Tensor] | None = None  # what the classifiers get, while it is wanted
        self._wants_features = features
        if features:
            if first.feature_dim != second.feature_dim:
                raise KinemaError(
                    f"The streams have {first.feature_dim} and {second.feature_dim} features, "
                    "which second.distil=features compares: use the same backbone, or "
                    "second.distil=soft."
                )
            for stream in self.streams:
                classifier = stream.backbone.get_classifier()  # type: ignore[operator]
                classifier.register_forward_pre_hook(self._note)

    def train(self, mode: bool = True) -> "ScoreStreams":
        """Set training or evaluation mode; a teacher stays in the latter."""
        super().train(mode)
        if self.taught:
            self.second.eval()
        return self

    def _note(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._seen is not None:
            self._seen.append(inputs[0].flatten(1))

    def outputs(self, x_BN1XHW: Tensor) -> StreamOutputs:
        """Return the scores of both networks."""
        x_first, x_second = self.split(x_BN1XHW)
        self._seen = [] if self._wants_features else None
        first_BK = self.first(x_first)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.taught):
            second_BK = self.second(x_second)
        seen, self._seen = self._seen, None
        features = None
        if seen:
            num_snippets = x_BN1XHW.shape[1]
            means = [x_MD.reshape(-1, num_snippets, x_MD.shape[1]).mean(1) for x_MD in seen]
            features = torch.stack(means)
        return StreamOutputs(torch.stack([first_BK, second_BK]), features)


class FeatureStreams(TwoStreamNetwork):
    """Two networks whose features, side by side, go into one consensus over time.

    Args:
        first: network of the first stream, which reads features.
        second: that of the second stream, likewise.
        head: (B, N, D of both) -> (B, K).
        num_segments: snippets that it sees together.
    """

    def __init__(
        self, first: SnippetNetwork, second: SnippetNetwork, *, head: nn.Module, num_segments: int
    ) -> None:
        super().__init__(first, second)
        self.head, self.joined = head, num_segments

    @property
    def consensus(self) -> nn.Module:
        """The head of both."""
        return self.head

    def outputs(self, x_BN1XHW: Tensor) -> StreamOutputs:
        """Return the one score of both."""
        parts = zip(self.streams, self.split(x_BN1XHW), strict=True)
        both_BND = torch.cat([stream.snippet_logits(x) for stream, x in parts], dim=2)
        return StreamOutputs(cast(Tensor, self.head(both_BND))[None])


class MapStreams(TwoStreamNetwork):
    """Convolutional fusion: the second tower's feature map joins that of the first behind a layer.

    Args:
        first: the tower that goes on with the fused map.
        second: the other tower.
        fusion: of the two maps.
        layer: name of the layer in both backbones; empty: the last map.
        keeps_both: the second tower goes on too, and has a score of its own.
        head: classifier of what is fused, where the first tower's does not fit it, (M, K).
    """

    def __init__(
        self,
        first: SnippetNetwork,
        second: SnippetNetwork,
        *,
        fusion: MapFusion | BilinearFusion,
        layer: str = "",
        keeps_both: bool = False,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(first, second)
        self.fusion, self.layer, self.keeps_both, self.head = fusion, layer, keeps_both, head

    def outputs(self, x_BN1XHW: Tensor) -> StreamOutputs:
        """Return the score of the fused tower, and that of the second where it is kept."""
        x_first, x_second = self.split(x_BN1XHW)
        num_snippets = x_BN1XHW.shape[1]
        self.fusion.num_snippets = num_snippets
        found = []
        second_map, second_MK = self._second(self.second.folded(x_second))
        if self.head is not None:
            first_map = up_to_layer(self.first.backbone, self.first.folded(x_first), layer="")
            first_MK = self.head(self.fusion(first_map, second_map))
        else:
            first_MK = through_layer(
                self.first.backbone,
                self.first.folded(x_first),
                layer=self.layer,
                change=lambda first_map: self.fusion(first_map, second_map),
            )
        for stream, logits_MK in ((self.first, first_MK), (self.second, second_MK)):
            if logits_MK is not None:
                found.append(
                    stream.consensus(logits_MK.reshape(-1, num_snippets, logits_MK.shape[1]))
                )
        return StreamOutputs(torch.stack(found))

    def _second(self, x_folded: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the second tower's map, and its logits (M, K) where it is kept."""
        if not self.keeps_both:
            return up_to_layer(self.second.backbone, x_folded, layer=self.layer), None
        maps: list[Tensor] = []

        def note(x_map: Tensor) -> Tensor:
            maps.append(x_map)
            return x_map

        logits_MK = through_layer(self.second.backbone, x_folded, layer=self.layer, change=note)
        return maps[0], logits_MK
