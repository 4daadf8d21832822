import pytest
import torch
import torchvision
from torch import nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.network import build_network
from kinema.models.snippet_network import SnippetNetwork
from kinema.weights.files import WeightsFile, network_names
from kinema.weights.pretrained import load_weights


def images(*shape: int) -> torch.Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def network_of(modality: str = "rgb", stack: int = 1, **model: object) -> SnippetNetwork:
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": "tiny", "dropout": (), **model})
    return build_network(config, modality=modality, stack=stack, num_classes=5, num_segments=3)


def shaken(module: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and parameters that matter."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.1, 0.1)
    return module.eval()


def assert_same_as_torchvision(name: str, theirs: nn.Module, side: int, mean: float | None = None):
    model = ModelConfig(backbone=name, dropout=())
    ours = build_network(model, modality="rgb", stack=1, num_classes=1000).eval()
    file = WeightsFile(source="torchvision", tensors=network_names(theirs.state_dict()))
    report = load_weights(ours, file, backbone=name)
    assert not report.missing and not report.adapted and not report.head_replaced
    x = images(2, 1, 1, 3, side, side)
    normal = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    if mean is not None:
        normal = torchvision.transforms.Normalize([mean] * 3, [mean] * 3)
    with torch.no_grad():
        wanted = theirs(normal(x[:, 0, 0].float() / 255))
        found = ours(x)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found / scale, wanted / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
def test_same_logits_as_torchvision(name: str):
    assert_same_as_torchvision(name, shaken(torchvision.models.get_model(name)), side=64)


def test_same_logits_as_torchvisions_inception_with_its_own_normalisation():
    theirs = torchvision.models.inception_v3(init_weights=False, aux_logits=False)
    assert_same_as_torchvision("inception_v3", shaken(theirs), side=96, mean=0.5)


@pytest.mark.slow
def test_same_logits_as_torchvisions_vgg():
    assert_same_as_torchvision("vgg11", torchvision.models.vgg11().eval(), side=224)


def test_stacks_fold_frame_by_frame():
    network = network_of("flow", stack=3).eval()
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = images(2, 4, 3, 2, 32, 32)
    assert network(x).shape == (2, 5)
    assert network.snippet_logits(x).shape == (2, 4, 5)
    assert seen[0].shape == (8, 6, 32, 32)
    wanted = (x[1, 2, :, :, 5, 6].float() - 128) / 255 / 0.226  # x1 y1, x2 y2, x3 y3
    torch.testing.assert_close(seen[0][6, :, 5, 6], wanted.flatten(), atol=1e-5, rtol=0)


def test_consensus_is_over_the_snippets_of_each_video():
    network = network_of(consensus="max").eval()
    x = images(2, 3, 1, 3, 32, 32)
    torch.testing.assert_close(network(x), network.snippet_logits(x).amax(1))
    separate = torch.cat([network.snippet_logits(x[:, n : n + 1]) for n in range(3)], 1)
    torch.testing.assert_close(network.snippet_logits(x), separate, atol=1e-5, rtol=1e-5)


def test_rgbdiff_reads_one_frame_more():
    network = network_of("rgbdiff", stack=2).eval()
    still = images(1, 1, 1, 3, 32, 32).expand(1, 2, 3, 3, 32, 32)
    blank = torch.zeros(1, 2, 3, 3, 32, 32, dtype=torch.uint8)
    assert torch.equal(network(still), network(blank))
    with pytest.raises(KinemaError, match="rgbdiff network takes 3 images of 3 channels"):
        network(images(1, 2, 2, 3, 32, 32))


def test_any_image_size_and_gradients_reach_all_parameters():
    network = network_of(consensus="weighted").train()
    network(images(3, 3, 1, 3, 40, 48)).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_partial_bn_freezes_all_but_the_first():
    network = network_of(partial_bn=True, input_bn=True).train()
    first, *later = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(later) == 3
    assert first.training and first.weight.requires_grad
    assert all(not layer.training and not layer.weight.requires_grad for layer in later)
    before = [layer.running_mean.clone() for layer in (first, *later)]
    network.eval().train()
    network(images(2, 3, 1, 3, 32, 32))
    after = [layer.running_mean for layer in (first, *later)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, *[True] * 3]
    assert network.input_bn.training
    assert float(network.input_bn.running_mean.abs().sum()) > 0
    assert not any(layer.training for layer in network.eval().modules())


def test_partial_bn_is_off_by_default():
    network = network_of().train()
    assert all(m.training for m in network.modules())
    assert all(p.requires_grad for p in network.parameters())


def test_input_bn_normalises_every_stacked_channel():
    network = network_of("flow", stack=2, input_bn=True, normalise="unit").train()
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = images(2, 3, 2, 2, 32, 32)
    network(x)
    unit = (x.float() / 255).flatten(0, 1).flatten(1, 2)
    mean, variance = unit.mean((0, 2, 3)), unit.var((0, 2, 3), unbiased=False)
    wanted = (unit - mean[:, None, None]) / (variance[:, None, None] + 1e-3).sqrt()
    torch.testing.assert_close(seen[0], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(network.input_bn.running_mean, 0.01 * mean, atol=1e-6, rtol=0)
    assert not list(network.input_bn.parameters())


def test_state_dict_round_trip():
    network = network_of("flow", stack=5, input_bn=True, consensus="weighted")
    other = network_of("flow", stack=5, input_bn=True, consensus="weighted")
    with torch.no_grad():
        next(network.parameters()).add_(1)
    other.load_state_dict(network.state_dict())
    x = images(1, 2, 5, 2, 32, 32)
    assert torch.equal(network.eval()(x), other.eval()(x))


def test_bfloat16_autocast_stays_close():
    network = network_of().eval()
    x = images(2, 3, 1, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(x)
    with torch.no_grad():
        full = network(x)
    assert half.float().numpy() == pytest.approx(full.numpy(), abs=0.05)


def test_wrong_requests():
    with pytest.raises(UsageError, match="Unknown modality 'depth'"):
        network_of("depth")
    with pytest.raises(KinemaError, match="stack=0 is not possible"):
        network_of("flow", stack=0)
    network = network_of("flow", stack=10)
    with pytest.raises(KinemaError, match=r"flow network takes 10 images .* given \(1, 3, 5, 2"):
        network(images(1, 3, 5, 2, 32, 32))
    with pytest.raises(KinemaError, match="use the modality and stack"):
        network(images(1, 3, 10, 3, 32, 32))
