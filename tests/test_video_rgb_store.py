"""The RGB store: what comes back and how exact it is, how it fails, what other players see."""

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from helpers_flow import texture
from helpers_video import SPECS, make_video, picture
from kinema.errors import KinemaError, UsageError
from kinema.flow.store import FlowStore, FlowWriter
from kinema.video.packed import PackedVideo, store_path
from kinema.video.reader import VideoReader
from kinema.video.rgb_store import RgbStore, RgbWriter

SIZES = [(240, 320), (33, 35), (16, 17), (101, 40), (2, 2), (1, 1)]


def moving(num_frames, height, width):
    return np.stack([picture(i, height=height, width=width) for i in range(num_frames)])


def natural(num_frames, height, width):
    """A moving texture with noise, in colours that change slowly, as in camera pictures."""
    rng = np.random.default_rng(0)
    gray = texture(height + num_frames, width + num_frames).astype(np.float32)
    tint = rng.uniform(-40, 40, (4, 5, 3)).astype(np.float32)
    colours = cv2.resize(tint, (320, 240), interpolation=cv2.INTER_CUBIC)[:height, :width] + 40
    frames = [gray[i : i + height, i : i + width, None] * 0.7 for i in range(num_frames)]
    noisy = np.stack(frames) + colours + rng.normal(0, 2, (num_frames, height, width, 1))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def store(path, frames_THW3, *, metadata=None, **options):
    height, width = frames_THW3.shape[1:3]
    with RgbWriter(path, width=width, height=height, metadata=metadata or {}, **options) as writer:
        for frame_HW3 in frames_THW3:
            writer.write(frame_HW3)
    return path


def psnr(found, right):
    return 10 * np.log10(255**2 / np.square(found.astype(float) - right).mean())


@pytest.mark.parametrize("size", SIZES)
def test_lossless_keeps_every_bit_at_any_size(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 256, (5, *size, 3), np.uint8)
    reader = RgbStore(store(tmp_path / "a.mp4", frames, quality="lossless"))
    assert (reader.num_frames, reader.height, reader.width) == (5, *size)
    assert np.array_equal(reader.read(range(5)), frames)


@pytest.mark.parametrize("size", SIZES[:4])
def test_standard_error(tmp_path, size):
    frames = natural(9, *size)
    reader = RgbStore(store(tmp_path / "a.mp4", frames))
    found = reader.read(range(9))
    assert found.shape == (9, *size, 3)
    assert np.abs(found.astype(int) - frames).mean() < 2
    assert psnr(found, frames) > 40
    assert np.abs((found.astype(float) - frames).mean((0, 1, 2))).max() < 1  # no tint


def test_bytes_and_error_against_jpeg_files(tmp_path):
    """A third of the bytes of JPEG files of quality 95, three decibels behind them."""
    frames = natural(12, 240, 320)
    path = store(tmp_path / "a.mp4", frames)
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
    jpegs = [cv2.imencode(".jpg", frame[..., ::-1], flags)[1] for frame in frames]
    decoded = np.stack([cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1] for jpeg in jpegs])
    assert path.stat().st_size < sum(len(jpeg) for jpeg in jpegs) / 3
    assert psnr(RgbStore(path).read(range(12)), frames) > psnr(decoded, frames) - 3.2


@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128),
     (200, 30, 120), (17, 90, 230), (250, 240, 10)],
)  # fmt: skip
def test_colours_are_right_here_and_in_other_readers(tmp_path, colour):
    frames = np.broadcast_to(np.array(colour, np.uint8), (4, 48, 65, 3))
    path = store(tmp_path / "a.mp4", frames)
    found = RgbStore(path).read(range(4)).astype(int)
    assert np.abs(found - colour).max() <= 4
    assert np.abs(found.mean((0, 1, 2)) - colour).max() <= 2.5
    with VideoReader(path) as other:
        assert np.abs(other.read([3])[0, :, :65].astype(int) - colour).max() <= 6


@pytest.mark.parametrize("quality", ["standard", "lossless"])
def test_random_reading_gives_the_same_as_reading_in_order(tmp_path, quality):
    reader = RgbStore(store(tmp_path / "a.mp4", moving(31, 40, 48), quality=quality))
    whole = reader.read(range(31))
    for indices in ([30], [3, 3, 3], [20, 4, 29, 0, 4], list(range(30, -1, -1)), [1, 2], []):
        assert np.array_equal(reader.read(indices), whole[indices])
    assert reader.read(np.array([1, 2])).shape == (2, 40, 48, 3)
    assert reader.read([]).shape == (0, 40, 48, 3)


