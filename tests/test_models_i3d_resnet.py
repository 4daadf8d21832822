import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.clip_backbones import create_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.network import build_network
from kinema.models.nonlocal_block import NonlocalBlock, nonlocal_places

NAMES = ("i3d_resnet50", "c2d_resnet50", "slowonly_resnet50", "i3d_resnet101", "slowonly_resnet101")


def shape(**values: object) -> ClipShape:
    return ClipShape(**{"in_channels": 3, "num_classes": 400, "frames": 8, "size": 224, **values})


def on_meta(name: str, **values: object) -> nn.Module:
    with torch.device("meta"):
        return create_clip_backbone(name, shape(**values)).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),  # of PyTorchVideo's tables with 400 classes; I3D also in Cao's
    [("i3d_resnet50", 28.04), ("c2d_resnet50", 24.33), ("slowonly_resnet50", 32.45)],
)
def test_parameters_are_the_published_ones(name: str, millions: float):
    assert round(count(on_meta(name)) / 1e6, 2) == millions


@pytest.mark.parametrize("name", NAMES)
def test_a_2d_resnet_inflated_in_time(name: str):
    depth = name[-3:].removeprefix("t")
    with torch.device("meta"):
        flat = torchvision.models.get_model(f"resnet{depth}").state_dict()
    ours = on_meta(name, num_classes=1000).state_dict()
    assert list(ours) == list(flat)
    for key, tensor in ours.items():
        if tensor.ndim == 5:
            assert tensor[:, :, 0].shape == flat[key].shape
        else:
            assert tensor.shape == flat[key].shape


def kernels(model: nn.Module, stage: int) -> list[int]:
    return [block.conv1.kernel_size[0] for block in model.get_submodule(f"layer{stage}")]


