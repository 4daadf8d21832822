"""Protocols of 3D networks: image numbers and crops worked out by hand from the published rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers_data import PlaceSource, make_items, stand_in
from kinema.config import override
from kinema.data.items import ClipSpec
from kinema.data.snippets import num_windows, test_indices, train_indices
from kinema.data.transforms import crop_boxes
from kinema.engine import evaluate
from kinema.engine.evaluate import TestSettings
from kinema.engine.protocols import PROTOCOLS, Protocol, image_size
from kinema.errors import KinemaError, UsageError
from kinema.models.network import build_network
from kinema.recipes import recipe


def spec(length, interval=1, **values):
    return ClipSpec(stream="rgb", length=length, interval=interval, **values)


def numbers(name, shape, num_frames):
    protocol = PROTOCOLS[name]
    clips = protocol.num_clips or num_windows(shape, num_frames=num_frames)
    return test_indices(shape, protocol.rule, num_frames=num_frames, num_clips=clips).tolist()


def test_cao_wraps_around():
    clips = numbers("cao-10x3", spec(16, 4, short="wrap"), 50)
    assert [clip[0] for clip in clips] == list(range(0, 50, 5))  # int(i * 50 / 10)
    assert clips[0][:4] == [0, 4, 8, 12]
    assert clips[0][12:] == [48, 2, 6, 10]  # 48, 52, 56, 60 modulo 50
    assert clips[9][:3] == [45, 49, 3]
    long = numbers("cao-10x3", spec(16, 4, short="wrap"), 333)
    assert [clip[0] for clip in long] == [0, 33, 66, 99, 133, 166, 199, 233, 266, 299]


def test_hara_slides_and_loops_the_last_window():
    clips = numbers("hara-sliding", spec(16, short="loop"), 40)
    assert clips[:2] == [list(range(16)), list(range(16, 32))]
    assert clips[2] == list(range(32, 40)) * 2
    assert len(numbers("hara-sliding", spec(16, short="loop"), 48)) == 3
    every_second = numbers("hara-sliding", spec(4, 2, short="loop"), 11)
    assert every_second == [[0, 2, 4, 6], [8, 10, 8, 10]]


def test_i3d_takes_ten_seconds_in_the_middle_or_loops():
    assert numbers("i3d-250", spec(250, short="loop"), 300) == [list(range(25, 275))]
    short = numbers("i3d-250", spec(250, short="loop"), 100)
    assert short == [[*range(100), *range(100), *range(50)]]


def test_ten_clips_of_nonlocal_networks():
    clips = numbers("10x3-256", spec(8, 8), 300)  # a clip reaches over 57 images, 243 are left
    assert [clip[0] for clip in clips] == [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]
    assert clips[9] == [243, 251, 259, 267, 275, 283, 291, 299]
    boxes = crop_boxes("three", height=256, width=340, crop=256)
    assert [(b.top, b.left, b.height) for b in boxes] == [(0, 0, 256), (0, 42, 256), (0, 84, 256)]


def test_ten_clips_of_r2plus1d():
    clips = numbers("r2plus1d-10x1", spec(16), 300)  # 284 / 9 = 31.56
    assert [clip[0] for clip in clips] == [0, 32, 63, 95, 126, 158, 189, 221, 252, 284]
    (box,) = crop_boxes("centre", height=128, width=171, crop=112)
    assert (box.top, box.left) == (8, 29)


def test_five_clips_of_torchvision_are_rounded_down():
    clips = numbers("torchvision-5", spec(16), 150)  # 134 / 4 = 33.5
    assert [clip[0] for clip in clips] == [0, 33, 67, 100, 134]


def test_tsm_takes_middles_windows_and_phases():
    joined = spec(1, joined=8)
    assert numbers("tsm-8x1", joined, 80) == [[i] for i in range(5, 80, 10)]
    dense = np.reshape(numbers("tsm-dense-10x3", joined, 154), (10, 8))  # 91 windows, 64 / 8
    assert dense[:, 0].tolist() == list(range(0, 91, 10))
    assert dense[9].tolist() == [90, 98, 106, 114, 122, 130, 138, 146]
    short = np.reshape(numbers("tsm-dense-10x3", joined, 40), (10, 8))
    assert short.tolist() == [[0, 8, 16, 24, 32, 0, 8, 16]] * 10
    phases = np.reshape(numbers("tsm-2x3", joined, 80), (2, 8))
    assert phases.tolist() == [list(range(0, 80, 10)), list(range(5, 80, 10))]


def test_views_of_transformers():
    clips = numbers("5x3", spec(16, 4), 300)  # a clip reaches over 61, 239 / 4 = 59.75
    assert [clip[0] for clip in clips] == [0, 60, 120, 179, 239]
    assert numbers("5x1", spec(16, 4), 300) == clips
    spread = numbers("2x3", spec(16, spread=True), 160)
    assert spread == [list(range(0, 160, 10)), list(range(5, 160, 10))]


@pytest.mark.parametrize(
    ("name", "num_views", "size", "side", "average"),
    [
        ("cao-10x3", 30, "short:224", 224, "probabilities"),
        ("hara-sliding", 0, "short:224", 224, "probabilities"),
        ("i3d-250", 1, "short:256", 224, "logits"),
        ("10x3-256", 30, "short:256", 256, "probabilities"),
        ("r2plus1d-10x1", 10, "342x256", 224, "probabilities"),
        ("torchvision-5", 5, "342x256", 224, "probabilities"),
        ("tsm-8x1", 1, "short:256", 224, "logits"),
        ("tsm-8x10", 10, "short:256", 224, "logits"),
        ("tsm-dense-10x3", 30, "short:256", 256, "logits"),
        ("tsm-2x3", 6, "short:256", 256, "logits"),
        ("5x1", 5, "short:256", 224, "probabilities"),
        ("5x3", 15, "short:224", 224, "probabilities"),
        ("2x3", 6, "short:224", 224, "probabilities"),
    ],
)
def test_views_sizes_and_averages(name, num_views, size, side, average):
    protocol = PROTOCOLS[name]
    assert (protocol.num_views, protocol.average) == (num_views, average)
    assert image_size(protocol, train_resize="none", crop=224) == size
    assert protocol.side(224) == side


def test_sizes_at_the_crop_that_a_protocol_was_published_for():
    at_112 = {name: PROTOCOLS[name] for name in ("cao-10x3", "hara-sliding", "r2plus1d-10x1")}
    sizes = [image_size(p, train_resize="none", crop=112) for p in at_112.values()]
    assert sizes == ["short:112", "short:112", "171x128"]
    assert PROTOCOLS["10x3-256"].side(112) == 128


@pytest.mark.parametrize(
    ("short", "wanted"),
    [
        ("clamp", [0, 4, 8, 9, 9, 9]),
        ("loop", [0, 4, 8, 0, 4, 8]),
        ("wrap", [0, 4, 8, 2, 6, 0]),  # 12, 16, 20 modulo 10
        ("shrink", [0, 1, 2, 3, 4, 5]),  # nine steps of room for five: an interval of 1
    ],
)
def test_videos_too_short_for_a_clip(short, wanted):
    found = test_indices(spec(6, 4, short=short), "centre", num_frames=10, num_clips=1)
    start = 2 if short == "shrink" else 0  # the middle of the five starts that fit
    assert found.tolist() == [[number + start for number in wanted]]


def test_spread_training_clips_take_one_image_from_each_part():
    rng = np.random.default_rng(0)
    shape = spec(8, spread=True, num_segments=2)
    found = np.stack([train_indices(shape, num_frames=80, rng=rng) for _ in range(200)])
    assert found.shape == (200, 2, 8)
    assert (found // 10 == np.arange(8)).all()
    assert len(np.unique(found[:, 0, 0])) == 10


def test_dense_training_windows():
    rng = np.random.default_rng(0)
    shape = spec(1, sampling="dense", num_segments=8)
    found = np.stack([train_indices(shape, num_frames=100, rng=rng)[:, 0] for _ in range(300)])
    assert (np.diff(found, axis=1) == 8).all()
    assert (found[:, 0].min(), found[:, 0].max()) == (0, 35)  # randint(0, 91 - 55) of TSM


CLASSES = tuple("ab")
CPU = evaluate.Runtime(device=torch.device("cpu"))


def settings_of(protocol, *overrides):
    config = override(
        recipe("tiny", "rgb"), ["data.crop=24", "data.resize=48x48", "data.workers=0", *overrides]
    )
    return TestSettings(config=config, protocol=protocol, classes=CLASSES, show_progress=False)


class Watcher(torch.nn.Module):
    """Stands for a network: notes the image numbers of every view that it is shown."""

    negated_channels = ()

    def __init__(self, *, joined=1, is_clip=True):
        super().__init__()
        self.joined, self.is_clip, self.seen = joined, is_clip, []

    def snippet_logits(self, x_BNTCHW):
        self.seen += x_BNTCHW[:, :, :, 2, 0, 0].flatten(1).tolist()
        return torch.zeros(*x_BNTCHW.shape[:2], 2)

    def forward(self, x_BNTCHW):
        return self.snippet_logits(x_BNTCHW)[:, 0]


def shown(protocol, *overrides, fps=25.0, num_frames=90, **network):
    watcher = Watcher(**network)
    items = [replace(item, fps=fps) for item in make_items(1, num_frames=num_frames)]
    evaluate.evaluate(watcher, items, settings_of(protocol, *overrides), runtime=CPU)
    return watcher.seen


@pytest.fixture(autouse=True)
def videos_of_90_images(monkeypatch):
    stand_in(monkeypatch, lambda number, _: PlaceSource(number, num_frames=90))


def test_a_whole_step_takes_every_second_image():
    protocol = Protocol(num_clips=1, rule="uniform-floor", stack=4, fps=12.5, resize="train")
    assert shown(protocol, "data.stack=2") == [[0, 2, 4, 6]]


def test_a_broken_step_is_rounded_down_as_torchvision_does():
    protocol = Protocol(num_clips=1, rule="uniform-floor", stack=7, fps=15.0, resize="train")
    assert shown(protocol) == [[0, 1, 3, 5, 6, 8, 10]]  # 25 / 15 = 1.667


def test_a_joined_network_sees_the_snippets_of_a_clip_together():
    protocol = PROTOCOLS["tsm-8x1"]
    overrides = ("data.num_segments=8", "data.crop=24")
    assert shown(protocol, *overrides, joined=8, is_clip=False) == [
        [5, 16, 28, 39, 50, 61, 73, 84]  # 90 / 8 = 11.25, from the middle of the first part
    ]


def test_sliding_windows_are_as_many_as_the_video_needs():
    protocol = Protocol(rule="sliding", num_clips=0, stack=40, short="loop", resize="train")
    seen = shown(protocol)
    assert seen == [list(range(40)), list(range(40, 80)), list(range(80, 90)) * 4]


def test_an_unknown_rate_is_explained():
    protocol = PROTOCOLS["torchvision-5"]
    with pytest.raises(KinemaError, match=r"15 per second \(data\.fps\).*not known: give it when"):
        shown(protocol, fps=0.0)


def test_spread_and_joined_exclude_each_other():
    with pytest.raises(KinemaError, match=r"data\.spread=true is for networks that see one clip"):
        shown(PROTOCOLS["tsm-8x1"], "data.spread=true", joined=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"short": "cut"}, r"has short=cut: choose one of \(nothing\), shrink, clamp, loop, wrap"),
        ({"fps": -1}, r"has fps=-1: it cannot be below 0"),
        ({"crop": "big"}, r"has crop=big: a number is needed"),
        ({"trained_crop": 0}, r"has trained_crop=0: at least 1 pixel"),
        ({"num_clips": 0}, r"num_clips=0: a whole number of at least 1"),
        ({"num_clips": 0, "rule": "sliding", "aggregate": "sum"}, r"0 with rule=sliding and"),
    ],
)
def test_wrong_values_of_protocols(fields, message):
    with pytest.raises(UsageError, match=message):
        Protocol(**fields)


def test_a_3d_network_takes_clips_of_any_length():
    network = build_network(
        override(recipe("tiny", "rgb").model, ["backbone=r3d_18"]),
        modality="rgb",
        stack=4,
        num_classes=2,
        crop=32,
    ).eval()
    with torch.inference_mode():
        for frames in (4, 9):
            x_BNTCHW = torch.zeros(1, 2, frames, 3, 32, 32, dtype=torch.uint8)
            assert network.snippet_logits(x_BNTCHW).shape == (1, 2, 2)
    with pytest.raises(KinemaError, match=r"takes T images of 3 channels"):
        network.snippet_logits(torch.zeros(1, 2, 4, 2, 32, 32, dtype=torch.uint8))
