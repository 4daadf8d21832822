import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple, VideoResNet

from kinema.models.clip_shape import ClipShape
from kinema.models.resnet3d import (
    BLOCKS,
    RESNET2P1D,
    RESNET3D,
    BasicBlock3D,
    Bottleneck3D,
    middle_channels,
)


def shape_of(**values: object) -> ClipShape:
    return ClipShape(**{"in_channels": 3, "num_classes": 7, "frames": 4, "size": 64, **values})


def expected_parameters(depth: int, *, split: bool, classes: int = 400) -> int:
    """Written from the tables of the papers, not from the code."""

    def conv(before: int, after: int, kernel: int = 3, time: int = 3) -> int:
        full = kernel * kernel * time * before * after
        if not split:
            return full + 2 * after
        middle = full // (kernel * kernel * before + time * after)
        return middle * (kernel * kernel * before + time * after) + 2 * (middle + after)

    basic = depth in (10, 18, 34)
    total, before = conv(3, 64, 7, 7), 64
    for stage, count in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        after = width if basic else 4 * width
        for i in range(count):
            if basic:
                total += conv(before, width) + conv(width, width)
            else:
                total += before * width + 2 * width + conv(width, width)
                total += width * after + 2 * after
            if not i and before != after:
                total += before * after + 2 * after
            before = after
    return total + before * classes + classes


@pytest.mark.parametrize("depth", BLOCKS)
@pytest.mark.parametrize("split", [False, True])
def test_parameters_by_the_papers_tables(depth: int, split: bool):
    build = RESNET2P1D[f"resnet2p1d{depth}"] if split else RESNET3D[f"resnet3d{depth}"]
    with torch.device("meta"):
        network = build(shape_of(num_classes=400))
    found = sum(p.numel() for p in network.parameters())
    assert found == expected_parameters(depth, split=split)


@pytest.mark.parametrize("name", [*RESNET3D, *RESNET2P1D])
@pytest.mark.parametrize(("channels", "frames", "size"), [(2, 16, 112), (3, 5, 70)])
def test_any_channels_frames_and_size(name: str, channels: int, frames: int, size: int):
    with torch.device("meta"):
        network = {**RESNET3D, **RESNET2P1D}[name](shape_of(in_channels=channels, dropout=0.5))
        map_BFTHW = network.forward_features(torch.zeros(2, channels, frames, size, size))
        assert network.forward_head(map_BFTHW).shape == (2, 7)
    ends = [-(-frames // 16), -(-size // 32), -(-size // 32)]
    assert list(map_BFTHW.shape) == [2, network.head_hidden_size, *ends]
    first = network.get_submodule(network.pretrained_cfg["first_conv"])
    assert isinstance(first, nn.Conv3d) and first.in_channels == channels


def test_layer_names_of_the_published_files():
    with torch.device("meta"):
        full = RESNET3D["resnet3d50"](shape_of(num_classes=700)).state_dict()
        parts = RESNET2P1D["resnet2p1d18"](shape_of(num_classes=700)).state_dict()
    assert full["conv1.weight"].shape == (64, 3, 7, 7, 7)
    assert full["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1, 1)
    assert full["layer2.0.conv2.weight"].shape == (128, 128, 3, 3, 3)
    assert full["layer4.2.bn3.running_var"].shape == (2048,)
    assert full["fc.weight"].shape == (700, 2048)
    assert parts["conv1_s.weight"].shape == (110, 3, 1, 7, 7)
    assert parts["conv1_t.weight"].shape == (64, 110, 7, 1, 1)
    assert parts["layer2.0.conv1_s.weight"].shape == (230, 64, 1, 3, 3)
    assert parts["layer2.0.conv2_t.weight"].shape == (128, 288, 3, 1, 1)
    assert parts["layer2.0.bn2_s.weight"].shape == (288,)
    assert "layer1.0.downsample.0.weight" not in parts


def test_same_logits_as_torchvisions_blocks():
    class Stem(nn.Sequential):
        def __init__(self) -> None:
            conv = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
            pool = nn.MaxPool3d(3, stride=2, padding=1)
            super().__init__(conv, nn.BatchNorm3d(64), nn.ReLU(), pool)

    torch.manual_seed(0)
    theirs = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], Stem, num_classes=7).eval()
    ours = RESNET3D["resnet3d10"](shape_of()).eval()
    renamed = {}
    for name, value in theirs.state_dict().items():
        name = name.replace("stem.0", "conv1").replace("stem.1", "bn1")
        for i in (1, 2):
            name = name.replace(f".0.conv{i}.0.", f".0.conv{i}.")
            name = name.replace(f".0.conv{i}.1.", f".0.bn{i}.")
        renamed[name] = value
    ours.load_state_dict(renamed)
    x_BCTHW = torch.randn(1, 3, 6, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(x_BCTHW), theirs(x_BCTHW), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("split", [False, True])
def test_bottleneck_by_hand(split: bool):
    torch.manual_seed(0)
    block = Bottleneck3D(8, 4, stride=2, split=split).eval()
    x = torch.randn(1, 8, 4, 6, 6)
    w = block.state_dict()
    out = functional.relu(functional.conv3d(x, w["conv1.weight"]) / (1 + 1e-5) ** 0.5)
    if split:
        out = functional.conv3d(out, w["conv2_s.weight"], stride=(1, 2, 2), padding=(0, 1, 1))
        out = functional.relu(out / (1 + 1e-5) ** 0.5)
        out = functional.conv3d(out, w["conv2_t.weight"], stride=(2, 1, 1), padding=(1, 0, 0))
    else:
        out = functional.conv3d(out, w["conv2.weight"], stride=2, padding=1)
    out = functional.relu(out / (1 + 1e-5) ** 0.5)
    out = functional.conv3d(out, w["conv3.weight"]) / (1 + 1e-5) ** 0.5
    short = functional.conv3d(x, w["downsample.0.weight"], stride=2) / (1 + 1e-5) ** 0.5
    with torch.no_grad():
        torch.testing.assert_close(block(x), functional.relu(out + short), atol=1e-5, rtol=1e-5)


def test_splitting_keeps_the_parameters():
    assert middle_channels(64, 64) == 144
    assert middle_channels(64, 128) == 230
    assert middle_channels(3, 64, kernel=7, time=7) == 110
    full = sum(p.numel() for p in BasicBlock3D(64, 64).parameters())
    parts = sum(p.numel() for n, p in BasicBlock3D(64, 64, split=True).named_parameters())
    assert parts - full == 2 * 2 * 144  # the BatchNorm between


def test_r3d_18_differs_from_torchvisions_by_its_stem():
    with torch.device("meta"):
        theirs = sum(p.numel() for p in video.r3d_18().parameters())
        ours = sum(
            p.numel() for p in RESNET3D["resnet3d18"](shape_of(num_classes=400)).parameters()
        )
    assert ours - theirs == 3 * 64 * 7 * 7 * (7 - 3)
