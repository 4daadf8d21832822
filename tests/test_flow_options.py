"""The settings of flow: what is refused, what is recorded, and the formats of older tools."""

import dataclasses

import cv2
import numpy as np
import pytest

from helpers_flow import ArraySource, colour, make_jobs, moving, write_video
from helpers_video import SPECS, make_video
from kinema.errors import KinemaError, UsageError
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import encode
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow, verify_flow
from kinema.flow.job import run_job, store_flow
from kinema.flow.live import LiveFlow
from kinema.flow.manifest import stored_options
from kinema.flow.store import FlowStore
from kinema.video.frames import open_frames
from kinema.video.reader import VideoReader

VECTORS = FlowOptions(algorithm="motion-vectors", quality="lossless")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "tvl9"}, "no flow algorithm 'tvl9'"),
        ({"size": "9by9"}, "'9by9' is not a size"),
        ({"bound": 0}, r"bound must be positive \(pixels\), not 0"),
        ({"bound": float("nan")}, "bound must be positive"),
        ({"quality": "best"}, r"no quality 'best'.* standard or lossless"),
        ({"stride": 0}, "number of frames, such as 1, 2 or -1, and not 0"),
        ({"gray": "never"}, r"no gray 'never'.*'after' or 'before'"),
        ({"format": "denseflo"}, r"no flow format 'denseflo'. Did you mean 'denseflow'\?"),
        ({"format": "denseflow", "adaptive": True}, "'denseflow' has one bound for all videos"),
        ({"format": "dense-flow", "stride": -1}, "'dense-flow' cannot hold stride -1"),
        ({"algorithm": "motion-vectors", "stride": 2}, "from a frame to the next: stride 2 needs"),
        ({"algorithm": "motion-vectors", "warp": True}, "cannot be freed of the camera's motion"),
    ],
)
def test_what_does_not_exist_or_go_together_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        FlowOptions(**settings).check()


def test_identity_comes_back():
    for options in (
        FlowOptions(),
        FlowOptions(algorithm="farneback", bound=15.0, size="short:240", quality="lossless"),
        FlowOptions(stride=-2, gray="before", warp=True, format="denseflow"),
        FlowOptions(adaptive=True),
        FlowOptions(algorithm="motion-vectors"),
    ):
        options.check()
        assert FlowOptions.from_identity(options.identity()) == options
    assert FlowOptions(adaptive=True).identity()["bound"] == "adaptive"
    assert FlowOptions.from_identity({"algorithm": "dis", "bound": 15.0}).bound == 15.0


def test_every_setting_is_in_the_identity():
    changes = {
        "algorithm": "farneback",
        "bound": 15.0,
        "adaptive": True,
        "size": "64x48",
        "quality": "lossless",
        "stride": 2,
        "gray": "before",
        "warp": True,
        "format": "denseflow",
    }
    usual = FlowOptions()
    # The weights of motionnet: tests/test_models_motionnet.py.
    assert {*changes, "weights"} == {field.name for field in dataclasses.fields(FlowOptions)}
    for name, value in changes.items():
        assert dataclasses.replace(usual, **{name: value}).identity() != usual.identity()


def test_description_names_what_is_unusual():
    assert FlowOptions().describe() == "dis, bound 20, size none"
    text = FlowOptions(stride=-2, adaptive=True, warp=True, format="store").describe()
    assert text == "dis, bound of each video, size none, stride -2, warped"


@pytest.mark.parametrize("name", ["denseflow", "dense-flow-zip", "denseflow-png", "gpu-flow"])
def test_old_formats_are_made_resumed_and_verified(tmp_path, name):
    jobs = make_jobs(tmp_path / "videos", 2, num_frames=8)
    out, options = tmp_path / "out", FlowOptions(algorithm="dis-ultrafast", format=name)
    summary = extract_flow(jobs, out, options=options, workers=1)
    assert (summary.videos, summary.pairs, summary.failures) == (2, 7 + 8, ())
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert summary.bytes == sum(path.stat().st_size for path in files)
    assert stored_options(out) == options
    assert verify_flow(jobs, out) == ()
    assert extract_flow(jobs, out, options=options, workers=1).kept == 2
    next(path for path in files if "v1" in str(path) and "v0" not in str(path)).unlink()
    assert [video for video, _ in verify_flow(jobs, out)] == ["class 1/v1"]
    folder = next(path for path in files if "v0" in str(path)).parent
    folder.with_name(f".{folder.name}.77.part").mkdir()
    again = extract_flow(jobs, out, options=options, workers=1)
    assert (again.kept, again.videos) == (1, 2)
    assert verify_flow(jobs, out) == ()
    assert not list(out.rglob(".*"))
    other = dataclasses.replace(options, format="store")
    with pytest.raises(KinemaError, match=f"format={name}, but format=store is asked for"):
        extract_flow(jobs, out, options=other)


