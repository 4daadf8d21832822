import pytest
import torch
from torch import nn
from torch.nn import functional

from kinema.models.clip_backbones import create_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.first_conv import first_conv_names
from kinema.models.i3d import InceptionI3D, SamePool, ShiftOnlyBatchNorm, Unit3D, same_padding

# Szegedy et al., arXiv 1409.4842, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


def network(*, channels: int = 3, classes: int = 400, **shape: int) -> nn.Module:
    torch.manual_seed(0)
    values = {"frames": 16, "size": 224, **shape}
    return create_clip_backbone(
        "i3d", ClipShape(in_channels=channels, num_classes=classes, **values)
    ).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_those_of_the_published_channel_table():
    def unit(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**3 + after  # the weights, and BatchNorm's shift

    total = unit(3, 64, 7) + unit(64, 64, 1) + unit(64, 192, 3)
    channels = 192
    for c1, r3, c3, r5, c5, pool in TABLE.values():
        total += unit(channels, c1, 1) + unit(channels, r3, 1) + unit(r3, c3, 3)
        total += unit(channels, r5, 1) + unit(r5, c5, 3) + unit(channels, pool, 1)
        channels = c1 + c3 + c5 + pool
    with torch.device("meta"):
        model = network()
    assert count(model) - count(model.get_classifier()) == total == 12_279_984
    assert count(model) == 12_279_984 + 400 * 1025  # 12.7 M
    assert model.head_hidden_size == channels == 1024


def test_shapes_are_those_of_the_published_endpoints():
    wanted = {
        "Conv3d_1a_7x7": (64, 8, 112, 112),
        "MaxPool3d_2a_3x3": (64, 8, 56, 56),
        "Conv3d_2b_1x1": (64, 8, 56, 56),
        "Conv3d_2c_3x3": (192, 8, 56, 56),
        "MaxPool3d_3a_3x3": (192, 8, 28, 28),
        "Mixed_3b": (256, 8, 28, 28),
        "Mixed_3c": (480, 8, 28, 28),
        "MaxPool3d_4a_3x3": (480, 4, 14, 14),
        "Mixed_4b": (512, 4, 14, 14),
        "Mixed_4c": (512, 4, 14, 14),
        "Mixed_4d": (512, 4, 14, 14),
        "Mixed_4e": (528, 4, 14, 14),
        "Mixed_4f": (832, 4, 14, 14),
        "MaxPool3d_5a_2x2": (832, 2, 7, 7),
        "Mixed_5b": (832, 2, 7, 7),
        "Mixed_5c": (1024, 2, 7, 7),
    }
    found = {}
    with torch.device("meta"):
        model = network()
        for name, child in model.named_children():
            child.register_forward_hook(
                lambda _module, _args, out, name=name: found.update({name: tuple(out.shape[1:])})
            )
        model.forward_features(torch.zeros(1, 3, 16, 224, 224))
    assert list(found) == list(wanted)
    assert found == wanted


def test_unit_names_are_the_published_variables():
    with torch.device("meta"):
        names = set(network().state_dict())
    for name in (
        "Conv3d_1a_7x7.conv_3d.weight",
        "Conv3d_1a_7x7.batch_norm.bias",
        "Mixed_3b.Branch_1.Conv3d_0b_3x3.conv_3d.weight",
        "Mixed_5b.Branch_2.Conv3d_0a_3x3.conv_3d.weight",
        "Mixed_5c.Branch_3.Conv3d_0b_1x1.batch_norm.running_var",
    ):
        assert name in names
    assert not [name for name in names if name.endswith("batch_norm.weight")]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "wanted"),
    [
        (224, 7, 2, (2, 3)),  # worked by hand: out 112, (112 - 1) * 2 + 7 - 224 = 5
        (225, 7, 2, (3, 3)),
        (64, 3, 2, (0, 1)),
        (65, 3, 2, (1, 1)),
        (7, 2, 2, (0, 1)),
        (8, 2, 2, (0, 0)),
        (5, 3, 1, (1, 1)),
        (9, 1, 1, (0, 0)),
        (1, 7, 2, (3, 3)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, wanted: tuple[int, int]):
    assert same_padding(size, kernel=kernel, stride=stride) == wanted


def test_unit_is_an_explicitly_padded_convolution():
    torch.manual_seed(1)
    unit = Unit3D(2, 3, kernel=(7, 7, 7), stride=(2, 2, 2)).eval()
    nn.init.normal_(unit.batch_norm.bias)
    nn.init.uniform_(unit.batch_norm.running_mean, -1, 1)
    nn.init.uniform_(unit.batch_norm.running_var, 0.5, 2)
    x = torch.randn(1, 2, 4, 6, 9)
    padded = torch.zeros(1, 2, 4 + 5, 6 + 5, 9 + 6)
    padded[:, :, 2:6, 2:8, 3:12] = x  # 5 = 2 + 3 for even sizes, 6 = 3 + 3 for odd ones
    wanted = functional.conv3d(padded, unit.conv_3d.weight, stride=2)
    norm = unit.batch_norm
    per_channel = (1, 3, 1, 1, 1)
    wanted = (wanted - norm.running_mean.view(per_channel)) / (
        norm.running_var.view(per_channel) + 1e-3
    ).sqrt()
    wanted = (wanted + norm.bias.view(per_channel)).clamp(min=0)
    torch.testing.assert_close(unit(x), wanted)


def test_max_pool_never_takes_the_padding():
    x = -1 - torch.rand(1, 2, 4, 5, 6)  # all negative: a padding of 0 would win
    found = SamePool((3, 3, 3), (2, 2, 2))(x)
    assert found.shape == (1, 2, 2, 3, 3)
    for t in range(2):
        for h in range(3):
            for w in range(3):
                # Even sizes: windows begin at 2i; the odd size 5 has one pixel of padding before.
                window = x[:, :, 2 * t : 2 * t + 3, max(2 * h - 1, 0) : 2 * h + 2]
                window = window[..., 2 * w : 2 * w + 3]
                assert torch.equal(found[:, :, t, h, w], window.amax((2, 3, 4)))


def test_pooling_of_rectified_maps_is_that_of_zero_padding():
    x = torch.rand(1, 2, 3, 7, 7)
    wanted = functional.max_pool3d(functional.pad(x, (1, 1, 1, 1)), (1, 3, 3), (1, 2, 2))
    assert torch.equal(SamePool((1, 3, 3), (1, 2, 2))(x), wanted)


def test_batch_norm_learns_a_shift_only():
    norm = ShiftOnlyBatchNorm(4)
    assert [name for name, _ in norm.named_parameters()] == ["bias"]
    x = 3 + 2 * torch.randn(16, 4, 2, 3, 3)
    wanted = functional.batch_norm(x, None, None, torch.ones(4), torch.zeros(4), True, eps=1e-3)
    torch.testing.assert_close(norm(x), wanted)
    norm(x).sum().backward()
    assert norm.bias.grad.tolist() == pytest.approx([16 * 2 * 3 * 3] * 4)


def test_head_is_the_published_one():
    model = network(classes=5)
    x = torch.randn(2, 1024, 4, 8, 7)
    fc = model.get_classifier()
    windows = functional.avg_pool3d(x, (2, 7, 7), stride=1)  # (2, 1024, 3, 2, 1)
    scores = torch.einsum("bfthw,kf->bkthw", windows, fc.weight) + fc.bias.view(1, 5, 1, 1, 1)
    wanted = scores.mean((2, 3, 4))
    torch.testing.assert_close(model.forward_head(x), wanted)
    pooled = model.forward_head(x, pre_logits=True)
    torch.testing.assert_close(fc(pooled), wanted)
    assert pooled.shape == (2, 1024)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 33, 40), (9, 32, 32)])
def test_any_clip_flow_too(frames: int, height: int, width: int):
    model = network(channels=2, classes=3, frames=frames)
    with torch.no_grad():
        x = torch.randn(2, 2, frames, height, width)
        features = model.forward_features(x)
        logits = model(x)
    assert features.shape == (2, 1024, -(-frames // 8), -(-height // 32), -(-width // 32))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert first_conv_names(model) == ("Conv3d_1a_7x7.conv_3d",)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)


def test_gradients_reach_every_parameter():
    model = InceptionI3D(
        ClipShape(in_channels=3, num_classes=4, frames=4, size=32, dropout=0.5)
    ).train()
    model(torch.randn(2, 3, 4, 32, 32)).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert float(model.Conv3d_1a_7x7.conv_3d.weight.grad.abs().sum()) > 0
