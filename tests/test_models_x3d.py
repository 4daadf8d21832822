import math

import pytest
import torch
from torch import nn

from kinema.models.clip_backbones import create_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.x3d import SqueezeExcite, X3DBlock


def build(name: str, **values: object) -> nn.Module:
    shape = {"in_channels": 3, "num_classes": 400, "frames": 16, "size": 224, **values}
    return create_clip_backbone(name, ClipShape(**shape)).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_formula(depth_factor: float) -> int:
    """Parameters from the numbers of PySlowFast's X3D configurations: 12 * 2 channels, 2.25."""
    squeezed = {54: 8, 108: 8, 216: 16, 432: 32}  # 1/16 of them, to a multiple of 8
    total = 3 * 24 * 9 + 24 * 5 + 2 * 24
    before = 24
    for after, depth in ((24, 1), (48, 2), (96, 5), (192, 3)):
        inner = int(2.25 * after)
        for i in range(math.ceil(depth * depth_factor)):
            total += before * inner + 27 * inner + inner * after + 4 * inner + 2 * after
            if i % 2 == 0:
                total += 2 * inner * squeezed[inner] + inner + squeezed[inner]
            if i == 0:
                total += before * after + 2 * after
            before = after
    return total + 192 * 432 + 2 * 432 + 432 * 2048 + 400 * 2049


@pytest.mark.parametrize(
    ("name", "factor", "millions"),  # PyTorchVideo's and PySlowFast's tables; L: the paper's
    [("x3d_xs", 2.2, 3.79), ("x3d_s", 2.2, 3.79), ("x3d_m", 2.2, 3.79), ("x3d_l", 5.0, 6.15)],
)
def test_parameters_are_the_published_ones(name: str, factor: float, millions: float):
    with torch.device("meta"):
        found = count(build(name))
    assert found == by_formula(factor)
    assert round(found / 1e6, 2) == millions


def test_shapes_are_those_of_the_papers_table():
    found = {}
    with torch.device("meta"):
        model = build("x3d_m")
        for name, child in model.named_children():
            child.register_forward_hook(
                lambda _module, _args, out, name=name: found.update({name: tuple(out.shape[1:])})
            )
        model(torch.zeros(1, 3, 16, 224, 224))
    assert found["conv_t"] == (24, 16, 112, 112)
    assert found["layer1"] == (24, 16, 56, 56)
    assert found["layer2"] == (48, 16, 28, 28)
    assert found["layer3"] == (96, 16, 14, 14)
    assert found["layer4"] == (192, 16, 7, 7)
    assert found["conv5"] == (432, 16, 7, 7)
    assert found["lin5"] == (2048, 1, 1, 1)
    assert found["fc"] == (400,)
    depths = [len(model.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)]
    assert depths == [3, 5, 11, 7]


def test_every_second_block_squeezes():
    with torch.device("meta"):
        model = build("x3d_m")
    assert [isinstance(block.se, SqueezeExcite) for block in model.layer2] == [
        True,
        False,
        True,
        False,
        True,
    ]
    conv = model.layer2[1].conv2
    assert conv.kernel_size == (3, 3, 3) and conv.groups == conv.in_channels == 108


def test_block_by_hand():
    torch.manual_seed(0)
    block = X3DBlock(8, 8, stride=1, squeeze=True).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 8, 3, 4, 4)
    with torch.no_grad():
        out = block.bn1(block.conv1(x)).clamp(min=0)
        out = block.bn2(block.conv2(out))
        means = out.mean((2, 3, 4))
        hidden = (means @ block.se.fc1.weight.flatten(1).T + block.se.fc1.bias).clamp(min=0)
        logits = hidden @ block.se.fc2.weight.flatten(1).T + block.se.fc2.bias
        out = out * (1 / (1 + torch.exp(-logits)))[:, :, None, None, None]
        out = block.bn3(block.conv3(out / (1 + torch.exp(-out))))
        wanted = (out + x).clamp(min=0)
        torch.testing.assert_close(block(x), wanted)


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_l"])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (3, 45, 33)])
def test_any_clip_of_any_size(name: str, frames: int, height: int, width: int):
    torch.manual_seed(0)
    model = build(name, in_channels=2, num_classes=3, frames=frames)
    with torch.no_grad():
        x = torch.randn(1, 2, frames, height, width)
        features, logits = model.forward_features(x), model(x)
    assert features.shape == (1, 432, frames, -(-height // 32), -(-width // 32))
    assert logits.shape == (1, 3) and torch.isfinite(logits).all()
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size) == (1, 2048)
    torch.testing.assert_close(model.get_classifier()(pooled), logits)


def test_last_norm_of_every_block_starts_with_0_and_the_network_learns():
    torch.manual_seed(0)
    model = build("x3d_xs", num_classes=3).train()
    blocks = [module for module in model.modules() if isinstance(module, X3DBlock)]
    assert len(blocks) == 3 + 5 + 11 + 7
    assert all(float(block.bn3.weight.detach().abs().max()) == 0 for block in blocks)
    model(torch.randn(2, 3, 4, 32, 32)).logsumexp(1).sum().backward()
    assert float(blocks[-1].bn3.weight.grad.abs().sum()) > 0
    assert model.pretrained_cfg["first_conv"] == "conv_xy"