def test_old_format_holds_flow_and_frames(tmp_path):
    job = make_jobs(tmp_path / "videos", 1, num_frames=6)[0]
    options = FlowOptions(size="64x48", format="denseflow", bound=8.0, stride=2)
    assert run_job(job, tmp_path / "out", options).pairs == 4
    folder = tmp_path / "out" / job.id
    with VideoReader(job.path) as reader:
        rgb = reader.read(range(6))
    small = [cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA) for image in rgb]
    gray = gray_from_rgb(np.stack(small))
    for index in range(6):
        image = cv2.cvtColor(cv2.imread(str(folder / f"img_{index:05d}.jpg")), cv2.COLOR_BGR2RGB)
        assert np.abs(image.astype(int) - small[index]).mean() < 2
    for index in range(4):
        flow = compute(gray[[index, index + 2]])[0]
        for component, name in enumerate("xy"):
            path = folder / f"flow_{name}_p2_{index:05d}.jpg"
            levels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            expected = np.clip(np.rint((flow[component] + 8) * 255 / 16), 0, 255)
            assert np.abs(levels - expected).mean() < 2


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A video with motion vectors, longer than the memory of live flow."""
    path = tmp_path_factory.mktemp("vectors") / "v.mp4"
    return write_video(path, moving(100, 3, -2, height=64, width=96))


@pytest.mark.parametrize("settings", [{}, {"size": "48x32"}, {"adaptive": True}])
def test_motion_vectors_live_are_those_stored(tmp_path, coded, settings):
    options = dataclasses.replace(VECTORS, **settings)
    assert store_flow(FlowJob(id="f", path=coded), tmp_path, options) == 99
    stored = FlowStore(tmp_path / "f.mp4")
    flow = LiveFlow.of(open_frames(coded), options)
    assert (flow.num_frames, flow.height, flow.width) == (99, stored.height, stored.width)
    assert flow.bound == stored.bound
    assert stored.metadata["parameters"] == {"intra": "repeat"}
    for indices in (range(99), [5, 5, 0, 98], [20], [97, 3]):
        assert np.array_equal(flow.read(indices), stored.read(indices))
    flow.close()


def test_motion_vectors_see_the_motion(coded):
    motion = (LiveFlow(open_frames(coded), algorithm="motion-vectors").read(range(99)) - 128.0) * (
        20 / 127
    )
    inner = motion[:, 16:-16, 16:-16]
    assert np.median(inner[..., 0]) == pytest.approx(3.0, abs=0.3)
    assert np.median(inner[..., 1]) == pytest.approx(-2.0, abs=0.3)


def test_motion_vectors_in_an_old_format(tmp_path, coded):
    options = FlowOptions(algorithm="motion-vectors", format="denseflow", size="48x32")
    outcome = run_job(FlowJob(id="v", path=coded), tmp_path, options)
    assert (outcome.pairs, outcome.failure) == (99, "")
    assert len(list((tmp_path / "v").glob("img_*.jpg"))) == 100
    assert len(list((tmp_path / "v").glob("flow_[xy]_*.jpg"))) == 198


def test_motion_vectors_need_a_video_file(tmp_path):
    frames = ArraySource(colour(moving(3, 1, 0)))
    with pytest.raises(KinemaError, match="is not a video file: motion vectors are in compressed"):
        LiveFlow(frames, algorithm="motion-vectors")
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"img_{number:05d}.jpg"), frames.frames[number])
    outcome = run_job(FlowJob(id="v", path=tmp_path), tmp_path / "out", VECTORS)
    assert f"{tmp_path} is not a video file" in outcome.failure
    single = make_video(tmp_path / "single.mp4", SPECS["single-frame"])
    outcome = run_job(FlowJob(id="s", path=single), tmp_path / "out", VECTORS)
    assert "only one frame: flow needs two" in outcome.failure
    assert not list((tmp_path / "out").rglob("*.mp4"))


def test_streams_of_frames_that_are_no_video(tmp_path):
    """A folder of images gives the flow of its images."""
    gray = moving(5, 2, 1)
    for number, image in enumerate(gray, start=1):
        cv2.imwrite(str(tmp_path / f"img_{number:05d}.png"), image)
    job = FlowJob(id="v", path=tmp_path)
    options = FlowOptions(algorithm="dis-fast", quality="lossless", stride=-1)
    assert store_flow(job, tmp_path / "out", options) == 4
    found = FlowStore(tmp_path / "out" / "v.mp4").read(range(4))
    expected = encode(compute(gray[::-1], algorithm="dis-fast"))[::-1]
    assert np.array_equal(found, expected)
