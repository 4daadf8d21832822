"""Fusion over time: the heads against formulas, and learning where only the order tells."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from helpers_data import stand_in
from helpers_engine import config_of as short_run
from helpers_order import (
    RampSource,
    config_of,
    network_of,
    settings_of,
    test_items,
    train_on_order,
)
from kinema.config import ModelConfig
from kinema.engine.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from kinema.engine.evaluate import evaluate
from kinema.engine.protocols import PROTOCOLS
from kinema.engine.runtime import Runtime
from kinema.engine.train import train
from kinema.errors import KinemaError, UsageError
from kinema.models.attention_heads import AttentionPooling, Positions
from kinema.models.consensus import JOINING
from kinema.models.describe import describe_network
from kinema.models.head_shape import HeadShape
from kinema.models.keras_gru import GRUAttention, KerasGRU
from kinema.models.network import build_network
from kinema.models.recurrent_heads import SegmentLSTM, StackedLSTM
from kinema.models.temporal_conv import TemporalInception
from kinema.models.temporal_heads import TEMPORAL_HEADS, build_temporal_head
from kinema.recipes import recipe
from kinema.testing import TestOptions, score_checkpoint

pytest_plugins = ("helpers_engine_index",)

CPU = Runtime(device=torch.device("cpu"))
WIDTHS = {"temporal-inception": 32}


def head(name: str, *, num_segments: int = 5, **options: object) -> nn.Module:
    torch.manual_seed(0)
    options = {"width": 16, "dropout": 0.0, **options}
    return build_temporal_head(
        name, features=6, num_classes=3, num_segments=num_segments, **options
    )


def shape_of(width: int, *, layers: int = 1) -> HeadShape:
    return HeadShape(
        features=6, num_classes=3, num_segments=5, width=width, layers=layers, dropout=0.0
    )


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def keras_gru(x, kernel, recurrent, bias):
    """The step of Keras with reset_after=False, gates in the order z, r, h, hard sigmoid."""
    units = recurrent.shape[0]
    h, states = np.zeros((len(x), units)), []
    for t in range(x.shape[1]):
        parts = np.split(x[:, t] @ kernel + bias, 3, axis=1)
        u_z, u_r, u_h = np.split(recurrent, 3, axis=1)
        z = np.clip(0.2 * (parts[0] + h @ u_z) + 0.5, 0, 1)
        r = np.clip(0.2 * (parts[1] + h @ u_r) + 0.5, 0, 1)
        h = z * h + (1 - z) * np.tanh(parts[2] + (r * h) @ u_h)
        states.append(h)
    return np.stack(states, 1)


def test_gru_takes_the_weights_of_keras():
    rng = np.random.default_rng(0)
    kernel, recurrent = rng.normal(size=(5, 12)), rng.normal(size=(4, 12))
    bias, x = rng.normal(size=12), rng.normal(size=(2, 7, 5))
    gru = KerasGRU(5, 4).double()
    with torch.no_grad():
        gru.kernel.weight.copy_(torch.from_numpy(kernel.T))
        gru.kernel.bias.copy_(torch.from_numpy(bias))
        gru.recurrent.weight.copy_(torch.from_numpy(recurrent.T))
        found = gru(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, keras_gru(x, kernel, recurrent, bias), atol=1e-12)


def test_parameters_of_the_keras_head_by_hand():
    net = build_temporal_head("gru-attention", features=4096, num_classes=101, num_segments=19)
    assert isinstance(net, GRUAttention)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    gru = 3 * (4096 * 128 + 128 * 128 + 128)  # one bias per gate; torch's GRU has two
    assert gru == 1_622_400
    assert sum(p.numel() for p in net.gru.parameters()) == gru
    assert sum(p.numel() for p in nn.GRU(4096, 128).parameters()) == gru + 3 * 128
    total = gru + (128 + 1) + (128 * 64 + 64) + (64 * 101 + 101)
    assert sum(p.numel() for p in net.parameters()) == total == 1_637_350
    assert shapes["gru.kernel.weight"] == (384, 4096)
    assert shapes["hidden.weight"] == (64, 128) and shapes["attention.weight"] == (1, 128)
    assert net(torch.randn(2, 19, 4096)).shape == (2, 101)


def test_gru_attention_behind_the_gru_written_out():
    net = head("gru-attention", width=8)
    x = torch.randn(2, 5, 6)
    states = net.gru(x)
    for b in range(2):
        weights = torch.softmax(states[b] @ net.attention.weight[0] + net.attention.bias, 0)
        hidden = functional.selu(net.hidden(sum(w * s for w, s in zip(weights, states[b]))))  # noqa: B905
        torch.testing.assert_close(net(x)[b], net.fc(hidden))


def test_gru_dropout_has_one_mask_per_video_and_gate():
    torch.manual_seed(0)
    gru = KerasGRU(2000, 4, dropout=0.5)
    nn.init.ones_(gru.kernel.weight)
    inputs = gru.train()._inputs(torch.ones(2, 3, 2000)).detach()  # kept ones, times 2
    assert torch.equal(inputs[:, 0], inputs[:, 1])
    assert len(inputs[0, 0].unique()) == 3 and not torch.equal(inputs[0], inputs[1])
    assert float((inputs - 2000).abs().max()) < 300  # 6 standard deviations of 44.7
    assert torch.equal(gru.eval()._inputs(torch.ones(2, 3, 2000)), torch.full((2, 3, 12), 2000.0))


def test_lstm_weights_rise_linearly():
    net = StackedLSTM(shape_of(8, layers=2))
    x = torch.randn(2, 4, 6)
    scores = net.fc(net.lstm.layers(x)[0])
    wanted = sum(scores[:, i] * (i + 1) for i in range(4)) / 10
    torch.testing.assert_close(net(x), wanted)
    assert (net.lstm.layers.num_layers, net.lstm.layers.hidden_size) == (2, 8)


def test_ts_lstm_pools_three_segments():
    net = SegmentLSTM(shape_of(8))
    x = torch.randn(2, 7, 6)
    pooled = torch.stack([x[:, :3].mean(1), x[:, 3:5].mean(1), x[:, 5:].mean(1)], 1)
    torch.testing.assert_close(net(x), net.fc(net.lstm.layers(pooled)[1][0][-1]))


def test_temporal_inception_halves_the_time_and_doubles_the_maps():
    net = TemporalInception(shape_of(8)).eval()
    seen = []
    for stage in net.stages:
        stage.register_forward_hook(lambda _, x, y: seen.append((x[0].shape[1:], y.shape[1:])))
    net(torch.randn(2, 25, 6))
    maps, times = (1, 2, 4, 8), (25, 12, 6, 3)
    wanted = [((m, 6, t), (2 * m, 6, t)) for m, t in zip(maps, times, strict=True)]
    assert [tuple(map(tuple, shapes)) for shapes in seen] == wanted
    assert net.hidden.in_features == 16 * 6
    first = net.stages[0].flows[1]
    assert first[0].kernel_size == (1, 7) and net.stages[0].flows[0][0].kernel_size == (1, 5)


def test_attention_pooling_is_multi_head_attention():
    net = AttentionPooling(shape_of(128)).eval()
    x = torch.randn(2, 5, 6)
    inputs = net.norm(net.positions(net.first(x)))
    weight = torch.cat([torch.eye(128), net.keys_values.weight])
    bias = torch.cat([torch.zeros(128), net.keys_values.bias])
    wanted, _ = functional.multi_head_attention_forward(
        net.query.reshape(1, 1, 128).expand(1, 2, -1),
        inputs.transpose(0, 1),
        inputs.transpose(0, 1),
        embed_dim_to_check=128,
        num_heads=2,
        in_proj_weight=weight,
        in_proj_bias=bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=net.merge.weight,
        out_proj_bias=net.merge.bias,
    )
    torch.testing.assert_close(net(x), net.fc(wanted[0]), atol=1e-5, rtol=1e-5)


def test_positions_of_another_number_lie_between():
    places = Positions(2, 3)
    x = torch.zeros(1, 4, 3)
    a, b = places.embedding.detach()
    wanted = torch.stack([a, 0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b, b])
    torch.testing.assert_close(places(x)[0], wanted)


@pytest.mark.parametrize("name", TEMPORAL_HEADS)
def test_every_head_takes_any_number_of_snippets_and_sees_their_order(name: str):
    net = head(name).eval()
    for number in (1, 2, 3, 5, 11, 25):
        x = torch.randn(3, number, 6)
        with torch.no_grad():
            scores = net(x)
            torch.testing.assert_close(net(x[1:2])[0], scores[1], atol=1e-5, rtol=1e-4)
        assert scores.shape == (3, 3)
        if number > 2:
            assert float((net(x.flip(1)) - scores).detach().abs().max()) > 1e-6
    net.train()(torch.randn(4, 5, 6)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", TEMPORAL_HEADS)
def test_a_network_lists_no_classifier_but_the_heads(name: str):
    config = ModelConfig(backbone="tiny", consensus=name, temporal_width=16)
    torch.manual_seed(0)
    net = build_network(config, modality="rgb", stack=1, num_classes=6, num_segments=4)
    assert name in JOINING and (net.joined, net.reads) == (4, "features")
    assert isinstance(net.backbone.fc, nn.Identity)
    assert {key for key in net.state_dict() if "backbone" in key and "fc" in key} == set()
    x = images(2, 4, 1, 3, 32, 32)
    net.train()(x).logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    with torch.no_grad():
        inputs = net.modality.prepare(x, normalise="standard").flatten(0, 1).flatten(1, 2)
        features = net.backbone.features(inputs).mean((2, 3)).reshape(2, 4, 64)
        torch.testing.assert_close(net.snippet_logits(x), features)
        torch.testing.assert_close(net(x), net.consensus(features))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            close = net(x).float()
    torch.testing.assert_close(close, net(x), atol=0.05, rtol=0.05)
    size = describe_network(net, image_size=32)
    assert size.parameters == size.trainable == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("backbone", "modality", "stack", "side", "width"),
    [
        ("vgg16", "flow", 2, 32, 4096),
        ("deit_tiny_distilled_patch16_224", "rgb", 1, 224, 192),
        ("xception", "rgbdiff", 2, 71, 2048),
        ("bn_inception", "rgb", 1, 64, 1024),
        ("i3d", "flow", 8, 32, 1024),
        ("x3d_xs", "rgb", 4, 32, 2048),
        ("mvit_v2_s", "rgb", 4, 32, 768),
    ],
)
def test_any_backbone_and_stream(backbone: str, modality: str, stack: int, side: int, width: int):
    config = ModelConfig(backbone=backbone, consensus="ts-lstm", temporal_width=8, dropout=())
    with torch.device("meta"):
        net = build_network(
            config, modality=modality, stack=stack, num_classes=5, num_segments=3, crop=side
        )
        shape = (net.modality.images_read(stack), net.modality.channels_per_image, side, side)
        x = torch.zeros(2, 3, *shape, dtype=torch.uint8)
        assert net.snippet_logits(x).shape == (2, 3, width)
        net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_size_of_a_network_that_sees_four_snippets_together():
    sizes = {}
    for name in ("average", "trn"):
        config = ModelConfig(backbone="tiny", consensus=name)
        net = build_network(config, modality="rgb", stack=1, num_classes=6, num_segments=4)
        sizes[name] = describe_network(net, image_size=32).multiply_adds
    per_snippet = sizes["average"] - 64 * 6 + 64 * 256  # TRN's features instead of scores
    assert sizes["trn"] == per_snippet + (4 * 256 * 256 + 256 * 6) // 4


def test_dropout_is_the_heads():
    config = ModelConfig(backbone="vgg16", dropout=(0.7, 0.6), consensus="transformer")
    with torch.device("meta"):
        net = build_network(config, modality="rgb", stack=1, num_classes=5, num_segments=3)
    assert net.consensus.drop.p == 0.6
    assert (net.backbone.pre_logits.drop.p, net.backbone.head.drop.p) == (0.7, 0.0)


def test_freezing_everything_before_the_consensus():
    options = {"backbone": "tiny", "finetune_from": "consensus", "input_bn": True}
    config = ModelConfig(consensus="lstm", temporal_width=8, **options)
    net = build_network(config, modality="rgb", stack=1, num_classes=5, num_segments=3).train()
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"consensus"}
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(images(2, 3, 1, 3, 32, 32)).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with pytest.raises(UsageError, match="finetune_from=consensus is for a consensus that learns"):
        build_network(ModelConfig(**options), modality="rgb", stack=1, num_classes=5)


def right_share(net: nn.Module, config: object, monkeypatch: pytest.MonkeyPatch) -> float:
    stand_in(monkeypatch, lambda number, spec: RampSource(number))
    scores = evaluate(net, test_items(), settings_of(config), runtime=CPU)
    return float((scores.values.argmax(1) == scores.labels).mean())


def test_the_average_cannot_tell_the_order(monkeypatch: pytest.MonkeyPatch):
    config = config_of("average", "model.dropout=")
    net = network_of(config)
    train_on_order(net, steps=40)
    assert right_share(net, config, monkeypatch) == 0.5


@pytest.mark.parametrize("name", TEMPORAL_HEADS)
def test_the_heads_learn_the_order(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    width = WIDTHS.get(name, 16)
    config = config_of(name, f"model.temporal_width={width}", "model.dropout=0.1")
    net = network_of(config)
    losses = train_on_order(net, steps=60, lr=5e-3)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert right_share(net, config, monkeypatch) > 0.9
    info = CheckpointInfo(config=config, classes=("up", "down"), protocol=PROTOCOLS["centre-1"])
    save_checkpoint(tmp_path / "net.safetensors", net, info)
    again = load_checkpoint(tmp_path / "net.safetensors").network
    stand_in(monkeypatch, lambda number, spec: RampSource(number))
    one, two = (evaluate(n, test_items(6), settings_of(config), runtime=CPU) for n in (net, again))
    assert np.array_equal(one.values, two.values)


def test_values_that_are_refused():
    with pytest.raises(UsageError, match=r"temporal_layers=2 is not for .*attention.* or choose l"):
        head("attention", layers=2)
    with pytest.raises(KinemaError, match=r"temporal_width=-1 .* is not possible"):
        head("lstm", width=-1)
    with pytest.raises(KinemaError, match=r"temporal_width=200 is not possible for attention"):
        head("transformer", width=200)
    with pytest.raises(KinemaError, match=r"model.dropout=1.0 is not possible"):
        head("lstm", dropout=1.0)
    config = ModelConfig(backbone="tiny", consensus="lstm")
    with pytest.raises(KinemaError, match=r"consensus=lstm sees .* data.num_segments=1"):
        build_network(config, modality="rgb", stack=1, num_classes=5, num_segments=1)


def test_from_videos_to_scores(tiny_index, tmp_path):
    config = short_run(
        tiny_index,
        "model.consensus=ts-lstm",
        "model.temporal_width=8",
        "data.num_segments=3",
        modality="rgbdiff",
        epochs=1,
    )
    train(config, tmp_path, device="cpu")
    options = TestOptions(device="cpu", protocol="uniform-10")
    scores = score_checkpoint(
        tmp_path / "best.safetensors", tmp_path / "s.npz", part="test", options=options
    )
    assert scores.values.shape == (6, 6) and np.isfinite(scores.values).all()
    with pytest.raises(UsageError, match=r"optim.loss_on=snippet is for networks that judge each"):
        train(
            short_run(tiny_index, "model.consensus=lstm", "optim.loss_on=snippet"), tmp_path / "n"
        )


def test_the_recipe_has_the_numbers_of_its_source():
    config = recipe("gru-attention", "flow")
    assert (config.data.num_segments, config.data.stack, config.data.sampling) == (19, 10, "any")
    optim, train_ = config.optim, config.train
    assert (optim.name, optim.lr, optim.patience, optim.min_lr) == ("adam", 1e-6, 50, 1e-7)
    assert (train_.epochs, train_.batch_size) == (1200, 64)
    assert config.model.finetune_from == "consensus" and config.model.dropout == (0.5,)