def test_temporal_kernels_are_those_of_the_old_system():
    model = on_meta("i3d_resnet50")
    assert model.conv1.kernel_size == (5, 7, 7) and model.conv1.stride == (1, 2, 2)
    assert [kernels(model, stage) for stage in (1, 2, 3, 4)] == [
        [3, 3, 3],
        [3, 1, 3, 1],
        [3, 1, 3, 1, 3, 1],
        [1, 3, 1],
    ]
    slow = on_meta("slowonly_resnet50")
    assert slow.conv1.kernel_size == (1, 7, 7)
    assert [set(kernels(slow, stage)) for stage in (1, 2, 3, 4)] == [{1}, {1}, {3}, {3}]
    strided = [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert set(strided) == {1}


def test_shapes_through_the_network():
    found = {}
    with torch.device("meta"):
        model = on_meta("i3d_resnet50", frames=32)
        for name, child in model.named_children():
            child.register_forward_hook(
                lambda _module, _args, out, name=name: found.update({name: tuple(out.shape[1:])})
            )
        model(torch.zeros(1, 3, 32, 224, 224))
    assert found["conv1"] == (64, 32, 112, 112)
    assert found["maxpool"] == (64, 32, 56, 56)
    assert found["layer1"] == (256, 32, 56, 56)
    assert found["maxpool2"] == (256, 16, 56, 56)
    assert found["layer2"] == (512, 16, 28, 28)
    assert found["layer3"] == (1024, 16, 14, 14)
    assert found["layer4"] == (2048, 16, 7, 7)


def test_c2d_is_the_2d_network_on_each_image():
    torch.manual_seed(0)
    flat = torchvision.models.resnet50(num_classes=6).eval()
    clip = create_clip_backbone("c2d_resnet50", shape(num_classes=6, frames=2)).eval()
    clip.load_state_dict(
        {
            key: value[:, :, None] if value.ndim == 4 else value
            for key, value in flat.state_dict().items()
        }
    )
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():  # both images are equal, so the pooling in time changes nothing
        found, wanted = clip(torch.stack([image, image], 2)), flat(image)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_start_of_the_weights():
    torch.manual_seed(0)
    old = create_clip_backbone("i3d_resnet50", shape())
    new = create_clip_backbone("slowonly_resnet50", shape())
    assert all(float(block.bn3.weight.detach().min()) == 1 for block in old.layer3)
    assert all(float(block.bn3.weight.detach().abs().max()) == 0 for block in new.layer3)
    assert float(new.layer1[0].bn1.weight.detach().min()) == 1
    weight = old.conv1.weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (64 * 5 * 49)) ** 0.5, rel=0.02)
    assert float(old.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(("size", "frames"), [((32, 32), 2), ((40, 33), 5)])
@pytest.mark.parametrize("name", ["i3d_resnet50", "slowonly_resnet50"])
def test_any_clip_of_any_size(name: str, size: tuple[int, int], frames: int):
    torch.manual_seed(0)
    model = create_clip_backbone(
        name, shape(in_channels=2, num_classes=3, frames=frames, nonlocal_blocks=5)
    ).eval()
    with torch.no_grad():
        x = torch.randn(1, 2, frames, *size)
        features, logits = model.forward_features(x), model(x)
    assert features.shape[2] == (frames // 2 if name == "i3d_resnet50" else frames)
    assert logits.shape == (1, 3) and torch.isfinite(logits).all()
    torch.testing.assert_close(model.fc(model.forward_head(features, pre_logits=True)), logits)
    torch.testing.assert_close(model.fc(features.mean((2, 3, 4))), logits)


def test_settings_that_are_refused():
    with pytest.raises(KinemaError, match=r"data.stack=1 is too short for 'i3d_resnet50'.* 2"):
        on_meta("i3d_resnet50", frames=1)
    with pytest.raises(UsageError, match=r"nonlocal_blocks=7 is not possible: choose 0, 5 or 10"):
        on_meta("i3d_resnet50", nonlocal_blocks=7)
    with pytest.raises(UsageError, match=r"nonlocal_form=dots is not possible.*dot"):
        on_meta("i3d_resnet50", nonlocal_blocks=5, nonlocal_form="dots")
    with pytest.raises(UsageError, match="'x3d_s' takes no non-local blocks"):
        on_meta("x3d_s", nonlocal_blocks=5)


# Non-local blocks


def reference(block: NonlocalBlock, x: torch.Tensor) -> torch.Tensor:
    """Wang et al., equations 1 to 6, with sums over all pairs of positions."""

    def project(conv: nn.Conv3d, values: torch.Tensor) -> torch.Tensor:
        weight = conv.weight.flatten(1)
        return torch.einsum("dc,bcp->bpd", weight, values.flatten(2)) + conv.bias

    seen = functional.max_pool3d(x, (1, 2, 2))
    queries, keys = x.flatten(2).transpose(1, 2), seen.flatten(2).transpose(1, 2)
    if block.form != "gaussian":
        queries, keys = project(block.theta, x), project(block.phi, seen)
    f = torch.einsum("bpd,bqd->bpq", queries, keys)
    if block.form == "concat":
        sizes = queries.shape[1], keys.shape[1]
        left = queries[:, :, None].expand(-1, -1, sizes[1], -1)
        right = keys[:, None].expand(-1, sizes[0], -1, -1)
        f = torch.einsum("bpqd,d->bpq", torch.cat([left, right], -1), block.weight).clamp(min=0)
    if block.form in ("dot", "concat"):
        f = f / keys.shape[1]
    else:
        f = (f / (queries.shape[-1] ** 0.5 if block.form == "embedded" else 1)).exp()
        f = f / f.sum(2, keepdim=True)
    y = torch.einsum("bpq,bqd->bdp", f, project(block.g, seen)).unflatten(2, x.shape[2:])
    return x + block.bn(project(block.out, y).transpose(1, 2).unflatten(2, x.shape[2:]))


@pytest.mark.parametrize("form", ["gaussian", "embedded", "dot", "concat"])
def test_nonlocal_block_is_the_papers_sum(form: str):
    torch.manual_seed(2)
    block = NonlocalBlock(8, form=form, inner=4).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 8, 3, 4, 6, dtype=torch.float64)
    found, wanted = block(x), reference(block, x)
    assert float((found - x).detach().abs().mean()) > 0.01
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("form", ["gaussian", "embedded", "dot", "concat"])
def test_new_block_is_the_identity_and_learns(form: str):
    torch.manual_seed(3)
    block = NonlocalBlock(6, form=form, inner=3)
    x = torch.randn(2, 6, 2, 4, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert float(block.bn.weight.grad.abs().sum()) > 0


def test_network_with_new_blocks_gives_the_logits_of_the_one_without():
    torch.manual_seed(0)
    plain = create_clip_backbone("i3d_resnet50", shape(num_classes=4)).eval()
    more = create_clip_backbone("i3d_resnet50", shape(num_classes=4, nonlocal_blocks=10)).eval()
    report = more.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert {key.split(".")[2] for key in report.missing_keys} == {"nonlocal_block"}
    x = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(more(x), plain(x))


def test_blocks_are_where_the_authors_put_them():
    # NONLOCAL.LOCATION of PySlowFast's I3D_NLN_8x8_R50 and _R101.
    assert nonlocal_places((3, 4, 6, 3), total=5) == ((), (1, 3), (1, 3, 5), ())
    assert nonlocal_places((3, 4, 23, 3), total=5) == ((), (1, 3), (6, 13, 20), ())
    assert nonlocal_places((3, 4, 6, 3), total=10) == ((), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5), ())
    for total in (0, 5, 10):
        for name in ("i3d_resnet50", "i3d_resnet101"):
            model = on_meta(name, nonlocal_blocks=total)
            assert sum(isinstance(m, NonlocalBlock) for m in model.modules()) == total
    # Of a block for C channels: theta, phi, g to C/2 and W_z back, with biases, and BatchNorm.
    extra = sum(n * (4 * c * c // 2 + 3 * c // 2 + c + 2 * c) for n, c in ((2, 512), (3, 1024)))
    five, none = on_meta("i3d_resnet50", nonlocal_blocks=5), on_meta("i3d_resnet50")
    assert count(five) - count(none) == extra == 7_358_464


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_in_a_network_for_every_modality(modality: str):
    torch.manual_seed(0)
    config = ModelConfig(backbone="i3d_resnet50", dropout=(0.5,), nonlocal_blocks=5)
    network = build_network(config, modality=modality, stack=4, num_classes=5, crop=32).eval()
    images = 5 if modality == "rgbdiff" else 4
    channels = 2 if modality == "flow" else 3
    x = torch.randint(0, 256, (2, 3, images, channels, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert network(x).shape == (2, 5)
    assert network.backbone.drop.p == 0.5
    assert network.feature_dim == 2048
