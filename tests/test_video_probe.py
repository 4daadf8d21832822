"""What `probe` tells of good files, and the reason it gives for each kind of broken one."""

import hashlib
import re

import av
import pytest

import helpers_video as hv
from kinema.errors import KinemaError
from kinema.video.claimed_size import claimed_size
from kinema.video.probe import probe
from kinema.video.reader import VideoReader

GOOD = ("h264", "h264-rotated", "h264-edit-list", "h264-mpegts", "mpeg2", "vp9", "mpeg4-avi-b")


def make(tmp_path, name):
    spec = hv.SPECS[name]
    return hv.make_video(tmp_path / f"{name}{spec.suffix}", spec)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("decode_all", [False, True])
def test_good_files(tmp_path, name, decode_all):
    path = make(tmp_path, name)
    truth = hv.sequential(path)
    facts = probe(path, decode_all=decode_all)
    assert facts.num_frames == len(truth)
    assert (facts.height, facts.width) == truth[0].shape[:2]
    assert facts.fps == pytest.approx(25.0)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with VideoReader(path) as reader:
        assert facts.keyframe_interval == len(truth) / len(reader.keyframes)


def test_keyframe_interval(tmp_path):
    assert probe(make(tmp_path, "mpeg4-avi")).keyframe_interval == 10.0  # 40 frames, 4 keyframes
    assert probe(make(tmp_path, "h264-one-keyframe")).keyframe_interval == 40.0
    assert probe(make(tmp_path, "mjpeg")).keyframe_interval == 1.0
    assert probe(make(tmp_path, "mpeg2")).keyframe_interval == 40.0  # counted from the start


def test_packets_without_frames_are_not_counted(tmp_path):
    path = hv.make_avi_with_empty_vops(tmp_path / "v.avi")
    assert probe(path).num_frames == 30  # of 32 packets


def test_frames_that_all_have_the_same_time(tmp_path):
    facts = probe(hv.make_video_without_times(tmp_path / "v.mp4"))
    assert facts.num_frames == 40
    assert facts.fps < 200


def test_files_that_are_no_videos(tmp_path):
    files = {
        "missing.mp4": (None, "does not exist"),
        "empty.mp4": (b"", r"is empty \(0 bytes\)"),
        "text.mp4": (b"This is not a video.\n" * 50, "is not a video that FFmpeg can read"),
        "notes.txt": (b"This is not a video.\n" * 50, "is not a video"),
        "zeros.avi": (bytes(5000), "is not a video"),
    }
    for name, (content, reason) in files.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for function in (probe, VideoReader):
            with pytest.raises(KinemaError, match=re.escape(str(path)) + ".*" + reason):
                function(path)
    with pytest.raises(KinemaError, match="is a folder"):
        probe(tmp_path)


def test_an_image_is_no_video(tmp_path):
    path = tmp_path / "image.png"
    hv.make_video(tmp_path / "v.mp4", hv.SPECS["single-frame"])
    with av.open(str(tmp_path / "v.mp4")) as container:
        next(container.decode(video=0)).save(str(path))
    with pytest.raises(KinemaError, match="is not a video"):
        probe(path)


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(KinemaError, match="has sound but no video"):
        probe(hv.make_sound(tmp_path / "sound.m4a"))
    with pytest.raises(KinemaError, match="has sound but no video"):
        probe(hv.make_sound(tmp_path / "cover.mp4", cover=True))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["h264", "h264-fast-start", "mpeg4-avi", "h264-mkv", "vp9"])
def test_truncated_files(tmp_path, name, share):
    if name == "h264-fast-start":
        spec = hv.Spec(container_options={"movflags": "faststart"})
        path = hv.make_video(tmp_path / "v.mp4", spec)
    else:
        path = make(tmp_path, name)
    content = path.read_bytes()
    assert claimed_size(path) == len(content)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(KinemaError, match="is truncated"):
        probe(path)


def test_sizes_are_not_claimed_where_the_container_knows_none(tmp_path):
    live = hv.Spec(suffix=".mkv", container_options={"live": "1"})
    path = hv.make_video(tmp_path / "live.mkv", live)
    assert claimed_size(path) is None
    assert probe(path).num_frames == 40
    assert claimed_size(make(tmp_path, "h264-mpegts")) is None


def test_bytes_after_the_end_do_no_harm(tmp_path):
    path = make(tmp_path, "h264")
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert probe(path).num_frames == 40


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_without_a_frame(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(KinemaError, match=r"has no frames|has no video|is not a video"):
        probe(path)


def test_one_frame(tmp_path):
    facts = probe(make(tmp_path, "single-frame"))
    assert (facts.num_frames, facts.keyframe_interval) == (1, 1.0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mjpeg", "frame 17 cannot be decoded"), ("mpeg4-avi", "parts of frame 17 are missing")],
)
def test_damage_in_the_middle_is_found_by_decoding_all(tmp_path, name, reason):
    path = make(tmp_path, name)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    half = len(packets[17]) // 2
    at = content.find(packets[17]) + half
    content[at : at + half] = bytes(half)
    path.write_bytes(bytes(content))
    assert probe(path).num_frames == 40
    with pytest.raises(KinemaError, match=f"is damaged: {reason}"):
        probe(path, decode_all=True)
