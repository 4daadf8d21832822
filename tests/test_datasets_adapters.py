"""Data sets with lists of their own: what is read, matched, counted, refused, and recognised."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers_datasets import make_video, write
from kinema.cli_options import Dataset
from kinema.datasets.adapters import ADAPTERS
from kinema.datasets.build import build_index
from kinema.datasets.detect import detect, list_data
from kinema.datasets.hmdb51 import list_hmdb51
from kinema.datasets.index import read_index
from kinema.datasets.names import DatasetName
from kinema.datasets.span import Span
from kinema.errors import KinemaError

NOWHERE = Path("/nowhere")
HEADER = "label,youtube_id,time_start,time_end,split\n"


def list_all(data, dataset="auto", lists=None):
    return list_data(data, dataset=dataset, splits_folder=lists, group="", out=NOWHERE)


def rows(listing):
    return [(video.id, video.label, video.split, video.path.name) for video in listing.videos]


def images(folder: Path, count: int, *, first: int = 1, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i in range(first, first + count):
        picture = np.full((24, 32, 3), (seed * 40 + i) % 256, np.uint8)
        cv2.imwrite(str(folder / f"{i:05d}.jpg"), picture)
    return folder


def kinetics(root):
    lists = root / "annotations"
    write(
        lists / "train.csv",
        HEADER
        + "riding a bike,-aBcDeFgHiJ,10,20,train\n"
        + "riding a bike,ABCDEFGHIJK,0,10,train\n"
        + "zumba,x_y_z-12345,9,19,train\n"
        + "zumba,gone1234567,0,10,train\n",
    )
    write(lists / "validate.csv", HEADER + "zumba,valbare0001,3,13,validate\n")
    write(lists / "test.csv", "youtube_id,time_start,time_end,split\ntestvideo01,1,11,test\n")
    for name in (
        "train/riding a bike/-aBcDeFgHiJ_000010_000020.mp4",
        "train/riding_a_bike/ABCDEFGHIJK_000000_000010.mkv",
        "flat/x_y_z-12345_000009_000019.webm",
        "val/zumba/valbare0001.mp4",
        "test/testvideo01_000001_000011.mp4",
        "other.mp4",
    ):
        write(root / name, "x")
    return root


def test_kinetics(tmp_path):
    kinetics(tmp_path)
    listing = list_all(tmp_path)
    assert listing.classes == ("riding a bike", "zumba")
    bike = "riding_a_bike/"
    assert rows(listing) == [
        (
            f"{bike}-aBcDeFgHiJ_000010_000020",
            "riding a bike",
            "train",
            "-aBcDeFgHiJ_000010_000020.mp4",
        ),
        (
            f"{bike}ABCDEFGHIJK_000000_000010",
            "riding a bike",
            "train",
            "ABCDEFGHIJK_000000_000010.mkv",
        ),
        ("zumba/x_y_z-12345_000009_000019", "zumba", "train", "x_y_z-12345_000009_000019.webm"),
        ("zumba/valbare0001_000003_000013", "zumba", "val", "valbare0001.mp4"),
    ]
    assert listing.absent == 1
    assert listing.messages == (
        "The lists name 4 train, 1 val.",
        "4 of the 5 listed videos are present (3 train, 1 val), 1 are absent.",
        "Left out because the lists give no labels: 1 test.",
        "2 videos are in none of the lists and are left out, the first is "
        f"{tmp_path / 'other.mp4'}.",
    )


def test_kinetics_beside_its_videos_and_in_one_list(tmp_path):
    kinetics(tmp_path)
    one = list_all(tmp_path / "train", lists=tmp_path / "annotations" / "train.csv")
    assert [row[2] for row in rows(one)] == ["train", "train"]
    with pytest.raises(KinemaError, match=r"name 5 videos, .* none of them is below .*flat"):
        (tmp_path / "flat" / "x_y_z-12345_000009_000019.webm").rename(tmp_path / "flat" / "y.mp4")
        list_all(tmp_path / "flat", "kinetics", tmp_path / "annotations")


def test_the_same_name_in_another_class_folder_is_another_video(tmp_path):
    write(
        tmp_path / "train.csv", HEADER + "a,same,0,1,train\nb,same,0,1,train\nb,other,0,1,train\n"
    )
    for name in ("b/same.mp4", "a/other.mp4"):
        write(tmp_path / name, "x")
    assert [row[0] for row in rows(list_all(tmp_path))] == ["b/same_000000_000001"]


@pytest.mark.parametrize("name", ["something-something-v1", "jester-v1"])
def test_frame_folders_with_lists_that_semicolons_separate(tmp_path, name):
    write(tmp_path / f"{name}-labels.csv", "Turning [x] on\nAbove, below\n")
    write(tmp_path / f"{name}-train.csv", "12;Above, below\n7;Turning [x] on\n99;Above, below\n")
    write(tmp_path / f"{name}-validation.csv", "8;Turning [x] on\n")
    write(tmp_path / f"{name}-test.csv", "9\n10\n")
    for seed, number in enumerate(("7", "8", "9", "12")):
        images(tmp_path / "20bn" / number, 4 + seed, seed=seed)
    report = build_index(tmp_path, tmp_path / "index")
    index = read_index(tmp_path / "index")
    assert index.classes == ("Turning [x] on", "Above, below")
    assert [(v.id, v.label, v.split, v.num_frames) for v in index.videos] == [
        ("12", "Above, below", "train", 7),
        ("7", "Turning [x] on", "train", 4),
        ("8", "Turning [x] on", "val", 5),
    ]
    assert "Left out because the lists give no labels: 2 test." in report.messages
    assert "3 of the 4 listed videos are present (2 train, 1 val), 1 are absent." in report.messages


def something_v2(root, prefix="something-something-v2-"):
    name = "Moving something up"
    labels = {"Putting something on something": "1", name: "0"}
    write(root / f"{prefix}labels.json", json.dumps(labels))
    train = [
        {"id": "5", "label": "moving pen up", "template": "Moving [something] up"},
        {"id": "6", "label": "x", "template": "Putting [something] on [something]"},
    ]
    write(root / f"{prefix}train.json", json.dumps(train))
    write(root / f"{prefix}validation.json", json.dumps([train[0] | {"id": "7"}]))
    write(root / f"{prefix}test.json", json.dumps([{"id": "8"}]))
    for number in "5678":
        write(root / f"videos/{number}.webm", "x")
    return root


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_something_v2_with_placeholders(tmp_path, prefix):
    something_v2(tmp_path, prefix)
    listing = list_all(tmp_path)
    assert listing.classes == ("Moving something up", "Putting something on something")
    assert [(row[0], listing.classes.index(row[1]), row[2]) for row in rows(listing)] == [
        ("5", 0, "train"),
        ("6", 1, "train"),
        ("7", 0, "val"),
    ]
    write(tmp_path / f"{prefix}test-answers.csv", "8;Moving something up\n")
    assert ("8", "Moving something up", "test", "8.webm") in rows(list_all(tmp_path))


def test_moments_in_time(tmp_path):
    write(tmp_path / "moments_categories.txt", "zooming,1\nadult+female+singing,0\n")
    same = "yt-1.mp4"
    train = f"zooming/{same},zooming,3,0\nadult+female+singing/{same},adult+female+singing\n"
    write(tmp_path / "trainingSet.csv", train)
    write(tmp_path / "validationSet.csv", "zooming/yt-2.mp4,zooming,3,1\n")
    for name in (f"training/zooming/{same}", f"training/adult+female+singing/{same}"):
        write(tmp_path / name, "x")
    write(tmp_path / "validation/zooming/yt-2.mp4", "x")
    listing = list_all(tmp_path)
    assert listing.classes == ("adult+female+singing", "zooming")
    assert [(v.id, v.split, v.path.parent.name) for v in listing.videos] == [
        ("zooming/yt-1", "train", "zooming"),
        ("adult+female+singing/yt-1", "train", "adult+female+singing"),
        ("zooming/yt-2", "val", "zooming"),
    ]


def test_diving48_segments(tmp_path):
    write(
        tmp_path / "Diving48_vocab.json",
        json.dumps([["Back", "15som", "NoTwis", "PIKE"], ["In", "x"]]),
    )
    train = [
        {"vid_name": "abc_00001", "label": 0, "start_frame": 0, "end_frame": 8},
        {"vid_name": "abc_00002", "label": 1, "start_frame": 2, "end_frame": 6},
    ]
    write(tmp_path / "Diving48_V2_train.json", json.dumps(train))
    test = [{"vid_name": "d_00001", "label": 1, "end_frame": 5}]
    write(tmp_path / "Diving48_V2_test.json", json.dumps(test))
    for seed, name in enumerate(("abc_00001", "abc_00002", "d_00001")):
        make_video(tmp_path / "rgb" / f"{name}.mp4", seed=seed)
    index = build_index(tmp_path, tmp_path / "index").index
    assert index.classes == ("Back_15som_NoTwis_PIKE", "In_x")
    assert [(v.id, v.split, v.group, v.segment, v.num_frames) for v in index.videos] == [
        ("d_00001", "test", "d", (0, 5), 5),
        ("abc_00001", "train", "abc", None, 8),
        ("abc_00002", "train", "abc", (2, 6), 4),
    ]


def test_activitynet_segments_in_seconds(tmp_path):
    database = {
        "one": {
            "subset": "training",
            "annotations": [
                {"label": "run", "segment": [0.2, 0.5]},
                {"label": "walk", "segment": [0.4, 0.8]},
            ],
        },
        "two": {"subset": "validation", "annotations": [{"label": "run", "segment": [0.0, 0.8]}]},
        "three": {"subset": "testing", "annotations": []},
    }
    taxonomy = [
        {"nodeId": 0, "nodeName": "Root", "parentId": None},
        {"nodeId": 1, "nodeName": "walk", "parentId": 0},
        {"nodeId": 2, "nodeName": "run", "parentId": 0},
    ]
    content = {"version": "1.3", "database": database, "taxonomy": taxonomy}
    write(tmp_path / "activity_net.v1-3.json", json.dumps(content))
    make_video(tmp_path / "v_one.mp4", seed=1)
    make_video(tmp_path / "two.mp4", seed=2)
    report = build_index(tmp_path, tmp_path / "index")
    assert report.index.classes == ("run", "walk")
    assert [(v.id, v.label, v.split, v.segment) for v in report.index.videos] == [
        ("one_01", "run", "train", (2, 5)),
        ("one_02", "walk", "train", (4, 8)),
        ("two", "run", "val", None),
    ]
    assert "Left out because the lists give no labels: 1 test." in report.messages


def test_hara_json_of_several_splits_in_frames_from_one(tmp_path):
    for k, (a, b) in enumerate((("training", "validation"), ("validation", "training")), start=1):
        database = {
            "v_1": {"subset": a, "annotations": {"label": "b", "segment": [3, 7]}},
            "v_2": {"subset": b, "annotations": {"label": "a"}},
        }
        content = {"labels": ["b", "a"], "database": database}
        write(tmp_path / f"set_0{k}.json", json.dumps(content))
    for name in ("b/v_1", "a/v_2", "b/v_2"):
        write(tmp_path / f"{name}.avi", "x")
    listing = list_all(tmp_path)
    assert listing.classes == ("b", "a")
    assert [(v.id, v.splits, v.span, v.path.parent.name) for v in listing.videos] == [
        ("v_1", ("train", "val"), Span(start=2, end=6), "b"),
        ("v_2", ("val", "train"), None, "a"),
    ]


def test_hmdb51_in_the_order_of_its_class_list(tmp_path):
    for label in ("wave", "clap"):
        write(tmp_path / f"{label}_test_split1.txt", f"{label}1.avi 1\n{label}2.avi 2\n")
        write(tmp_path / f"{label}1.avi", "x")
    assert list_hmdb51(tmp_path, tmp_path, skip=NOWHERE).classes == ("clap", "wave")
    write(tmp_path / "class_list.txt", "wave\nclap\n")
    assert list_hmdb51(tmp_path, tmp_path, skip=NOWHERE).classes == ("wave", "clap")
    write(tmp_path / "class_list.txt", "wave\nclap\nrun\n")
    with pytest.raises(KinemaError, match="'run' is too much or too little"):
        list_hmdb51(tmp_path, tmp_path, skip=NOWHERE)


WRONG = [
    ("kinetics", {"train.csv": HEADER + "a,b,1,2\n"}, "line 2 has 4 columns, its first line 5"),
    ("kinetics", {"train.csv": HEADER + "a,b,x,2,train\n"}, "the times 'x' and '2' are not"),
    ("kinetics", {"all.csv": HEADER + "a,b,1,2,\n"}, "says train, val or test"),
    (
        "something-v1",
        {
            "something-something-v1-labels.csv": "Up\n",
            "something-something-v1-train.csv": "1;Up;x\n",
        },
        "line 1 has 3 columns, needed are 1 or 2",
    ),
    (
        "jester",
        {"jester-v1-labels.csv": "Up\n", "jester-v1-train.csv": "1;Down\n"},
        "line 1: the class 'Down' is not among the 1 of the data set",
    ),
    (
        "something-v2",
        {"something-something-v2-labels.json": '["Up"]'},
        "is not a table of names and numbers",
    ),
    (
        "something-v2",
        {
            "something-something-v2-labels.json": '{"Up": "0"}',
            "something-something-v2-train.json": '[{"id": "1", "template": "[Down]"}]',
        },
        "object 1: the class 'Down' is not among the 1",
    ),
    (
        "moments",
        {"moments_categories.txt": "up,0\n", "trainingSet.csv": "up/1.mp4\n"},
        "line 1 has 1 columns, needed are 2 or 3 or 4",
    ),
    ("moments", {"moments_categories.txt": "up,0\ndown,0\n"}, "'0' is not a class number"),
    ("diving48", {"Diving48_V2_train.json": '[{"label": 1}]'}, "object 1 lacks 'vid_name'"),
    (
        "diving48",
        {
            "Diving48_V2_train.json": '[{"label": 3, "vid_name": "x"}]',
            "Diving48_vocab.json": '[["a"]]',
        },
        r"the class 3 is not among the 1 of the data set \(0 to 0\)",
    ),
    (
        "activitynet",
        {"a.json": '{"database": {"x": {"subset": "all", "annotations": []}}}'},
        "video 'x': the subset 'all' is not one of",
    ),
    (
        "activitynet",
        {
            "a.json": '{"labels": ["a"], "database": {"x": {"subset": "training", '
            '"annotations": [{"label": "b", "segment": [0, 1]}]}}}'
        },
        "video 'x': the class 'b' is not among the 1",
    ),
    ("activitynet", {"a.json": '{"database": 1}', "b.json": '{"database": 1}'}, "give one of them"),
    ("activitynet", {"a.json": '{"database": [1]}'}, "'database' is not a table of videos"),
    (
        "activitynet",
        {
            "a.json": '{"database": {"x": {"subset": "training", '
            '"annotations": [{"label": "b", "segment": ["0", 1]}]}}}'
        },
        "the segment .* is not a pair of start and end",
    ),
    (
        "diving48",
        {"Diving48_V2_train.json": '[{"label": 0, "vid_name": "x", "end_frame": "9"}]'},
        "object 1: end_frame is '9', not a whole number",
    ),
    (
        "activitynet",
        {
            "a.json": '{"database": {"x": {"subset": "training", '
            '"annotations": [{"label": ["b", "c"]}]}}}'
        },
        "several labels per video is not supported yet",
    ),
    (
        "charades",
        {"Charades_v1_train.csv": "id,subject,actions\nX,1,c092 11.9 21.2;c147 0 12.6\n"},
        "training with several labels per video is not supported yet",
    ),
]


@pytest.mark.parametrize(("dataset", "files", "message"), WRONG)
def test_wrong_lists_are_named(tmp_path, dataset, files, message):
    for name, text in files.items():
        write(tmp_path / name, text)
    assert detect(tmp_path) == dataset
    with pytest.raises(KinemaError, match=message):
        list_all(tmp_path)


@pytest.mark.parametrize("dataset", sorted(ADAPTERS))
def test_lists_that_are_asked_for_and_not_there(tmp_path, dataset):
    write(tmp_path / "a" / "1.mp4", "x")
    with pytest.raises(KinemaError, match=f"No lists of {dataset} were found .*looked for"):
        list_all(tmp_path, dataset)
    looked_for = re.escape(ADAPTERS[dataset].looks_for)
    with pytest.raises(KinemaError, match=f"holds no official lists: .*{looked_for}"):
        list_all(tmp_path, lists=tmp_path)


def test_a_broken_json_or_binary_file_beside_the_videos_is_no_list(tmp_path):
    write(tmp_path / "notes.json", "{")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x9c")
    write(tmp_path / "a" / "1.mp4", "x")
    assert detect(tmp_path) == "folder"


def test_every_name_is_offered():
    names = DatasetName.__args__
    assert [name.value for name in Dataset] == list(names)
    assert set(ADAPTERS) <= set(names)
