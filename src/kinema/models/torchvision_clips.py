"""torchvision's video networks with any input channels and timm's interface; same layer names.

Two more are built of its blocks: R(2+1)D of 18 and 34 layers with the widths of the paper
(Tran et al., arXiv 1711.11248). torchvision's own ``r2plus1d_18`` is narrower: it computes the
width between space and time once per block and not for each convolution.

Shapes: B clips, C channels, T images, H and W pixels, F features, K classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet
from torchvision.models.video.swin_transformer import PatchEmbed3d, SwinTransformer3d

from kinema.errors import KinemaError
from kinema.models.clip_network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINETICS_MEAN,
    KINETICS_STD,
    ClipNetwork,
    describe_input,
)
from kinema.models.clip_shape import ClipShape, check_frames
from kinema.models.resnet3d import middle_channels

# Of torchvision's 3D ResNets and S3D (`torchvision.transforms._presets.VideoClassification`).
_TV_MEAN, _TV_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)

# Width of the first stage, and blocks of the third.
_SWIN = {"swin3d_t": (96, 6), "swin3d_s": (96, 18), "swin3d_b": (128, 18)}


class _Adopted(nn.Module):
    """Layers of a torchvision network under their own names, with timm's interface."""

    head_hidden_size: int
    pretrained_cfg: dict[str, Any]

    def adopt(self, network: nn.Module, *, without: tuple[str, ...] = ()) -> None:
        """Take over the layers of `network`."""
        for name, layer in network.named_children():
            if name not in without:
                self.add_module(name, layer)

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the pooled features (B, F) with `pre_logits`."""
        raise NotImplementedError

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCTHW))


class VideoResNetClips(ClipNetwork):
    """R3D, MC3 and R(2+1)D, 512 features; one image and 8 pixels are enough.

    Args:
        network: of torchvision, for three channels.
        shape: what it is built for; channels, classes and dropout are used.
    """

    def __init__(self, network: VideoResNet, shape: ClipShape) -> None:
        super().__init__()
        network.stem[0] = _with_channels(network.stem[0], shape.in_channels)
        nn.init.kaiming_normal_(network.stem[0].weight, mode="fan_out", nonlinearity="relu")
        for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(network, name))
        self.add_head(network.fc.in_features, num_classes=shape.num_classes, dropout=shape.dropout)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
        self.pretrained_cfg = describe_input(mean=_TV_MEAN, std=_TV_STD, first_conv="stem.0")

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 512, T/8 (MC3: T), H/16, W/16), rounded up."""
        x = x_BCTHW
        for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return x


class S3DClips(_Adopted):
    """S3D (Xie et al., arXiv 1712.04851), 1024 features; 8 images and 32 pixels are enough."""

    def __init__(self, shape: ClipShape, /) -> None:
        super().__init__()
        check_frames("s3d", shape, at_least=8)
        network = video.s3d(num_classes=shape.num_classes, dropout=shape.dropout)
        stem = network.features[0][0]
        stem[0] = _with_channels(stem[0], shape.in_channels)
        self.features = network.features
        self.head_hidden_size = network.classifier[1].in_channels
        # A linear layer on the mean is the convolution and then the mean of torchvision.
        linear = nn.Linear(self.head_hidden_size, shape.num_classes)
        self.classifier = nn.Sequential(nn.Dropout(shape.dropout), linear)
        self.pretrained_cfg = describe_input(
            mean=_TV_MEAN, std=_TV_STD, first_conv="features.0.0.0"
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 1024, T/8, H/32, W/32)."""
        x: Tensor = self.features(x_BCTHW)
        return x

    def forward_head(self, x_BFTHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool windows of 2 x 7 x 7, smaller where the map is, and average them."""
        time, height, width = x_BFTHW.shape[2:]
        windows = (min(2, time), min(7, height), min(7, width))
        pooled_BF = functional.avg_pool3d(x_BFTHW, windows, stride=1).mean((2, 3, 4))
        dropped: Tensor = self.classifier[0](pooled_BF)
        return dropped if pre_logits else self.classifier[1](dropped)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier[1]


