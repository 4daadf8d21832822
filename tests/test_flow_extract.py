"""Extraction of many videos: what is stored, in which settings, and how it goes on."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import pytest

from helpers_flow import make_jobs
from helpers_video import Spec, make_video
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of, write_json
from kinema.flow import device, extract
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import encode
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow, verify_flow
from kinema.flow.job import Outcome, run_job
from kinema.flow.manifest import stored_options
from kinema.flow.source_pairs import Shares
from kinema.flow.store import FlowStore, FlowWriter
from kinema.video.reader import VideoReader
from kinema.video.store_progress import estimate
from kinema.workers import _start_worker

FAST = FlowOptions(algorithm="dis-ultrafast")
OLD_SETTINGS = ("format", "algorithm", "parameters", "bound", "size", "quality")


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.mp4"))}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three videos and their undisturbed extraction."""
    folder = tmp_path_factory.mktemp("flow")
    jobs = make_jobs(folder / "videos", 3)
    summary = extract_flow(jobs, folder / "out", options=FAST, workers=2)
    return jobs, folder / "out", summary


def test_stores_hold_the_flow_of_the_videos(done):
    jobs, out, summary = done
    assert (summary.videos, summary.kept, summary.pairs) == (3, 0, 19 + 20 + 21)
    assert summary.failures == ()
    assert summary.bytes == sum(len(content) for content in contents(out).values())
    for job in jobs:
        store = FlowStore(out / f"{job.id}.mp4")
        with VideoReader(job.path) as reader:
            gray = gray_from_rgb(np.stack(list(reader.stream())))
        expected = encode(compute(gray, algorithm="dis-ultrafast"))
        error = np.abs(store.read(range(store.num_frames)).astype(int) - expected)
        assert store.num_frames == job.num_frames - 1
        assert error.mean() * 20 / 127 < 0.1


def test_manifest_and_metadata(done):
    jobs, out, _ = done
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"] == FAST.identity()
    assert manifest["settings"]["parameters"] == {"preset": "ultrafast"}
    assert sorted(manifest["videos"]) == sorted(job.id for job in jobs)
    for job in jobs:
        entry = manifest["videos"][job.id]
        assert entry["pairs"] == job.num_frames - 1
        assert entry["source_sha256"] == sha256_of(job.path)
        assert FlowStore(out / f"{job.id}.mp4").metadata["source_sha256"] == sha256_of(job.path)
    assert stored_options(out) == FAST


def test_again_keeps_everything(done, capsys):
    jobs, out, _ = done
    before = contents(out)
    summary = extract_flow(jobs, out, options=FAST)
    assert (summary.videos, summary.kept, summary.pairs) == (3, 3, 0)
    assert contents(out) == before
    assert "0 videos to do, 3 already done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FlowOptions(algorithm="dis"), "algorithm=dis-ultrafast, but algorithm=dis is"),
        (FlowOptions(algorithm="dis-ultrafast", bound=15.0), r"bound=20\.0, but bound=15\.0"),
        (FlowOptions(algorithm="dis-ultrafast", size="64x64"), "size=none, but size=64x64"),
        (FlowOptions(algorithm="dis-ultrafast", quality="lossless"), "quality=standard, but"),
        (FlowOptions(algorithm="dis-ultrafast", stride=-2), "stride=1, but stride=-2"),
        (FlowOptions(algorithm="dis-ultrafast", gray="before"), "gray=after, but gray=before"),
        (FlowOptions(algorithm="dis-ultrafast", warp=True), "warp=False, but warp=True"),
        (FlowOptions(algorithm="dis-ultrafast", adaptive=True), r"bound=20\.0, but bound=adaptive"),
    ],
)
def test_other_settings_are_refused(done, options, message):
    jobs, out, _ = done
    with pytest.raises(KinemaError, match=f"{message}.*Choose another output folder"):
        extract_flow(jobs, out, options=options)


def test_other_settings_are_refused_without_a_manifest(done, tmp_path):
    jobs, out, _ = done
    (tmp_path / "class 0").mkdir()
    copy = tmp_path / "class 0" / "v0.mp4"
    copy.write_bytes((out / "class 0" / "v0.mp4").read_bytes())
    with pytest.raises(KinemaError, match=r"v0\.mp4 was made with algorithm=dis-ultrafast"):
        extract_flow(jobs[:1], tmp_path, options=FlowOptions(algorithm="farneback"))


