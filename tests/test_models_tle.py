"""Temporal Linear Encoding: by hand, on every kind of feature map, trained in two steps."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from helpers_data import noise_video, stand_in
from helpers_engine import config_of as short_run
from helpers_engine import weights_of
from helpers_order import config_of, network_of, settings_of, test_items
from kinema.config import ModelConfig, override
from kinema.engine.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from kinema.engine.evaluate import evaluate
from kinema.engine.protocols import PROTOCOLS
from kinema.engine.runtime import Runtime
from kinema.engine.train import train
from kinema.errors import KinemaError, UsageError
from kinema.models.bilinear import TensorSketch
from kinema.models.describe import describe_network
from kinema.models.feature_maps import map_positions
from kinema.models.network import build_network
from kinema.models.snippet_network import SnippetNetwork
from kinema.models.tle import MapShape, TemporalLinearEncoding
from kinema.recipes import recipe
from kinema.testing import TestOptions, score_checkpoint
from kinema.weights.pretrained import initialise

pytest_plugins = ("helpers_engine_index",)

CPU = Runtime(device=torch.device("cpu"))
SMALL = MapShape(positions=4, channels=3)


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def network(backbone: str = "tiny", *, side: int = 32, **model: object) -> SnippetNetwork:
    torch.manual_seed(0)
    config = ModelConfig(
        **{"backbone": backbone, "dropout": (), "consensus": "tle", "tle_dim": 64, **model}
    )
    return build_network(config, modality="rgb", stack=1, num_classes=5, num_segments=3, crop=side)


@pytest.mark.parametrize("aggregate", ["product", "sum", "max"])
def test_bilinear_encoding_by_hand(aggregate: str):
    torch.manual_seed(0)
    net = TemporalLinearEncoding(SMALL, num_classes=2, aggregate=aggregate, encoding="bilinear")
    x = torch.randn(2, 3, 4, 3)
    one, two, three = x.numpy().transpose(1, 0, 2, 3)
    whole = {
        "product": one * two * three,
        "sum": one + two + three,
        "max": np.maximum(np.maximum(one, two), three),
    }[aggregate]
    for b in range(2):
        gram = (whole[b].T @ whole[b] / 4).ravel()
        root = np.sign(gram) * np.sqrt(np.abs(gram))
        code = torch.from_numpy(root / np.linalg.norm(root))
        torch.testing.assert_close(net(x)[b], net.fc(code), atol=1e-4, rtol=1e-4)


def test_sketch_and_fc_encodings():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4, 3)
    sketch = TemporalLinearEncoding(SMALL, num_classes=2, dim=32)
    code = TensorSketch(3, dim=32)(x.prod(1))
    code = code.sign() * code.abs().sqrt()
    wanted = sketch.fc(code / code.norm(dim=1, keepdim=True))
    torch.testing.assert_close(sketch(x), wanted, atol=1e-3, rtol=1e-3)
    full = TemporalLinearEncoding(SMALL, num_classes=2, dim=32, encoding="fc")
    assert tuple(full.encoding.fc.weight.shape) == (32, 12)
    code = full.encoding.fc(x.prod(1).flatten(1)).relu().sqrt()
    wanted = full.fc(code / code.norm(dim=1, keepdim=True))
    torch.testing.assert_close(full(x), wanted, atol=1e-3, rtol=1e-3)
    with pytest.raises(
        KinemaError, match=r"fc was built for feature maps of 4 positions.* given 5"
    ):
        full(torch.rand(2, 3, 5, 3))


def test_gradient_of_the_product_where_maps_are_zero():
    x = torch.rand(2, 3, 4, 3, dtype=torch.float64)
    x[:, 0] = 0
    x.requires_grad_()
    TemporalLinearEncoding(SMALL, num_classes=2).double()(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    product = TemporalLinearEncoding(SMALL, num_classes=2)._aggregate
    product(x).sum().backward()
    assert torch.autograd.gradcheck(product, x.detach().requires_grad_())


def test_lengths_and_parameters():
    net = TemporalLinearEncoding(MapShape(positions=49, channels=1024), num_classes=101)
    assert sum(p.numel() for p in net.parameters()) == 8192 * 101 + 101
    for snippets in (1, 2, 7):
        assert net(torch.rand(2, snippets, 49, 1024)).shape == (2, 101)
    bilinear = TemporalLinearEncoding(
        MapShape(positions=49, channels=512), num_classes=101, encoding="bilinear"
    )
    assert bilinear.fc.in_features == 262_144  # the paper's length for VGG-16
    with pytest.raises(KinemaError, match=r"model.tle_dim=0"):
        TemporalLinearEncoding(SMALL, num_classes=2, dim=0, encoding="fc")


@pytest.mark.parametrize(
    ("backbone", "modality", "stack", "side", "shape", "idle"),
    [
        ("vgg16", "flow", 2, 64, (4, 512), ("pre_logits", "head.fc")),
        ("mobilenetv3_small_100", "rgb", 1, 64, (4, 576), ("conv_head", "classifier")),
        ("densenet121", "rgbdiff", 2, 64, (4, 1024), ("classifier",)),
        ("vit_tiny_patch16_224", "rgb", 1, 224, (196, 192), ("head",)),
        ("deit_tiny_distilled_patch16_224", "rgb", 1, 224, (196, 192), ("head", "head_dist")),
        ("swin_tiny_patch4_window7_224", "rgb", 1, 224, (49, 768), ("head.fc",)),
        ("x3d_xs", "flow", 4, 64, (16, 432), ("lin5", "fc")),
        ("mvit_v2_s", "rgb", 4, 64, (8, 768), ("head.1",)),
        ("swin3d_t", "rgb", 4, 64, (8, 768), ("head",)),
    ],
)
def test_any_backbone_and_stream(backbone, modality, stack, side, shape, idle):
    config = ModelConfig(backbone=backbone, consensus="tle", tle_dim=16, dropout=())
    with torch.device("meta"):
        net = build_network(
            config, modality=modality, stack=stack, num_classes=5, num_segments=3, crop=side
        )
        size = (net.modality.images_read(stack), net.modality.channels_per_image, side, side)
        x = torch.zeros(2, 3, *size, dtype=torch.uint8)
        assert net.snippet_logits(x).shape == (2, 3, *shape)
        net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    for name in idle:
        assert isinstance(net.backbone.get_submodule(name), nn.Identity)


def test_positions_are_those_of_the_map():
    net = network("deit_tiny_distilled_patch16_224", side=224).backbone.eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(map_positions(net, x), net.forward_features(x)[:, 2:])
        swin = network("swin_tiny_patch4_window7_224", side=224).backbone.eval()
        tokens, grid = map_positions(swin, x), swin.forward_features(x)
        assert torch.equal(tokens[0, 7 * 3 + 5], grid[0, 3, 5])
        tiny = network().backbone.eval()
        grid = tiny.forward_features(x)
        assert torch.equal(map_positions(tiny, x)[0, 14 * 3 + 5], grid[0, :, 3, 5])


def test_a_network_without_a_map_is_refused():
    class Vector(nn.Module):
        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    with pytest.raises(UsageError, match="tle needs a feature map, but Vector gives only one vec"):
        map_positions(Vector(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(KinemaError, match=r"consensus=tle sees .* data.num_segments=None"):
        build_network(ModelConfig(consensus="tle"), modality="rgb", stack=1, num_classes=5)


def test_size_and_autocast():
    net = network().eval()
    size = describe_network(net, image_size=32)
    assert size.parameters == size.trainable == sum(p.numel() for p in net.parameters())
    x = clips(2, 3, 1, 3, 32, 32)
    with torch.no_grad():
        wanted = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = net(x).float()
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0.1)


def fit(net: SnippetNetwork, *, steps: int) -> list[float]:
    """Stripes against chequers: the mean colours are the same."""
    rng = np.random.default_rng(0)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3)
    rows, columns = np.mgrid[:32, :32] // 4 % 2
    pictures = np.stack([rows, rows ^ columns]) * 120.0
    losses = []
    for _ in range(steps):
        labels = rng.integers(2, size=12)
        x = pictures[labels][:, None, None, None] + rng.uniform(0, 100, (12, 3, 1, 3, 32, 32))
        loss = cross_entropy(net(torch.from_numpy(x.astype(np.uint8))), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("encoding", ["sketch", "bilinear", "fc"])
@pytest.mark.parametrize("aggregate", ["product", "sum", "max"])
def test_it_learns(aggregate: str, encoding: str):
    net = network(tle_aggregate=aggregate, tle_encoding=encoding, tle_dim=256).train()
    losses = fit(net, steps=20)
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])


def test_training_in_two_steps(tmp_path):
    first = network(finetune_from="consensus").train()
    assert {n.split(".")[0] for n, p in first.named_parameters() if p.requires_grad} == {
        "consensus"
    }
    before = {k: v.clone() for k, v in first.state_dict().items()}
    losses = fit(first, steps=15)
    assert losses[-1] < losses[0]
    after = first.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"consensus.fc.weight", "consensus.fc.bias"}
    config = override(config_of("tle"), ["model.tle_dim=64", "data.num_segments=3"])
    info = CheckpointInfo(config=config, classes=tuple("abcde"), protocol=PROTOCOLS["centre-1"])
    save_checkpoint(tmp_path / "first.safetensors", first, info)
    second = network()
    report = initialise(
        second, ModelConfig(backbone="tiny", weights=str(tmp_path / "first.safetensors"))
    )
    assert report.missing == report.unexpected == ()
    assert all(torch.equal(v, after[k]) for k, v in second.state_dict().items())
    assert all(p.requires_grad for p in second.parameters())


def test_a_streams_checkpoint_starts_it(tmp_path):
    stream = build_network(
        ModelConfig(backbone="tiny", dropout=()), modality="rgb", stack=1, num_classes=7
    )
    torch.save(stream.state_dict(), tmp_path / "stream.pt")
    net = network()
    report = initialise(net, ModelConfig(backbone="tiny", weights=str(tmp_path / "stream.pt")))
    assert set(report.unexpected) == {"backbone.fc.weight", "backbone.fc.bias"}
    assert {name.split(".")[0] for name in report.missing} == {"consensus"}
    pairs = net.backbone.state_dict()
    assert all(torch.equal(v, stream.backbone.state_dict()[k]) for k, v in pairs.items())


def test_checkpoint_and_evaluation(monkeypatch, tmp_path):
    config = config_of("tle", "model.tle_dim=64", "data.num_segments=3")
    net = network_of(config).eval()
    info = CheckpointInfo(config=config, classes=("a", "b"), protocol=PROTOCOLS["centre-1"])
    save_checkpoint(tmp_path / "net.safetensors", net, info)
    again = load_checkpoint(tmp_path / "net.safetensors").network
    assert torch.equal(again.consensus.encoding.places, net.consensus.encoding.places)
    seen = []
    plain = net.snippet_logits
    net.snippet_logits = lambda x: seen.append(tuple(x.shape[1:3])) or plain(x)
    stand_in(monkeypatch, noise_video)
    items = test_items(3, first=0)
    one, two = (evaluate(n, items, settings_of(config), runtime=CPU) for n in (net, again))
    assert seen == [(3, 1)]
    assert one.values.shape == (3, 2) and np.array_equal(one.values, two.values)
    assert np.isfinite(one.values).all() and np.ptp(one.values[:, 0]) > 0


def test_the_two_commands(tiny_index, tmp_path):
    head, whole = tmp_path / "head", tmp_path / "all"
    common = ("model.consensus=tle", "model.tle_dim=32")
    first = short_run(tiny_index, *common, "model.finetune_from=consensus", epochs=1)
    train(first, head, device="cpu")
    checkpoint = head / "best.safetensors"
    train(
        short_run(tiny_index, *common, f"model.weights={checkpoint}", "optim.lr=1e-3", epochs=1),
        whole,
        device="cpu",
    )
    one, two = weights_of(checkpoint), weights_of(whole / "best.safetensors")
    assert one.keys() == two.keys()
    drawn = {"consensus.encoding.places", "consensus.encoding.signs"}
    same = {name for name, value in one.items() if torch.equal(value, two[name])}
    assert drawn <= same and not any("conv" in name or "fc" in name for name in same)
    options = TestOptions(device="cpu")
    scores = score_checkpoint(
        whole / "best.safetensors", tmp_path / "s.npz", part="test", options=options
    )
    assert scores.values.shape == (6, 6) and np.isfinite(scores.values).all()


def test_the_recipe_has_the_numbers_of_its_source():
    for modality, stack in (("rgb", 1), ("flow", 5), ("rgbdiff", 5)):
        config = recipe("tle", modality)
        assert (config.data.num_segments, config.data.stack) == (3, stack)
        model = config.model
        assert (model.tle_aggregate, model.tle_encoding, model.tle_dim) == (
            "product",
            "sketch",
            8192,
        )
