"""Loading: the same batches whatever the processes, ranks and interruptions."""

import os
import signal
from itertools import chain

import numpy as np
import pytest
import torch

from helpers_data import NoiseSource, make_items, noise_video, stand_in
from kinema.config import AugmentConfig
from kinema.data import clips, loader
from kinema.data.items import ClipSpec
from kinema.errors import KinemaError

SPEC = ClipSpec(stream="rgb", num_segments=2, resize="none", crop=32)


def train_clips(num=11, **options):
    return clips.TrainClips(make_items(num), SPEC, AugmentConfig(), seed=3, **options)


def batches_of(data, **options):
    return list(loader.train_loader(data, **{"batch_size": 4, "seed": 3, "workers": 0, **options}))


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_an_epoch_has_every_video_once_in_an_order_of_its_own():
    epochs = [loader.epoch_batches(23, batch_size=4, seed=1, epoch=e) for e in range(3)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3]
        assert sorted(chain(*batches)) == list(range(23))
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[1] == loader.epoch_batches(23, batch_size=4, seed=1, epoch=1)
    assert epochs[1] != loader.epoch_batches(23, batch_size=4, seed=2, epoch=1)


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("num_items", [24, 23, 17, 12])
def test_ranks_together_see_what_one_rank_with_a_larger_batch_sees(world, num_items):
    whole = loader.epoch_batches(num_items, batch_size=3 * world, seed=1, epoch=5)
    ranks = [
        loader.epoch_batches(num_items, batch_size=3, seed=1, epoch=5, rank=r, world=world)
        for r in range(world)
    ]
    assert {len(batches) for batches in ranks} == {len(whole)}
    for step, batch in enumerate(whole):
        shares = [batches[step] for batches in ranks]
        together = list(chain(*shares))
        assert together == batch or len(batch) < world
        assert set(together) == set(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert min(map(len, shares)) >= 1


def test_two_ranks_load_the_clips_of_one_rank_with_the_doubled_batch(monkeypatch):
    stand_in(monkeypatch, noise_video)
    data = train_clips()
    whole = batches_of(data, batch_size=4, epoch=2)
    ranks = [batches_of(data, batch_size=2, epoch=2, rank=r, world=2) for r in range(2)]
    for step, batch in enumerate(whole):
        joined = [torch.cat([ranks[0][step][k], ranks[1][step][k]]) for k in range(3)]
        assert equal([batch], [joined])


def test_batches_have_the_shapes_and_types_of_the_contract(monkeypatch):
    stand_in(monkeypatch, noise_video)
    x_BNTCHW, labels_B, indices_B = batches_of(train_clips())[0]
    assert x_BNTCHW.shape == (4, 2, 1, 3, 32, 32)
    assert (x_BNTCHW.dtype, labels_B.dtype, indices_B.dtype) == (
        torch.uint8,
        torch.int64,
        torch.int64,
    )
    assert labels_B.tolist() == [int(i) % 2 for i in indices_B]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(monkeypatch, workers):
    stand_in(monkeypatch, noise_video)
    alone = batches_of(train_clips(), epoch=4)
    assert equal(alone, batches_of(train_clips(), epoch=4, workers=workers))


def test_an_interrupted_epoch_goes_on_with_the_same_batches(monkeypatch):
    stand_in(monkeypatch, noise_video)
    whole = batches_of(train_clips(23), epoch=1)
    rest = loader.train_loader(
        train_clips(23), batch_size=4, seed=3, epoch=1, start_batch=2, workers=2
    )
    assert len(rest) == len(whole) - 2 == 4
    assert equal(whole[2:], list(rest))


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_random_state_of_the_network_alone(monkeypatch, workers):
    stand_in(monkeypatch, noise_video)
    before = torch.get_rng_state()
    batches_of(train_clips(), workers=workers)
    data = clips.TestClips(make_items(3), SPEC, rule="uniform", num_clips=3, clips_per_item=2)
    list(loader.test_loader(data, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_loader_serves_many_epochs(monkeypatch):
    stand_in(monkeypatch, noise_video)
    running = loader.train_loader(train_clips(), batch_size=4, seed=3, start_batch=1, workers=2)
    for epoch in range(3):
        running.set_epoch(epoch, start_batch=epoch % 2)
        assert equal(list(running), batches_of(train_clips(), epoch=epoch, start_batch=epoch % 2))


def test_processes_share_one_cache(monkeypatch):
    class OnceSource(NoiseSource):
        def read(self, indices):
            if not (0 in indices or 29 in indices):
                raise OSError("only whole videos are read")
            return super().read(indices)

    stand_in(monkeypatch, lambda number, spec: OnceSource(number))
    data = train_clips(cache_bytes=11 * 30 * 48 * 64 * 3)
    running = loader.train_loader(data, batch_size=4, seed=3, workers=2)
    list(running)
    stand_in(monkeypatch, lambda number, spec: pytest.fail("a video was opened again"))
    fresh = batches_of(data, epoch=1)
    running.set_epoch(1)
    assert equal(list(running), fresh)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_users_arrive_as_they_are(workers):
    with pytest.raises(KinemaError) as caught:
        batches_of(train_clips(), workers=workers)
    message = str(caught.value)
    assert message.startswith("The video 'v")
    assert "has vanished" in message
    assert "Traceback" not in message
    assert "\n" not in message


class DyingSource(NoiseSource):
    def read(self, indices):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_one_sentence(monkeypatch):
    stand_in(monkeypatch, lambda number, spec: DyingSource(number))
    with pytest.raises(KinemaError, match=r"loading process died.*data\.workers"):
        batches_of(train_clips(), workers=1)


def processed_video(number, spec):
    """Images that say which process opened them."""

    class ProcessSource(NoiseSource):
        opened_by = os.getpid()

        def image(self, index):
            return np.full((48, 64, 3), self.opened_by % 251, np.uint8)

    return ProcessSource(number)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_loads_all_parts_of_a_video_in_order_in_one_process(monkeypatch, workers):
    stand_in(monkeypatch, processed_video)
    data = clips.TestClips(make_items(6), SPEC, rule="uniform", num_clips=7, clips_per_item=2)
    items = list(loader.test_loader(data, workers=workers))
    assert len(items) == 24
    for video in range(6):
        mine = [(first, x_NTCHW) for number, first, x_NTCHW in items if number == video]
        assert [first for first, _ in mine] == [0, 2, 4, 6]
        assert [len(x) for _, x in mine] == [2, 2, 2, 1]
        assert len({int(x.max()) for _, x in mine}) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_test_clips_are_the_same_from_any_number_of_processes(monkeypatch, workers):
    stand_in(monkeypatch, noise_video)
    data = clips.TestClips(make_items(5), SPEC, rule="uniform", num_clips=3, clips_per_item=2)
    for video, first, x_NTCHW in loader.test_loader(data, workers=workers):
        assert torch.equal(x_NTCHW, data[video * 2 + first // 2][2])
    with pytest.raises(KinemaError, match=r"'v0'.*has vanished"):
        monkeypatch.undo()
        list(loader.test_loader(data, workers=workers))
