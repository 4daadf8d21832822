import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.network import build_network
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.temporal_shift import add_shift, shift_channels


def slow_shift(x: torch.Tensor, div: int) -> torch.Tensor:
    out = torch.zeros_like(x)
    videos, snippets, channels = x.shape[:3]
    fold = channels // div
    for b in range(videos):
        for n in range(snippets):
            for c in range(channels):
                source = n + 1 if c < fold else n - 1 if c < 2 * fold else n
                if 0 <= source < snippets:
                    out[b, n, c] = x[b, source, c]
    return out


def network(backbone: str = "resnet18", **model: object) -> SnippetNetwork:
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": backbone, "dropout": (), "shift": "residual", **model})
    network = build_network(config, modality="rgb", stack=1, num_classes=5, num_segments=4).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # timm starts branches with scale 0
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return network


def clips(*, snippets: int = 4, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (2, snippets, 1, 3, 32, 32), dtype=torch.uint8, generator=generator
    )


@pytest.mark.parametrize("div", [2, 3, 8])
@pytest.mark.parametrize("snippets", [1, 2, 5])
def test_shift_is_the_plain_loop(div: int, snippets: int):
    x = torch.randn(2, snippets, 17, 2, 3)
    assert torch.equal(shift_channels(x, div=div), slow_shift(x, div))


def test_shift_by_hand():
    x = torch.tensor([[[1.0, 10, 100, 1000], [2, 20, 200, 2000], [3, 30, 300, 3000]]])
    wanted = [[2, 0, 100, 1000], [3, 10, 200, 2000], [0, 20, 300, 3000]]
    assert shift_channels(x[..., None, None], div=4)[0, :, :, 0, 0].tolist() == wanted


def by_hand(backbone: nn.Module, x: torch.Tensor, place: str, div: int = 8) -> torch.Tensor:
    """A ResNet-18 of timm over (B, N, C, H, W), its residual blocks written out."""

    def shifted(y: torch.Tensor) -> torch.Tensor:
        return slow_shift(y.unflatten(0, x.shape[:2]), div).flatten(0, 1)

    y = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(x.flatten(0, 1)))))
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        for block in stage:
            shortcut = y if place == "residual" else shifted(y)
            out = block.act1(block.bn1(block.conv1(shifted(y))))
            out = block.bn2(block.conv2(out))
            if block.downsample is not None:
                shortcut = block.downsample(shortcut)
            y = block.act2(out + shortcut)
    return backbone.fc(y.mean((2, 3)))


@pytest.mark.parametrize("place", ["residual", "inplace"])
def test_shifted_resnet_is_the_one_written_out(place: str):
    shifting = network(shift=place)
    plain = network(shift="none")
    plain.load_state_dict(shifting.state_dict())  # names stay as they are
    x = clips()
    with torch.no_grad():
        inputs = shifting.modality.prepare(x, normalise="standard").squeeze(2)
        wanted = by_hand(plain.backbone, inputs, place).unflatten(0, (2, 4))
        found = shifting.snippet_logits(x)
        assert float((found - plain.snippet_logits(x)).abs().max()) > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shifting(x), wanted.mean(1), atol=1e-5, rtol=1e-4)


def hooked(backbone: nn.Module) -> list[str]:
    return [name for name, module in backbone.named_modules() if module._forward_pre_hooks]


@pytest.mark.parametrize(
    ("name", "place", "number"),
    [
        ("resnet50", "residual", 16),
        ("resnet50", "inplace", 16),
        ("resnet101", "residual", 2 + 2 + 12 + 2),  # every second block of 3, 4, 23, 3
        ("resnet101", "inplace", 33),
    ],
)
def test_which_blocks_shift(name: str, place: str, number: int):
    for model in (timm.create_model, torchvision.models.get_model):
        with torch.device("meta"):
            backbone = model(name)
        add_shift(backbone, name=name, place=place, div=8, num_snippets=8)
        found = hooked(backbone)
        assert len(found) == number
        assert all(layer.endswith(".conv1") == (place == "residual") for layer in found)
        assert "layer1.0.conv1" in found or "layer1.0" in found
        assert ("layer3.1.conv1" in found) == (name == "resnet50" and place == "residual")


def test_videos_do_not_mix_and_the_number_of_snippets_is_the_inputs():
    model = network()
    x = clips()
    more = clips(snippets=7, seed=5)
    with torch.no_grad():
        both = model.snippet_logits(x)
        torch.testing.assert_close(model.snippet_logits(x[1:]), both[1:], atol=1e-5, rtol=1e-4)
        longer = model.snippet_logits(more)
        assert longer.shape == (2, 7, 5)
        wanted = by_hand(
            network(shift="none").backbone,
            model.modality.prepare(more, normalise="standard").squeeze(2),
            "residual",
        )
    torch.testing.assert_close(longer.flatten(0, 1), wanted, atol=1e-5, rtol=1e-4)


def test_one_snippet_gets_zeros_in_both_parts():
    model, plain = network(), network(shift="none")
    for stage in (plain.backbone.layer1, plain.backbone.layer2, plain.backbone.layer3):
        for block in [*stage, *plain.backbone.layer4]:
            # Zeros shifted in are the same as filters that do not see these channels.
            with torch.no_grad():
                block.conv1.weight[:, : block.conv1.in_channels // 8 * 2] = 0
    x = clips(snippets=1)
    with torch.no_grad():
        assert float((model(x) - network(shift="none")(x)).abs().max()) > 1e-3
        torch.testing.assert_close(model(x), plain(x), atol=1e-5, rtol=1e-4)


def test_network_sees_its_training_snippets_together():
    assert network().joined == 4
    assert network(shift="none").joined == 1
    assert set(network().state_dict()) == set(network(shift="none").state_dict())


def test_a_copy_shifts_by_its_own_number():
    model = network()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.snippet_logits(clips(snippets=2))
        x = clips()
        torch.testing.assert_close(twin.snippet_logits(x), model.snippet_logits(x))
    assert twin._shift is not model._shift


def test_gradients_flow_back_through_time():
    model = network()
    x = torch.rand(1, 3, 8, 2, 2, requires_grad=True)
    shift_channels(x, div=4)[:, 1].sum().backward()
    assert x.grad[0, 2, :2].sum() == 8 and x.grad[0, 0, 2:4].sum() == 8
    assert x.grad[0, 1, 4:].sum() == 16 and x.grad.sum() == 32
    model.train()(clips()).sum().backward()
    assert float(model.backbone.conv1.weight.grad.abs().sum()) > 0


def test_settings_that_are_refused():
    with pytest.raises(UsageError, match=r"model.shift=residual is for ResNets, 'tiny' has no"):
        network("tiny")
    with pytest.raises(UsageError, match="is for ResNets, 'vgg16'"):
        network("vgg16")
    with pytest.raises(KinemaError, match=r"model.shift_div=1 is not possible"):
        network(shift_div=1)
    config = ModelConfig(backbone="i3d_resnet50", shift="inplace", dropout=())
    with torch.device("meta"), pytest.raises(UsageError, match="'i3d_resnet50' has no residual"):
        build_network(config, modality="rgb", stack=4, num_classes=5)
