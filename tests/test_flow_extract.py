"""Extraction of many videos: complete, resumed, and what a bad video or a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers_flow import moving, write_video
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of
from kinema.flow import extract
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import encode
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow, verify_flow
from kinema.flow.job import Outcome, run_job
from kinema.flow.manifest import stored_options
from kinema.flow.store import FlowStore
from kinema.video.reader import VideoReader

FAST = FlowOptions(algorithm="dis-ultrafast")


class Deadly(FlowJob):
    """A job that ends every process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


def make_jobs(folder, num, *, num_frames=20):
    jobs = []
    for i in range(num):
        path = folder / f"class {i % 2}" / f"v{i}.mp4"
        write_video(path, moving(num_frames + i, 1 + i % 3, -1, seed=i))
        jobs.append(FlowJob(id=f"class {i % 2}/v{i}", path=path, num_frames=num_frames + i))
    return jobs


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


def test_failures_cost_only_themselves(tmp_path, capfd):
    """One-frame, broken and missing videos, and one whose process dies."""
    good = make_jobs(tmp_path / "videos", 4, num_frames=6)
    single = write_video(tmp_path / "single.mp4", moving(1, 0, 0))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(good[0].path.read_bytes()[:600])
    bad = [
        FlowJob(id="single", path=single),
        Deadly(id="deadly", path=single),
        FlowJob(id="broken", path=broken),
        FlowJob(id="gone", path=tmp_path / "gone.mp4"),
    ]
    jobs = [*good[:2], *bad, *good[2:]]
    out = tmp_path / "out"
    summary = extract_flow(jobs, out, options=FAST, workers=2)
    failures = dict(summary.failures)
    assert sorted(failures) == ["broken", "deadly", "gone", "single"]
    assert "only one frame: flow needs two at least" in failures["single"]
    assert "died twice" in failures["deadly"]
    assert "broken.mp4 is truncated" in failures["broken"]
    assert "gone.mp4 does not exist" in failures["gone"]
    assert summary.videos == 4
    assert len(contents(out)) == 4
    assert "Estimate: 8 videos" in capfd.readouterr().err
    assert verify_flow(good, out) == ()


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


def test_damaged_store_and_changed_video_are_done_again(tmp_path, capsys):
    jobs = make_jobs(tmp_path / "videos", 2)
    target = tmp_path / "out"
    extract_flow(jobs, target, options=FAST, workers=1)
    before = contents(target)
    damaged = target / f"{jobs[0].id}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    write_video(jobs[1].path, moving(33, 2, 2, seed=9))
    summary = extract_flow(jobs, target, options=FAST, workers=1)
    assert (summary.videos, summary.kept, summary.pairs) == (2, 0, 19 + 32)
    assert damaged.read_bytes() == before[f"{jobs[0].id}.mp4"]
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert "has changed since its flow was stored" in said


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
    ):
        with pytest.raises(UsageError, match=message):
            extract_flow(jobs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk_stops_the_run(tmp_path, monkeypatch):
    job = make_jobs(tmp_path / "videos", 1)[0]
    part = tmp_path / "out" / "class 0" / f".v0.{os.getpid()}.part.mp4"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    monkeypatch.setattr("kinema.flow.job.remove_leftovers", lambda path: None)
    outcome = run_job(job, tmp_path / "out", FAST)
    assert outcome.is_disk_full
    assert "No space left on the disk while writing" in outcome.failure
    assert not list(part.parent.iterdir())
    monkeypatch.setattr(extract, "run_jobs", lambda *_, **__: iter([outcome]))
    with pytest.raises(KinemaError, match="No space left on the disk"):
        extract_flow([job], tmp_path / "out", options=FAST)


def test_estimate_uses_known_lengths():
    measured = [Outcome(id="a", pairs=100, bytes=200_000, seconds=10.0)]
    jobs = [FlowJob(id=str(i), path=Path("v"), num_frames=601) for i in range(10)]
    text = extract._estimate(measured, jobs, 2)
    assert "10 videos, 6000 pairs, about 5.0 minutes and 12.0 MB" in text
    unknown = [FlowJob(id=str(i), path=Path("v")) for i in range(10)]
    assert "1000 pairs, about 0.8 minutes" in extract._estimate(measured, unknown, 2)


SCRIPT = """
import sys
from pathlib import Path
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow
if __name__ == "__main__":
    videos, out = Path(sys.argv[1]), Path(sys.argv[2])
    paths = sorted(videos.rglob("*.mp4"))
    jobs = [FlowJob(id=str(p.relative_to(videos).with_suffix("")), path=p) for p in paths]
    extract_flow(jobs, out, options=FlowOptions(algorithm="dis-ultrafast"), workers=2)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(tmp_path):
    jobs = make_jobs(tmp_path / "videos", 8, num_frames=150)
    extract_flow(jobs, tmp_path / "undisturbed", options=FAST, workers=2)
    script = tmp_path / "extract.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    command = [sys.executable, str(script), str(tmp_path / "videos"), str(out)]
    rng = np.random.default_rng(int(time.time()))
    for _ in range(4):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            wait_for_a_part(out, process)
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        for path in out.rglob("[!.]*.mp4"):
            FlowStore(path).verify()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert verify_flow(jobs, out) == ()
    assert not list(out.rglob(".*"))


def wait_for_a_part(out, process):
    """Wait until the work has really begun: a store is being written."""
    while process.poll() is None and not list(out.rglob(".*.part.mp4")):
        time.sleep(0.01)
