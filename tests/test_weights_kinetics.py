import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError
from kinema.models.clip_backbones import CLIP_BACKBONES
from kinema.models.first_conv import cross_modality, first_conv_names, inflate
from kinema.models.network import build_network
from kinema.models.snippet_network import SnippetNetwork
from kinema.weights import kinetics
from kinema.weights.files import WeightsFile, network_names
from kinema.weights.positions import resized_positions
from kinema.weights.pretrained import initialise, load_weights


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    """A 2D ResNet-50 with random weights and statistics."""
    generator = torch.Generator().manual_seed(5)
    network = torchvision.models.resnet50().eval()
    for name, value in network.state_dict().items():
        if "bn" in name and value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network


def network_of(backbone: str, modality: str = "rgb", stack: int = 4, **model: object):
    config = ModelConfig(**{"backbone": backbone, "pretrained": True, "dropout": (), **model})
    return build_network(config, modality=modality, stack=stack, num_classes=6, crop=64), config


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch, resnet50: nn.Module) -> None:
    def found(backbone: str) -> WeightsFile:
        assert backbone == "resnet50"
        tensors = network_names(resnet50.state_dict())
        return WeightsFile(source="ImageNet", tensors=tensors, modality="rgb", backbone=backbone)

    monkeypatch.setattr(kinetics, "imagenet_weights", found)


def maps_of_one_image(network: nn.Module, x_BCHW: torch.Tensor) -> torch.Tensor:
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    for name in layers:
        x_BCHW = network.get_submodule(name)(x_BCHW)
    return x_BCHW


