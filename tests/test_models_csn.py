import pytest
import torch
from torch import nn
from torchvision.models.video.resnet import BasicStem, Bottleneck, VideoResNet

from kinema.models.clip_backbones import create_clip_backbone
from kinema.models.clip_shape import ClipShape

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def build(name: str, **values: object) -> nn.Module:
    shape = {"in_channels": 3, "num_classes": 400, "frames": 32, "size": 224, **values}
    return create_clip_backbone(name, ClipShape(**shape)).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_formula(depth: int, preserved: bool) -> int:
    total, before = 3 * 64 * 147 + 128, 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        for i in range(blocks):
            total += before * width + 27 * width + 4 * width * width + (2 + 2 + 8) * width
            if preserved:
                total += width * width + 2 * width
            if i == 0:
                total += before * 4 * width + 8 * width
            before = 4 * width
    return total + 400 * 2049


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_parameters_by_formula(depth: int):
    with torch.device("meta"):
        assert count(build(f"ircsn_resnet{depth}")) == by_formula(depth, preserved=False)
        if depth == 50:
            assert count(build("ipcsn_resnet50")) == by_formula(50, preserved=True)


def test_published_counts():
    with torch.device("meta"):
        assert round(count(build("ircsn_resnet101")) / 1e6, 2) == 22.21  # PyTorchVideo's table


class Depthwise(nn.Conv3d):
    """What VMZ gives torchvision's video ResNet as its 3x3x3 convolution."""

    def __init__(self, before: int, after: int, _middle: int, stride: int = 1) -> None:
        super().__init__(before, after, 3, stride=stride, padding=1, groups=before, bias=False)

    @staticmethod
    def get_downsample_stride(stride: int) -> tuple[int, int, int]:
        return (stride,) * 3


class Preserved(nn.Sequential):
    def __init__(self, before: int, after: int, middle: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(before, after, 1, bias=False),
            nn.BatchNorm3d(after),
            Depthwise(after, after, middle, stride),
        )

    get_downsample_stride = Depthwise.get_downsample_stride


@pytest.mark.parametrize(
    ("name", "depth", "maker"),
    [("ircsn_resnet50", 50, Depthwise), ("ipcsn_resnet50", 50, Preserved)],
)
def test_same_logits_as_torchvisions_video_resnet_made_channel_separated(
    name: str, depth: int, maker: type[nn.Module]
):
    torch.manual_seed(0)
    theirs = VideoResNet(Bottleneck, [maker] * 4, list(BLOCKS[depth]), BasicStem, num_classes=5)
    theirs.stem.add_module("3", nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = build(name, num_classes=5)
    ours.load_state_dict(theirs.state_dict())
    theirs.eval()
    for size in ((9, 32, 32), (2, 33, 40)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            found, wanted = ours(x), theirs(x)
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found / scale, wanted / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (10, 40, 33)])
def test_any_clip_of_any_size(frames: int, height: int, width: int):
    torch.manual_seed(0)
    model = build("ircsn_resnet50", in_channels=2, num_classes=3, frames=frames)
    with torch.no_grad():
        x = torch.randn(1, 2, frames, height, width)
        features, logits = model.forward_features(x), model(x)
    assert features.shape == (1, 2048, -(-frames // 8), -(-height // 32), -(-width // 32))
    assert logits.shape == (1, 3) and torch.isfinite(logits).all()
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(model.get_classifier()(pooled), logits)
    assert model.pretrained_cfg["first_conv"] == "stem.0"
