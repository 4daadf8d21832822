"""Flow on the fly: the same as stored, and no work done twice."""

import numpy as np
import pytest

from helpers_flow import ArraySource, colour, moving, write_video
from kinema.errors import KinemaError, UsageError
from kinema.flow import live
from kinema.flow.extract import FlowJob, FlowOptions
from kinema.flow.job import store_flow
from kinema.flow.live import LiveFlow
from kinema.flow.store import FlowStore
from kinema.video.frames import open_frames


def source(num_frames=40, **options):
    return ArraySource(colour(moving(num_frames, 1, -2, **options)))


@pytest.mark.parametrize(("algorithm", "size"), [("dis", "none"), ("farneback", "70x51")])
def test_equal_to_a_lossless_store(tmp_path, algorithm, size):
    video = write_video(tmp_path / "v.mp4", moving(24, 2, 1))
    options = FlowOptions(algorithm=algorithm, size=size, quality="lossless", bound=15.0)
    assert store_flow(FlowJob(id="v", path=video), tmp_path / "f.mp4", options) == 23
    stored = FlowStore(tmp_path / "f.mp4")
    flow = LiveFlow(open_frames(video), algorithm=algorithm, bound=15.0, size=size)
    assert (flow.num_frames, flow.height, flow.width) == (23, stored.height, stored.width)
    for indices in (range(23), [5, 5, 0, 22], [10]):
        assert np.array_equal(flow.read(indices), stored.read(indices))
    flow.close()


def test_direction_and_size_of_the_motion():
    pairs = LiveFlow(source(4)).read([0, 1, 2])
    inner = pairs[:, 16:-16, 16:-16].astype(float) - 128
    assert inner[..., 0].mean() * 20 / 127 == pytest.approx(1.0, abs=0.1)
    assert inner[..., 1].mean() * 20 / 127 == pytest.approx(-2.0, abs=0.1)


def test_vectors_are_pixels_of_the_new_size():
    pairs = LiveFlow(source(2, height=128, width=192), size="96x64").read([0])
    inner = pairs[0, 8:-8, 8:-8].astype(float) - 128
    assert inner[..., 0].mean() * 20 / 127 == pytest.approx(0.5, abs=0.1)
    assert inner[..., 1].mean() * 20 / 127 == pytest.approx(-1.0, abs=0.1)


def test_overlapping_stacks_cost_only_what_is_new():
    frames = source(40)
    flow = LiveFlow(frames)
    for start in range(20):
        flow.read(range(start, start + 10))
    assert frames.reads == list(range(30))  # every frame once, in order


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(live, "_CACHED_PAIRS", 12)
    frames = source(40)
    flow = LiveFlow(frames)
    everything = flow.read(range(39))
    assert len(flow._pairs) == 12
    frames.reads.clear()
    assert np.array_equal(flow.read(range(27, 39)), everything[27:])
    assert not frames.reads
    assert np.array_equal(flow.read([0]), everything[:1])
    assert sorted(frames.reads) == [0, 1]


def test_closing_closes_the_frames():
    frames = source(3)
    LiveFlow(frames).close()
    assert not frames.is_open


def test_errors():
    with pytest.raises(KinemaError, match="two frames at least: there is 1"):
        LiveFlow(source(1))
    with pytest.raises(UsageError, match="no flow algorithm 'tvl2'"):
        LiveFlow(source(3), algorithm="tvl2")
    with pytest.raises(UsageError, match="'big' is not a size"):
        LiveFlow(source(3), size="big")
    with pytest.raises(KinemaError, match="pairs 0 to 1: 0 to 2 were asked for"):
        LiveFlow(source(3)).read([0, 2])
