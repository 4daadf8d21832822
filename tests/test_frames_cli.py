"""`kinema frames` and `kinema index` on its output, as commands."""

import shutil

import pytest

from helpers_cli import kinema
from helpers_data import small_video
from kinema.datasets.index import read_index


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for seed in range(6):
        label = ("wave", "clap")[seed % 2]
        small_video(root / label / f"{label}{seed}.mp4", seed=seed, num_frames=9)
    return root


def test_videos_to_images_to_an_index_to_training(videos, tmp_path):
    frames, index = tmp_path / "frames", tmp_path / "index"
    words = ("--layout", "hara", "--size", "height:24", "--workers", "1")
    done = kinema("frames", videos, "-o", frames, *words)
    assert done.code == 0 and "6 videos written (0 of them before); 54 images" in done.out
    assert (frames / "wave/wave0/n_frames").read_text() == "9"
    done = kinema("frames", videos, "-o", frames, *words)
    assert done.code == 0 and "6 videos written (6 of them before); 0 images" in done.out
    done = kinema("index", frames, "-o", index, "--fps", "10")
    assert done.code == 0, done.err
    found = read_index(index)
    assert {(v.num_frames, v.width, v.height, v.fps) for v in found.videos} == {(9, 32, 24, 10.0)}
    words = ("--recipe", "tiny", "train.epochs=1")
    done = kinema("train", index, "-o", tmp_path / "run", *words)
    assert done.code == 0, done.err
    done = kinema("frames", index, "-o", tmp_path / "tsn", "--layout", "tsn", "--fps", "5")
    assert done.code == 0 and "30 images" in done.out
    names = sorted(path.name for path in (tmp_path / "tsn/clap1").iterdir())
    assert names == [f"img_{i:05d}.jpg" for i in range(1, 6)]


def test_one_video_and_parts_of_many(videos, tmp_path):
    words = ("--layout", "slim", "--every", "3", "--format", "png", "--workers", "1")
    done = kinema("frames", videos / "wave/wave0.mp4", "-o", tmp_path / "one", *words)
    assert done.code == 0 and (tmp_path / "one/wave0/00003.png").is_file()
    for part in ("0/2", "1/2"):
        assert kinema("frames", videos, "-o", tmp_path / "many", *words, "--shard", part).code == 0
    assert len(list((tmp_path / "many").rglob("*.png"))) == 6 * 3


def test_an_output_inside_the_videos_is_no_input(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    words = ("-o", root / "frames", "--layout", "tsn", "--workers", "1")
    for _ in range(2):
        done = kinema("frames", root, *words)
        assert done.code == 0 and "6 videos written" in done.out


def test_faults(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    (root / "wave/wave0.mp4").write_bytes(b"nothing")
    out = tmp_path / "out"
    done = kinema("frames", root, "-o", out, "--layout", "denseflow", "--workers", "1")
    assert done.code == 1 and "5 videos written" in done.out and "failed: wave/wave0:" in done.out
    assert not (out / "wave/wave0").exists()
    wrong = {
        ("gone", "--layout", "tsn"): (1, "gone does not exist: give an index, a folder"),
        (root, "--layout", "tsn", "--size", "12"): (2, "'12' is not a size"),
        (root, "--layout", "tsn", "--shard", "2/2"): (2, "There is no part 2 of 2"),
        (root, "--layout", "hara", "--every", "2", "--fps", "3"): (2, "not both"),
    }
    for words, (code, message) in wrong.items():
        failed = kinema("frames", *words, "-o", tmp_path / "x")
        assert (failed.code, message in failed.error) == (code, True), failed.err
        assert not (tmp_path / "x").exists()
