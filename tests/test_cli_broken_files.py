"""Broken files, full disks and vanished videos: one clear sentence each, and nothing lost."""

import csv
import errno
import shutil
from pathlib import Path

import pytest

from helpers_cli import BROKEN, OPTIONS, STREAMS, contents, copy_of, kinema, make_broken, video_like
from kinema.errors import KinemaError
from kinema.flow import extract
from kinema.flow.job import run_job


@pytest.fixture(scope="module")
def spoiled(finished, tmp_path_factory) -> Path:
    """The sample videos with a broken file of every kind, a doubled one and an empty class."""
    folder = tmp_path_factory.mktemp("spoiled")
    shutil.copytree(finished.data, folder, dirs_exist_ok=True)
    make_broken(folder / "striped-circle" / "scene-01")
    video = folder / "striped-circle" / "scene-02" / "002.mp4"
    shutil.copy(video, video.with_name("copy.mp4"))
    video_like(folder / "striped-circle" / "scene-01" / "short.mp4", num_frames=1)
    (folder / "nothing").mkdir()
    return folder


REASONS = {**BROKEN, "copy.mp4": "same content", "short.mp4": "has 1 frame, at least 2 are needed"}


def rejected(index: Path) -> dict[str, str]:
    with (index / "rejected.csv").open(encoding="utf-8") as handle:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(handle)}


def test_index_lists_every_broken_file_and_goes_on(spoiled, tmp_path):
    done = kinema("index", spoiled, "-o", tmp_path)
    assert done.code == 0
    assert "24 videos, 6 classes, 4 groups." in done.out
    assert f"The class folder {spoiled / 'nothing'} holds no video: left out." in done.out
    assert "8 files are left out (see rejected.csv)" in done.out
    found = rejected(tmp_path)
    assert len(found) == 8 and found["nothing"] == "a class folder without a video"
    for name, reason in REASONS.items():
        assert reason.removeprefix("is ") in found[name].removeprefix("is ")


def test_index_can_be_strict(spoiled, tmp_path):
    done = kinema("index", spoiled, "-o", tmp_path, "--strict")
    assert done.code == 1
    assert "8 files cannot be used, the first is" in done.error
    assert "index without --strict" in done.error
    assert not (tmp_path / "index.csv").exists() and len(rejected(tmp_path)) == 8


def test_run_goes_on_without_the_broken_files(spoiled, tmp_path):
    words = ("--streams", "rgb", "train.epochs=1")
    done = kinema("run", spoiled, "--out", tmp_path / "run", *OPTIONS, *words)
    assert done.code == 0 and "8 files are left out" in done.err
    assert len(rejected(tmp_path / "run" / "index")) == 8


def test_predict_lists_the_broken_files_and_goes_on(finished, spoiled):
    folder = spoiled / "striped-circle" / "scene-01"
    done = kinema("predict", finished.folder, folder, "--top", "1")
    assert done.code == 1
    (row,) = done.out.splitlines()[1:]  # a long path is shortened at its beginning
    assert row.split()[0].endswith("scene-01/001.mp4")
    lines = done.err.splitlines()
    assert len(lines) == 6
    for name, reason in BROKEN.items():
        (line,) = (line for line in lines if name in line)
        assert line.startswith(str(folder / name)) and reason in line and line.endswith(".")
    assert "needs two frames" in lines[-1] and "short.mp4" in lines[-1]


@pytest.mark.parametrize("name", BROKEN)
def test_predict_of_nothing_else(finished, spoiled, name):
    done = kinema("predict", finished.folder, spoiled / "striped-circle" / "scene-01" / name)
    assert done.code == 1 and not done.out
    assert BROKEN[name] in done.err and len(done.err.splitlines()) == 1


def test_nothing_but_broken_files(tmp_path):
    for name in ("run", "jump"):
        make_broken(tmp_path / "data" / name)
    done = kinema("index", tmp_path / "data", "-o", tmp_path / "index")
    assert done.code == 1
    assert "10 files cannot be used" in done.error and "No video is left." in done.error


def test_a_class_of_the_test_part_that_training_lacks(tmp_path):
    for seed, name in enumerate(("train/run/1", "train/jump/2", "test/run/3", "test/fly/4")):
        video_like(tmp_path / "data" / f"{name}.mp4", seed=seed)
    done = kinema("run", tmp_path / "data", "--out", tmp_path / "run", *OPTIONS)
    assert done.code == 1
    assert "The class 'fly' is in test (video 'test/fly/4') but has no training video" in done.error


