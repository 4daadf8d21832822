import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from helpers_datasets import make_audio, make_folder, make_video, write
from kinema.datasets.build import build_index
from kinema.datasets.index import read_index
from kinema.datasets.splits import SplitRule
from kinema.errors import KinemaError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def people(root, persons=5):
    return make_folder(
        root, [f"{c}/p{p}/{k}.mp4" for c in ("run", "walk") for p in range(persons) for k in "ab"]
    )


def reasons(report):
    return {path.name: reason for path, reason in report.rejected}


def test_from_folders_to_an_index(tmp_path):
    report = build_index(people(tmp_path / "data"), tmp_path / "out")
    index = read_index(tmp_path / "out")
    assert index == report.index
    assert index.classes == ("run", "walk")
    assert len(index.videos) == 20
    video = index.videos[0]
    assert (video.id, video.group) == ("run/p0/a", "p0")
    assert video.path == tmp_path / "data/run/p0/a.mp4"
    assert (video.num_frames, video.width, video.height) == (8, 32, 24)
    assert video.fps == pytest.approx(10)
    assert video.keyframe_interval == pytest.approx(4)
    assert Counter(v.split for v in index.videos) == {"train": 12, "test": 4, "val": 4}
    assert report.messages[0] == "Parts are made of whole groups (5, seed 0)."
    assert report.messages[-1] == (
        "Keyframe spacing: a random frame costs 2 decoded frames on average; "
        "20 of 20 videos have fewer than 3 keyframes."
    )
    assert (tmp_path / "out/rejected.csv").read_text() == "path,reason\n"


