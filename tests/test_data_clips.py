"""Clips: their content, their randomness, the cache, and errors that name the video."""

import multiprocessing

import numpy as np
import pytest
import torch

from helpers_data import NoiseSource, make_items, noise_video, place_video, stand_in
from kinema.config import AugmentConfig
from kinema.data import clips
from kinema.data.augment import apply, draw
from kinema.data.items import ClipSpec
from kinema.data.sampling import frames, sample_test, sample_train
from kinema.data.transforms import resize
from kinema.errors import KinemaError

RGB = ClipSpec(stream="rgb", length=1, num_segments=3, resize="56x40", crop=32)
FLOW = ClipSpec(stream="flow", length=5, num_segments=2, resize="short:40", crop=32)
SPACED = ClipSpec(stream="flow", length=5, interval=3, num_segments=2, resize="short:40", crop=32)
PLAIN = AugmentConfig(crop="random", mirror=False)


def train_clips(spec, augment=None, *, num=4, **options):
    options = {"seed": 7, **options}
    return clips.TrainClips(make_items(num), spec, augment or AugmentConfig(), **options)


@pytest.mark.parametrize("spec", [RGB, FLOW, SPACED])
def test_a_clip_is_what_its_parts_say(monkeypatch, spec):
    stand_in(monkeypatch, noise_video)
    augment = AugmentConfig(photometric="medium")
    x_NTCHW, label, index = train_clips(spec, augment).clip(2, epoch=3)
    rng = np.random.default_rng((7, 3, 2))
    source = noise_video(2, spec)
    height, width = (40, 56) if spec is RGB else (40, 53)
    drawn = draw(augment, height=height, width=width, crop=32, rng=rng)
    reach = {RGB: 1, FLOW: 5, SPACED: 13}[spec]
    starts = sample_train(
        "tsn", num_frames=22, length=reach, num_segments=spec.num_segments, rng=rng
    )
    indices = frames(starts, length=spec.length, num_frames=22, interval=spec.interval)
    channels = 3 if spec is RGB else 2
    assert x_NTCHW.shape == (*indices.shape, channels, 32, 32)
    assert (x_NTCHW.dtype, label, index) == (torch.uint8, 0, 2)
    for place, frame in np.ndenumerate(indices):
        image = resize(source.read([frame]), spec.resize)
        negated = () if spec is RGB else (0,)
        expected = apply(drawn, image, crop=32, negated_channels=negated)[0]
        assert np.array_equal(x_NTCHW[place].permute(1, 2, 0).numpy(), expected)


def test_randomness_comes_from_seed_epoch_and_index_alone(monkeypatch):
    stand_in(monkeypatch, noise_video)
    first, second = train_clips(RGB), train_clips(RGB)
    second.clip(0, epoch=5)
    first.set_epoch(2)
    assert torch.equal(first[1][0], second.clip(1, epoch=2)[0])
    assert not torch.equal(first.clip(1, epoch=3)[0], first[1][0])
    assert not torch.equal(train_clips(RGB, seed=8).clip(1, epoch=2)[0], first[1][0])


def test_rgb_and_flow_clips_are_cut_at_the_same_place(monkeypatch):
    stand_in(monkeypatch, place_video)
    specs = [ClipSpec(**{**vars(spec), "resize": "none"}) for spec in (RGB, FLOW)]
    rgb, flow = (train_clips(spec, PLAIN, num=30) for spec in specs)
    corners = [[data[i][0][0, 0, :2, 0, 0].tolist() for i in range(30)] for data in (rgb, flow)]
    assert corners[0] == corners[1]
    assert len({tuple(corner) for corner in corners[0]}) > 20


def test_a_mirrored_flow_clip_negates_x_unless_told_otherwise(monkeypatch):
    stand_in(monkeypatch, place_video)
    spec = ClipSpec(stream="flow", length=2, num_segments=1, resize="none", crop=48)
    values = set()
    for keeps in (False, True):
        augment = AugmentConfig(crop="centre", mirror_flow_sign=not keeps)
        for i, (x_NTCHW, _, _) in enumerate(train_clips(spec, augment, num=16)):
            row_x = x_NTCHW[0, 0, 0, 0]
            values.add((keeps, i, int(row_x[0]), int(row_x[-1])))
    # columns 8..55, mirrored 55..8, and negated 256 - 55 .. 256 - 8
    assert {v[2:] for v in values if not v[0]} == {(8, 55), (201, 248)}
    assert {v[2:] for v in values if v[0]} == {(8, 55), (55, 8)}
    mirrored = [{v[1] for v in values if v[0] == keeps and v[2] != 8} for keeps in (False, True)]
    assert mirrored[0] == mirrored[1]


