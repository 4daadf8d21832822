import re
from pathlib import Path

import pytest

from helpers_datasets import make_video, video, write
from kinema.datasets.index import Index, check_files, read_index, write_index
from kinema.errors import KinemaError


def an_index(**changes) -> Index:
    videos = (
        video("walk/a", "walk", "train", group="s0", fps=29.97, sha256="ab", **changes),
        video("run/é, b", "run", "test", group="s1", keyframe_interval=12.5, **changes),
    )
    return Index(videos=videos, classes=("walk", "run"))


@pytest.mark.parametrize(
    "changes",
    [{}, {"splits": ("train", "test", "")}, {"segment_start": 1, "segment_end": 3}],
)
def test_an_index_is_read_as_it_was_written(tmp_path, changes):
    index = an_index(**changes)
    write_index(index, tmp_path)
    assert read_index(tmp_path) == index


def test_videos_below_the_index_have_relative_paths(tmp_path):
    inside = video("walk/a", "walk", path=tmp_path / "walk" / "a.mp4")
    write_index(Index(videos=(inside,), classes=("walk",)), tmp_path)
    assert "walk/a,walk/a.mp4,walk" in (tmp_path / "index.csv").read_text()
    assert read_index(tmp_path).videos[0].path == tmp_path / "walk" / "a.mp4"


def test_parts(tmp_path):
    index = an_index()
    assert [v.id for v in index.part("train")] == ["walk/a"]
    assert [v.id for v in index.part("test")] == ["run/é, b"]
    assert index.part("val") == ()
    with pytest.raises(KinemaError, match="no part 'tset': choose one of train, val, test"):
        index.part("tset")
    with pytest.raises(KinemaError, match="no official split 2: this index has 1"):
        index.part("train", official=2)


def test_parts_of_official_splits():
    videos = (
        video("a/1", "a", splits=("train", "test", "")),
        video("a/2", "a", splits=("test", "val", "train")),
    )
    index = Index(videos=videos, classes=("a",))
    assert [[v.id for v in index.part("test", official=k)] for k in (1, 2, 3)] == [
        ["a/2"],
        ["a/1"],
        [],
    ]
    assert [v.id for v in index.part("val", official=2)] == ["a/2"]
    with pytest.raises(KinemaError, match=r"official split 4: this index has 3.*1\.\.3"):
        index.part("test", official=4)


@pytest.mark.parametrize(
    ("videos", "classes", "message"),
    [
        ([video("a", "x"), video("a", "x")], ("x",), "id 'a' is there 2 times"),
        ([video("a", "x")], ("x", "x"), "class 'x' is there 2 times"),
        ([video("a", "y")], ("x",), "label 'y' of video 'a' is not one of the 1 classes"),
        ([video("a", "x", "dev")], ("x",), "part 'dev' of video 'a' is not one of train, val"),
        (
            [video("a", "x", splits=("train", "test")), video("b", "x")],
            ("x",),
            "'b' has 0 official splits, the first video has 2",
        ),
    ],
)
def test_a_wrong_index_cannot_be_made(videos, classes, message):
    with pytest.raises(KinemaError, match=re.escape(message)):
        Index(videos=tuple(videos), classes=classes)


def test_a_wrong_file_is_named(tmp_path):
    with pytest.raises(KinemaError, match=r"no index in .*index\.csv is missing.*kinema index"):
        read_index(tmp_path)
    write_index(an_index(), tmp_path)
    with pytest.raises(KinemaError, match=r"index\.csv is a file: give the folder"):
        read_index(tmp_path / "index.csv")
    text = (tmp_path / "index.csv").read_text()

    write(tmp_path / "index.csv", text.replace(",fps", ",rate").replace("label,", "class,"))
    with pytest.raises(KinemaError, match="lacks the columns label, fps"):
        read_index(tmp_path)

    write(tmp_path / "index.csv", text.replace("29.97", "fast"))
    with pytest.raises(KinemaError, match="line 2: the column fps holds 'fast', which is not a nu"):
        read_index(tmp_path)

    write(
        tmp_path / "index.csv", text.replace("run/é", "walk/a", 1).replace('"walk/a, b"', "walk/a")
    )
    with pytest.raises(KinemaError, match=r"index\.csv: The id 'walk/a' is there 2 times"):
        read_index(tmp_path)

    write(tmp_path / "index.csv", text)
    write(tmp_path / "classes.txt", "walk\n")
    with pytest.raises(KinemaError, match=r"label 'run' .* Add it to classes\.txt"):
        read_index(tmp_path)

    (tmp_path / "classes.txt").unlink()
    with pytest.raises(KinemaError, match=r"classes\.txt is missing"):
        read_index(tmp_path)


def test_files_that_vanished_are_counted(tmp_path):
    there = make_video(tmp_path / "a.mp4")
    index = Index(
        videos=(video("a", "x", path=there), video("b", "x", path=Path("/gone/b.mp4"))),
        classes=("x",),
    )
    with pytest.raises(KinemaError, match=r"1 of 2 videos .* no longer there.*/gone/b\.mp4"):
        check_files(index)
    check_files(Index(videos=index.videos[:1], classes=("x",)))
