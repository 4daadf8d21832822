"""Repeated augmentation: several clips of a video for one reading of it."""

import pytest
import torch

from helpers_data import NoiseSource, make_items, noise_video, stand_in
from kinema.config import AugmentConfig
from kinema.data import clips, loader
from kinema.data.items import ClipSpec

RGB = ClipSpec(stream="rgb", length=2, num_segments=2, resize="56x40", crop=32)
FLOW = ClipSpec(stream="flow", length=3, num_segments=2, resize="short:40", crop=32)


def train_clips(spec=RGB, *, num=5, **augment):
    return clips.TrainClips(make_items(num), spec, AugmentConfig(**augment), seed=7)


@pytest.mark.parametrize("spec", [RGB, FLOW])
def test_the_first_clip_is_the_one_without_repeats(monkeypatch, spec):
    stand_in(monkeypatch, noise_video)
    options = {"photometric": "medium", "randaugment": "m7-n4", "erase": 0.5}
    plain, three = train_clips(spec, **options), train_clips(spec, repeats=3, **options)
    for index in range(5):
        found = three.clips(index, epoch=2)
        assert len(found) == 3
        assert torch.equal(found[0][0], plain.clip(index, epoch=2)[0])
        assert torch.equal(found[0][0], three.clip(index, epoch=2)[0])
        assert not torch.equal(found[1][0], found[2][0])
        assert {(label, row) for _, label, row in found} == {(index % 2, index)}
        again = train_clips(spec, repeats=2, **options).clips(index, epoch=2)
        assert torch.equal(found[1][0], again[1][0])


def test_every_clip_is_cut_from_its_own_images(monkeypatch):
    """Each repeat, read alone, is the same as when its images are read with the others'."""
    stand_in(monkeypatch, noise_video)
    data = train_clips(FLOW, repeats=3)
    together = data.clips(1, epoch=4)
    for repeat, (x_NTCHW, _, _) in enumerate(together):
        seed = (7, 4, 1, repeat) if repeat else (7, 4, 1)
        video = data.open(1)
        drawn, indices = data.draw(video, seed)
        (alone,) = data.cut(video, [drawn], [indices])
        assert torch.equal(alone, x_NTCHW)


def test_a_video_is_opened_and_read_once(monkeypatch):
    calls = []

    class Counting(NoiseSource):
        def read(self, indices):
            calls.append(list(indices))
            return super().read(indices)

    stand_in(monkeypatch, lambda number, spec: Counting(number))
    train_clips(repeats=4).clips(0, epoch=0)
    assert len(calls) == 1
    assert len(calls[0]) == len(set(calls[0])) > 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_has_all_clips_of_its_videos_side_by_side(monkeypatch, workers):
    stand_in(monkeypatch, noise_video)
    data = train_clips(repeats=3)
    batches = list(loader.train_loader(data, batch_size=2, seed=3, epoch=1, workers=workers))
    order = loader.epoch_batches(5, batch_size=2, seed=3, epoch=1)
    assert [len(x) for x, _, _ in batches] == [6, 6, 3]
    for (x_BNTCHW, labels_B, rows_B), rows in zip(batches, order, strict=True):
        assert rows_B.tolist() == [row for row in rows for _ in range(3)]
        assert labels_B.tolist() == [row % 2 for row in rows_B.tolist()]
        expected = [x for row in rows for x, _, _ in data.clips(row, epoch=1)]
        assert torch.equal(x_BNTCHW, torch.stack(expected))
    rest = loader.train_loader(data, batch_size=2, seed=3, epoch=1, start_batch=1, workers=workers)
    assert torch.equal(next(iter(rest))[0], batches[1][0])


def test_labels_follow_the_mirror_of_each_clip(monkeypatch):
    stand_in(monkeypatch, noise_video)
    augment = AugmentConfig(crop="centre", repeats=8)
    data = clips.TrainClips(make_items(1), RGB, augment, seed=1, label_map={0: 1})
    labels = [label for _, label, _ in data.clips(0, epoch=0)]
    assert set(labels) == {0, 1}