def test_labels_change_with_the_mirror(monkeypatch):
    stand_in(monkeypatch, place_video)
    spec = ClipSpec(stream="rgb", num_segments=1, resize="none", crop=48)
    data = train_clips(spec, AugmentConfig(crop="centre"), num=40, label_map={0: 1, 1: 0})
    seen = set()
    for x_NTCHW, label, index in (data[i] for i in range(40)):
        is_mirrored = int(x_NTCHW[0, 0, 0, 0, 0]) == 55
        seen.add((is_mirrored, label == index % 2))
    assert seen == {(True, False), (False, True)}


@pytest.mark.parametrize("chunk", [1, 3, 5, 19, 40])
def test_test_clips_are_whole_and_independent_of_their_parts(monkeypatch, chunk):
    stand_in(monkeypatch, noise_video)
    data = clips.TestClips(make_items(2), FLOW, rule="huang-19", num_clips=19, clips_per_item=chunk)
    assert len(data) == 2 * -(-19 // min(chunk, 19))
    starts = sample_test("huang-19", num_frames=21, length=5, num_clips=19)
    indices = frames(starts, length=5, num_frames=21)
    parts = [data[k] for k in range(len(data))]
    x_NTCHW = torch.cat([x for video, _, x in parts if video == 1])
    assert [first for video, first, _ in parts if video == 1] == list(range(0, 19, min(chunk, 19)))
    assert x_NTCHW.shape == (19, 5, 2, 40, 53)
    source = noise_video(1, FLOW)
    for clip in (0, 7, 18):
        expected = resize(source.read(indices[clip]), "short:40")
        assert np.array_equal(x_NTCHW[clip].permute(0, 2, 3, 1).numpy(), expected)


def test_test_clips_with_an_interval(monkeypatch):
    stand_in(monkeypatch, noise_video)
    data = clips.TestClips(make_items(2), SPACED, rule="uniform", num_clips=3, clips_per_item=3)
    _, _, x_NTCHW = data[1]
    source = noise_video(1, SPACED)  # 21 images: spans of 13 start at 0, 4 and 8
    for clip, start in enumerate((0, 4, 8)):
        expected = resize(source.read([start + 3 * i for i in range(5)]), "short:40")
        assert np.array_equal(x_NTCHW[clip].permute(0, 2, 3, 1).numpy(), expected)


class CountingSource(NoiseSource):
    reads = multiprocessing.Value("i", 0)

    def read(self, indices):
        with self.reads.get_lock():
            self.reads.value += len(indices)
        return super().read(indices)


def counting_video(number, spec):
    return CountingSource(number, channels=3 if spec.stream == "rgb" else 2)


@pytest.mark.parametrize("spec", [RGB, FLOW])
def test_the_cache_changes_nothing_but_the_reading(monkeypatch, spec):
    stand_in(monkeypatch, counting_video)
    plain, kept = train_clips(spec), train_clips(spec, cache_bytes=4 << 20)
    small = train_clips(spec, cache_bytes=30 * 40 * 53 * 3 * 2)
    for epoch in range(3):
        for i in range(4):
            x_NTCHW, label, _ = plain.clip(i, epoch=epoch)
            for data in (kept, small):
                other, other_label, _ = data.clip(i, epoch=epoch)
                assert torch.equal(x_NTCHW, other)
                assert label == other_label
    before = CountingSource.reads.value
    kept.clip(0, epoch=9)
    assert CountingSource.reads.value == before
    small.clip(3, epoch=9)
    assert CountingSource.reads.value > before


def test_a_vanished_video_is_named():
    message = r"The video 'v1' cannot be read: .*/nowhere/v1.mp4 has vanished.*kinema index"
    with pytest.raises(KinemaError, match=message):
        train_clips(RGB).clip(1, epoch=0)
    data = clips.TestClips(make_items(2), RGB, rule="uniform", num_clips=4, clips_per_item=2)
    with pytest.raises(KinemaError, match=message):
        data[2]


class BrokenSource(NoiseSource):
    def read(self, indices):
        raise OSError("the disk is gone")


def test_an_unreadable_or_too_short_video_is_named(monkeypatch):
    stand_in(monkeypatch, broken_video)
    with pytest.raises(KinemaError, match=r"'v2' \(/nowhere/v2.mp4\).*the disk is gone"):
        train_clips(RGB).clip(2, epoch=0)
    stand_in(monkeypatch, lambda number, spec: NoiseSource(number, num_frames=0))
    with pytest.raises(KinemaError, match=r"'v3' \(/nowhere/v3.mp4\).*too short"):
        train_clips(RGB).clip(3, epoch=0)


def broken_video(number, spec):
    return BrokenSource(number)
