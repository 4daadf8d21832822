import pytest
import torch
from torch import nn
from torchvision.models import video
from torchvision.models.video.mvit import MViT
from torchvision.ops import StochasticDepth

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.clip_backbones import create_clip_backbone, is_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.network import build_network
from kinema.models.torchvision_clips import TORCHVISION_CLIPS, MViTClips

OFFICIAL = {
    "r3d_18": (8, 48),
    "mc3_18": (8, 48),
    "r2plus1d_18": (8, 48),
    "s3d": (16, 224),
    "swin3d_t": (6, 56),
}


def shape_of(**values: object) -> ClipShape:
    return ClipShape(**{"in_channels": 3, "num_classes": 7, "frames": 4, "size": 64, **values})


def shaken(network: nn.Module) -> nn.Module:
    """Random numbers everywhere, so that no layer is the identity by its start values."""
    generator = torch.Generator().manual_seed(3)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator) * 0.02
            value.add_(noise.abs() if "var" in name else noise)
    return network.eval()


@pytest.mark.parametrize("name", OFFICIAL)
def test_same_logits_as_torchvision(name: str):
    frames, size = OFFICIAL[name]
    theirs = shaken(getattr(video, name)(num_classes=5))
    ours = TORCHVISION_CLIPS[name](shape_of(num_classes=5, frames=frames, size=size)).eval()
    state = theirs.state_dict()
    state |= {k: v.flatten(1) for k, v in state.items() if k == "classifier.1.weight"}
    ours.load_state_dict(state)
    x_BCTHW = torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs(x_BCTHW), ours(x_BCTHW)
        features = ours.forward_head(ours.forward_features(x_BCTHW), pre_logits=True)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert features.shape == (1, ours.head_hidden_size)
    torch.testing.assert_close(ours.get_classifier()(features), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s", "swin3d_s", "swin3d_b"])
def test_same_layers_as_torchvision(name: str):
    with torch.device("meta"):
        theirs = getattr(video, name)()
        ours = TORCHVISION_CLIPS[name](shape_of(num_classes=400, frames=16, size=224))
    expected = {k: v.shape for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected
    part = "blocks" if name.startswith("mvit") else "features"
    depth = [m for m in theirs.modules() if isinstance(m, StochasticDepth)]
    for module in depth:  # torchvision's start with 0.2 or more, ours without
        module.p = 0.0
    assert str(ours.get_submodule(part)) == str(theirs.get_submodule(part))
    if name.startswith("mvit"):
        heads = [block.attn.num_heads for block in ours.blocks]
        assert heads == [block.attn.num_heads for block in theirs.blocks]


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_mvit_passes_as_torchvisions_does(name: str):
    ours = shaken(MViTClips(name, shape_of(num_classes=5)))
    x_BCTHW = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = MViT.forward(ours, x_BCTHW)
        torch.testing.assert_close(ours(x_BCTHW), expected, atol=1e-6, rtol=1e-6)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", TORCHVISION_CLIPS)
@pytest.mark.parametrize(("channels", "frames", "size"), [(2, 8, 64), (3, 12, 96)])
def test_any_channels_frames_and_size(name: str, channels: int, frames: int, size: int):
    with torch.device("meta"):
        network = create_clip_backbone(
            name, shape_of(in_channels=channels, frames=frames, size=size), dropout=(0.5,)
        )
        logits = network(torch.zeros(2, channels, frames, size, size))
    assert logits.shape == (2, 7)
    assert network.get_classifier().out_features == 7
    assert network.get_classifier().in_features == network.head_hidden_size
    first = network.get_submodule(network.pretrained_cfg["first_conv"])
    assert isinstance(first, nn.Conv3d) and first.in_channels == channels
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)][-1] == 0.5


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("r3d_18", 33_371_472),  # as torchvision says
        ("mc3_18", 11_695_440),
        ("r2plus1d_18", 31_505_325),
        ("s3d", 8_320_048),
        ("mvit_v1_b", 36_610_672),
        ("mvit_v2_s", 34_537_744),
        ("swin3d_t", 28_158_070),
    ],
)
def test_published_counts(name: str, parameters: int):
    with torch.device("meta"):
        network = TORCHVISION_CLIPS[name](shape_of(num_classes=400, frames=16, size=224))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("depth", "millions"), [("18_full", 33.37), ("34", 63.70)])
def test_r2plus1d_with_the_papers_widths(depth: str, millions: float):
    blocks = (2, 2, 2, 2) if depth == "18_full" else (3, 4, 6, 3)
    expected = 3 * 45 * 49 + 45 * 64 * 3 + 2 * (45 + 64) + 512 * 400 + 400
    before = 64
    for stage, count in enumerate(blocks):
        after = 64 * 2**stage
        for i in range(count):
            for inside in (before if not i else after, after):
                middle = int(27 * inside * after / (9 * inside + 3 * after))
                expected += middle * (9 * inside + 3 * after) + 2 * (middle + after)
        if stage:
            expected += before * after + 2 * after
        before = after
    with torch.device("meta"):
        network = TORCHVISION_CLIPS[f"r2plus1d_{depth}"](shape_of(num_classes=400))
    found = sum(p.numel() for p in network.parameters())
    assert found == expected
    assert found / 1e6 == pytest.approx(millions, abs=0.005)
    assert network.get_submodule("layer2.0.conv1.0.0").out_channels == 230
    assert network.get_submodule("layer2.0.conv2.0.0").out_channels == 288
    assert network.get_submodule("layer4.0.conv1.0.0").out_channels == 921


def test_ig65m_has_the_epsilon_of_caffe2():
    with torch.device("meta"):
        network = TORCHVISION_CLIPS["r2plus1d_34_ig65m"](shape_of())
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}


def test_drop_path_grows_to_the_value():
    with torch.device("meta"):
        network = create_clip_backbone("swin3d_t", shape_of(drop_path=0.3))
    found = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert found[0] == 0.0 and max(found) == pytest.approx(0.3)
    with pytest.raises(UsageError, match=r"'r3d_18' has no stochastic depth"):
        create_clip_backbone("r3d_18", shape_of(drop_path=0.3))


def test_sizes_that_a_network_cannot_have():
    with pytest.raises(KinemaError, match=r"5 images of 64 pixels: it takes an even number"):
        create_clip_backbone("mvit_v2_s", shape_of(frames=5))
    with pytest.raises(KinemaError, match=r"4 images of 112 pixels"):
        create_clip_backbone("mvit_v1_b", shape_of(size=112))
    with pytest.raises(KinemaError, match=r"too short for 's3d', which takes 8 images"):
        create_clip_backbone("s3d", shape_of(frames=4))
    with torch.device("meta"):
        network = create_clip_backbone("mvit_v1_b", shape_of())
        with pytest.raises(KinemaError, match=r"4 images of 64 x 64 pixels, but was given 6 x 64"):
            network(torch.zeros(1, 3, 6, 64, 64))


def test_in_a_snippet_network_with_their_mean():
    config = ModelConfig(backbone="r3d_18", dropout=(0.2,))
    network = build_network(config, modality="rgb", stack=2, num_classes=3, crop=32).eval()
    assert network.is_clip and is_clip_backbone("r3d_18")
    assert network.modality.mean == (0.43216, 0.394666, 0.37645)
    x_BNTCHW = torch.randint(0, 256, (1, 2, 2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert network(x_BNTCHW).shape == (1, 3)
