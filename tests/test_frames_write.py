"""Videos written as images: names, sizes, rates, resuming, nothing half-written."""

import errno
import shutil
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import cv2
import numpy as np
import pytest

from helpers_data import small_video
from kinema.errors import KinemaError, UsageError
from kinema.framing.frames import write_frames
from kinema.framing.job import FrameJob, run_job, write_video
from kinema.framing.layouts import LAYOUTS
from kinema.framing.options import FrameOptions
from kinema.video.reader import VideoReader


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes with a video of 12 frames each, at 10 frames per second."""
    root = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("wave/a", "clap/b")):
        small_video(root / f"{name}.mp4", seed=seed)
    return root


def jobs_of(root):
    return [
        FrameJob(
            id=path.relative_to(root).with_suffix("").as_posix(),
            path=path,
            label=path.parent.name,
            num_frames=12,
        )
        for path in sorted(root.rglob("*.mp4"))
    ]


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def filtered(num_frames, text, *, rate=10, width=64, height=48):
    """What FFmpeg's filters make of frames whose gray value is their number."""
    graph = av.filter.Graph()
    spec = f"width={width}:height={height}:pix_fmt=gray:time_base=1/{rate}:frame_rate={rate}/1"
    source = graph.add("buffer", spec)
    name, _, arguments = text.partition("=")
    last, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(last)
    last.link_to(sink)
    graph.configure()
    shown = []
    for i in range(num_frames + 1):
        frame = None
        if i < num_frames:
            frame = av.VideoFrame.from_ndarray(np.full((height, width), i, np.uint8), format="gray")
            frame.pts, frame.time_base, frame.duration = i, Fraction(1, rate), 1
        source.push(frame)
        while True:
            try:
                shown.append(sink.pull())
            except (av.BlockingIOError, av.EOFError):
                break
    return shown


@pytest.mark.parametrize("fps", [1, 3, 4, 5, 7, 10, 13, 25])
@pytest.mark.parametrize("num_frames", [1, 7, 40])
def test_a_rate_takes_the_frames_that_ffmpeg_takes(fps, num_frames):
    expected = [int(frame.to_ndarray()[0, 0]) for frame in filtered(num_frames, f"fps={fps}")]
    found = FrameOptions(fps=fps).chosen(num_frames, 10.0)
    if expected:
        assert found == expected
    else:  # FFmpeg drops a video that is shorter than half of an interval
        assert found == [0]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 33), (240, 426), (35, 101)])
def test_the_width_follows_the_height_as_in_ffmpeg(height, width):
    (frame,) = filtered(1, "scale=-1:24", width=width, height=height)
    size = FrameOptions(size="height:24").target_size(height=height, width=width)
    assert size == (24, frame.width)


SIZES = {"none": (64, 48), "height:24": (32, 24), "short:30": (40, 30), "20x36": (20, 36)}


@pytest.mark.parametrize("size", SIZES)
def test_sizes(videos, tmp_path, size):
    (job, _) = jobs_of(videos)
    options = FrameOptions(layout="slim", size=size, format="png", every=5)
    assert write_video(job, tmp_path, options) == 3
    with VideoReader(job.path) as reader:
        frames = reader.read([0, 5, 10])
    for number, frame in enumerate(frames, start=1):
        image = cv2.imread(str(tmp_path / f"clap/b/{number:05d}.png"))[..., ::-1]
        shrinks = SIZES[size][1] <= 48 and SIZES[size][0] <= 64
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        expected = frame if size == "none" else cv2.resize(frame, SIZES[size], interpolation=way)
        np.testing.assert_array_equal(image, expected)


def test_the_quality_of_jpeg_is_that_of_opencv(videos, tmp_path):
    job = jobs_of(videos)[0]
    write_video(job, tmp_path, FrameOptions(layout="hara", quality=60, every=12))
    with VideoReader(job.path) as reader:
        image = reader.read([0])[0][..., ::-1]
    expected = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 60))[1].tobytes()
    assert (tmp_path / "clap/b/image_00001.jpg").read_bytes() == expected
    assert (tmp_path / "clap/b/n_frames").read_text() == "1"


