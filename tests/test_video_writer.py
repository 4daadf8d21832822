"""Written videos are what was given, play everywhere, and are there whole or not at all."""

import errno
import re

import av
import cv2
import numpy as np
import pytest

import helpers_video as hv
from kinema.errors import KinemaError
from kinema.video.reader import VideoReader
from kinema.video.writer import VideoWriter


def write(path, *, width=64, height=48, num_frames=20, **options):
    with VideoWriter(path, fps=25, width=width, height=height, **options) as writer:
        for i in range(num_frames):
            writer.write(hv.picture(i, width=width, height=height))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_frames_come_back(tmp_path):
    path = tmp_path / "new" / "v.mp4"
    write(path, crf=5)
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.fps) == (20, 64, 48, 25.0)
        for i, image in enumerate(reader.stream()):
            # 4:2:0 halves the colour resolution: the luminance is what can be compared.
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            expected = cv2.cvtColor(hv.picture(i, width=64, height=48), cv2.COLOR_RGB2GRAY)
            assert psnr(gray, expected) > 30


def test_colours_are_kept(tmp_path):
    path = tmp_path / "v.mp4"
    colours = [(200, 30, 40), (30, 180, 60), (20, 40, 220), (255, 255, 255), (0, 0, 0)]
    with VideoWriter(path, fps=10, width=32, height=32, crf=1) as writer:
        for colour in colours:
            writer.write(np.full((32, 32, 3), colour, np.uint8))
    with VideoReader(path) as reader:
        means = reader.read(range(5)).mean(axis=(1, 2))
    assert np.abs(means - colours).max() < 3


def test_every_player_shows_it(tmp_path):
    path = tmp_path / "v.mp4"
    write(path, width=33, height=47)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (34, 48)
        assert (context.colorspace, context.color_range) == (6, 1)
    with VideoReader(path) as reader:
        assert reader.num_frames == 20
        image = reader.read([0])[0].astype(int)
    assert np.abs(image[:, 33] - image[:, 32]).mean() < 12  # padded with the edge


def test_an_error_leaves_nothing(tmp_path):
    path = tmp_path / "v.mp4"
    with (
        pytest.raises(RuntimeError, match="stop"),
        VideoWriter(path, fps=25, width=64, height=48) as writer,
    ):
        writer.write(hv.picture(0, width=64, height=48))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KinemaError, match="no frame was written"):
        write(path, num_frames=0)
    assert path.read_bytes() == b"old"
    write(path)
    assert path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "v.mp4"
    full = av.error.classes[errno.ENOSPC](errno.ENOSPC, "No space left on device")
    assert isinstance(full, OSError)

    class FullDisk:
        def mux(self, packets):
            raise full

    with (
        pytest.raises(KinemaError, match=r"No space left on the disk while writing .*v\.mp4"),
        VideoWriter(path, fps=25, width=64, height=48) as writer,
    ):
        writer.write(hv.picture(0, width=64, height=48))
        monkeypatch.setattr(writer, "_container", FullDisk())
        writer.write(hv.picture(1, width=64, height=48))
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_and_settings(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", fps=25, width=64, height=48) as writer:
        with pytest.raises(KinemaError, match=re.escape("must be uint8 (48, 64, 3)")):
            writer.write(np.zeros((64, 48, 3), np.uint8))
        with pytest.raises(KinemaError, match="is float32"):
            writer.write(np.zeros((48, 64, 3), np.float32))
        writer.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(KinemaError, match="cannot be written: no_such_codec"):
        write(tmp_path / "w.mp4", codec="no_such_codec")
    with pytest.raises(KinemaError, match="cannot be written: Could not determine output format"):
        write(tmp_path / "w.unknown")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