@pytest.mark.usefixtures("imagenet")
@pytest.mark.parametrize(
    ("backbone", "frames"),
    [("c2d_resnet50", 4), ("slowonly_resnet50", 19), ("i3d_resnet50", 38), ("resnet3d50", 272)],
)
def test_inflated_network_sees_a_still_clip_as_the_image(
    resnet50: nn.Module, backbone: str, frames: int
):
    network, config = network_of(backbone, stack=frames)
    report = initialise(network, config)
    assert report is not None and report.head_replaced and not report.adapted
    assert not report.unexpected or report.unexpected == ("backbone.fc.weight", "backbone.fc.bias")
    kernels = [m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
    assert len(report.inflated) == len(kernels)
    x_BCHW = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    clip_BCTHW = x_BCHW[:, :, None].expand(-1, -1, frames, -1, -1)
    with torch.no_grad():
        expected = maps_of_one_image(resnet50, x_BCHW)
        found = network.eval().backbone.forward_features(clip_BCTHW)
    centre = found[:, :, found.shape[2] // 2]  # out of reach of the zeros before and behind
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(centre / scale, expected / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("imagenet")
def test_inflation_and_modality_together(resnet50: nn.Module):
    network, config = network_of("i3d_resnet50", modality="flow")
    report = initialise(network, config)
    assert report is not None and report.adapted == ("conv1.weight",)
    weight = network.get_parameter("backbone.conv1.weight")
    assert weight.shape == (64, 2, 5, 7, 7)
    expected = resnet50.conv1.weight.mean(1) / 5
    for channel in range(2):
        for time in range(5):
            torch.testing.assert_close(weight[:, channel, time], expected)
    assert "kernels repeated in time" in report.summary()


@pytest.mark.usefixtures("imagenet")
def test_nonlocal_blocks_may_be_new():
    network, config = network_of("i3d_resnet50", nonlocal_blocks=5)
    report = initialise(network, config)
    assert report is not None
    new = {n for n in report.missing if ".nonlocal_block." in n}
    heads = {"backbone.fc.weight", "backbone.fc.bias"}
    assert new and set(report.missing) - new == heads


def test_other_sizes_do_not_fit(resnet50: nn.Module):
    network, _ = network_of("resnet3d10")
    tensors = network_names(resnet50.state_dict())
    with pytest.raises(KinemaError, match=r"does not fit the backbone 'resnet3d10'"):
        load_weights(network, WeightsFile(source="x", tensors=tensors), backbone="resnet3d10")


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_torchvisions_weights_from_the_cache(hub: Path, modality: str):
    torch.manual_seed(1)
    theirs = torchvision.models.video.mc3_18().state_dict()
    torch.save(theirs, hub / "mc3_18-a90a0ba3.pth")
    network, config = network_of("mc3_18", modality=modality)
    report = initialise(network, config)
    assert report is not None and report.head_replaced
    assert report.source == "the Kinetics-400 weights of mc3_18"
    found = network.backbone.state_dict()
    given = theirs["stem.0.weight"]
    if modality == "rgb":
        assert not report.adapted and torch.equal(found["stem.0.weight"], given)
    else:
        assert report.adapted == ("stem.0.weight",)
        for channel in range(2 if modality == "flow" else 3):
            torch.testing.assert_close(found["stem.0.weight"][:, channel], given.mean(1))
    assert torch.equal(found["layer3.0.conv1.0.weight"], theirs["layer3.0.conv1.0.weight"])
    assert found["fc.weight"].std().item() == pytest.approx(0.001, rel=0.1)


def test_a_file_of_published_layer_names(tmp_path: Path):
    network, _ = network_of("resnet3d10")
    state = {f"module.{k}": v for k, v in network.backbone.state_dict().items()}
    state["module.fc.weight"], state["module.fc.bias"] = torch.zeros(700, 512), torch.zeros(700)
    torch.save({"epoch": 200, "arch": "resnet-10", "state_dict": state}, tmp_path / "a.pth")
    other, config = network_of("resnet3d10", weights=str(tmp_path / "a.pth"))
    report = initialise(other, config)
    assert report is not None and report.head_replaced and not report.adapted
    same = network.get_parameter("backbone.layer2.0.conv1.weight")
    assert torch.equal(other.get_parameter("backbone.layer2.0.conv1.weight"), same)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("backbone", "data"),
    [
        ("r3d_18", "Kinetics-400"),
        ("r2plus1d_34_ig65m", "IG-65M"),
        ("slowonly_resnet50", "ImageNet"),
    ],
)
def test_out_of_reach(backbone: str, data: str):
    with pytest.raises(KinemaError, match=rf"The {data}.* weights of .* could not be fetched"):
        kinetics.published_weights(backbone)


@pytest.mark.parametrize("backbone", ["resnet3d200", "r2plus1d_34"])
def test_no_weights_are_published(backbone: str):
    with pytest.raises(KinemaError, match=rf"'{backbone}' has no published weights .*: r3d_18,"):
        kinetics.published_weights(backbone)
    assert kinetics.published_data(backbone) == ""


def test_what_is_published():
    from torchvision.models import get_model_weights

    for name in CLIP_BACKBONES:
        if kinetics.published_data(name) == "Kinetics-400" and name not in kinetics.HUB_NETWORKS:
            assert "KINETICS400_V1" in get_model_weights(name).__members__
    assert kinetics.published_data("resnet50") == "ImageNet"
    assert kinetics.published_data("vjepa2_large") == "SSv2"
    assert kinetics.published_data("tiny") == ""


def test_a_kernel_over_time_sums_to_the_kernel():
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    found = inflate(weight, frames=3)
    assert found.shape == (4, 3, 3, 5, 5)
    torch.testing.assert_close(found.sum(2), weight)
    assert torch.equal(inflate(weight, frames=1)[:, :, 0], weight)


def test_cross_modality_in_3d():
    weight = torch.arange(12.0).reshape(2, 3, 2, 1, 1)
    found = cross_modality(weight, channels=5)
    assert found.shape == (2, 5, 2, 1, 1)
    assert found[:, :, :, 0, 0].tolist() == [[[2.0, 3.0]] * 5, [[8.0, 9.0]] * 5]


def test_first_convolution_of_a_3d_network():
    network = nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 3), nn.Conv3d(4, 4, 3))
    assert first_conv_names(network) == ("1",)
    assert first_conv_names(CLIP_BACKBONES["resnet3d10"](_shape())) == ("conv1",)


def test_positions_in_time_and_space():
    line = torch.tensor([[0.0, 10.0], [4.0, 30.0]])
    found = resized_positions("pos_encoding.temporal_pos", line, torch.zeros(4, 2))
    assert found is not None
    assert found.tolist() == [[0.0, 10.0], [1.0, 15.0], [3.0, 25.0], [4.0, 30.0]]
    plane = torch.full((9, 2), 3.0)
    found = resized_positions("pos_encoding.spatial_pos", plane, torch.zeros(16, 2))
    assert found is not None and found.shape == (16, 2)
    torch.testing.assert_close(found, torch.full((16, 2), 3.0))
    assert resized_positions("pos_encoding.spatial_pos", plane, torch.zeros(15, 2)) is None
    assert resized_positions("blocks.0.attn.qkv.weight", line, torch.zeros(4, 2)) is None
    relative = resized_positions("blocks.0.attn.rel_pos_h", line, torch.zeros(3, 2))
    assert relative is not None and relative[1].tolist() == [2.0, 20.0]


def test_transformers_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(KinemaError, match=r"needs transformers: pip install 'kinema\[hf\]'"):
        network_of("videomae_base")
    with pytest.raises(KinemaError, match=r"needs transformers"):
        kinetics.published_weights("hf:some/network")


def _shape():
    from kinema.models.clip_shape import ClipShape

    return ClipShape(in_channels=3, num_classes=2, frames=4, size=32)


def test_networks_are_snippet_networks():
    assert isinstance(network_of("resnet3d10")[0], SnippetNetwork)