def test_a_folder_of_videos_on_all_cores_resumed(videos, tmp_path, capfd):
    jobs, options = jobs_of(videos), FrameOptions(layout="hara")
    before = {path: path.stat().st_mtime_ns for path in videos.rglob("*.mp4")}
    summary = write_frames(jobs, tmp_path, options=options, workers=2)
    assert (summary.videos, summary.kept, summary.frames, summary.failures) == (2, 0, 24, ())
    names = {f"image_{i:05d}.jpg" for i in range(1, 13)} | {"n_frames"}
    expected = {f"{video}/{name}" for video in ("wave/a", "clap/b") for name in names}
    assert files(tmp_path) == {"frames.json", *expected}
    # A run that was killed: a temporary folder, and a video with too few images.
    leftover = tmp_path / "wave/.a.77.part"
    leftover.mkdir()
    (leftover / "image_00001.jpg").write_bytes(b"")
    (tmp_path / "clap/b/image_00012.jpg").unlink()
    stays = (tmp_path / "wave/a/image_00003.jpg").stat().st_mtime_ns
    summary = write_frames(jobs, tmp_path, options=options, workers=1)
    assert (summary.videos, summary.kept, summary.frames) == (2, 1, 12)
    assert files(tmp_path) == {"frames.json", *expected}
    assert (tmp_path / "wave/a/image_00003.jpg").stat().st_mtime_ns == stays
    assert "1 videos to do, 1 already done" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in videos.rglob("*.mp4")} == before
    with pytest.raises(KinemaError, match=r"frames.json was made with size=none, but size=short:9"):
        write_frames(jobs, tmp_path, options=FrameOptions(layout="hara", size="short:9"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_is_not_written_again(videos, tmp_path, layout):
    if layout == "hara-hdf5":
        pytest.importorskip("h5py")
    jobs, options = jobs_of(videos), FrameOptions(layout=layout)
    for job in jobs:
        write_video(job, tmp_path, options)
    unknown = [FrameJob(id=job.id, path=job.path, label=job.label) for job in jobs]
    assert write_frames(unknown, tmp_path, options=options).kept == 2
    place = jobs[0].place(tmp_path, options)
    if place.is_dir():
        one = min(path for path in place.iterdir() if path.suffix)
        one.write_bytes(one.read_bytes()[:-40]) if one.suffix == ".zip" else one.unlink()
    else:
        place.write_bytes(place.read_bytes()[:200])
    assert write_frames(unknown, tmp_path, options=options, workers=1).kept == 1


def test_flow_beside_the_images_stays(videos, tmp_path):
    flow = tmp_path / "b" / "flow_x_00001.jpg"
    flow.parent.mkdir()
    flow.write_bytes(b"flow")
    write_video(jobs_of(videos)[0], tmp_path, FrameOptions(layout="tsn"))
    assert flow.read_bytes() == b"flow" and len(files(tmp_path)) == 13


def test_a_bad_video_costs_only_itself_and_leaves_nothing(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    bad = root / "wave/broken.mp4"
    bad.write_bytes((root / "wave/a.mp4").read_bytes()[:900])
    out = tmp_path / "out"
    summary = write_frames(jobs_of(root), out, options=FrameOptions(layout="zhu-test"), workers=1)
    assert (summary.videos, summary.frames) == (2, 24)
    assert summary.failures[0][0] == "wave/broken" and "broken.mp4" in summary.failures[0][1]
    assert "failed: wave/broken: " in summary.describe()
    assert {Path(name).parent.as_posix() for name in files(out)} == {".", "wave/a", "clap/b"}


@pytest.mark.parametrize("layout", ["hara", "dense-flow-zip", "hara-hdf5"])
def test_a_full_disk_leaves_nothing(videos, tmp_path, monkeypatch, layout):
    if layout == "hara-hdf5":
        pytest.importorskip("h5py")
    job, options, calls = jobs_of(videos)[0], FrameOptions(layout=layout), []

    def encode(*args, **options):
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return b"image"

    monkeypatch.setattr("kinema.framing.job.encode_frame", encode)
    outcome = run_job(job, out=tmp_path, options=options)
    assert outcome.is_disk_full and "No space left on the disk while writing" in outcome.failure
    assert files(tmp_path) == set()


def test_images_of_unknown_rate(videos, tmp_path):
    job = jobs_of(videos)[0]
    write_video(job, tmp_path / "a", FrameOptions(layout="slim"))
    images = FrameJob(id="b", path=tmp_path / "a/clap/b", label="clap")
    options = FrameOptions(layout="hara", fps=5)
    outcome = run_job(images, out=tmp_path / "b", options=options)
    assert "clap/b: its frames per second are not known, so 5 of them" in outcome.failure
    known = FrameJob(id="b", path=tmp_path / "a/clap/b", label="clap", fps=10.0)
    assert run_job(known, out=tmp_path / "b", options=options).frames == 6


def test_a_source_is_never_replaced(videos, tmp_path):
    options = FrameOptions(layout="slim")
    write_video(jobs_of(videos)[0], tmp_path, options)
    job = FrameJob(id="clap/b", path=tmp_path / "clap/b", label="clap")
    with pytest.raises(UsageError, match=r"clap/b lies where one of the videos is"):
        write_frames([job], tmp_path, options=options)
    with pytest.raises(UsageError, match=r"lies where one of the videos is"):
        write_frames([job], tmp_path / "clap/b", options=options)
    assert len(files(tmp_path)) == 12


def test_two_videos_with_one_place(videos, tmp_path):
    jobs = [
        FrameJob(id=f"{label}/a", path=videos / "wave/a.mp4", label=label) for label in ("x", "y")
    ]
    with pytest.raises(UsageError, match=r"'x/a' and 'y/a' would both be .* no folders of classes"):
        write_frames(jobs, tmp_path, options=FrameOptions(layout="tsn"))
    with pytest.raises(UsageError, match=r"'\.\./a' cannot be the id of a video"):
        write_frames([FrameJob(id="../a", path=jobs[0].path)], tmp_path / "out")
    assert files(tmp_path) == set()


PLACES = {  # id, label: folder in the layout of 3D-ResNets
    ("wave/a", "wave"): "wave/a",
    ("train/wave/a", "wave"): "train/wave/a",
    ("wave/person1/a", "wave"): "wave/person1/a",
    ("a", "wave"): "wave/a",
    ("clips/a", "wave"): "wave/a",
    ("a", ""): "a",
    ("a", "left/right"): "left_right/a",
}


@pytest.mark.parametrize(("id", "label"), PLACES)
def test_folders_of_classes(id, label):
    job = FrameJob(id=id, path=Path("v.mp4"), label=label)
    place = job.place(Path("out"), FrameOptions(layout="hara"))
    assert place == Path("out") / PLACES[id, label]


WRONG = {
    "no layout of frames 'harra'. Did you mean 'hara'": {"layout": "harra"},
    "no image format 'gif'": {"format": "gif"},
    "quality of JPEG is 1 to 100, not 0": {"quality": 0},
    "k is 1 or more, not 0": {"every": 0},
    "must be positive, not -3": {"fps": -3.0},
    "not both": {"fps": 5.0, "every": 2},
    "'height:x' is not a size": {"size": "height:x"},
    "or none. Images can also have height:H": {"size": "12"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_options(tmp_path, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        write_frames([], tmp_path, options=FrameOptions(**WRONG[message]))
    assert files(tmp_path) == set()
