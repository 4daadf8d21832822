"""Flow on the fly: the same as stored, and no work done twice."""

import cv2
import numpy as np
import pytest

from helpers_flow import ArraySource, colour, moving, texture, write_video
from kinema.errors import KinemaError, UsageError
from kinema.flow import live
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import encode
from kinema.flow.extract import FlowJob, FlowOptions
from kinema.flow.job import store_flow
from kinema.flow.live import LiveFlow
from kinema.flow.store import FlowStore
from kinema.flow.warped import warped
from kinema.video.frames import open_frames


def source(num_frames=40, *, dx=1, dy=-2, **options):
    return ArraySource(colour(moving(num_frames, dx, dy, **options)))


ALL_OPTIONS = {
    "plain": {},
    "bound": {"bound": 15.0},
    "other algorithm, WxH": {"algorithm": "farneback", "size": "70x51"},
    "short side": {"size": "short:48"},
    "stride": {"stride": 3},
    "long stride": {"stride": 18},
    "backwards": {"stride": -1},
    "backwards by two": {"stride": -2, "size": "70x51"},
    "adaptive": {"adaptive": True},
    "adaptive, stride": {"adaptive": True, "stride": 2},
    "gray before": {"gray": "before", "size": "70x51"},
    "warped": {"warp": True, "stride": 2},
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "v.mp4"
    return write_video(path, moving(24, 2, 1))


@pytest.mark.parametrize("settings", ALL_OPTIONS.values(), ids=ALL_OPTIONS)
def test_equal_to_a_lossless_store(tmp_path, video, settings):
    options = FlowOptions(**{"algorithm": "dis-fast", **settings}, quality="lossless")
    num_pairs = 24 - abs(options.stride)
    assert store_flow(FlowJob(id="f", path=video), tmp_path, options) == num_pairs
    stored = FlowStore(tmp_path / "f.mp4")
    flow = LiveFlow.of(open_frames(video), options)
    assert (flow.num_frames, flow.height, flow.width) == (num_pairs, stored.height, stored.width)
    assert flow.bound == stored.bound == stored.metadata["bound"]
    for indices in (range(num_pairs), [5, 5, 0, num_pairs - 1], [3]):
        assert np.array_equal(flow.read(indices), stored.read(indices))
    flow.close()


@pytest.mark.parametrize("stride", [2, 3, 7, -1, -2, -4])
def test_a_stride_pairs_frames_that_far_apart(stride):
    """Against the algorithm on the two frames alone."""
    frames = source(12)
    flow = LiveFlow(frames, algorithm="farneback", stride=stride)
    gray = gray_from_rgb(frames.frames)
    assert flow.num_frames == 12 - abs(stride)
    pairs = flow.read(range(flow.num_frames))
    for index in range(flow.num_frames):
        later = index + abs(stride)
        ends = [index, later] if stride > 0 else [later, index]
        assert np.array_equal(pairs[index], encode(compute(gray[ends], algorithm="farneback"))[0])


def test_vectors_are_pixels_per_stride():
    for stride, expected in ((1, 1.0), (3, 3.0), (-2, -2.0)):
        pairs = LiveFlow(source(8), stride=stride).read([0, 2])
        inner = pairs[:, 20:-20, 20:-20].astype(float) - 128
        assert inner[..., 0].mean() * 20 / 127 == pytest.approx(expected, abs=0.15)
        assert inner[..., 1].mean() * 20 / 127 == pytest.approx(-2 * expected, abs=0.2)


def test_gray_before_or_after_the_resize():
    """Each against OpenCV: the two differ by rounding."""
    rng = np.random.default_rng(0)
    rgb = np.stack([texture(64, 96, seed=seed) for seed in (1, 2, 3)], axis=-1)
    rgb = np.stack([rgb, np.roll(rgb, 2, axis=1)])
    rgb = np.clip(rgb + rng.integers(-20, 20, rgb.shape), 0, 255).astype(np.uint8)
    size = {"dsize": (48, 32), "interpolation": cv2.INTER_AREA}
    after = [cv2.cvtColor(cv2.resize(image, **size), cv2.COLOR_RGB2GRAY) for image in rgb]
    before = [cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), **size) for image in rgb]
    assert 0 < np.abs(np.subtract(after, before, dtype=int)).max() <= 2
    for gray, expected in (("after", after), ("before", before)):
        found = LiveFlow(ArraySource(rgb), gray=gray, size="48x32").read([0])
        assert np.array_equal(found, encode(compute(np.stack(expected))))


@pytest.mark.parametrize("stride", [1, -2])
def test_warped_is_the_flow_without_the_camera(stride):
    frames = source(20)
    gray = gray_from_rgb(frames.frames)
    kept = LiveFlow(frames, stride=stride).read([4])[:, 20:-20, 20:-20].astype(float) - 128
    assert np.abs(kept).mean() * 20 / 127 > abs(stride)
    found = LiveFlow(frames, stride=stride, warp=True).read([4])
    assert np.abs(found[:, 20:-20, 20:-20].astype(float) - 128).mean() * 20 / 127 < 0.2
    ends = [4, 5] if stride > 0 else [6, 4]
    assert np.array_equal(found, encode(warped(gray[ends], algorithm=compute)))


def test_an_adaptive_bound_uses_the_whole_scale():
    slow = LiveFlow(source(6, dx=0, dy=0), adaptive=True)
    assert slow.bound == 0.5
    fast = LiveFlow(source(6), adaptive=True)
    assert 2.0 <= fast.bound <= 3.5
    pairs = fast.read(range(5))
    inner = pairs[:, 20:-20, 20:-20, 1].astype(float) - 128
    assert inner.mean() * fast.bound / 127 == pytest.approx(-2.0, abs=0.1)


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


@pytest.mark.parametrize("stride", [1, 3, -2])
def test_overlapping_stacks_cost_only_what_is_new(stride):
    frames = source(40)
    flow = LiveFlow(frames, algorithm="dis-ultrafast", stride=stride)
    for start in range(20):
        flow.read(range(start, start + 10))
    assert frames.reads == list(range(29 + abs(stride)))  # every frame once, in order


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
    with pytest.raises(UsageError, match=r"stride is a number of frames.*and not 0"):
        LiveFlow(source(3), stride=0)
    with pytest.raises(KinemaError, match="stride -3 needs 4 frames at least: there are 3"):
        LiveFlow(source(3), stride=-3)
    with pytest.raises(UsageError, match=r"no gray 'never': .*'after' or 'before'"):
        LiveFlow(source(3), gray="never")
    with pytest.raises(UsageError, match=r"bound must be positive \(pixels\), not -1"):
        LiveFlow(source(3), bound=-1)
    with pytest.raises(KinemaError, match="pairs 0 to 1: 0 to 2 were asked for"):
        LiveFlow(source(3)).read([0, 2])
