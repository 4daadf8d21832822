import re

import pytest

from helpers_datasets import write
from kinema.datasets.detect import detect, list_data
from kinema.datasets.folder import list_folder
from kinema.datasets.table import list_table, read_table
from kinema.errors import KinemaError, UsageError


def touch(root, *names):
    for name in names:
        write(root / name, "x")
    return root


def rows(listing):
    return [(v.id, v.label, v.split, v.group) for v in listing.videos]


def test_folder_per_class(tmp_path):
    touch(tmp_path, "walk/b.MP4", "walk/a.avi", "run/c.WebM", "walk/notes.txt", "walk/.hid.mp4")
    listing = list_folder(tmp_path)
    assert listing.classes == ("run", "walk")
    assert rows(listing) == [
        ("run/c", "run", "", ""),
        ("walk/a", "walk", "", ""),
        ("walk/b", "walk", "", ""),
    ]


def test_groups_below_the_class(tmp_path):
    touch(tmp_path, "walk/s0/a.mp4", "walk/s1/day/b.mp4", "run/s0/c.mp4", "run/d.mp4")
    assert {id: group for id, _, _, group in rows(list_folder(tmp_path))} == {
        "walk/s0/a": "s0",
        "walk/s1/day/b": "s1",
        "run/s0/c": "s0",
        "run/d": "",
    }


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Training", "validation", "TESTING")]
)
def test_parts_above_the_classes(tmp_path, train, val, test):
    touch(tmp_path, *(f"{p}/{c}/s{p}/1.mp4" for p in (train, val, test) for c in ("run", "walk")))
    listing = list_folder(tmp_path)
    assert listing.classes == ("run", "walk")
    assert {v.id: (v.split, v.group) for v in listing.videos if v.label == "run"} == {
        f"{train}/run/s{train}/1": ("train", f"s{train}"),
        f"{val}/run/s{val}/1": ("val", f"s{val}"),
        f"{test}/run/s{test}/1": ("test", f"s{test}"),
    }


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.mp4", "car/1.mp4", "bus/1.mp4")
    assert list_folder(tmp_path).classes == ("bus", "car", "train")


def test_parts_beside_classes_are_an_error(tmp_path):
    touch(tmp_path, "train/run/1.mp4", "test/run/2.mp4", "walk/3.mp4")
    with pytest.raises(KinemaError, match=r"both parts \(test, train\) and other folders \(walk\)"):
        list_folder(tmp_path)


def test_links_are_followed_and_loops_are_not(tmp_path):
    touch(tmp_path, "store/a.mp4", "store/b.mp4")
    (tmp_path / "data/walk").mkdir(parents=True)
    (tmp_path / "data/run").symlink_to(tmp_path / "store")
    (tmp_path / "data/walk/c.mp4").symlink_to(tmp_path / "store/a.mp4")
    (tmp_path / "data/walk/again").symlink_to(tmp_path / "data/walk")
    assert [v.id for v in list_folder(tmp_path / "data").videos] == ["run/a", "run/b", "walk/c"]


