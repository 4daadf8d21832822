"""Networks of two streams: channels side by side, scores that add up, maps that meet."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from kinema.config import Config, override
from kinema.data.clips import TestClips, TrainClips
from kinema.data.items import ClipSpec
from kinema.data.paired import PairedTestClips, PairedTrainClips, aligned, leads, side_by_side
from kinema.data.snippets import train_indices
from kinema.datasets.index import read_index
from kinema.engine.evaluate import clip_spec
from kinema.engine.items import stream_items
from kinema.engine.losses import training_loss
from kinema.errors import KinemaError, UsageError
from kinema.models.bilinear import BilinearPooling
from kinema.models.stream_fusion import BilinearFusion, MapFusion, through_layer, up_to_layer
from kinema.models.two_streams import ScoreStreams, StreamOutputs
from kinema.models.video_network import build_video_network
from kinema.streams import check_streams, second_stream, stream_name

pytest_plugins = ("helpers_engine_index",)

K = 5
BASE = (
    "model.backbone=tiny",
    "model.dropout=",
    "data.crop=32",
    "data.resize=40x32",
    "data.num_segments=3",
    "second.modality=flow",
    "second.stack=2",
)


def config_of(*overrides):
    return override(Config(), [*BASE, *overrides])


def network_of(*overrides):
    torch.manual_seed(0)
    return build_video_network(config_of(*overrides), num_classes=K).eval()


def clips_of(batch=2, snippets=3, channels=3 + 2 * 2):
    generator = torch.Generator().manual_seed(1)
    shape = (batch, snippets, 1, channels, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_both_streams_get_their_own_channels_back():
    network = network_of()
    rgb, flow = clips_of(channels=3), clips_of(channels=4).reshape(2, 3, 2, 2, 32, 32)
    together = torch.stack([side_by_side(one, other) for one, other in zip(rgb, flow, strict=True)])
    assert together.shape == (2, 3, 1, 7, 32, 32)
    first, second = network.split(together)
    assert torch.equal(first, rgb) and torch.equal(second, flow)
    assert network.negated_channels == (3, 5)  # x of both flow pairs
    with pytest.raises(KinemaError, match=r"snippets of 7 channels, \(B, N, 1, 7, H, W\)"):
        network(clips_of(channels=6))


@pytest.mark.parametrize("loss", ["each", "sum", "all"])
def test_scores_are_those_of_the_two_networks_alone(loss):
    network = network_of(f"second.loss={loss}")
    x = clips_of()
    rgb, flow = network.split(x)
    with torch.no_grad():
        alone = torch.stack([network.first(rgb), network.second(flow)])
        expected = alone.mean(0) if loss == "each" else alone.sum(0)
        torch.testing.assert_close(network(x), expected)
        torch.testing.assert_close(network.snippet_logits(x).mean(1), expected)
        found = network.train()(x)
    assert found.logits.shape == (2, 2, K) and found.features is None
    assert network.joined == 1 and network.snippet_shape == (1, 7)


@pytest.mark.parametrize("loss", ["each", "sum", "all"])
def test_the_loss_is_of_each_stream_of_their_sum_or_of_all(loss):
    logits, labels = torch.randn(2, 4, K), torch.tensor([0, 3, 1, 4])
    each = sum(functional.cross_entropy(one, labels, reduction="sum") for one in logits)
    summed = functional.cross_entropy(logits.sum(0), labels, reduction="sum")
    expected = {"each": each, "sum": summed, "all": each + summed}[loss]
    value, result = training_loss(config_of(f"second.loss={loss}"), class_weights=None)(
        StreamOutputs(logits), labels
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(result, logits.sum(0))


def test_soft_targets_are_hintons_and_each_stream_learns_from_the_other():
    config = config_of("second.loss=each", "second.distil=soft", "second.temperature=3")
    config = override(config, ["second.distil_weight=0.5"])
    logits = torch.randn(2, 4, K, dtype=torch.float64).float().requires_grad_()
    labels = torch.tensor([0, 3, 1, 4])
    value, _ = training_loss(config, class_weights=None)(StreamOutputs(logits), labels)
    p, q = (logits.detach() / 3).softmax(2)
    kl = lambda a, b: float((a * (a / b).log()).sum())  # noqa: E731
    labels_part = sum(functional.cross_entropy(x, labels, reduction="sum") for x in logits)
    expected = float(labels_part.detach()) + 0.5 * 9 * (kl(q, p) + kl(p, q))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    (slope,) = torch.autograd.grad(value, logits)
    # d/dx of T^2 KL(target | softmax(x/T)) is T (softmax(x/T) - target).
    labels_slope = logits.detach().softmax(2) - functional.one_hot(labels, K)
    torch.testing.assert_close(slope[0], labels_slope[0] + 0.5 * 3 * (p - q), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope[1], labels_slope[1] + 0.5 * 3 * (q - p), rtol=1e-4, atol=1e-5)


def test_a_teacher_teaches_features_and_learns_nothing():
    first, second = network_of().streams
    network = ScoreStreams(first, second, features=True, taught=True).train()
    assert network.first.training and not network.second.training
    config = config_of("second.modality=", "second.teacher=t", "second.distil=features")
    output = network(clips_of())
    assert output.features.shape == (2, 2, 64)
    value, result = training_loss(config, class_weights=None)(output, torch.tensor([1, 2]))
    labels_part = functional.cross_entropy(output.logits[0], torch.tensor([1, 2]), reduction="sum")
    far = (output.features[0] - output.features[1]).square().mean(1).sum()
    torch.testing.assert_close(value, labels_part + far)
    torch.testing.assert_close(result, output.logits[0])
    value.backward()
    assert all(p.grad is None for p in network.second.parameters())
    assert all(p.grad is not None for p in network.first.parameters())
    torch.testing.assert_close(  # what is put out is what the classifier gets, over the snippets
        network.first.backbone.fc(output.features[0]), output.logits[0]
    )


@pytest.mark.parametrize("layer", ["", "features.2"])
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_maps_meet_behind_a_layer(kind, layer):
    network = network_of(f"second.fusion={kind}", f"second.layer={layer}")
    x = clips_of(snippets=1)
    rgb, flow = (
        stream.folded(part) for stream, part in zip(network.streams, network.split(x), strict=True)
    )
    first, second = (stream.backbone for stream in network.streams)
    with torch.no_grad():
        depth = 3 if layer else 4
        a, b = first.features[:depth](rgb), second.features[:depth](flow)
        fused = a + b if kind == "sum" else torch.maximum(a, b)
        expected = first.forward_head(first.features[depth:](fused))
        torch.testing.assert_close(network(x), expected)
    # What the second tower has behind the layer is gone.
    names = {name for name, _ in second.named_parameters()}
    assert not any(name.startswith("fc") for name in names)
    assert any(name.startswith("features.3") for name in names) == (not layer)


def test_a_fusing_convolution_begins_as_the_sum_and_sees_time():
    torch.manual_seed(0)
    flat = MapFusion("conv", channels=(4, 4), over_time=False, is_clip=False)
    a, b = torch.randn(6, 4, 5, 5), torch.randn(6, 4, 5, 5)
    with torch.no_grad():
        assert (flat(a, b) - (a + b)).abs().mean() < 0.03
        deep = MapFusion("sum", channels=(4, 4), over_time=True, is_clip=False)
        deep.num_snippets = 3
        found = deep(a, b).reshape(2, 3, 4, 5, 5)
    cube = (a + b).reshape(2, 3, 4, 5, 5)
    assert float(found[1, 0, 2, 3, 3]) == float(cube[1, :2, 2, 2:5, 2:5].max())
    assert float(found[0, 1, 1, 0, 4]) == float(cube[0, :, 1, :2, 3:].max())
    network = network_of("second.fusion=conv", "second.pool=3d")
    assert network.joined == 3 and network.fusion.conv.weight.shape == (64, 128, 3, 3, 3)
    x = clips_of()
    assert not torch.allclose(network(x), network(x[:, [0, 1, 1]]))
    assert network(x).shape == (2, K)


def test_concatenated_and_bilinear_maps_have_a_classifier_of_their_own():
    a, b = torch.randn(2, 8, 3, 4), torch.randn(2, 8, 3, 4)
    fusion = BilinearFusion(BilinearPooling(8))
    outer = torch.einsum("mchw,mdhw->mcd", a, b).flatten(1) / 12
    rooted = outer.sign() * outer.abs().sqrt()
    torch.testing.assert_close(fusion(a, b), functional.normalize(rooted), rtol=1e-3, atol=1e-3)
    concat = network_of("second.fusion=concat")
    assert concat.head.fc.in_features == 128
    sketch = network_of("second.fusion=bilinear", "model.tle_dim=256")
    assert sketch.head[1].in_features == 256
    for network in (concat, sketch):
        assert network(clips_of()).shape == (2, K)
        output = network.train()(clips_of())
        output.logits.sum().backward()
        idle = [name for name, p in network.named_parameters() if p.grad is None]
        assert idle == []  # nothing that a second process would wait for


@pytest.mark.parametrize("fusion", ["sum", "conv", "concat", "bilinear"])
def test_with_both_towers_kept_the_second_has_a_score_of_its_own(fusion):
    network = network_of(f"second.fusion={fusion}", "second.keep=both", "model.tle_dim=64")
    x = clips_of()
    alone = network.second(network.split(x)[1])
    torch.testing.assert_close(network.outputs(x).logits[1], alone)
    output = network.train()(x)
    assert output.logits.shape == (2, 2, K)
    loss, _ = training_loss(config_of(), class_weights=None)(output, torch.tensor([0, 1]))
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_features_of_both_go_into_one_head():
    network = network_of("second.fusion=features", "model.consensus=attention")
    x = clips_of()
    rgb, flow = network.split(x)
    with torch.no_grad():
        both = torch.cat(
            [network.first.snippet_logits(rgb), network.second.snippet_logits(flow)], dim=2
        )
        assert both.shape == (2, 3, 128)
        torch.testing.assert_close(network(x), network.head(both))
    assert network.joined == 3
    with pytest.raises(UsageError, match=r"one consensus over time, but model.consensus=average"):
        network_of("second.fusion=features")


def test_a_layer_is_changed_and_read_on_the_way():
    backbone = network_of().first.backbone
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            up_to_layer(backbone, x, layer="features.1"), backbone.features[:2](x)
        )
        doubled = through_layer(backbone, x, layer="features.1", change=lambda y: 2 * y)
        expected = backbone.forward_head(backbone.features[2:](2 * backbone.features[:2](x)))
        torch.testing.assert_close(doubled, expected)
        torch.testing.assert_close(backbone(x), backbone.forward_head(backbone.features(x)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("second.teacher=x",), "second.modality trains both networks, second.teacher one by the"),
        (("second.modality=",), r"no second stream: set second.modality=flow"),
        (("second.stack=-1",), "second.stack=-1 is not possible: 0 or more"),
        (("second.interval=0",), "second.interval=0 is not possible: 1 or more"),
        (("second.lr=-1",), "second.lr=-1 is not possible: 0 or more"),
        (("second.temperature=0",), "second.temperature=0 is not possible: above 0"),
        (("augment.randaugment=m7-n4",), "cannot be drawn for two streams"),
        (("second.fusion=conv", "second.distil=soft"), "one network of both"),
        (("second.fusion=conv", "model.consensus=max"), "needs model.consensus=average or sum"),
        (("second.fusion=concat", "second.layer=features.1"), "so no layer can follow"),
        (("second.fusion=features", "second.distil=soft"), "have nothing to compare"),
        (("second.modality=", "second.teacher=none.pt"), "second.teacher=none.pt: there is no"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        check_streams(config_of(*overrides))


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"second.layer=layer9: tiny has no such layer. Choose"):
        network_of("second.fusion=sum", "second.layer=layer9")
    with pytest.raises(KinemaError, match="as many channels in both maps, but there are 64 and"):
        network_of("second.fusion=sum", "second.backbone=resnet18")
    with pytest.raises(KinemaError, match=r"64 and 512 features, which second.distil=features"):
        network_of("second.distil=features", "second.backbone=resnet18")
    with pytest.raises(UsageError, match="no second stream"):
        second_stream(Config())
    usual = [
        second_stream(config_of("second.stack=0", f"second.modality={name}")).data.stack
        for name in ("rgb", "rgbdiff", "flow")
    ]
    assert usual == [1, 5, 10]
    assert stream_name(config_of()) == "rgb+flow" and stream_name(Config()) == "rgb"


def spec_of(**values):
    return ClipSpec(**{"stream": "rgb", "resize": "40x32", "crop": 32, **values})


def test_the_longer_stream_leads_and_the_other_lies_in_its_middle():
    rgb, flow = spec_of(length=1), spec_of(stream="flow", length=10)
    assert not leads(rgb, flow) and leads(flow, rgb)
    places = aligned(np.arange(7, 17)[None], flow, rgb, num_frames=30)
    assert places.tolist() == [[12]]  # between pairs 11 and 12: frame 12 is in both
    three = spec_of(length=3, interval=2)
    assert aligned(np.arange(7, 17)[None], flow, three, num_frames=30).tolist() == [[10, 12, 14]]
    same = spec_of(length=10)
    assert leads(same, flow) is False  # of equals the flow, which has fewer images
    assert aligned(np.arange(20, 30)[None], flow, same, num_frames=30).tolist() == [
        list(range(20, 30))
    ]
    late = aligned(np.array([[28, 29]]), spec_of(length=2), three, num_frames=30)
    assert late.tolist() == [[25, 27, 29]]  # kept inside of the video
    lead, spread = spec_of(length=5, spread=True), spec_of(length=3, spread=True)
    assert aligned(np.array([[0, 4, 9, 13, 18]]), lead, spread, num_frames=20).tolist() == [
        [0, 9, 18]
    ]


def paired(index, kind, *, second_size="40x32", **options):
    config = config_of("data.num_segments=2")
    items = [
        stream_items(read_index(index), "train", classes=read_index(index).classes, data=data)
        for data in (config.data, second_stream(config).data)
    ]
    second = replace(second_stream(config).data, resize=second_size)
    specs = clip_spec(config.data), clip_spec(second)
    return [kind(one, spec, **options) for one, spec in zip(items, specs, strict=True)]


def test_training_clips_of_both_have_one_crop_and_are_what_each_has_alone(tiny_index):
    first, second = paired(tiny_index, TrainClips, augment=Config().augment, seed=3)
    both = PairedTrainClips(first, second)
    for row in range(4):
        ((x, label, index),) = both.clips(row, epoch=1)
        assert x.shape == (2, 1, 7, 32, 32) and x.dtype == torch.uint8 and index == row
        flow, alone_label, _ = second.clip(row, epoch=1)  # the flow leads: as if it were alone
        assert torch.equal(x[:, 0, 3:], flow.flatten(1, 2)) and label == alone_label
        video = first.open(row)
        drawn, _ = first.draw(video, (3, 1, row))
        frames = train_indices(
            second.spec,
            num_frames=second.open(row).num_frames,
            rng=_after_draw(second, row),
        )
        middle = aligned(frames, second.spec, first.spec, num_frames=video.num_frames)
        (expected,) = first.cut(video, [drawn], [middle])
        assert torch.equal(x[:, 0, :3], expected.flatten(1, 2))


def _after_draw(clips, row):
    from kinema.data import augment

    rng = np.random.default_rng((3, 1, row))
    video = clips.open(row)
    augment.draw(clips.augment, height=video.height, width=video.width, crop=32, rng=rng)
    return rng


def test_test_clips_of_both_come_in_the_order_of_the_leading_one(tiny_index):
    first, second = paired(tiny_index, TestClips, rule="uniform", num_clips=3, clips_per_item=2)
    both = PairedTestClips(first, second)
    assert len(both) == len(second) and both.num_clips == (3,) * 12 and both.parts == [2] * 12
    row, first_clip, x = both[1]
    assert (row, first_clip) == (0, 2) and x.shape == (1, 1, 7, 32, 40)
    assert torch.equal(x[:, 0, 3:], second[1][2].flatten(1, 2))


def test_images_of_the_second_stream_are_brought_to_the_size_of_the_first(tiny_index):
    options = {"rule": "uniform", "num_clips": 1, "clips_per_item": 1}
    first, second = paired(tiny_index, TestClips, second_size="20x16", **options)
    x = PairedTestClips(first, second)[0][2]
    _, _, flow_NTCHW = second[0]
    assert x.shape == (1, 1, 7, 32, 40) and flow_NTCHW.shape == (1, 2, 2, 16, 20)
    expected = [cv2.resize(image, (40, 32)) for image in flow_NTCHW[0].flatten(0, 1).numpy()]
    np.testing.assert_array_equal(x[0, 0, 3:].numpy(), np.stack(expected))
    assert len(np.unique(expected)) > 5

    options = {"augment": Config().augment, "seed": 3}
    same, x = (
        PairedTrainClips(*paired(tiny_index, TrainClips, second_size=size, **options)).clips(
            0, epoch=0
        )[0][0][:, 0]
        for size in ("40x32", "20x16")
    )
    torch.testing.assert_close(x[:, :3], same[:, :3], rtol=0, atol=0)
    assert 0.3 < np.corrcoef(x[:, 3:].flatten(), same[:, 3:].flatten())[0, 1] < 0.999


def test_features_are_those_of_the_clips_at_hand_whatever_was_seen_between():
    """Validation runs a stream by itself between two steps of the training."""
    network = ScoreStreams(*network_of().streams, features=True, taught=True).eval()
    x = clips_of()
    expected = network.outputs(x).features
    with torch.inference_mode():
        network.first(network.split(clips_of(batch=5))[0])
    torch.testing.assert_close(network.outputs(x).features, expected)