def test_frames_are_at_most_one_behind_a_keyframe(tmp_path):
    """A still, a cut, noise: the groups stay as they are."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    frames = np.concatenate((np.zeros((6, 32, 32, 3), np.uint8), moving(5, 32, 32), noise))
    path = store(tmp_path / "a.mp4", frames)
    with av.open(str(path)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [i % 2 == 0 for i in range(16)]


@pytest.mark.parametrize("index", [-1, 9])
def test_outside_the_store(tmp_path, index):
    reader = RgbStore(store(tmp_path / "a.mp4", moving(9, 16, 16)))
    with pytest.raises(KinemaError, match=r"indices 0 to 8: .*-?\d+ were asked for"):
        reader.read([5, index])


def test_ordinary_players_show_it(tmp_path):
    """Size, rate, number of frames, colour tags and pictures as FFmpeg finds them by itself."""
    frames = moving(9, 41, 63)
    path = store(tmp_path / "a.mp4", frames, fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        assert stream.average_rate == Fraction(25, 2)
        assert (stream.width, stream.height, stream.frames, len(decoded)) == (64, 42, 9, 9)
        assert stream.codec_context.name == "mpeg4"
    assert (decoded[0].colorspace, decoded[0].color_range) == (6, 1)  # BT.601, limited
    found = RgbStore(path).read(range(9)).astype(int)
    other = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])[:, :41, :63]
    assert np.abs(found - other).mean() < 2  # FFmpeg rounds its conversion down
    assert np.abs(found - other).max() <= 7


@pytest.mark.parametrize("quality", ["standard", "lossless"])
@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (25.0, Fraction(25)),
        (30000 / 1001, Fraction(30000, 1001)),
        (119.88, Fraction(2997, 25)),
        (240.7, Fraction(2407, 10)),
        (0.0, Fraction(25)),
        (float("nan"), Fraction(25)),
        (1e9, Fraction(1000)),
        (1e-9, Fraction(1, 100)),
    ],
)
def test_any_frame_rate_can_be_stored(tmp_path, quality, fps, rate):
    path = store(tmp_path / "a.mp4", moving(3, 16, 16), fps=fps, quality=quality)
    np.testing.assert_equal(RgbStore(path).fps, fps)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate
    assert RgbStore(path).read([2]).shape == (1, 16, 16, 3)


def test_metadata_comes_back(tmp_path):
    frames = moving(3, 16, 18)
    found = RgbStore(store(tmp_path / "a.mp4", frames, metadata={"source": "ä.avi"}, fps=10.0))
    coding = {name: found.metadata.pop(name) for name in ("codec", "codec_options")}
    assert found.metadata == {
        "source": "ä.avi",
        "kind": "rgb",
        "width": 18,
        "height": 16,
        "fps": 10.0,
        "quality": "standard",
        "frames": 3,
    }
    assert coding["codec"] == "mpeg4"
    assert coding["codec_options"]["qmax"] == "2"


def test_same_input_gives_the_same_bytes(tmp_path):
    frames = moving(6, 40, 48)
    first, second = store(tmp_path / "a.mp4", frames), store(tmp_path / "b.mp4", frames)
    assert first.read_bytes() == second.read_bytes()


def test_pickled_and_read_by_many_threads(tmp_path):
    frames = moving(40, 32, 48)
    path = store(tmp_path / "a.mp4", frames)
    whole = RgbStore(path).read(range(40))
    reader = pickle.loads(pickle.dumps(RgbStore(path)))
    clips = [[(7 * i + step) % 40 for step in (0, 11, 23)] for i in range(60)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(reader.read, clips))
    for clip, frames_found in zip(clips, found, strict=True):
        assert np.array_equal(frames_found, whole[clip])


def test_stores_of_several_sizes_and_rates_share_the_decoders(tmp_path):
    kinds = [(32, 48, 25.0), (48, 32, 25.0), (33, 47, 30.0), (64, 64, 10.0), (16, 16, 5.0)]
    paths = [
        store(tmp_path / f"{i}.mp4", moving(4, height, width), fps=fps)
        for i, (height, width, fps) in enumerate(kinds)
    ]
    wholes = [RgbStore(path).read(range(4)) for path in paths]
    for turn in range(30):
        i = turn * 7 % 5
        frame = turn % 4
        assert np.array_equal(RgbStore(paths[i]).read([frame])[0], wholes[i][frame])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_truncated_store_is_found_on_opening(tmp_path, share):
    path = store(tmp_path / "a.mp4", moving(20, 64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(KinemaError, match=r"a\.mp4 is damaged: its index is missing"):
        RgbStore(path)


def test_changed_bytes_are_found_by_verify(tmp_path):
    path = store(tmp_path / "a.mp4", moving(20, 64, 64))
    RgbStore(path).verify()
    content = bytearray(path.read_bytes())
    content[content.index(b"mdat") + 2000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(KinemaError, match="checksum of its frames is wrong"):
        RgbStore(path).verify()


@pytest.mark.parametrize("quality", ["standard", "lossless"])
@pytest.mark.parametrize("length", [300, 5000])
def test_packets_of_rubbish_are_an_error(tmp_path, quality, length):
    """An image with holes is worse than an error."""
    path = store(tmp_path / "a.mp4", moving(8, 128, 128), quality=quality)
    content = path.read_bytes()
    start = content.index(b"mdat") + 500
    path.write_bytes(content[:start] + bytes(length) + content[start + length :])
    with pytest.raises(KinemaError, match="cannot be decoded"):
        RgbStore(path).read(range(8))
    good = RgbStore(store(tmp_path / "b.mp4", moving(4, 128, 128), quality=quality))
    assert good.read(range(4)).shape == (4, 128, 128, 3)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path):
    path = store(tmp_path / "a.mp4", moving(8, 64, 64))
    reader = RgbStore(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(KinemaError, match="became shorter while it was read"):
        reader.read([7])


def test_other_files_are_refused(tmp_path):
    with FlowWriter(tmp_path / "flow.mp4", width=16, height=16, metadata={}) as writer:
        writer.write(np.full((16, 16, 2), 128, np.uint8))
    with pytest.raises(KinemaError, match=r"flow\.mp4 is not an RGB store, it holds optical flow"):
        RgbStore(tmp_path / "flow.mp4")
    with pytest.raises(KinemaError, match="is not a flow store"):
        FlowStore(store(tmp_path / "rgb.mp4", moving(2, 16, 16)))
    make_video(tmp_path / "plain.mp4", SPECS["h264"])
    with pytest.raises(KinemaError, match="index is missing"):
        RgbStore(tmp_path / "plain.mp4")
    with pytest.raises(KinemaError, match=r"Cannot open .*gone\.mp4"):
        RgbStore(tmp_path / "gone.mp4")


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path):
    path = store(tmp_path / "a.mp4", moving(4, 32, 32))
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError),
        RgbWriter(path, width=32, height=32, metadata={}) as writer,
    ):
        writer.write(moving(1, 32, 32)[0])
        raise RuntimeError
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk(tmp_path):
    path = tmp_path / "a.mp4"
    path.with_name(f".a.{os.getpid()}.part.mp4").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), np.uint8)
    with pytest.raises(KinemaError, match=r"No space left on the disk while writing .*a\.mp4"):
        store(path, noise)
    assert not list(tmp_path.iterdir())


def test_wrong_shape_type_quality_and_id(tmp_path):
    writer = RgbWriter(tmp_path / "a.mp4", width=30, height=32, metadata={})
    with pytest.raises(UsageError, match=r"shape \(32, 30, 3\), not uint8 \(30, 32, 3\)"), writer:
        writer.write(np.zeros((30, 32, 3), np.uint8))
    writer = RgbWriter(tmp_path / "a.mp4", width=30, height=32, metadata={})
    with pytest.raises(UsageError, match=r"not float32 \(32, 30, 3\)"), writer:
        writer.write(np.zeros((32, 30, 3), np.float32))
    with pytest.raises(UsageError, match=r"no quality 'best' of RGB stores: standard or lossless"):
        store(tmp_path / "a.mp4", moving(1, 16, 16), quality="best")
    with pytest.raises(KinemaError, match=r"8192x16 pixels do not fit .* at most 8190 a side"):
        store(tmp_path / "a.mp4", np.zeros((1, 16, 8192, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"'\.\./a' cannot be the id of a video"):
        store_path(tmp_path, "../a")
    assert store_path(tmp_path, "class a/v_1.2") == tmp_path / "class a" / "v_1.2.mp4"


@pytest.mark.parametrize("kind", ["noise", "black and white", "checkers", "flicker"])
def test_hard_pictures_are_coded_and_decoded(tmp_path, kind):
    rng = np.random.default_rng(0)
    frames = np.zeros((4, 64, 80, 3), np.uint8)
    if kind == "noise":
        frames[:] = rng.integers(0, 256, (4, 64, 80, 1))
    elif kind == "black and white":
        frames[:] = rng.integers(0, 2, (4, 64, 80, 1)) * 255
    elif kind == "checkers":
        frames[:, ::2, ::2] = frames[:, 1::2, 1::2] = 255
    else:
        frames[::2] = 255
    reader = RgbStore(store(tmp_path / "a.mp4", frames))
    reader.verify()
    assert np.abs(reader.read(range(4)).astype(int) - frames).mean() < 2


def test_packets_are_padded_for_the_decoder(tmp_path):
    """Decoders read beyond the end of a packet: rubbish there must not change a picture."""
    video = PackedVideo(store(tmp_path / "a.mp4", moving(40, 48, 64)))
    with av.open(str(video.path)) as container:
        expected = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode()]
    for _ in range(5):
        for index, frame in video.frames(range(40)):
            difference = frame.to_ndarray(format="gray") - expected[index]
            assert np.abs(difference).max() <= 3  # another inverse transform on some machines
