"""Motion vectors against pictures whose motion is known, and against computed flow."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from helpers_flow import texture
from helpers_video import (
    SPECS,
    make_avi_with_empty_vops,
    make_packed_avi,
    make_video,
    make_video_with_false_times,
    make_video_without_times,
)
from kinema.errors import KinemaError, UsageError
from kinema.flow import motion_vectors
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.coded_vectors import CODECS_WITH_VECTORS, CodedVectors, coded_vectors
from kinema.flow.motion_vectors import MotionVectors, resize_flow
from kinema.video.reader import VideoReader

DATA = Path(__file__).parents[2] / "shared" / "data"
HEIGHT, WIDTH = 144, 176
NO_B = ("libx264", ".mp4", {"x264-params": "bframes=0:ref=1:keyint=99"})
CODINGS = {
    "h264": NO_B,
    "h264-b-references": (
        "libx264",
        ".mp4",
        {"x264-params": "bframes=3:b-adapt=0:b-pyramid=none:ref=5:keyint=99"},
    ),
    "h264-b-pyramid": (
        "libx264",
        ".mp4",
        {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:ref=3:keyint=99"},
    ),
    "mpeg4": ("mpeg4", ".avi", {"qscale": "2", "g": "99"}),
    "mpeg4-b": ("mpeg4", ".avi", {"qscale": "2", "g": "99", "bf": "2"}),
    "mpeg4-quarter": ("mpeg4", ".avi", {"qscale": "2", "g": "99", "flags": "+qpel"}),
    "mpeg2-b": ("mpeg2video", ".mpg", {"qscale": "2", "g": "99", "bf": "2"}),
    "flv1": ("flv", ".flv", {"qscale": "2", "g": "99"}),
}


def write(path, pictures_THW, coding, *, rotation=0):
    """Encode gray pictures."""
    codec, suffix, options = coding
    path = path.with_suffix(suffix)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures_THW.shape[1:]
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for index, picture in enumerate(pictures_THW):
            frame = av.VideoFrame.from_ndarray(picture, format="gray8").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shifted(places):
    """A texture of which each frame shows another part: it moves as `places` (T, 2) do."""
    places = np.asarray(places, np.float32) - np.min(places, axis=0)
    margin = 8
    reach = places.max(axis=0) + 2 * margin
    big = texture(int(HEIGHT + reach[1]), int(WIDTH + reach[0])).astype(np.float32)
    frames = []
    for x, y in places:
        left, top = reach[0] - margin - x, reach[1] - margin - y
        move = np.asarray([[1, 0, -left], [0, 1, -top]], np.float32)
        frames.append(cv2.warpAffine(big, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def steady(num_frames, motion):
    return shifted(np.arange(num_frames)[:, None] * np.asarray(motion))


def medians(flow_T2HW):
    return np.median(flow_T2HW, axis=(2, 3))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("motion", [(3, -2), (-4, 0), (1.5, 0.5)])
def test_median_vector_is_the_motion_per_frame(tmp_path, coding, motion):
    path = write(tmp_path / "clip", steady(14, motion), CODINGS[coding])
    flow = np.stack(list(MotionVectors(path).stream()))
    assert flow.shape == (13, 2, HEIGHT, WIDTH)
    assert flow.dtype == np.float32
    error = np.abs(medians(flow) - motion)
    # Simple encoders miss half pixels in some frames: bilinear pictures are not like the texture.
    misses = motion == (1.5, 0.5) and coding in ("mpeg4", "flv1")
    assert error.max() < (0.51 if misses else 0.01)
    assert error.mean() < (0.15 if misses else 0.01)


@pytest.mark.parametrize("coding", ["h264", "mpeg4"])
def test_each_field_belongs_to_its_own_pair(tmp_path, coding):
    motions = np.asarray([(2, 0), (-3, 1), (0, 4), (5, -2), (-1, -1), (0, 0), (4, 3), (-2, 2)])
    places = np.concatenate([[(0, 0)], np.cumsum(motions, axis=0)])
    path = write(tmp_path / "clip", shifted(places), CODINGS[coding])
    vectors = MotionVectors(path)
    assert np.allclose(medians(np.stack(list(vectors.stream()))), motions, atol=0.01)
    assert vectors.num_frames == 9
    assert (vectors.height, vectors.width, vectors.fps) == (HEIGHT, WIDTH, 25)


def test_b_pictures_of_mpeg4_have_the_mean_motion_of_their_span(tmp_path):
    motions = np.asarray([(2, 0), (4, 0), (3, 0), (-1, 2), (-2, 2), (0, 2), (6, -3)])
    places = np.concatenate([[(0, 0)], np.cumsum(motions, axis=0)])
    path = write(tmp_path / "clip", shifted(places), CODINGS["mpeg4-b"])
    means = [(3, 0)] * 3 + [(-1, 2)] * 3 + [(6, -3)]
    assert np.allclose(medians(np.stack(list(MotionVectors(path).stream()))), means, atol=0.01)


@pytest.mark.parametrize(
    ("options", "past", "future"),
    [
        ("b-pyramid=none", [1, 2, 3, 4] * 2, [3, 2, 1, None] * 2),
        ("b-pyramid=normal", [1, 2, 1, 4] * 2, [1, 2, 1, None] * 2),
    ],
)
def test_spans_count_the_frames_to_the_references(tmp_path, options, past, future):
    coding = ("libx264", ".mp4", {"x264-params": f"bframes=3:b-adapt=0:ref=3:{options}"})
    path = write(tmp_path / "clip", steady(9, (2, 1)), coding)
    pictures = list(coded_vectors(path))[1:]
    assert [picture.past_span for picture in pictures] == past
    for picture, span in zip(pictures, future, strict=True):
        has_future = (picture.blocks["source"] > 0).any()
        assert has_future == (span is not None)
        assert span is None or picture.future_span == span


def test_only_what_moves_has_motion(tmp_path):
    background = texture(HEIGHT, WIDTH, seed=1)
    square = texture(48, 48, seed=2)
    frames = []
    for index in range(6):
        frame = background.copy()
        frame[48:96, 32 + 4 * index : 80 + 4 * index] = square
        frames.append(frame)
    path = write(tmp_path / "clip", np.stack(frames), CODINGS["h264"])
    for index, flow in enumerate(MotionVectors(path).stream()):
        left = 36 + 4 * index  # of the square in the later frame
        assert np.allclose(np.median(flow[:, 56:88, left + 8 : left + 40], axis=(1, 2)), (4, 0))
        still = np.abs(flow).max(axis=0)
        still[32:112, left - 24 : left + 72] = 0
        assert (still > 0.26).mean() < 0.01


def test_frames_that_are_coded_alone(tmp_path):
    motions = np.asarray([(2, 0), (3, 0), (4, 0), (5, 0), (-2, 0), (-3, 0), (-4, 0), (-5, 0)])
    places = np.concatenate([[(0, 0)], np.cumsum(motions, axis=0)])
    coding = ("libx264", ".mp4", {"x264-params": "bframes=0:keyint=4:scenecut=0"})
    path = write(tmp_path / "clip", shifted(places), coding)
    repeated = np.stack(list(MotionVectors(path).stream()))
    emptied = np.stack(list(MotionVectors(path, intra="zero").stream()))
    for keyframe in (4, 8):
        assert np.array_equal(repeated[keyframe - 1], repeated[keyframe - 2])
        assert not emptied[keyframe - 1].any()
    others = [0, 1, 2, 4, 5, 6]
    assert np.allclose(medians(repeated)[others], motions[others], atol=0.01)
    assert np.array_equal(repeated[others], emptied[others])


BLOCK = np.dtype(
    [(name, int) for name in ("source", "w", "h", "dst_x", "dst_y")]
    + [(name, int) for name in ("motion_x", "motion_y", "motion_scale")]
)


def coded(*blocks, quarter_turns=0, past_span=1, future_span=1):
    return CodedVectors(
        height=30,
        width=40,
        quarter_turns=quarter_turns,
        blocks=np.array(list(blocks), BLOCK),
        past_span=past_span,
        future_span=future_span,
    )


def fields(monkeypatch, tmp_path, *pictures, **options):
    path = make_video(tmp_path / "any.mp4", SPECS["single-frame"])
    monkeypatch.setattr(motion_vectors, "coded_vectors", lambda _: iter(pictures))
    return list(MotionVectors(path, **options).stream())


def test_blocks_are_filled_by_the_rules(monkeypatch, tmp_path):
    past = (-1, 16, 8, 8, 4, -12, 8, 4)  # left top macroblock, upper half
    both = (1, 16, 16, 8, 8, 6, 0, 4)  # the same macroblock, to the future
    earlier = (1, 8, 16, 20, 8, 20, 4, 4)  # second macroblock, left half, in the frame before
    flow = fields(
        monkeypatch,
        tmp_path,
        coded(earlier, future_span=2),
        coded(past, both, past_span=3, future_span=1),
    )[0]
    assert flow.shape == (2, 30, 40)
    assert flow[:, :8, :16].reshape(2, -1).T.tolist() == [[1, np.float32(-2 / 3)]] * 128
    assert flow[:, 8:16, :16].reshape(2, -1).T.tolist() == [[1.5, 0]] * 128
    assert flow[:, :16, 16:24].reshape(2, -1).T.tolist() == [[2.5, 0.5]] * 128
    assert flow[:, 10, 39].tolist() == [2.5, 0.5]  # nearest
    assert flow[:, 29, 0].tolist() == [1.5, 0]


def test_leading_frames_that_are_coded_alone_are_zero(monkeypatch, tmp_path):
    block = (-1, 16, 16, 8, 8, -4, 0, 4)
    flow = fields(monkeypatch, tmp_path, coded(), coded(), coded(), coded(block), coded())
    assert [float(field.max()) for field in flow] == [0, 0, 1, 1]
    flow = fields(monkeypatch, tmp_path, coded(), coded(block), coded(), intra="zero")
    assert [float(field.max()) for field in flow] == [1, 0]


@pytest.mark.parametrize("rotation", [-90, 90, 180])
def test_rotated_videos_have_rotated_vectors(tmp_path, rotation):
    path = write(tmp_path / "clip", steady(4, (3, -1)), CODINGS["h264"], rotation=rotation)
    vectors = MotionVectors(path)
    with VideoReader(path) as reader:
        frames = gray_from_rgb(np.stack(list(reader.stream())))
    assert (vectors.height, vectors.width) == frames.shape[1:]
    flow = np.stack(list(vectors.stream()))
    assert flow.shape[2:] == frames.shape[1:]
    assert np.abs(medians(flow) - medians(compute(frames))).max() < 0.05


SPECIAL = {
    "packed": make_packed_avi,
    "empty-vops": make_avi_with_empty_vops,
    "no-times": make_video_without_times,
    "false-times": make_video_with_false_times,
}
WITHOUT = ("hevc", "vp9", "vp8", "mjpeg", "ffv1", "gif")


@pytest.mark.parametrize(
    "name", [*(name for name in SPECS if not name.startswith(WITHOUT)), *SPECIAL]
)
def test_there_is_one_field_fewer_than_frames(tmp_path, name):
    if name in SPECIAL:
        path = SPECIAL[name](tmp_path / ("clip.mp4" if "times" in name else "clip.avi"))
    else:
        path = make_video(tmp_path / f"clip{SPECS[name].suffix}", SPECS[name])
    vectors = MotionVectors(path)
    with VideoReader(path) as reader:
        assert vectors.num_frames == reader.num_frames == len(list(reader.stream()))
        shape = 2, reader.height, reader.width
    flow = list(vectors.stream())
    assert len(flow) == vectors.num_frames - 1
    assert all(field.shape == shape and np.isfinite(field).all() for field in flow)


@pytest.mark.parametrize("name", [name for name in SPECS if name.startswith(WITHOUT)])
def test_codecs_without_vectors_are_named(tmp_path, name):
    path = make_video(tmp_path / f"clip{SPECS[name].suffix}", SPECS[name])
    codec = name.split("-")[0]
    assert codec not in CODECS_WITH_VECTORS
    with pytest.raises(KinemaError, match=rf"coded as {codec}, .*algorithm dis.*anew as H\.264"):
        MotionVectors(path)


def test_videos_of_keyframes_alone(tmp_path):
    coding = ("libx264", ".mp4", {"g": "1"})
    path = write(tmp_path / "clip", steady(5, (2, 0)), coding)
    with pytest.raises(KinemaError, match=r"clip\.mp4 has no motion vectors.*fewer keyframes"):
        list(MotionVectors(path).stream())
    single = make_video(tmp_path / "single.mp4", SPECS["single-frame"])
    assert list(MotionVectors(single).stream()) == []


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(KinemaError, match=r"is a folder: .* compressed videos only.* dis"):
        MotionVectors(tmp_path)
    with pytest.raises(KinemaError, match=r"none\.mp4 does not exist"):
        MotionVectors(tmp_path / "none.mp4")
    with pytest.raises(UsageError, match=r"intra is 'skip': it must be one of repeat, zero"):
        MotionVectors(tmp_path, intra="skip")


def test_a_change_of_size_is_refused(tmp_path):
    parts = []
    for size in (HEIGHT, HEIGHT - 16):
        part = write(tmp_path / "part", steady(4, (1, 0))[:, :size], ("libx264", ".h264", {}))
        parts.append(part.read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    with pytest.raises(KinemaError, match=r"at frame 4, from 176x144 to 176x128"):
        list(MotionVectors(path).stream())


def test_fields_are_read_in_any_order(tmp_path):
    vectors = MotionVectors(write(tmp_path / "clip", steady(8, (2, 1)), CODINGS["h264-b-pyramid"]))
    flow = np.stack(list(vectors.stream()))
    assert np.array_equal(vectors.read([5, 0, 5, 6]), flow[[5, 0, 5, 6]])
    assert vectors.read([]).shape == (0, 2, HEIGHT, WIDTH)
    for index in (7, -1):
        with pytest.raises(KinemaError, match=rf"no motion field {index}: its 8 frames have 7"):
            vectors.read([index])


def test_memory_does_not_grow_with_the_video(tmp_path):
    peaks = []
    for number, num_frames in enumerate((30, 120)):
        frames = np.resize(steady(30, (2, 1)), (num_frames, HEIGHT, WIDTH))
        path = write(tmp_path / f"clip{number}", frames, CODINGS["h264-b-pyramid"])
        tracemalloc.start()
        for _ in MotionVectors(path).stream():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_vectors_scale_with_the_size():
    flow = np.empty((2, 40, 60), np.float32)
    flow[0], flow[1] = 6, -2
    smaller = resize_flow(flow, 20, 20)
    assert smaller.shape == (2, 20, 20)
    assert smaller.dtype == np.float32
    assert np.allclose(smaller[0], 2) and np.allclose(smaller[1], -1)
    larger = resize_flow(flow, 80, 90)
    assert np.allclose(larger[0], 9) and np.allclose(larger[1], -4)
    assert resize_flow(flow, 40, 60) is flow


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the development videos")
@pytest.mark.parametrize("name", ["ucf101", "gestures"])
def test_development_videos_have_a_field_per_pair(name):
    paths = sorted(p for p in (DATA / name).rglob("*") if p.suffix in (".avi", ".mp4"))[::12]
    assert len(paths) > 8
    for path in paths:
        vectors = MotionVectors(path)
        assert sum(1 for _ in vectors.stream()) == vectors.num_frames - 1, path


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the development videos")
@pytest.mark.parametrize(
    ("name", "share"),  # of the error that no motion at all has
    [("Biking_g19_c01", 0.22), ("PlayingDaf_g10_c01", 0.55), ("BalanceBeam_g08_c03", 0.55)],
)
def test_they_are_near_computed_flow(name, share):
    path = DATA / "ucf101" / "videos" / f"v_{name}.avi"
    with VideoReader(path) as reader:
        flow = compute(gray_from_rgb(reader.read(range(40))))
    vectors = MotionVectors(path).read(range(39))
    error = np.linalg.norm(vectors - flow, axis=1).mean()
    assert error < share * np.linalg.norm(flow, axis=1).mean()