def test_verification_finds_what_is_not_whole(done, tmp_path):
    jobs, out, _ = done
    for name, content in contents(out).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert verify_flow(jobs, tmp_path) == ()
    truncated = tmp_path / f"{jobs[0].id}.mp4"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    (tmp_path / f"{jobs[1].id}.mp4").unlink()
    longer = FlowJob(id=jobs[2].id, path=jobs[2].path, num_frames=99)
    bad = dict(verify_flow([*jobs[:2], longer], tmp_path))
    assert "index is missing" in bad[jobs[0].id]
    assert "Cannot open" in bad[jobs[1].id]
    assert "has 21 pairs, the video 99 frames" in bad[jobs[2].id]


def test_shards_together_make_the_whole(done, tmp_path):
    jobs, out, _ = done
    for part in range(2):
        extract_flow(jobs, tmp_path, options=FAST, workers=1, shard=(part, 2))
    assert contents(tmp_path) == contents(out)
    manifests = [json.loads((at / "manifest.json").read_text()) for at in (tmp_path, out)]
    assert manifests[0] == manifests[1]


def test_wrong_requests(tmp_path):
    job = FlowJob(id="a", path=tmp_path / "a.mp4")
    for jobs, options, message in (
        ([job, job], {}, "id 'a' occurs twice"),
        ([job], {"shard": (2, 2)}, "no part 2 of 2: parts count from 0 to 1"),
        ([job], {"options": FlowOptions(algorithm="tvl9")}, "no flow algorithm 'tvl9'"),
        ([job], {"options": FlowOptions(size="9by9")}, "'9by9' is not a size"),
        ([FlowJob(id="../a", path=job.path)], {}, r"'../a' cannot be the id of a video"),
        ([job], {"options": FlowOptions(bound=0)}, "bound must be positive"),
        ([job], {"options": FlowOptions(stride=0)}, "stride is a number of frames"),
        ([job], {"options": FlowOptions(quality="best")}, "no quality 'best'"),
        ([job], {"options": FlowOptions(gray="x")}, "no gray 'x'"),
    ):
        with pytest.raises(UsageError, match=message):
            extract_flow(jobs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_estimate_uses_known_lengths():
    shares = Shares(decode=1.0, flow=6.0, write=3.0)
    measured = [Outcome(id="a", pairs=100, bytes=200_000, shares=shares)]
    known = [FlowOptions(stride=-3).num_pairs(603)] * 10
    text = estimate(measured, known, workers=2, tally=extract.PAIRS)
    assert "10 videos, 6000 pairs, about 5.0 minutes and 12.0 MB" in text
    unknown = [FAST.num_pairs(FlowJob(id="a", path=Path("v")).num_frames)] * 10
    text = estimate(measured, unknown, workers=2, tally=extract.PAIRS)
    assert "1000 pairs, about 0.8 minutes" in text


def test_summary_says_where_the_time_went(done):
    _, _, summary = done
    assert min(summary.shares.decode, summary.shares.flow, summary.shares.write) > 0
    assert summary.shares.total <= 2 * summary.seconds  # of two processes
    text = dataclasses.replace(
        summary, shares=Shares(decode=1.0, flow=2.0, write=1.0), failures=(("a", "is bad"),)
    ).describe()
    assert "3 videos stored (0 of them before)" in text
    assert "; 60 pairs, 0.0 MB in" in text
    assert "Time: decoding 25 %, flow 50 %, writing 25 %." in text
    assert text.endswith("failed: a: is bad")


def test_shares_add_up_to_the_time_of_the_video(done, tmp_path):
    jobs, _, _ = done
    started = time.monotonic()
    outcome = run_job(jobs[0], tmp_path, FAST)
    assert outcome.seconds == pytest.approx(time.monotonic() - started, rel=0.2, abs=0.02)


def test_stride_and_adaptive_bound_are_kept_and_resumed(tmp_path):
    jobs = make_jobs(tmp_path / "videos", 2)
    options = FlowOptions(algorithm="dis-ultrafast", adaptive=True, stride=2)
    summary = extract_flow(jobs, tmp_path / "out", options=options, workers=1)
    assert summary.pairs == 18 + 19
    assert stored_options(tmp_path / "out") == options
    for job in jobs:
        metadata = FlowStore(tmp_path / "out" / f"{job.id}.mp4").metadata
        assert (metadata["stride"], metadata["adaptive"]) == (2, True)
        assert metadata["bound"] < 20
        assert (metadata["bound"] * 2).is_integer()
    assert extract_flow(jobs, tmp_path / "out", options=options, workers=1).kept == 2
    assert verify_flow(jobs, tmp_path / "out") == ()
    with pytest.raises(KinemaError, match=r"bound=adaptive, but bound=20\.0"):
        extract_flow(jobs, tmp_path / "out", options=dataclasses.replace(options, adaptive=False))


def test_folders_from_before_a_setting_existed_have_its_default(done, tmp_path):
    jobs, _, _ = done
    old = {name: FAST.identity()[name] for name in OLD_SETTINGS}
    write_json(tmp_path / "manifest.json", {"settings": old, "videos": {}})
    assert stored_options(tmp_path) == FAST
    for job in jobs:
        pairs = np.full((job.num_frames - 1, 96, 128, 2), 128, np.uint8)
        metadata = {**old, "source_bytes": job.path.stat().st_size}
        path = tmp_path / f"{job.id}.mp4"
        with FlowWriter(path, width=128, height=96, metadata=metadata) as writer:
            for pair in pairs:
                writer.write(pair)
    assert extract_flow(jobs, tmp_path, options=FAST).kept == 3
    assert verify_flow(jobs, tmp_path) == ()
    with pytest.raises(KinemaError, match="stride=1, but stride=2 is asked for"):
        extract_flow(jobs, tmp_path, options=dataclasses.replace(FAST, stride=2))


def test_every_worker_has_its_gpu_and_one_thread(monkeypatch):
    context = get_context("spawn")
    number, seen = context.Value("i", 0), []
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("4", "7")]
    for _ in range(3):
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=_start_worker, initargs=(number, environments)
        ) as workers:
            names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
            seen.append([workers.submit(os.getenv, name).result() for name in names])
    assert seen == [["4", "1", "1"], ["7", "1", "1"], ["4", "1", "1"]]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "_DRIVER", Path("/no/driver"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert device.visible_gpus() == ()
    monkeypatch.setattr(device, "_DRIVER", Path("/"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert device.visible_gpus() == ("0", "1", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert device.visible_gpus() == ("5", "6")
    assert FlowOptions(algorithm="tvl1").uses_gpu
    assert not FlowOptions(algorithm="dis").uses_gpu


MEMORY_SCRIPT = """
import sys
from contextlib import closing
from pathlib import Path
from kinema.flow.job import FlowJob, FlowOptions, run_job
from kinema.flow.live import LiveFlow
from kinema.video.frames import open_frames
video, kind = Path(sys.argv[1]), sys.argv[2]
options = FlowOptions(algorithm="dis-ultrafast", adaptive=True)
if kind == "live":
    with closing(LiveFlow(open_frames(video), algorithm="dis-ultrafast")) as flow:
        for start in range(0, flow.num_frames - 10, 40):
            flow.read(range(start, start + 10))
else:
    outcome = run_job(FlowJob(id=kind, path=video), video.parent / "out", options)
    assert not outcome.failure, outcome.failure
status = Path("/proc/self/status").read_text()  # of this program alone, in KiB
print(status.split("VmHWM:")[1].split()[0])
"""


def repeated(video, path, *, times):
    """A video many times over, without encoding it again."""
    with av.open(str(video)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for number in range(times * len(packets)):
            packet = av.Packet(bytes(packets[number % len(packets)]))
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.is_keyframe = number % len(packets) == 0
            packet.pts = packet.dts = number
            new.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """20,000 frames, whose pictures alone would be 90 MB, in hardly more than 500."""

    def used_mb(video, kind):
        command = [sys.executable, "-c", MEMORY_SCRIPT, str(video), kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout) / 1024

    spec = Spec(codec="mpeg4", num_frames=50, width=48, height=32, options={"g": "50"})
    video = make_video(tmp_path / "video.mp4", spec)
    short = used_mb(repeated(video, tmp_path / "short.mp4", times=10), "stored")
    long = repeated(video, tmp_path / "long.mp4", times=400)
    for kind in ("stored", "live"):
        used = used_mb(long, kind)
        assert used < 1000
        assert used - short < 25, kind