def test_an_empty_class_folder_is_listed_and_said(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/a.mp4", "jump/readme.txt")
    listing = list_folder(tmp_path)
    assert listing.classes == ("run", "walk")
    assert listing.rejected == ((tmp_path / "jump", "a class folder without a video"),)
    assert listing.messages == (f"The class folder {tmp_path}/jump holds no video: left out.",)


def test_an_empty_class_folder_that_leaves_one_class_is_an_error(tmp_path):
    touch(tmp_path, "walk/a.mp4", "jump/readme.txt")
    with pytest.raises(
        KinemaError, match=r"Only the class 'walk' has videos.*there is none in jump"
    ):
        list_folder(tmp_path)


def test_one_folder_too_high_is_noticed(tmp_path):
    touch(tmp_path, "videos/walk/a.mp4", "videos/run/b.mp4")
    with pytest.raises(KinemaError, match=rf"Did you mean {re.escape(str(tmp_path))}/videos\?"):
        list_folder(tmp_path)


def test_nothing_found_says_what_is_understood(tmp_path):
    touch(tmp_path, "walk/readme.txt", "a.mp4")
    with pytest.raises(KinemaError, match=r"No video was found.*CLASS/GROUP/video.*index\.csv"):
        list_folder(tmp_path)


def test_loose_files_and_doubled_names_are_rejected(tmp_path):
    touch(tmp_path, "walk/a.mp4", "walk/a.avi", "run/a.mp4", "b.mp4")
    listing = list_folder(tmp_path)
    assert len(listing.videos) == 2
    assert listing.rejected == (
        (tmp_path / "b.mp4", "lies outside the class folders"),
        (tmp_path / "walk/a.mp4", "same name as a.avi beside it"),
    )


def table(tmp_path, text, *files, name="index.csv"):
    touch(tmp_path, *(files or ("v/a.mp4", "v/b.mp4")))
    return read_table(write(tmp_path / name, text))


@pytest.mark.parametrize(
    "text",
    [
        "path,label,group,split\nv/a.mp4,walk,s0,train\nv/b.mp4,run,s1,Testing\n",
        "\ufeffPath;Label;Split;Group\r\nv\\a.mp4;walk;training;s0\r\n./v/b.mp4; run ;test;s1\r\n",
    ],
)
def test_table(tmp_path, text):
    listing = list_table(table(tmp_path, text))
    assert rows(listing) == [("v/a", "walk", "train", "s0"), ("v/b", "run", "test", "s1")]
    assert listing.classes == ("run", "walk")
    assert listing.videos[0].path == tmp_path / "v/a.mp4"


def test_table_with_ids_official_splits_and_class_order(tmp_path):
    write(tmp_path / "classes.txt", "walk\nrun\nunused\n")
    text = "id,path,label,split1,split2\nx/1,v/a.mp4,walk,train,test\nx/2,v/b.mp4,run,test,\n"
    listing = list_table(table(tmp_path, text))
    assert listing.classes == ("walk", "run")
    assert [(v.id, v.split, v.splits) for v in listing.videos] == [
        ("x/1", "train", ("train", "test")),
        ("x/2", "test", ("test", "")),
    ]


def test_paths_outside_the_table_folder_give_safe_ids(tmp_path):
    touch(tmp_path, "elsewhere/a.mp4")
    text = f"path,label\n../elsewhere/a.mp4,x\n{tmp_path}/sub/v/b.mp4,y\n"
    listing = list_table(table(tmp_path / "sub", text))
    assert listing.videos[0].id == "elsewhere/a"
    assert listing.videos[1].id == f"{tmp_path}/sub/v/b".lstrip("/")


def test_rows_without_a_file_are_rejected(tmp_path):
    listing = list_table(table(tmp_path, "path,label\nv/a.mp4,x\nv/none.mp4,y\n"))
    assert rows(listing) == [("v/a", "x", "", "")]
    assert listing.rejected == ((tmp_path / "v/none.mp4", "no such file (line 3: v/none.mp4)"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nv/a.mp4,x\n", "lacks the column path: its first line holds file, label"),
        ("", "lacks the columns path and label: its first line holds nothing"),
        ("path,label\n", "has a header but no rows"),
        ("path,label\nv/a.mp4,\n", "line 2: the label is empty"),
        ("path,label,split\nv/a.mp4,x,dev\n", "line 2: the split 'dev' is not one of train"),
        ("path,label,split\nv/a.mp4,x,train\nv/b.mp4,x,\n", "line 3: the split is empty"),
        ("path,label\nv/a.mp4,x\nv/a.mp4,y\n", "line 3: the id 'v/a' is there already"),
        ("id,path,label\n../a,v/a.mp4,x\n", "the id '../a' cannot become a file name"),
        ("path,label\nno.mp4,x\nno2.mp4,x\n", "None of the 2 files of"),
        (
            "path,label,segment_start\nv/a.mp4,x,1.5\n",
            "line 2: the segment_start '1.5' is not a whole number of frames",
        ),
        (
            "path,label,start_seconds,end_seconds\nv/a.mp4,x,2,1\n",
            "line 2: the segment ends at 1, which is not after its start at 2",
        ),
        (
            "path,label,segment_start,end_seconds\nv/a.mp4,x,2,1\n",
            "line 2: the segment is given in frames and in seconds",
        ),
    ],
)
def test_a_wrong_table_is_named(tmp_path, text, message):
    with pytest.raises(KinemaError, match=re.escape(message)):
        list_table(table(tmp_path, text))


def test_a_label_that_classes_txt_lacks(tmp_path):
    write(tmp_path / "classes.txt", "walk\n")
    with pytest.raises(KinemaError, match=r"label 'run', which .*classes\.txt does not list"):
        list_table(table(tmp_path, "path,label\nv/a.mp4,walk\nv/b.mp4,run\n"))


def list_any(data, **changes):
    values = {"dataset": "auto", "splits_folder": None, "group": "", "out": data.parent / "out"}
    return list_data(data, **{**values, **changes})


def test_the_group_is_a_column_or_an_expression(tmp_path):
    table(tmp_path, "path,label,Scene\nv/a.mp4,x,s7\nv/b.mp4,y,s8\n")
    assert [v.group for v in list_any(tmp_path, group="scene").videos] == ["s7", "s8"]
    assert [v.group for v in list_any(tmp_path, group="[ab]$").videos] == ["a", "b"]
    with pytest.raises(UsageError, match=r"'sceen' is not found in 2 of 2 .*path, label, scene"):
        list_any(tmp_path, group="sceen")


def test_detection(tmp_path):
    folder = touch(tmp_path / "folder", "a/1.mp4", "b/2.mp4")
    csv_file = touch(tmp_path, "list.csv") / "list.csv"
    assert detect(folder) == "folder"
    assert detect(csv_file) == "csv"
    assert detect(touch(tmp_path / "csv", "index.csv", "a/1.mp4")) == "csv"
    assert detect(touch(tmp_path / "ucf", "ucfTrainTestlist/trainlist01.txt")) == "ucf101"
    assert detect(touch(tmp_path / "hmdb", "splits/wave_test_split1.txt")) == "hmdb51"
    assert detect(folder, tmp_path / "ucf") == "ucf101"
    with pytest.raises(KinemaError, match="holds no official lists"):
        detect(folder, folder)
    with pytest.raises(KinemaError, match="is a file: give the folder"):
        detect(folder / "a/1.mp4")


def test_what_is_not_there_or_wrongly_named(tmp_path):
    with pytest.raises(KinemaError, match=r"data folder .* does not exist"):
        list_any(tmp_path / "none")
    with pytest.raises(UsageError, match=r"no data set layout 'ucf100'.*Did you mean 'ucf101'"):
        list_any(tmp_path, dataset="ucf100")
    with pytest.raises(KinemaError, match=r"No trainlist01\.txt was found.*--splits"):
        list_any(tmp_path, dataset="ucf101")
    with pytest.raises(KinemaError, match=r"is not a CSV file and holds no index\.csv"):
        list_any(tmp_path, dataset="csv")
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    with pytest.raises(KinemaError, match="lies inside the data"):
        list_any(tmp_path, out=tmp_path / "run" / "index")
