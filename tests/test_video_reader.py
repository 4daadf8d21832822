"""VideoReader gives what plain sequential decoding gives, for every awkward kind of file."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest

import helpers_video as hv
from kinema.errors import KinemaError
from kinema.video import packet_index
from kinema.video.reader import VideoReader

BY_HAND = {
    "packed-avi": lambda folder: hv.make_packed_avi(folder / "packed.avi"),
    "empty-vops-avi": lambda folder: hv.make_avi_with_empty_vops(folder / "empty.avi"),
    "no-times-mp4": lambda folder: hv.make_video_without_times(folder / "times.mp4"),
    "false-times-mp4": lambda folder: hv.make_video_with_false_times(folder / "times.mp4"),
}
COUNTED = {
    "h264-raw",
    "h264-avi",
    "vp8-hidden-frames",
    "mpeg2",
    "flv",
    "gif",
    "empty-vops-avi",
    "false-times-mp4",
}
NAMES = [*hv.SPECS, *BY_HAND]
FOLDER = TemporaryDirectory(prefix="kinema-videos-")  # each video is made once, for all tests


@cache
def video(name: str) -> tuple[Path, list[np.ndarray]]:
    folder = Path(FOLDER.name) / name
    folder.mkdir()
    spec = hv.SPECS.get(name)
    path = hv.make_video(folder / f"v{spec.suffix}", spec) if spec else BY_HAND[name](folder)
    return path, hv.sequential(path)


@pytest.mark.parametrize("name", NAMES)
def test_any_frames_in_any_order_equal_sequential_decoding(name):
    path, truth = video(name)
    rng = np.random.default_rng(len(name))
    for _ in range(3):
        with VideoReader(path) as reader:
            assert reader.num_frames == len(truth)
            assert (reader.height, reader.width) == truth[0].shape[:2]
            for _ in range(8):
                indices = rng.integers(0, len(truth), rng.integers(1, 6)).tolist()
                np.testing.assert_array_equal(
                    reader.read(indices), np.stack([truth[i] for i in indices])
                )


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_equals_sequential_decoding(name):
    path, truth = video(name)
    with VideoReader(path) as reader:
        for start in (0, len(truth) // 2):
            frames = list(reader.stream(start))
            assert len(frames) == len(truth) - start
            np.testing.assert_array_equal(np.stack(frames), np.stack(truth[start:]))


@pytest.mark.parametrize("name", NAMES)
def test_only_files_that_cannot_be_indexed_are_counted(name):
    path, truth = video(name)
    with VideoReader(path) as reader:
        reader.read(range(len(truth)))
        assert reader.is_indexed == (name not in COUNTED)


@pytest.mark.parametrize("name", ["h264", "h264-late-start", "h264-mpegts", "hevc-open-gop", "vp9"])
def test_packets_too_large_to_hold_are_found_by_seeking(name, monkeypatch):
    monkeypatch.setattr(packet_index, "_MOST_BYTES_HELD", 0)
    path, truth = video(name)
    with VideoReader(path) as reader:
        assert reader._index.packets is None
        for indices in ([35, 3, 3], [20], [21, 22], [0, 39]):
            np.testing.assert_array_equal(
                reader.read(indices), np.stack([truth[i] for i in indices])
            )
        assert reader.is_indexed


@pytest.mark.parametrize("name", ["h264", "h264-open-gop", "mpeg4-avi-b", "packed-avi"])
def test_threads_change_nothing(name):
    path, truth = video(name)
    with VideoReader(path, threads=2) as reader:
        for indices in ([30, 2, 17], [39], [5]):
            np.testing.assert_array_equal(
                reader.read(indices), np.stack([truth[i] for i in indices])
            )


def test_frames_differ_so_that_a_shift_would_be_seen():
    for name in NAMES:
        _, truth = video(name)
        assert all(not np.array_equal(a, b) for a, b in pairwise(truth)), name


def test_pictures_that_nobody_needs_are_not_decoded():
    path, _ = video("mpeg4-avi-b")
    with VideoReader(path) as reader:
        assert sum(reader._index.disposable) == 26  # of 40: two B between any two others
        decoded = []
        decode = reader._decoder._codec.decode
        reader._decoder._codec = type(
            "Codec",
            (),
            {
                "decode": lambda _, p: decoded.append(p) or decode(p),
                "flush_buffers": lambda _: None,
            },
        )()
        reader.read([11])
        assert len(decoded) <= 7


def test_reading_one_by_one_decodes_each_frame_once():
    path, truth = video("h264-one-keyframe")
    with VideoReader(path) as reader:
        jumps = []
        jump = reader._decoder._jump
        reader._decoder._jump = lambda i: (jumps.append(i), jump(i))
        for i in range(len(truth)):
            np.testing.assert_array_equal(reader.read([i])[0], truth[i])
            np.testing.assert_array_equal(reader.read([i])[0], truth[i])
        assert len(jumps) <= 1 + sum(reader._index.disposable)


@pytest.mark.parametrize(("name", "turn"), [("h264-rotated", 1), ("h264-rotated-180", 2)])
def test_rotation_is_that_of_opencv(name, turn):
    path, _ = video(name)
    capture = cv2.VideoCapture(str(path))  # turns by the metadata as well
    image = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    with VideoReader(path) as reader:
        assert (reader.width, reader.height) == ((48, 64) if turn == 1 else (64, 48))
        assert np.abs(reader.read([0])[0].astype(int) - image).mean() < 3


@pytest.mark.parametrize("name", ["h264-odd", "h264-10bit", "h264-full-range", "ffv1-odd"])
def test_colours_are_those_that_were_encoded(name):
    spec = hv.SPECS[name]
    path, _ = video(name)
    with VideoReader(path) as reader:
        image = reader.read([8])[0].astype(int)
    expected = hv.picture(8, width=spec.width, height=spec.height)
    assert np.abs(image[16:].mean(axis=(0, 1)) - expected[16:].mean(axis=(0, 1))).max() < 2.5


def test_gray_video_is_read_as_gray_rgb():
    path, _ = video("h264-gray")
    with VideoReader(path) as reader:
        image = reader.read([3])[0].astype(int)
    assert np.abs(image[..., 0] - image[..., 2]).max() <= 1


def test_rates_and_keyframes():
    rates = {"h264": 25.0, "h264-raw": 25.0, "h264-vfr": 25 * 40 / 139, "mpeg4-avi": 25.0}
    for name, fps in rates.items():
        with VideoReader(video(name)[0]) as reader:
            assert reader.fps == pytest.approx(fps, rel=0.02), name
    with VideoReader(video("mpeg4-avi")[0]) as reader:
        assert reader.keyframes.tolist() == [0, 12, 24, 36]
        assert reader.keyframes.dtype == np.int64
    with VideoReader(video("h264-open-gop")[0]) as reader:
        assert reader.keyframes.tolist() == [0]  # its other keyframes are not clean starts


def test_frames_that_do_not_exist():
    path, _ = video("h264")
    with VideoReader(path) as reader:
        with pytest.raises(KinemaError, match=r"has no frame 40: its 40 frames .* 0 to 39"):
            reader.read([3, 40])
        with pytest.raises(KinemaError, match="has no frame -1"):
            reader.read([-1])
        assert reader.read([]).shape == (0, 48, 64, 3)
        assert reader.read([39]).shape == (1, 48, 64, 3)
    with VideoReader(video("mpeg2")[0]) as reader, pytest.raises(KinemaError, match="no frame 41"):
        reader.read([41])


def test_odd_file_names(tmp_path):
    path = tmp_path / "a:b %d ä.mp4"
    path.write_bytes(video("h264")[0].read_bytes())
    with VideoReader(path) as reader:
        assert reader.num_frames == 40


def test_memory_stays_flat():
    resource = pytest.importorskip("resource")
    paths = [video(name)[0] for name in ("h264", "packed-avi", "h264-raw")]

    def open_all(times: int) -> int:
        for _ in range(times):
            for path in paths:
                with VideoReader(path) as reader:
                    reader.read([30, 2])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = open_all(20)
    grown_kib = open_all(100) - before
    assert grown_kib < 6 * 1024
