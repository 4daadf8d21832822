"""Packing of many videos: what is stored, resumed, refused, and how training reads it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helpers_datasets import video as index_video
from helpers_video import SPECS, Spec, make_video, sequential
from kinema.config import AugmentConfig, DataConfig
from kinema.data.clips import TrainClips
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.sources import open_source
from kinema.datasets.index import Index
from kinema.engine.items import clip_items, pack_jobs, stream_items
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow
from kinema.flow.live import LiveFlow
from kinema.packing import pack as packing
from kinema.packing.job import PackJob, PackOptions, PackOutcome, run_job
from kinema.packing.pack import pack, verify_pack
from kinema.video.rgb_store import RgbStore
from kinema.video.store_progress import estimate


class Deadly(PackJob):
    """A job that ends every process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


def make_jobs(folder, num, *, num_frames=12, name="h264"):
    jobs = []
    for i in range(num):
        path = folder / f"class {i % 2}" / f"v{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_video(path, dataclasses.replace(SPECS[name], num_frames=num_frames + i))
        jobs.append(PackJob(id=f"class {i % 2}/v{i}", path=path, num_frames=num_frames + i))
    return jobs


def contents(out):
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("[!.]*.mp4"))
    }


def error(found, right):
    return np.abs(found.astype(int) - np.stack(right)).mean()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three videos and their undisturbed packing."""
    folder = tmp_path_factory.mktemp("pack")
    jobs = make_jobs(folder / "videos", 3)
    return jobs, folder / "out", pack(jobs, folder / "out", workers=2)


def test_stores_hold_the_frames_of_the_videos(done):
    jobs, out, summary = done
    assert (summary.videos, summary.kept, summary.frames) == (3, 0, 12 + 13 + 14)
    assert summary.failures == ()
    assert summary.bytes == sum(len(content) for content in contents(out).values())
    assert "3 videos stored (0 of them before)" in summary.describe()
    for job in jobs:
        store, right = RgbStore(out / f"{job.id}.mp4"), sequential(job.path)
        assert (store.num_frames, store.height, store.width, store.fps) == (len(right), 48, 64, 25)
        assert error(store.read(range(len(right))), right) < 3
    assert verify_pack(jobs, out) == ()


AWKWARD = (
    "h264-odd",
    "h264-10bit",
    "h264-gray",
    "h264-rotated",
    "h264-rotated-180",
    "h264-vfr",
    "mpeg2",
    "mpeg4-avi-b",
    "vp8-hidden-frames",
    "single-frame",
)


@pytest.mark.parametrize("name", AWKWARD)
def test_lossless_stores_of_awkward_videos_are_exact(tmp_path, name):
    """Odd sizes, ten bits, gray, rotation, hidden frames: as decoding in sequence gives them."""
    path = make_video(tmp_path / f"v{SPECS[name].suffix}", SPECS[name])
    options = PackOptions(short_side=None, quality="lossless")
    outcome = run_job(PackJob(id="a", path=path), out=tmp_path / "out", options=options)
    right = np.stack(sequential(path))
    store = RgbStore(tmp_path / "out" / "a.mp4")
    assert (outcome.failure, outcome.frames) == ("", len(right))
    assert (store.num_frames, store.height, store.width) == right.shape[:3]
    assert np.array_equal(store.read(range(len(right))), right)


@pytest.mark.parametrize(
    ("width", "height", "short_side", "expected"),
    [
        (64, 48, 24, (24, 32)),
        (48, 64, 24, (32, 24)),
        (64, 48, 48, (48, 64)),
        (64, 48, 256, (48, 64)),  # never enlarged
        (70, 46, 33, (33, 50)),
        (64, 48, None, (48, 64)),
    ],
)
def test_frames_are_shrunk_by_area(tmp_path, width, height, short_side, expected):
    path = make_video(tmp_path / "v.mp4", Spec(width=width, height=height, num_frames=5))
    options = PackOptions(short_side=short_side, quality="lossless")
    run_job(PackJob(id="a", path=path), out=tmp_path, options=options)
    store = RgbStore(tmp_path / "a.mp4")
    right = [
        image
        if image.shape[:2] == expected
        else cv2.resize(image, expected[::-1], interpolation=cv2.INTER_AREA)
        for image in sequential(path)
    ]
    assert (store.height, store.width) == expected
    assert np.array_equal(store.read(range(5)), np.stack(right))


def test_a_rotated_video_is_shrunk_as_it_is_shown(tmp_path):
    path = make_video(tmp_path / "v.mp4", SPECS["h264-rotated"])
    options = PackOptions(short_side=24, quality="lossless")
    run_job(PackJob(id="a", path=path), out=tmp_path, options=options)
    right = cv2.resize(
        np.ascontiguousarray(sequential(path)[7]), (24, 32), interpolation=cv2.INTER_AREA
    )
    assert np.array_equal(RgbStore(tmp_path / "a.mp4").read([7])[0], right)


def test_a_folder_of_images_is_packed_as_well(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"img_{i + 1:05d}.png"), image[..., ::-1])
    job = PackJob(id="a", path=folder, num_frames=4)
    run_job(job, out=tmp_path / "out", options=PackOptions(quality="lossless"))
    store = RgbStore(tmp_path / "out" / "a.mp4")
    assert np.array_equal(store.read(range(4)), images)
    assert store.fps == 0.0
    assert store.metadata["source_bytes"] == sum(item.stat().st_size for item in folder.iterdir())


def test_manifest_and_metadata(done):
    jobs, out, _ = done
    manifest = json.loads((out / "manifest.json").read_text())
    settings = {"format": "rgb 1", "size": "short:256", "quality": "standard"}
    assert manifest["settings"] == settings
    assert sorted(manifest["videos"]) == sorted(job.id for job in jobs)
    for job in jobs:
        entry = manifest["videos"][job.id]
        metadata = RgbStore(out / f"{job.id}.mp4").metadata
        assert (entry["frames"], entry["width"], entry["height"]) == (job.num_frames, 64, 48)
        assert entry["source_sha256"] == metadata["source_sha256"] == sha256_of(job.path)
        assert metadata["source_bytes"] == job.path.stat().st_size
        assert (metadata["source"], metadata["kinema"]) == (job.path.name, manifest["kinema"])
        assert {name: metadata[name] for name in settings} == settings


def test_again_keeps_everything(done, capsys):
    jobs, out, _ = done
    before = contents(out)
    summary = pack(jobs, out)
    assert (summary.videos, summary.kept, summary.frames) == (3, 3, 0)
    assert contents(out) == before
    assert "0 videos to do, 3 already done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": 240}, "size=short:256, but size=short:240 is"),
        ({"short_side": None}, "size=short:256, but size=none is"),
        ({"quality": "lossless"}, "quality=standard, but quality=lossless is"),
    ],
)
def test_other_settings_are_refused(done, tmp_path, options, message):
    jobs, out, _ = done
    with pytest.raises(KinemaError, match=f"{message} asked for. Choose another output folder"):
        pack(jobs, out, **options)
    (tmp_path / "class 0").mkdir()
    copy = tmp_path / "class 0" / "v0.mp4"
    copy.write_bytes((out / "class 0" / "v0.mp4").read_bytes())
    with pytest.raises(KinemaError, match=rf"v0\.mp4 was made with {message}"):
        pack(jobs[:1], tmp_path, **options)  # without a manifest


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_folder_of_flow_is_refused_and_left_alone(done, tmp_path, has_manifest):
    jobs, _, _ = done
    flow = FlowJob(id=jobs[0].id, path=jobs[0].path)
    extract_flow([flow], tmp_path, options=FlowOptions(algorithm="dis-ultrafast"), workers=1)
    if not has_manifest:
        (tmp_path / "manifest.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(KinemaError, match=r"was not made by `kinema pack`.*another output folder"):
        pack(jobs[:1], tmp_path)
    assert contents(tmp_path) == before


def test_the_videos_themselves_are_never_replaced(done):
    jobs, _, _ = done
    before = [job.path.read_bytes() for job in jobs]
    folder = jobs[0].path.parents[1]
    with pytest.raises(UsageError, match=r"v0\.mp4 is one of the videos: its store would replace"):
        pack(jobs, folder)
    with pytest.raises(UsageError, match="is one of the videos"):
        pack(jobs, folder / ".." / folder.name)
    assert [job.path.read_bytes() for job in jobs] == before


def test_failures_cost_only_themselves(tmp_path, capfd):
    """Broken and missing videos, one that changes its size, and one whose process dies."""
    good = make_jobs(tmp_path / "videos", 4, num_frames=6)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(good[0].path.read_bytes()[:600])
    sizes = tmp_path / "sizes"
    sizes.mkdir()
    for i, side in enumerate((20, 20, 30)):
        cv2.imwrite(str(sizes / f"img_{i + 1:05d}.png"), np.zeros((side, 30, 3), np.uint8))
    bad = [
        Deadly(id="deadly", path=broken),
        PackJob(id="broken", path=broken),
        PackJob(id="gone", path=tmp_path / "gone.mp4"),
        PackJob(id="sizes", path=sizes),
    ]
    out = tmp_path / "out"
    summary = pack([*good[:2], *bad, *good[2:]], out, workers=2)
    failures = dict(summary.failures)
    assert sorted(failures) == ["broken", "deadly", "gone", "sizes"]
    assert "died twice" in failures["deadly"]
    assert "broken.mp4 is truncated" in failures["broken"]
    assert "gone.mp4 does not exist" in failures["gone"]
    assert "30x30 pixels, another image 30x20" in failures["sizes"]
    assert "failed: gone: " in summary.describe()
    assert summary.videos == len(contents(out)) == 4
    assert "Estimate: 8 videos" in capfd.readouterr().err
    assert verify_pack(good, out) == ()


def test_verification_finds_what_is_not_whole(done, tmp_path):
    jobs, out, _ = done
    for name, content in contents(out).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert verify_pack(jobs, tmp_path) == ()
    truncated = tmp_path / f"{jobs[0].id}.mp4"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    (tmp_path / f"{jobs[1].id}.mp4").unlink()
    longer = PackJob(id=jobs[2].id, path=jobs[2].path, num_frames=99)
    bad = dict(verify_pack([*jobs[:2], longer], tmp_path))
    assert "index is missing" in bad[jobs[0].id]
    assert "Cannot open" in bad[jobs[1].id]
    assert "has 14 frames, the video 99" in bad[jobs[2].id]


def test_damaged_store_and_changed_videos_are_done_again(tmp_path, capsys):
    jobs = make_jobs(tmp_path / "videos", 3)
    out = tmp_path / "out"
    pack(jobs, out, workers=1)
    before = contents(out)
    damaged = out / f"{jobs[0].id}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    make_video(jobs[1].path, dataclasses.replace(SPECS["h264"], num_frames=33))
    content = bytearray(jobs[2].path.read_bytes())  # as long as before, and newer
    content[content.index(b"mdat") + 700] ^= 1
    jobs[2].path.write_bytes(content)
    later = time.time() + 10
    os.utime(jobs[2].path, (later, later))
    summary = pack(jobs, out, workers=1)
    assert (summary.videos, summary.kept, summary.frames) == (3, 0, 12 + 33 + 14)
    assert damaged.read_bytes() == before[f"{jobs[0].id}.mp4"]
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert said.count("has changed since it was packed") == 2


def test_a_newer_date_alone_packs_nothing(tmp_path):
    jobs = make_jobs(tmp_path / "videos", 1)
    pack(jobs, tmp_path / "out", workers=1)
    later = time.time() + 10
    os.utime(jobs[0].path, (later, later))
    assert pack(jobs, tmp_path / "out", workers=1).kept == 1


def test_shards_together_make_the_whole(done, tmp_path):
    jobs, out, _ = done
    for part in range(2):
        pack(jobs, tmp_path, workers=1, shard=(part, 2))
    assert contents(tmp_path) == contents(out)
    manifests = [json.loads((at / "manifest.json").read_text()) for at in (tmp_path, out)]
    assert manifests[0] == manifests[1]


KILLED_SCRIPT = """
import sys
from pathlib import Path
from kinema.packing.pack import PackJob, pack
if __name__ == "__main__":
    videos = sorted(Path(sys.argv[1]).rglob("*.mp4"))
    pack([PackJob(id=path.stem, path=path) for path in videos], Path(sys.argv[2]), workers=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_goes_on_after_being_killed(tmp_path):
    jobs = [
        PackJob(id=job.path.stem, path=job.path, num_frames=job.num_frames)
        for job in make_jobs(tmp_path / "videos", 6, num_frames=150)
    ]
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(KILLED_SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "videos"), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not contents(out) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = list(contents(out))
    assert 1 <= len(kept) <= len(jobs)
    for name in kept:
        RgbStore(out / name).verify()
    (out / ".v5.99999.part.mp4").write_bytes(b"left over by a killed process")
    summary = pack(jobs, out, workers=1)
    assert (summary.videos, summary.failures) == (6, ())
    assert summary.kept >= len(kept)
    assert verify_pack(jobs, out) == ()
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        *(f"v{i}.mp4" for i in range(6)),
    ]


