import pytest
import timm
import torch
import torchvision
from torch import nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.backbones import SHORT_NAMES, TIMM_BACKBONES, create_backbone
from kinema.models.describe import describe_network
from kinema.models.first_conv import cross_modality, first_conv_names
from kinema.models.network import build_network

# Parameters with 1000 classes: torchvision's tables, Keras' summaries (trainable parameters), and
# for BN-Inception the published Caffe model.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "xception": 22_855_952,
    "mobilenet": 4_231_976,
    "bn_inception": 11_295_240,
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name: str):
    with torch.device("meta"):
        assert count(create_backbone(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_takes_a_flow_stack(name: str):
    side = 299 if name in ("xception", "inception_v3") else 224
    with torch.device("meta"):
        config = ModelConfig(backbone=name, dropout=(0.5,))
        network = build_network(config, modality="flow", stack=10, num_classes=7).train()
        logits = network(torch.zeros(2, 3, 10, 2, side, side, dtype=torch.uint8))
    assert logits.shape == (2, 7)
    first = network.backbone.get_submodule(first_conv_names(network.backbone)[0])
    assert first.in_channels == 20
    assert network.feature_dim == network.backbone.get_classifier().in_features


@pytest.mark.parametrize(
    "name", [n for n, full in TIMM_BACKBONES.items() if full.endswith("tv_in1k")]
)
def test_short_names_are_torchvisions_networks_layer_by_layer(name: str):
    with torch.device("meta"):
        ours = create_backbone(name)
        extra = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
        theirs = torchvision.models.get_model(name, **extra)
    shapes = [p.numel() for p in theirs.parameters()]
    assert [p.numel() for p in ours.parameters()] == shapes


def test_multiply_adds_are_the_published_ones():
    published = {"resnet18": 1.814e9, "resnet152": 11.514e9, "vgg16": 15.470e9}
    for name, wanted in published.items():
        with torch.device("meta"):
            config = ModelConfig(backbone=name)
            network = build_network(config, modality="rgb", stack=1, num_classes=1000)
        size = describe_network(network, image_size=224)
        assert size.multiply_adds == pytest.approx(wanted, rel=1e-3)
        assert size.parameters == size.trainable == PARAMETERS[name]


def test_any_other_timm_network_by_its_name():
    with torch.device("meta"):
        backbone = create_backbone("convnext_atto", in_channels=20, num_classes=5)
        assert backbone(torch.zeros(1, 20, 64, 64)).shape == (1, 5)
    assert first_conv_names(backbone) == ("stem.0",)


def test_the_first_convolution_is_found():
    wanted = {
        "resnet18": "conv1",
        "vgg16": "features.0",
        "xception": "conv1",
        "densenet121": "features.conv0",
        "inception_v3": "Conv2d_1a_3x3.conv",
        "mobilenet": "conv_stem",
        "bn_inception": "conv1_7x7_s2",
        "tiny": "features.0.0",
    }
    with torch.device("meta"):
        assert {n: first_conv_names(create_backbone(n))[0] for n in wanted} == wanted


def test_cross_modality_is_the_mean_over_rgb_repeated():
    weight = torch.randn(8, 3, 7, 7)
    out = cross_modality(weight, channels=20)
    assert out.shape == (8, 20, 7, 7)
    for channel in range(20):
        wanted = (weight[:, 0] + weight[:, 1] + weight[:, 2]) / 3
        torch.testing.assert_close(out[:, channel], wanted, atol=1e-6, rtol=0)


def test_dropout_places():
    with torch.device("meta"):
        vgg = create_backbone("vgg16", dropout=(0.9, 0.8))
        assert (vgg.pre_logits.drop.p, vgg.head.drop.p) == (0.9, 0.8)
        vgg = create_backbone("vgg19", dropout=(0.6,))
        assert (vgg.pre_logits.drop.p, vgg.head.drop.p) == (0.6, 0.6)
        assert create_backbone("resnet18", dropout=(0.7,)).drop_rate == 0.7
        assert create_backbone("resnet18").drop_rate == 0.0
        assert create_backbone("bn_inception", dropout=(0.8,)).drop.p == 0.8


@pytest.mark.parametrize("name", ["tiny", "resnet18", "bn_inception"])
def test_dropout_acts_in_training_alone(name: str):
    torch.manual_seed(0)
    backbone = create_backbone(name, num_classes=4, dropout=(0.5,))
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
            layer.eval()
    x = torch.randn(2, 3, 64, 64)
    head = backbone.forward_head
    features = backbone.forward_features(x)
    backbone.train()
    assert not torch.equal(head(features), head(features))
    backbone.eval()
    assert torch.equal(head(features), head(features))


def test_wrong_names_and_values():
    with pytest.raises(UsageError, match=r"Unknown backbone 'resnet19'. Did you mean 'resnet1"):
        create_backbone("resnet19")
    with pytest.raises(
        UsageError, match=r"no weights 'resnet18.nothing'. Choose .*resnet18.tv_in1k"
    ):
        create_backbone("resnet18.nothing")
    with torch.device("meta"):
        with pytest.raises(KinemaError, match="has 2 values, but resnet18 takes 1"):
            create_backbone("resnet18", dropout=(0.5, 0.5))
        with pytest.raises(KinemaError, match="has 3 values, but vgg16 takes 2"):
            create_backbone("vgg16", dropout=(0.5, 0.5, 0.5))
        with pytest.raises(KinemaError, match=r"dropout=1.5 is not possible"):
            create_backbone("tiny", dropout=(1.5,))


def test_timm_still_knows_every_name():
    assert all(timm.is_model(full) for full in TIMM_BACKBONES.values())
