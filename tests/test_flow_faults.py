"""What a kill, a full disk, a dying process or a bad video costs: itself, and nothing half."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers_flow import colour, make_jobs, moving, write_video
from kinema.errors import KinemaError
from kinema.flow import extract
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow, verify_flow
from kinema.flow.job import remove_leftovers, run_job
from kinema.flow.live import LiveFlow
from kinema.flow.store import FlowStore
from kinema.video.frames import open_frames

FAST = FlowOptions(algorithm="dis-ultrafast")
ADAPTIVE = FlowOptions(algorithm="dis-ultrafast", adaptive=True)


class Deadly(FlowJob):
    """A job that ends every process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


class DeadlyOnce(FlowJob):
    """A job that ends the first process that receives it."""

    def __reduce__(self):
        marker = f"{self.path}.seen"
        values = {"id": self.id, "path": self.path, "num_frames": self.num_frames}
        code = f"__import__('os').path.exists({marker!r}) or (open({marker!r}, 'w'), die())"
        return _receive, (code, values)


def _receive(code, values):
    eval(code, {"die": lambda: os._exit(3)})
    return FlowJob(**values)


def contents(out):
    """Metadata and decoded pairs of every store."""
    found = {}
    for path in sorted(out.rglob("[!.]*.mp4")):
        store = FlowStore(path)
        found[str(path.relative_to(out))] = (store.metadata, store.read(range(store.num_frames)))
    return found


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, (metadata, pairs) in expected.items():
        assert found[name][0] == metadata
        assert np.array_equal(found[name][1], pairs)


def hidden(out):
    return [path.name for path in out.rglob(".*")]


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
    assert not hidden(out)
    assert "Estimate: 8 videos" in capfd.readouterr().err
    assert verify_flow(good, out) == ()


def test_a_dead_worker_is_replaced_and_its_video_done_again(tmp_path):
    jobs = make_jobs(tmp_path / "videos", 3, num_frames=6)
    jobs[1] = DeadlyOnce(id=jobs[1].id, path=jobs[1].path, num_frames=7)
    summary = extract_flow(jobs, tmp_path / "out", options=FAST, workers=2)
    assert summary.failures == ()
    assert summary.pairs == 5 + 6 + 7
    assert (tmp_path / "videos" / "class 1" / "v1.mp4.seen").exists()


def test_too_short_for_a_stride(tmp_path):
    job = FlowJob(id="short", path=write_video(tmp_path / "short.mp4", moving(4, 1, 0)))
    for stride in (4, -7):
        outcome = run_job(job, tmp_path / "out", FlowOptions(stride=stride))
        assert f"at stride {stride} needs {abs(stride) + 1} at least" in outcome.failure
    assert run_job(job, tmp_path / "out", FlowOptions(stride=3)).pairs == 1