def test_wrong_requests(tmp_path):
    job = PackJob(id="a", path=tmp_path / "a.mp4")
    for jobs, options, message in (
        ([job, job], {}, "id 'a' occurs twice"),
        ([job], {"shard": (2, 2)}, "no part 2 of 2: parts count from 0 to 1"),
        ([job], {"short_side": 0}, "short side must be a positive number of pixels, not 0"),
        ([job], {"quality": "best"}, "no quality 'best'"),
        ([PackJob(id="../a", path=job.path)], {}, r"'../a' cannot be the id of a video"),
    ):
        with pytest.raises(UsageError, match=message):
            pack(jobs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_full_disk_stops_the_run(tmp_path, monkeypatch):
    job = make_jobs(tmp_path / "videos", 1, num_frames=100)[0]
    part = tmp_path / "out" / "class 0" / f".v0.{os.getpid()}.part.mp4"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    outcome = run_job(job, out=tmp_path / "out", options=PackOptions())
    assert outcome.is_disk_full
    assert "No space left on the disk while writing" in outcome.failure
    assert not list(part.parent.iterdir())
    monkeypatch.setattr(packing.Workers, "run", lambda *_: iter([outcome]))
    with pytest.raises(KinemaError, match="No space left on the disk"):
        pack([job], tmp_path / "out")


def test_estimate_uses_known_lengths():
    measured = [PackOutcome(id="a", frames=100, bytes=700_000, seconds=2.0)]
    jobs = [PackJob(id=str(i), path=Path("v"), num_frames=600) for i in range(10)]
    text = estimate(measured, [job.num_frames for job in jobs], workers=2, tally=packing.FRAMES)
    assert "10 videos, 6000 frames, about 1.0 minutes and 42.0 MB" in text
    unknown = [PackJob(id="a", path=Path("v")).num_frames] * 5
    text = estimate(measured, unknown, workers=2, tally=packing.FRAMES)
    assert "5 videos, 500 frames, about 0.1 minutes and 3.5 MB" in text


# Training from stores.

RGB = ClipSpec(stream="rgb", length=2, num_segments=3, sampling="any", resize="56x40", crop=32)
FLOW = ClipSpec(stream="flow", length=2, num_segments=2, resize="none", crop=32)


@pytest.fixture(scope="module")
def items(done, tmp_path_factory):
    """The first video as an item without a store, with a lossless one, and with a standard one."""
    jobs, out, _ = done
    exact = tmp_path_factory.mktemp("exact")
    pack(jobs[:1], exact, short_side=None, quality="lossless", workers=1)
    plain = ClipItem(id="v", path=jobs[0].path, label=1, num_frames=12)
    return plain, *(
        dataclasses.replace(plain, frame_path=folder / f"{jobs[0].id}.mp4")
        for folder in (exact, out)
    )


def clip(item, spec):
    return TrainClips([item], spec, AugmentConfig(), seed=0).clip(0, epoch=0)[0]


def test_clips_from_a_store_are_those_of_the_video(items):
    from_video, from_exact, from_standard = (clip(item, RGB) for item in items)
    assert from_video.shape == (3, 2, 3, 32, 32)
    assert torch.equal(from_video, from_exact)
    assert (from_video.float() - from_standard.float()).abs().mean() < 3
    assert not torch.equal(from_video, from_standard)


def test_flow_on_the_fly_comes_from_the_video_itself(items):
    plain, _, standard = items
    assert isinstance(open_source(standard, FLOW), LiveFlow)
    assert torch.equal(clip(plain, FLOW), clip(standard, FLOW))


def test_the_video_is_not_needed_where_there_is_a_store(items, tmp_path):
    _, exact, _ = items
    moved = dataclasses.replace(exact, path=tmp_path / "gone.mp4")
    assert torch.equal(clip(moved, RGB), clip(exact, RGB))


def test_missing_and_foreign_stores_are_named(items, tmp_path):
    plain, _, _ = items
    gone = dataclasses.replace(plain, frame_path=tmp_path / "gone.mp4")
    with pytest.raises(KinemaError, match=r"'v'.*gone\.mp4 has vanished.*run `kinema pack` again"):
        clip(gone, RGB)
    foreign = dataclasses.replace(plain, frame_path=plain.path)
    with pytest.raises(KinemaError, match=r"The video 'v' cannot be read: .*index is missing"):
        clip(foreign, RGB)


def test_items_of_an_index(done, tmp_path):
    jobs, out, _ = done
    videos = [index_video(job.id, "a", path=job.path, num_frames=job.num_frames) for job in jobs]
    index = Index(videos=tuple(videos), classes=("a",))
    assert pack_jobs(index) == jobs
    data = DataConfig(frame_store=str(out))
    plain = stream_items(index, "train", classes=("a",), data=DataConfig())
    stored = stream_items(index, "train", classes=("a",), data=data)
    assert [item.frame_path for item in plain] == [None] * 3
    assert [item.frame_path for item in stored] == [out / f"{job.id}.mp4" for job in jobs]
    message = r"3 of 3 videos have no frames in .* \(first: class 0/v0\): give the folder that"
    with pytest.raises(KinemaError, match=message):
        clip_items(videos, classes=("a",), frame_store=str(tmp_path))
    with pytest.raises(
        KinemaError, match=r"3 of 3 videos have no flow in .*give the folder that `kinema flow`"
    ):
        clip_items(videos, classes=("a",), flow_store=str(tmp_path))
