"""An index of unchanged videos is recognised without looking at each; any change is noticed."""

import os

import pytest

from helpers_datasets import make_folder, make_video
from kinema.datasets.build import build_index
from kinema.datasets.splits import SplitRule

VIDEOS = [f"{label}/{k}.mp4" for label in "ab" for k in range(4)]


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A folder of videos, its index, the first report, and the number of times it was listed."""
    data, out = make_folder(tmp_path / "data", VIDEOS), tmp_path / "index"
    report = build_index(data, out)
    listed = []
    original = build_index.__globals__["list_data"]

    def spy(*words, **options):
        listed.append(1)
        return original(*words, **options)

    monkeypatch.setitem(build_index.__globals__, "list_data", spy)
    return data, out, report, listed


def test_nothing_is_listed_again_and_the_report_is_the_same(built):
    data, out, report, listed = built
    again = build_index(data, out)
    assert not listed
    assert (again.messages, again.rejected, again.absent) == (report.messages, (), 0)
    assert again.index == report.index and len(again.index.videos) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda data, out: os.utime(data / "a/0.mp4", (1, 1)),
        lambda data, out: make_video(data / "b/9.mp4", seed=99),
        lambda data, out: (data / "b/3.mp4").unlink(),
        lambda data, out: (data / "b/3.mp4").rename(data / "a/7.mp4"),
        lambda data, out: (out / "classes.txt").write_text("a\nb\nc\n"),
        lambda data, out: (out / "rejected.csv").unlink(),
        lambda data, out: (out / "stamp.json").write_text("{broken"),
    ],
)
def test_any_change_is_noticed(built, change):
    data, out, _, listed = built
    change(data, out)
    build_index(data, out)
    assert len(listed) == 1
    build_index(data, out)
    assert len(listed) == 1
    assert (out / "classes.txt").read_text() == "a\nb\n"


def test_other_settings_make_another_index(built):
    data, out, report, listed = built
    before = len(report.index.part("test"))
    changed = build_index(data, out, rule=SplitRule(test_fraction=0.5))
    assert len(listed) == 1
    assert len(changed.index.part("test")) > before


def test_rejected_files_are_tried_again(tmp_path):
    data = make_folder(tmp_path / "data", VIDEOS)
    (data / "a/9.mp4").write_bytes(b"no video")
    out = tmp_path / "index"
    first = build_index(data, out)
    assert len(first.rejected) == 1 and not (out / "stamp.json").exists()
    assert build_index(data, out).rejected == first.rejected


def test_folders_of_images_are_looked_through_every_time(tmp_path):
    data = make_folder(tmp_path / "data", VIDEOS)
    (data / "a/cover.jpg").write_bytes(b"picture")
    build_index(data, tmp_path / "index")
    assert not (tmp_path / "index/stamp.json").exists()