def changing_size(path):
    """Twelve frames of 96x64, then twelve of 80x48, in one H.264 stream."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for start, height, width in ((0, 64, 96), (12, 48, 80)):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = {"x264-params": "keyint=8:bframes=0"}
            packets = []
            for i, image in enumerate(colour(moving(12, 1, 0, height=height, width=width))):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = start + i, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream
                container.mux(packet)
    return path


CHANGES = r"s\.ts changes its picture size at frame 12, from 96x64 to 80x48. Encode it anew"


def test_a_video_that_changes_its_size_fails_alone(tmp_path):
    jobs = make_jobs(tmp_path / "videos", 1, num_frames=6)
    jobs.append(FlowJob(id="s", path=changing_size(tmp_path / "s.ts")))
    for number, options in enumerate((FAST, ADAPTIVE, FlowOptions(size="48x32"))):
        out = tmp_path / f"out {number}"
        summary = extract_flow(jobs, out, options=options, workers=1)
        assert summary.videos == 1
        with pytest.raises(KinemaError, match=CHANGES):
            raise KinemaError(dict(summary.failures)["s"])
        assert [path.name for path in out.rglob("*.mp4")] == ["v0.mp4"]
        assert not hidden(out)


def test_live_flow_of_a_video_that_changes_its_size(tmp_path):
    flow = LiveFlow(open_frames(changing_size(tmp_path / "s.ts")), size="48x32")
    assert flow.read(range(11)).shape == (11, 32, 48, 2)
    for indices in (range(8, 14), [11], [12], [20, 21]):
        with pytest.raises(KinemaError, match="changes its picture size at frame"):
            flow.read(indices)


def test_damaged_store_and_changed_video_are_done_again(tmp_path, capsys):
    jobs = make_jobs(tmp_path / "videos", 2)
    target = tmp_path / "out"
    extract_flow(jobs, target, options=FAST, workers=1)
    before = contents(target)
    damaged = target / f"{jobs[0].id}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    assert "index is missing" in dict(verify_flow(jobs, target))[jobs[0].id]
    write_video(jobs[1].path, moving(33, 2, 2, seed=9))
    summary = extract_flow(jobs, target, options=FAST, workers=1)
    assert (summary.videos, summary.kept, summary.pairs) == (2, 0, 19 + 32)
    first = f"{jobs[0].id}.mp4"
    assert_same({first: contents(target)[first]}, {first: before[first]})
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert "has changed since its flow was stored" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk_stops_the_run(tmp_path, monkeypatch):
    job = make_jobs(tmp_path / "videos", 1)[0]
    part = tmp_path / "out" / "class 0" / f".v0.{os.getpid()}.part.mp4"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    outcome = run_job(job, tmp_path / "out", FAST)
    assert outcome.is_disk_full
    assert "No space left on the disk while writing" in outcome.failure
    assert not list(part.parent.iterdir())
    monkeypatch.setattr(extract, "run_jobs", lambda *_, **__: (item for item in [outcome]))
    with pytest.raises(KinemaError, match="No space left on the disk"):
        extract_flow([job], tmp_path / "out", options=FAST)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk_while_the_flow_waits_for_its_bound(tmp_path, monkeypatch):
    job = make_jobs(tmp_path / "videos", 1)[0]
    full = open("/dev/full", "w+b", buffering=0)  # noqa: PTH123, SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    outcome = run_job(job, tmp_path / "out", ADAPTIVE)
    assert outcome.is_disk_full
    assert "No space left on the disk while storing the flow of" in outcome.failure
    assert "v0.mp4: nothing half-written is left" in outcome.failure
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_leftovers_of_other_videos_stay(tmp_path):
    names = [".a.77.part.mp4", ".a.8.part.mp4", ".a.b.77.part.mp4", ".a.5.77.part.mp4", "a.mp4"]
    for name in (*names, ".b.77.part.mp4", ".manifest.77.part.json", ".a.77.part.txt"):
        (tmp_path / name).touch()
    remove_leftovers([tmp_path / "a.mp4", tmp_path / "manifest.json", tmp_path / "gone" / "a.mp4"])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[2:], ".b.77.part.mp4", ".a.77.part.txt"}


SCRIPT = """
import sys
from pathlib import Path
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow
if __name__ == "__main__":
    videos, out = Path(sys.argv[1]), Path(sys.argv[2])
    paths = sorted(videos.rglob("*.mp4"))
    jobs = [FlowJob(id=str(p.relative_to(videos).with_suffix("")), path=p) for p in paths]
    options = FlowOptions(algorithm="dis-ultrafast", adaptive=sys.argv[3] == "True")
    extract_flow(jobs, out, options=options, workers=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("options", "kills"), [(FAST, 10), (ADAPTIVE, 4)])
def test_killed_at_random_moments_and_resumed(tmp_path, options, kills):
    """The whole group of processes is killed; some stores are lost, so that there is work left."""
    jobs = make_jobs(tmp_path / "videos", 8, num_frames=100)
    extract_flow(jobs, tmp_path / "undisturbed", options=options, workers=2)
    script = tmp_path / "extract.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    command = [sys.executable, str(script), str(tmp_path / "videos"), str(out)]
    command.append(str(options.adaptive))
    rng = np.random.default_rng(int(time.time()))
    for _ in range(kills):
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            wait_for_work(out, process)
            time.sleep(rng.uniform(0, 0.2))
            os.killpg(process.pid, signal.SIGKILL)
        stores = sorted(out.rglob("[!.]*.mp4"))
        for path in stores:
            FlowStore(path).verify()
        for path in rng.permutation(np.array(stores, dtype=object))[5:]:
            path.unlink()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert_same(contents(out), contents(tmp_path / "undisturbed"))
    assert verify_flow(jobs, out) == ()
    assert not hidden(out)


def wait_for_work(out, process):
    """Wait until the work has really begun: something new is in the folder."""
    before = set(out.rglob("*"))
    while process.poll() is None and not set(out.rglob("*.mp4")) - before:
        time.sleep(0.01)