def test_a_second_index_is_the_same_and_opens_only_changed_files(tmp_path, monkeypatch):
    data, out = (
        make_folder(tmp_path / "data", ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"]),
        tmp_path,
    )
    build_index(data, out)
    before = (out / "index.csv").read_bytes()
    opened = []
    original = build_index.__globals__["scan"]

    def spying(paths, *, cache, workers):
        from kinema.video.probe import probe

        def spy(path):
            opened.append(path.name)
            return probe(path)

        return original(paths, cache=cache, workers=workers, probe_file=spy)

    monkeypatch.setitem(build_index.__globals__, "scan", spying)
    build_index(data, out)
    assert opened == []
    assert (out / "index.csv").read_bytes() == before
    make_video(data / "b/2.mp4", seed=9, num_frames=11)
    build_index(data, out)
    assert opened == ["2.mp4"]
    write(out / "probe-cache.json", "{broken")
    (out / "stamp.json").unlink()
    build_index(data, out)
    assert len(opened) == 5


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path):
    data = make_folder(tmp_path / "data", [f"{c}/{k}.mp4" for c in "ab" for k in range(4)])
    write(data / "a/empty.mp4", "")
    write(data / "a/text.mp4", "this is not a video " * 100)
    whole = (data / "a/1.mp4").read_bytes()
    (data / "b/cut.mp4").write_bytes(whole[: len(whole) // 2])
    make_audio(data / "b/sound.mp4")
    make_video(data / "b/short.mp4", seed=50, num_frames=1)
    (data / "a/twice.mp4").write_bytes((data / "a/1.mp4").read_bytes())
    report = build_index(data, tmp_path / "out")
    assert len(report.index.videos) == 8
    found = reasons(report)
    assert set(found) == {"empty.mp4", "text.mp4", "cut.mp4", "sound.mp4", "short.mp4", "twice.mp4"}
    assert found["short.mp4"] == "has 1 frame, at least 2 are needed"
    assert found["twice.mp4"] == "same content as 'a/1'"
    assert found["sound.mp4"] == "has sound but no video"
    assert found["empty.mp4"] == "is empty (0 bytes)"
    assert found["cut.mp4"].startswith("is truncated: ")
    assert "is not a video" in found["text.mp4"]
    with (tmp_path / "out/rejected.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(Path(row["path"]), row["reason"]) for row in rows] == list(report.rejected)
    assert any(
        line.startswith("6 files are left out (see rejected.csv)") for line in report.messages
    )

    with pytest.raises(
        KinemaError, match=r"6 files cannot be used, the first is .*without --strict"
    ):
        build_index(data, tmp_path / "strict", strict=True)
    assert (tmp_path / "strict/rejected.csv").is_file()
    assert not (tmp_path / "strict/index.csv").exists()


def test_the_same_content_under_two_labels_rejects_both(tmp_path):
    data = make_folder(tmp_path / "data", [f"{c}/{k}.mp4" for c in "ab" for k in range(3)])
    (data / "b/copy.mp4").write_bytes((data / "a/0.mp4").read_bytes())
    report = build_index(data, tmp_path / "out")
    assert reasons(report) == {
        "0.mp4": "same content as 'b/copy', which has another label ('b', here 'a'): "
        "remove the wrong one",
        "copy.mp4": "same content as 'a/0', which has another label ('a', here 'b'): "
        "remove the wrong one",
    }


def test_a_class_whose_videos_are_all_bad(tmp_path):
    data = make_folder(tmp_path / "data", [f"{c}/{k}.mp4" for c in "ab" for k in range(3)])
    write(data / "c/bad.mp4", "x")
    report = build_index(data, tmp_path / "out")
    assert report.index.classes == ("a", "b")
    assert "The class 'c' has no usable video: it is left out." in report.messages
    for k in range(3):
        write(data / f"b/{k}.mp4", "x")
    with pytest.raises(KinemaError, match=r"only 'a' has usable videos \(none is left of 'b'"):
        build_index(data, tmp_path / "out")
    for k in range(3):
        write(data / f"a/{k}.mp4", "x")
    with pytest.raises(KinemaError, match=r"7 files cannot be used.*No video is left"):
        build_index(data, tmp_path / "out")


def test_given_parts_are_kept_and_validation_is_cut_from_training(tmp_path):
    names = [f"train/{c}/p{p}/1.mp4" for c in "ab" for p in range(4)]
    data = make_folder(tmp_path / "data", [*names, "test/a/p9/1.mp4", "test/b/p9/1.mp4"])
    videos = build_index(data, tmp_path / "out", rule=SplitRule(val_fraction=0.25)).index.videos
    assert Counter(v.split for v in videos) == {"train": 6, "val": 2, "test": 2}
    assert {v.group for v in videos if v.split == "test"} == {"p9"}
    assert len({v.group for v in videos if v.split == "val"}) == 1


def test_training_alone_gets_a_test_part_and_it_is_said(tmp_path):
    data = make_folder(tmp_path / "data", [f"train/{c}/{k}.mp4" for c in "ab" for k in range(5)])
    report = build_index(data, tmp_path / "out", rule=SplitRule(val_fraction=0))
    assert Counter(v.split for v in report.index.videos) == {"train": 8, "test": 2}
    assert "No test part is given: 20% of training is held out as test." in report.messages


def test_a_random_division_is_said(tmp_path):
    data = make_folder(tmp_path / "data", [f"{c}/{k}.mp4" for c in "ab" for k in range(5)])
    report = build_index(data, tmp_path / "out", rule=SplitRule(seed=7))
    assert report.messages[0].startswith("No groups are known: parts are drawn at random")
    assert "seed 7" in report.messages[0]


def test_groups_by_name_and_named_test_groups_replace_a_given_split(tmp_path):
    names = [f"{part}/{c}/s{p}_1.mp4" for part, p in (("train", 0), ("test", 1)) for c in "ab"]
    data = make_folder(tmp_path / "data", [*names, "train/a/s2_1.mp4"])
    rule = SplitRule(group=r"s\d", test_groups=("s0",), val_fraction=0)
    report = build_index(data, tmp_path / "out", rule=rule)
    assert {v.group for v in report.index.videos if v.split == "test"} == {"s0"}
    assert report.messages[0] == "The given split is replaced. The test part is given by group: s0."


def test_a_group_on_both_sides_is_an_error_before_any_file_is_opened(tmp_path):
    for name in ("train/a/s0/1.mp4", "test/a/s0/2.mp4", "train/b/s1/1.mp4"):
        write(tmp_path / "data" / name, "not a video")
    message = re.escape("'test/a/s0/2' is in test, 'train/a/s0/1' in train")
    with pytest.raises(KinemaError, match=f"'s0' is on both sides.*{message}"):
        build_index(tmp_path / "data", tmp_path / "out")


def test_a_test_class_that_training_lacks_is_an_error(tmp_path):
    names = ["train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "test/c/4.mp4"]
    data = make_folder(tmp_path / "data", names)
    with pytest.raises(KinemaError, match=r"class 'c' is in test .video 'test/c/4'. but has no tr"):
        build_index(data, tmp_path / "out")


def test_the_cache_holds_only_good_results(tmp_path):
    data = make_folder(tmp_path / "data", ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"])
    write(data / "a/bad.mp4", "x")
    build_index(data, tmp_path / "out", rule=SplitRule(val_fraction=0))
    cache = json.loads((tmp_path / "out/probe-cache.json").read_text())
    assert {os.path.relpath(path, data) for path in cache["files"]} == {
        "a/1.mp4",
        "a/2.mp4",
        "b/1.mp4",
        "b/2.mp4",
    }


real = pytest.mark.skipif(not (SHARED / "gestures").is_dir(), reason="needs ../shared/data")


@pytest.mark.real
@real
def test_gestures_hold_out_a_fifth_of_the_scenes(tmp_path):
    report = build_index(SHARED / "gestures", tmp_path)
    with (SHARED / "gestures/index.csv").open(newline="") as handle:
        given = {row["path"]: row for row in csv.DictReader(handle)}
    index = read_index(tmp_path)
    assert report.rejected == ()
    assert len(index.videos) == 224
    for video in index.videos:
        row = given[video.path.relative_to(SHARED / "gestures").as_posix()]
        assert (video.label, video.group) == (row["label"], row["group"])
        assert video.num_frames == int(row["num_frames"])
        assert video.fps == pytest.approx(float(row["fps"]), rel=0.05)
    scenes = {part: {v.group for v in index.part(part)} for part in ("train", "val", "test")}
    assert len(scenes["test"]) == 8  # of 41
    assert sum(map(len, scenes.values())) == len(set().union(*scenes.values())) == 41
    for part in scenes:
        assert {v.label for v in index.part(part)} == set(index.classes)
    assert 0.15 < len(index.part("test")) / 224 < 0.25


@pytest.mark.real
@real
def test_weizmann_leave_one_person_out(tmp_path):
    report = build_index(SHARED / "weizmann", tmp_path, rule=SplitRule(test_groups=("s0",)))
    assert {v.group for v in report.index.part("test")} == {"s0"}
    assert [len(report.index.part(part)) for part in ("train", "val", "test")] == [28, 4, 4]


@pytest.mark.real
@real
def test_ucf101_index(tmp_path):
    report = build_index(SHARED / "ucf101", tmp_path, rule=SplitRule(val_fraction=0))
    index = read_index(tmp_path)
    assert report.official_counts == ((9537, 3783), (9586, 3734), (9624, 3696))
    assert len(index.videos) == 101
    assert sum("absent" in line for line in report.messages) == 1
    for k in (1, 2, 3):
        sizes = [len(index.part(part, official=k)) for part in ("train", "val", "test")]
        assert sizes[1] == 0
        assert sum(sizes) == 101
    assert len(index.part("test", official=1)) == 34
    assert "fewer than 3 keyframes" in report.messages[-1]
