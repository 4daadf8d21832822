"""The flow store: what comes back, how it fails, and its packed form."""

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers_flow import noisy_flow, texture
from kinema.errors import KinemaError, UsageError
from kinema.flow.store import FlowStore, FlowWriter, flow_path
from kinema.video.packed import PackedVideo, append_index
from kinema.video.reader import VideoReader

PIXELS_PER_LEVEL = 20 / 127


def store(path, pairs_THW2, **options):
    height, width = pairs_THW2.shape[1:3]
    metadata = {"algorithm": "dis", "bound": 20.0}
    with FlowWriter(path, width=width, height=height, metadata=metadata, **options) as writer:
        for pair_HW2 in pairs_THW2:
            writer.write(pair_HW2)
    return path


@pytest.mark.parametrize("size", [(240, 320), (33, 35), (16, 17), (50, 64), (101, 40)])
def test_lossless_keeps_every_bit_at_any_size(tmp_path, size):
    pairs = np.random.default_rng(0).integers(0, 256, (5, *size, 2), np.uint8)
    reader = FlowStore(store(tmp_path / "a.mp4", pairs, quality="lossless"))
    assert (reader.num_frames, reader.height, reader.width) == (5, *size)
    assert np.array_equal(reader.read(range(5)), pairs)


@pytest.mark.parametrize("size", [(240, 320), (51, 77)])
def test_standard_error_and_bytes(tmp_path, size):
    pairs = noisy_flow(12, *size)
    path = store(tmp_path / "a.mp4", pairs)
    found = FlowStore(path).read(range(12)).astype(int)
    error = np.abs(found - pairs) * PIXELS_PER_LEVEL
    assert error.mean() < 0.1
    assert error.max() < 1.5
    assert path.stat().st_size < pairs.size / 4


@pytest.mark.parametrize("quality", ["standard", "lossless"])
@pytest.mark.parametrize("size", [(240, 320), (35, 33)])
def test_zero_stays_zero(tmp_path, quality, size):
    pairs = np.full((7, *size, 2), 128, np.uint8)
    path = store(tmp_path / "a.mp4", pairs, quality=quality)
    assert np.array_equal(FlowStore(path).read(range(7)), pairs)


def test_any_order_repeats_and_nothing(tmp_path):
    pairs = noisy_flow(30, 40, 48)
    reader = FlowStore(store(tmp_path / "a.mp4", pairs, quality="lossless"))
    for indices in ([29], [3, 3, 3], [20, 4, 29, 0, 4], list(range(29, -1, -1)), []):
        assert np.array_equal(reader.read(indices), pairs[indices])
    assert reader.read(np.array([1, 2])).shape == (2, 40, 48, 2)


@pytest.mark.parametrize("index", [-1, 30])
def test_outside_the_store(tmp_path, index):
    reader = FlowStore(store(tmp_path / "a.mp4", noisy_flow(30, 16, 16)))
    with pytest.raises(KinemaError, match=r"indices 0 to 29: .*-?\d+ were asked for"):
        reader.read([5, index])


def test_long_index_needs_a_second_read(tmp_path):
    pairs = noisy_flow(1, 16, 16).repeat(2000, axis=0)
    pairs[1999] = 200
    reader = FlowStore(store(tmp_path / "a.mp4", pairs, quality="lossless"))
    assert reader.num_frames == 2000
    assert (reader.read([1999]) == 200).all()


def test_pickled_and_read_by_many_threads(tmp_path):
    pairs = noisy_flow(40, 32, 48)
    path = store(tmp_path / "a.mp4", pairs, quality="lossless")
    reader = pickle.loads(pickle.dumps(FlowStore(path)))
    starts = [(7 * i) % 30 for i in range(60)]
    with ThreadPoolExecutor(6) as pool:
        stacks = list(pool.map(lambda start: reader.read(range(start, start + 10)), starts))
    for start, stack in zip(starts, stacks, strict=True):
        assert np.array_equal(stack, pairs[start : start + 10])


