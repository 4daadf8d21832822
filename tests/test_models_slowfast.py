import pytest
import torch
from torch import nn
from torch.nn import functional

from kinema.config import ModelConfig
from kinema.errors import KinemaError
from kinema.models.clip_backbones import create_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.first_conv import first_conv_names
from kinema.models.freezing import part_before
from kinema.models.network import build_network


def build(name: str, **values: object) -> nn.Module:
    shape = {"in_channels": 3, "num_classes": 400, "frames": 32, "size": 224, **values}
    return create_clip_backbone(name, ClipShape(**shape)).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shaken(model: nn.Module) -> nn.Module:
    """Give the BatchNorms scales other than 0, so that every layer matters."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("name", "millions"),  # PyTorchVideo's table for Kinetics-400
    [
        ("slowfast_4x16_resnet50", 34.48),
        ("slowfast_8x8_resnet50", 34.57),
        ("slowfast_8x8_resnet101", 62.83),
    ],
)
def test_parameters_are_the_published_ones(name: str, millions: float):
    with torch.device("meta"):
        assert round(count(build(name)) / 1e6, 2) == millions


@pytest.mark.parametrize(("name", "slow"), [("4x16", 4), ("8x8", 8)])
def test_shapes_of_both_pathways(name: str, slow: int):
    """Table 1 of the paper: T x S^2 of each stage, for 32 images of 224 pixels."""
    found = {}
    with torch.device("meta"):
        model = build(f"slowfast_{name}_resnet50")
        for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
            module = model.get_submodule(stage)
            for pathway in ("slow", "fast"):
                module.get_submodule(pathway).register_forward_hook(
                    lambda _module, _args, out, key=(stage, pathway): found.update(
                        {key: tuple(out.shape[1:])}
                    )
                )
        features = model.forward_features(torch.zeros(1, 3, 32, 224, 224))
    for i, stage in enumerate(("layer1", "layer2", "layer3", "layer4")):
        assert found[stage, "slow"] == (256 * 2**i, slow, 56 // 2**i, 56 // 2**i)
        assert found[stage, "fast"] == (32 * 2**i, 32, 56 // 2**i, 56 // 2**i)
    assert found["stem", "slow"] == (64, slow, 56, 56)
    assert found["stem", "fast"] == (8, 32, 56, 56)
    assert features.shape == (1, 2304, slow, 7, 7)


def test_lateral_connections_have_the_published_sizes():
    with torch.device("meta"):
        four, eight = build("slowfast_4x16_resnet50"), build("slowfast_8x8_resnet50")
    for model, alpha, kernel in ((four, 8, 5), (eight, 4, 7)):
        convs = [
            model.get_submodule(f"{s}.lateral.0") for s in ("stem", "layer1", "layer2", "layer3")
        ]
        assert [(c.in_channels, c.out_channels) for c in convs] == [
            (8, 16),
            (32, 64),
            (64, 128),
            (128, 256),
        ]
        assert {c.kernel_size for c in convs} == {(kernel, 1, 1)}
        assert {c.stride for c in convs} == {(alpha, 1, 1)}
        assert model.layer4.lateral is None
        assert first_conv_names(model) == ("stem.slow.conv1", "stem.fast.conv1")


def test_slow_pathway_takes_every_alpha_th_image_and_the_fast_one_all():
    torch.manual_seed(0)
    model = shaken(build("slowfast_8x8_resnet50", num_classes=3))
    seen = {}
    for pathway in ("slow", "fast"):
        model.stem.get_submodule(pathway).register_forward_pre_hook(
            lambda _module, args, key=pathway: seen.update({key: args[0]})
        )
    x = torch.randn(1, 3, 12, 32, 32)
    with torch.no_grad():
        logits = model(x)
    assert torch.equal(seen["slow"], x[:, :, [0, 4, 8]])
    assert torch.equal(seen["fast"], x)
    assert logits.shape == (1, 3)


def test_the_steps_by_hand():
    """The forward pass of the paper's figure 1, written out over the registered layers."""
    torch.manual_seed(0)
    model = shaken(build("slowfast_8x8_resnet50", num_classes=3))
    x = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        slow, fast = x[:, :, ::4], x
        for stage in ("stem", "layer1", "layer2", "layer3"):
            step = model.get_submodule(stage)
            slow, fast = step.slow(slow), step.fast(fast)
            conv, norm = step.lateral[0], step.lateral[1]
            joined = functional.conv3d(fast, conv.weight, stride=(4, 1, 1), padding=(3, 0, 0))
            slow = torch.cat([slow, functional.relu(norm(joined))], 1)
        slow, fast = model.layer4.slow(slow), model.layer4.fast(fast)
        pooled = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1)
        wanted = pooled @ model.fc.weight.T + model.fc.bias
        torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-4)
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(features, pooled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 32, 32), (9, 33, 47)])
def test_any_clip_of_any_size(frames: int, height: int, width: int):
    torch.manual_seed(0)
    model = build("slowfast_8x8_resnet50", in_channels=2, num_classes=5, frames=frames)
    with torch.no_grad():
        logits = model(torch.randn(1, 2, frames, height, width))
    assert logits.shape == (1, 5) and torch.isfinite(logits).all()


def test_too_few_images_are_refused():
    with pytest.raises(KinemaError, match=r"data.stack=7 is too short .* takes 8 images"):
        build("slowfast_4x16_resnet50", frames=7)


def test_freezing_takes_both_pathways_of_a_stage():
    with torch.device("meta"):
        model = build("slowfast_4x16_resnet50")
    modules, parameters = part_before(model, "layer3")
    assert modules == (model.stem, model.layer1, model.layer2) and parameters == ()


def test_last_norm_of_every_block_starts_with_0():
    torch.manual_seed(0)
    model = build("slowfast_4x16_resnet50")
    last = [m.weight for name, m in model.named_modules() if name.endswith("bn3")]
    assert len(last) == 2 * 16
    assert all(float(weight.detach().abs().max()) == 0 for weight in last)
    weight = model.layer1.lateral[0].weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (64 * 5)) ** 0.5, rel=0.05)


def test_in_a_network_with_kinetics_mean_and_std():
    torch.manual_seed(0)
    config = ModelConfig(backbone="slowfast_8x8_resnet50", dropout=())
    network = build_network(config, modality="rgb", stack=8, num_classes=4, crop=32).eval()
    assert network.modality.mean == (0.45, 0.45, 0.45)
    assert network.modality.std == (0.225, 0.225, 0.225)
    assert network.feature_dim == 2304
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 8, 3, 32, 32, dtype=torch.uint8)).shape == (1, 4)