class MViTClips(_Adopted):
    """Multiscale vision transformers (arXiv 2104.11227, 2112.01526), for one size and length.

    Args:
        name: ``mvit_v1_b`` or ``mvit_v2_s``.
        shape: what it is built for; an even number of images, a side that 32 divides.
    """

    def __init__(self, name: str, shape: ClipShape) -> None:
        super().__init__()
        if shape.frames % 2 or shape.size % 32:
            raise KinemaError(
                f"'{name}' cannot be built for {shape.frames} images of {shape.size} pixels: it "
                "takes an even number of images (data.stack) with a side that 32 divides "
                "(data.crop)."
            )
        self._name, self._size = name, (shape.frames, shape.size, shape.size)
        second = name == "mvit_v2_s"
        network = MViT(
            spatial_size=(shape.size, shape.size),
            temporal_size=shape.frames,
            block_setting=_mvit_blocks(second=second),
            residual_pool=second,
            residual_with_cls_embed=False,
            rel_pos_embed=second,
            proj_after_attn=second,
            stochastic_depth_prob=shape.drop_path,
            num_classes=shape.num_classes,
        )
        network.conv_proj = _with_channels(network.conv_proj, shape.in_channels)
        self.adopt(network)
        self.head: nn.Sequential = network.head
        # In place it would change features that others still read.
        self.head[0] = nn.Dropout(shape.dropout)
        self.head_hidden_size = self.head[1].in_features
        self.pretrained_cfg = describe_input(
            mean=KINETICS_MEAN, std=KINETICS_STD, first_conv="conv_proj"
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the tokens behind the last norm, (B, 1 + T'H'W', F); the first is the class's."""
        if tuple(x_BCTHW.shape[2:]) != self._size:
            frames, side, _ = self._size
            raise KinemaError(
                f"This '{self._name}' has position embeddings for {frames} images of {side} x "
                f"{side} pixels, but was given {' x '.join(map(str, x_BCTHW.shape[2:]))}: use "
                "square crops of the size that it was made for."
            )
        x = self.get_submodule("conv_proj")(x_BCTHW)
        sizes = tuple(x.shape[2:])
        x = self.get_submodule("pos_encoding")(x.flatten(2).transpose(1, 2))
        for block in self.get_submodule("blocks").children():
            x, sizes = block(x, sizes)
        out: Tensor = self.get_submodule("norm")(x)
        return out

    def forward_head(self, x_BSF: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of the class token, or with `pre_logits` the token (B, F)."""
        dropped: Tensor = self.head[0](x_BSF[:, 0])
        return dropped if pre_logits else self.head[1](dropped)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head[1]


class SwinClips(_Adopted):
    """Video Swin transformers (Liu et al., arXiv 2106.13230) for any length and size."""

    def __init__(self, name: str, shape: ClipShape) -> None:
        super().__init__()
        width, middle_blocks = _SWIN[name]
        heads = width // 32
        network = SwinTransformer3d(
            patch_size=[2, 4, 4],
            embed_dim=width,
            depths=[2, 2, middle_blocks, 2],
            num_heads=[heads, 2 * heads, 4 * heads, 8 * heads],
            window_size=[8, 7, 7],
            stochastic_depth_prob=shape.drop_path,
            num_classes=shape.num_classes,
            patch_embed=partial(PatchEmbed3d, in_channels=shape.in_channels),
        )
        self.adopt(network, without=("avgpool", "head"))
        self.head_drop = nn.Dropout(shape.dropout)
        self.head: nn.Linear = network.head
        self.head_hidden_size = self.head.in_features
        self.pretrained_cfg = describe_input(
            mean=IMAGENET_MEAN, std=IMAGENET_STD, first_conv="patch_embed.proj"
        )

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, T/2, H/32, W/32, F), rounded up."""
        x = self.get_submodule("pos_drop")(self.get_submodule("patch_embed")(x_BCTHW))
        out: Tensor = self.get_submodule("norm")(self.get_submodule("features")(x))
        return out

    def forward_head(self, x_BTHWF: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the mean over time and space (B, F) with `pre_logits`."""
        dropped: Tensor = self.head_drop(x_BTHWF.mean((1, 2, 3)))
        return dropped if pre_logits else self.head(dropped)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head


def r3d_18(shape: ClipShape, /) -> VideoResNetClips:
    """R3D-18 of torchvision: 33.37 M parameters with 400 classes."""
    return VideoResNetClips(video.r3d_18(), shape)


def mc3_18(shape: ClipShape, /) -> VideoResNetClips:
    """MC3-18 of torchvision, mixed 3D and 2D: 11.70 M parameters with 400 classes."""
    return VideoResNetClips(video.mc3_18(), shape)


def r2plus1d_18(shape: ClipShape, /) -> VideoResNetClips:
    """R(2+1)D-18 of torchvision: 31.51 M parameters with 400 classes."""
    return VideoResNetClips(video.r2plus1d_18(), shape)


def r2plus1d_18_full(shape: ClipShape, /) -> VideoResNetClips:
    """R(2+1)D-18 with the paper's widths: 33.37 M parameters with 400 classes."""
    return VideoResNetClips(_full_r2plus1d((2, 2, 2, 2)), shape)


def r2plus1d_34(shape: ClipShape, /) -> VideoResNetClips:
    """R(2+1)D-34 with the paper's widths: 63.70 M parameters with 400 classes."""
    return VideoResNetClips(_full_r2plus1d((3, 4, 6, 3)), shape)


def r2plus1d_34_ig65m(shape: ClipShape, /) -> VideoResNetClips:
    """`r2plus1d_34` with the BatchNorm of Caffe2 (epsilon 0.001), for weights from there."""
    network = r2plus1d_34(shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return network


def _full_r2plus1d(blocks: tuple[int, ...]) -> VideoResNet:
    network = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, list(blocks), R2Plus1dStem)
    for layer in (network.layer2, network.layer3, network.layer4):
        width = layer[0].conv2[0][3].out_channels
        wider = Conv2Plus1D(width, width, middle_channels(width, width))
        for module in wider.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        layer[0].conv2[0] = wider
    return network


def _mvit_blocks(*, second: bool) -> list[MSBlockConfig]:
    """Return the 16 blocks of the first or second version at its published size.

    The first widens a block before its resolution falls, the second where it falls; keys and
    values are pooled to the same resolution everywhere.
    """
    entering = [96, 96, 192, 192] if second else [96, 192, 192]
    entering += [384] * 11
    entering += [768] * (16 - len(entering))
    leaving = [*entering[1:], 768]
    heads = [width // 96 for width in (leaving if second else entering)]
    blocks = []
    for i in range(16):
        falls = i in (1, 3, 14)
        kv = 8 if i == 0 else 4 if i < 3 else 2 if i < 14 else 1
        pools = second or falls
        blocks.append(
            MSBlockConfig(
                num_heads=heads[i],
                input_channels=entering[i],
                output_channels=leaving[i],
                kernel_q=[3, 3, 3] if pools else [],
                kernel_kv=[3, 3, 3],
                stride_q=[1, 2 if falls else 1, 2 if falls else 1] if pools else [],
                stride_kv=[1, kv, kv],
            )
        )
    return blocks


def _with_channels(layer: nn.Module, channels: int) -> nn.Conv3d:
    """Return a new convolution like `layer` for another number of input channels."""
    if not isinstance(layer, nn.Conv3d):
        raise TypeError(f"{layer} is no 3D convolution")
    new = nn.Conv3d(
        channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    return new.to(device=layer.weight.device, dtype=torch.float32)


TORCHVISION_CLIPS: dict[str, Callable[[ClipShape], nn.Module]] = {
    "r3d_18": r3d_18,
    "mc3_18": mc3_18,
    "r2plus1d_18": r2plus1d_18,
    "r2plus1d_18_full": r2plus1d_18_full,
    "r2plus1d_34": r2plus1d_34,
    "r2plus1d_34_ig65m": r2plus1d_34_ig65m,
    "s3d": S3DClips,
    "mvit_v1_b": partial(MViTClips, "mvit_v1_b"),
    "mvit_v2_s": partial(MViTClips, "mvit_v2_s"),
    "swin3d_t": partial(SwinClips, "swin3d_t"),
    "swin3d_s": partial(SwinClips, "swin3d_s"),
    "swin3d_b": partial(SwinClips, "swin3d_b"),
}
WITH_DROP_PATH = ("mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