def test_a_group_on_both_sides(tmp_path):
    for seed, name in enumerate(("train/run/anna/1", "train/jump/ben/2", "test/run/anna/3")):
        video_like(tmp_path / "data" / f"{name}.mp4", seed=seed)
    done = kinema("index", tmp_path / "data", "-o", tmp_path / "index")
    assert done.code == 1 and "The group 'anna' is on both sides" in done.error


def test_a_video_that_has_vanished_since(finished, tmp_path):
    data, index = tmp_path / "data", tmp_path / "index"
    shutil.copytree(finished.data, data)
    assert kinema("index", data, "-o", index).code == 0
    gone = data / "striped-circle" / "scene-01" / "001.mp4"
    gone.unlink()
    message = f"1 of 24 videos of the index are no longer there, the first is {gone}."
    for words in (
        ("flow", index, "-o", tmp_path / "flow", "--workers", "1"),
        ("train", index, "-o", tmp_path / "train", "--recipe", "tiny"),
        ("test", finished.checkpoint("rgb"), "--index", index, "-o", tmp_path / "scores.npz"),
    ):
        done = kinema(*words)
        assert done.code == 1 and message in done.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "index"]


def test_flow_that_has_vanished_since(finished, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(finished.folder / "flow-store", store)
    (store / "striped-circle" / "scene-01" / "001.mp4").unlink()
    words = ("--recipe", "tiny", "--modality", "flow", "--flow", store)
    done = kinema("train", finished.folder / "index", "-o", tmp_path / "train", *words)
    assert done.code == 1 and "have no flow in" in done.error
    assert "run `kinema flow` again, it goes on where it stopped" in done.error


@pytest.fixture
def full_disk(monkeypatch):
    """The disk has no room left when a file is to be finished."""

    def fsync(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def run_here(jobs, out, options, *, workers):
        return (run_job(job, out, options) for job in jobs)

    monkeypatch.setattr("kinema.files.os.fsync", fsync)
    monkeypatch.setattr(extract, "run_jobs", run_here)


def test_a_full_disk_costs_no_score_file(finished, tmp_path, full_disk):
    folder = copy_of(finished, tmp_path / "run")
    before = contents(folder)
    files = [folder / stream / "scores" / "test.npz" for stream in STREAMS]
    for words in (
        ("test", folder / "rgb"),
        ("fuse", *files, "-o", folder / "scores" / "fused.npz"),
        ("report", folder),
    ):
        done = kinema(*words)
        assert done.code == 1
        assert done.error.startswith("No space left on the disk while writing ")
        assert "run the same command again" in done.error
    assert contents(folder) == before


def test_a_full_disk_costs_no_index(finished, tmp_path, full_disk):
    done = kinema("index", finished.data, "-o", tmp_path / "index")
    assert done.code == 1 and "No space left on the disk" in done.error
    assert contents(tmp_path) == {}


def test_a_full_disk_costs_no_flow(finished, tmp_path, monkeypatch, full_disk):
    index = finished.folder / "index"
    monkeypatch.setattr(extract, "pin_settings", lambda out, options: None)
    done = kinema("flow", index, "-o", tmp_path / "flow", "--size", "32x32")
    assert done.code == 1 and "No space left on the disk while writing" in done.error
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    again = kinema("flow", index, "-o", tmp_path / "flow", "--size", "32x32", "--shard", "0/24",
                   "--workers", "1")  # fmt: skip
    assert again.code == 0 and again.out.startswith("1 videos stored (0 of them before)")


def test_a_full_disk_leaves_no_half_overlay(finished, tmp_path, full_disk):
    video = finished.data / "striped-circle" / "scene-01" / "001.mp4"
    done = kinema("predict", finished.folder / "rgb", video, "--video", tmp_path / "out")
    assert done.code == 1 and "No space left on the disk while writing" in done.error
    assert "scene-01/001.mp4" in done.out
    assert contents(tmp_path) == {}


def test_a_folder_that_cannot_be_written_to(finished, tmp_path, monkeypatch):
    def mkdir(self: Path, *_args, **_options) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    scores = [finished.folder / stream / "scores" / "test.npz" for stream in STREAMS]
    for words in (
        ("run", finished.data, "--out", tmp_path / "run", *OPTIONS),
        ("index", finished.data, "-o", tmp_path / "index"),
        ("flow", finished.folder / "index", "-o", tmp_path / "flow"),
        ("fuse", *scores, "-o", tmp_path / "scores" / "x.npz"),
    ):
        done = kinema(*words)
        assert done.code == 1
        with pytest.raises(KinemaError, match=r"Cannot write .*: permission denied\. Choose ano"):
            raise KinemaError(done.error)
    done = kinema("train", finished.folder / "index", "-o", tmp_path / "x", "--recipe", "tiny")
    assert done.code == 1 and "ermission denied" in done.error
    assert contents(tmp_path) == {}