def test_ordinary_players_and_readers_show_it(tmp_path):
    pairs = noisy_flow(9, 40, 49)
    path = store(tmp_path / "a.mp4", pairs, fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.average_rate == Fraction(25, 2)
        assert (stream.width, stream.height, len(frames)) == (50, 80, 9)
        assert frames[0].color_range == 2  # full range
    with VideoReader(path) as reader:
        rgb = reader.read([8])[0].astype(int)
    assert np.abs(rgb[:40, :49].mean(axis=2) - pairs[8, ..., 0]).mean() < 3
    assert np.abs(rgb[40:, :49].mean(axis=2) - pairs[8, ..., 1]).mean() < 3


def test_metadata_comes_back(tmp_path):
    found = FlowStore(store(tmp_path / "a.mp4", noisy_flow(3, 16, 18))).metadata
    assert found == {
        "algorithm": "dis",
        "bound": 20.0,
        "kind": "flow",
        "width": 18,
        "height": 16,
        "pairs": 3,
        "quality": "standard",
    }


def test_read_at_another_bound(tmp_path):
    pairs = noisy_flow(4, 24, 25)
    path = store(tmp_path / "a.mp4", pairs, quality="lossless")
    reader = FlowStore(path, as_bound=40.0)
    assert (reader.bound, reader.metadata["bound"]) == (40.0, 20.0)
    motion = (pairs.astype(float) - 128) * 20 / 127
    found = (reader.read(range(4)).astype(float) - 128) * 40 / 127
    assert np.abs(found - motion).max() <= 40 / 254 * 1.001
    assert np.array_equal(FlowStore(path, as_bound=20.0).read([3]), pairs[3:])
    assert FlowStore(path).bound == 20.0
    cut = FlowStore(path, as_bound=5.0).read(range(4))
    assert (cut[motion >= 5] == 255).all()
    assert (cut[motion <= -5] == 1).all()


def test_same_input_gives_the_same_bytes(tmp_path):
    pairs = noisy_flow(6, 40, 48)
    first, second = store(tmp_path / "a.mp4", pairs), store(tmp_path / "b.mp4", pairs)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_truncated_store_is_found_on_opening(tmp_path, share):
    path = store(tmp_path / "a.mp4", noisy_flow(20, 64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        KinemaError, match=r"a\.mp4 is damaged: its index is missing.*make it again"
    ):
        FlowStore(path)


def test_bytes_lost_in_the_middle_or_joined(tmp_path):
    path = store(tmp_path / "a.mp4", noisy_flow(20, 64, 64))
    content = path.read_bytes()
    for damaged in (content[:100] + content[200:], content + content[:10] + content):
        path.write_bytes(damaged)
        with pytest.raises(KinemaError, match=r"damaged: bytes are missing .* or were added"):
            FlowStore(path)


def test_changed_bytes_are_found_by_verify(tmp_path):
    path = store(tmp_path / "a.mp4", noisy_flow(20, 64, 64))
    FlowStore(path).verify()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(KinemaError, match="checksum of its frames is wrong"):
        FlowStore(path).verify()


def test_packets_of_rubbish_are_an_error(tmp_path):
    path = store(tmp_path / "a.mp4", noisy_flow(4, 64, 64))
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    path.write_bytes(content[:start] + bytes(1000) + content[start + 1000 :])
    with pytest.raises(KinemaError, match="cannot be decoded"):
        FlowStore(path).read(range(4))
    good = FlowStore(store(tmp_path / "b.mp4", noisy_flow(4, 64, 64)))
    assert good.read(range(4)).shape == (4, 64, 64, 2)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(KinemaError, match=r"Cannot open .*gone\.mp4"):
        FlowStore(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("not a store " * 100)
    with pytest.raises(KinemaError, match="index is missing"):
        FlowStore(tmp_path / "text.mp4")


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path):
    path = store(tmp_path / "a.mp4", noisy_flow(4, 32, 32))
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError),
        FlowWriter(path, width=32, height=32, metadata={}) as writer,
    ):
        writer.write(noisy_flow(1, 32, 32)[0])
        raise RuntimeError
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk(tmp_path):
    path = tmp_path / "a.mp4"
    path.with_name(f".a.{os.getpid()}.part.mp4").symlink_to("/dev/full")
    with pytest.raises(KinemaError, match=r"No space left on the disk while writing .*a\.mp4"):
        store(path, noisy_flow(60, 128, 128, sigma=1.0))
    assert not list(tmp_path.iterdir())


def test_wrong_shape_and_quality(tmp_path):
    with pytest.raises(UsageError, match=r"takes flow of the shape \(32, 30, 2\), not \(30, 32, 2"):
        store_with = FlowWriter(tmp_path / "a.mp4", width=30, height=32, metadata={})
        with store_with as writer:
            writer.write(np.zeros((30, 32, 2), np.uint8))
    with pytest.raises(UsageError, match=r"no quality 'best'.* standard or lossless"):
        store(tmp_path / "a.mp4", noisy_flow(1, 16, 16), quality="best")


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a", ""])
def test_ids_stay_in_the_folder(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be the id of a video"):
        flow_path(tmp_path, name)


def test_ids_keep_folders_and_dots(tmp_path):
    assert flow_path(tmp_path, "class a/v_1.2") == tmp_path / "class a" / "v_1.2.mp4"


def test_packed_video_with_groups_of_pictures(tmp_path):
    """The packed form also serves codecs that predict frames from earlier ones."""
    path = tmp_path / "rgb.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"x264-params": "keyint=8:bframes=0"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shift in range(30):
            image = np.repeat(np.roll(texture(48, 64), shift, 1)[..., None], 3, 2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray() for frame in container.decode(video=0)]
    append_index(path, metadata={"kind": "test"})
    video = PackedVideo(path)
    assert video.num_frames == 30
    for indices in ([29], [7, 8], [0, 1, 2, 15], [3, 28, 3, 9], range(30)):
        found = {index: frame.to_ndarray() for index, frame in video.frames(indices)}
        assert sorted(found) == sorted(set(indices))
        assert all(np.array_equal(found[index], expected[index]) for index in found)
    with pytest.raises(KinemaError, match="is not a flow store"):
        FlowStore(path)
