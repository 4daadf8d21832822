"""Lists of older tools: read in every form, checked, and written so that they are read back."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers_cli import kinema
from helpers_datasets import make_video, video, write
from kinema.api import frames
from kinema.cli_options import ListFormat as ListFormatOption
from kinema.datasets.build import build_index
from kinema.datasets.detect import detect, list_data
from kinema.datasets.export import export_index
from kinema.datasets.frame_counts import read_frame_counts
from kinema.datasets.index import Index, read_index
from kinema.datasets.names import ListFormat
from kinema.datasets.splits import SplitRule
from kinema.errors import KinemaError, UsageError
from kinema.framing.options import FrameOptions

SHARED = Path(__file__).parents[2] / "shared" / "data"
NOWHERE = Path("/nowhere")
NAMES = ("v_Walk_g01_c01", "v_Walk_g02_c01", "v_HandstandPushups_g01_c01")
CLASSES = "1 Walk\n2 HandstandPushups\n"
TSN = {
    "classInd.txt": CLASSES,
    "train_rgb_split1.txt": "/far/frames/v_Walk_g01_c01 8 0\n/far/frames/v_Walk_g02_c01 8 0\n",
    "val_rgb_split1.txt": "/far/frames/v_HandStandPushups_g01_c01 8 1\n",
    "train_flow_split1.txt": "/far/flow/v_Walk_g01_c01 7 0\n/far/flow/v_Walk_g02_c01 7 0\n",
    "train_rgb_split2.txt": "/far/frames/v_HandStandPushups_g01_c01 8 1\n",
    "val_rgb_split2.txt": "/far/frames/v_Walk_g01_c01 8 0\n",
}
TWO = {
    "classInd.txt": CLASSES,
    "spatial_trainlist01_with_labels.txt": "/far/v_Walk_g01_c01 1\n/far/v_Walk_g02_c01 1\r\n",
    "spatial_testlist01_with_labels.txt": "/far/v_HandStandPushups_g01_c01 2\n",
}
MMACTION = {
    "label_map.txt": "Walk\nHandstandPushups\n",
    "set_train_split_1_videos.txt": "Walk/v_Walk_g01_c01.avi 0\nWalk/v_Walk_g02_c01.avi 0\n",
    "set_val_split_1_videos.txt": "Hand/v_HandStandPushups_g01_c01.avi 1\n",
}
SLIM = {
    "train_rgb.txt": "../U/Walk/v_Walk_g01_c01/00001.jpg ../U/Walk/v_Walk_g01_c01/00003.jpg 0\n"
    "../U/Walk/v_Walk_g02_c01/00001.jpg 0\n",
    "train_flow.txt": "../F/x/Walk/v_Walk_g02_c01/frame000001.jpg "
    "../F/y/Walk/v_Walk_g02_c01/frame000001.jpg 0\n",
    "test_rgb.txt": "../U/Hand/v_HandStandPushups_g01_c01/00001.jpg 1\n",
}


def put(root, files, *, names=NAMES, suffix=".avi"):
    for name, text in files.items():
        write(root / name, text)
    for name in names:
        write(root / "videos" / f"{name}{suffix}", "x")
    return root


def list_all(data, dataset="auto", lists=None):
    return list_data(data, dataset=dataset, splits_folder=lists, group="", out=NOWHERE)


def test_tsn_lists_of_two_splits_with_another_spelling(tmp_path):
    listing = list_all(put(tmp_path, TSN))
    assert detect(tmp_path) == "tsn"
    assert listing.classes == ("Walk", "HandstandPushups")
    assert [(v.id, v.label, v.splits, v.claimed_frames, v.path.stem) for v in listing.videos] == [
        ("v_Walk_g01_c01", "Walk", ("train", "val"), 8, NAMES[0]),
        ("v_Walk_g02_c01", "Walk", ("train", ""), 8, NAMES[1]),
        ("v_HandStandPushups_g01_c01", "HandstandPushups", ("val", "train"), 8, NAMES[2]),
    ]
    assert listing.messages[0] == "The lists name split 1: 2 train, 1 val; split 2: 1 train, 1 val."


@pytest.mark.parametrize(
    ("files", "dataset", "ids"),
    [
        (TWO, "two-column", [*NAMES[:2], "v_HandStandPushups_g01_c01"]),
        (
            MMACTION,
            "mmaction2",
            [f"Walk/{NAMES[0]}", f"Walk/{NAMES[1]}", "Hand/v_HandStandPushups_g01_c01"],
        ),
        (SLIM, "slim", [f"Walk/{NAMES[0]}", f"Walk/{NAMES[1]}", "Hand/v_HandStandPushups_g01_c01"]),
    ],
)
def test_lists_of_other_forms(tmp_path, files, dataset, ids):
    listing = list_all(put(tmp_path, files))
    assert detect(tmp_path) == dataset
    named = dataset != "slim"
    assert listing.classes == (
        ("Walk", "HandstandPushups") if named else ("class_000", "class_001")
    )
    test = "val" if dataset == "mmaction2" else "test"
    found = {v.id: (listing.classes.index(v.label), v.split) for v in listing.videos}
    assert found == {ids[0]: (0, "train"), ids[1]: (0, "train"), ids[2]: (1, test)}
    assert any("No file gives class names" in line for line in listing.messages) != named


def test_class_numbers_that_count_from_nobody_knows_where(tmp_path):
    put(tmp_path, {"train.txt": "v_Walk_g01_c01 1\nv_HandstandPushups_g01_c01 2\n"})
    with pytest.raises(KinemaError, match=r"1 to 2: .* --dataset mmaction2 \(from 0\) or"):
        list_all(tmp_path)
    assert list_all(tmp_path, "two-column").classes == ("class_000", "class_001")
    assert list_all(tmp_path, "mmaction2").classes == ("class_000", "class_001", "class_002")
    assert list_all(tmp_path, "mmaction2").videos[0].label == "class_001"


@pytest.mark.parametrize(
    ("dataset", "files", "message"),
    [
        (
            "tsn",
            {"train.txt": "a 3 0\nb 1\n"},
            r"line 2: 'b 1' has 2 columns; .*form tsn",
        ),
        ("tsn", {"train.txt": "a 3 0\nb 3 x\n"}, "line 2: 'b 3 x' has 3 columns"),
        (
            "tsn",
            {"train.txt": "a 3 2\n", "classInd.txt": CLASSES},
            r"the class 2 is not among the 2 of the list of names \(0 to 1\)",
        ),
        (
            "two-column",
            {"train.txt": "v_Walk_g01_c01 0\n", "classInd.txt": CLASSES},
            r"the class 0 is not among the 2 of the list of names \(1 to 2\)",
        ),
        (
            "tsn",
            {"train.txt": "a 3 0\n", "test.txt": "a 3 0\n"},
            "'a' is class 'class_000' in (train|test) here, but class 'class_000' in",
        ),
        ("tsn", {"train.txt": "a 3 0\na 3 1\n"}, "'a' is class 'class_001' in train here"),
        (
            "tsn",
            {"train.txt": "a 3 0\n"},
            "1 videos, the first is a, but none of them is below",
        ),
        ("slim", {"train.txt": "a/1.jpg b/1.jpg 0\n"}, "names images of several videos"),
        ("slim", {"train.txt": "a/1.jpg a/1.txt 0\n"}, "names something that is no image"),
        ("mmaction2", {"train.txt": "a 0\nb c d\n"}, "'b c d' has 3 columns"),
    ],
)
def test_wrong_lists_are_named(tmp_path, dataset, files, message):
    put(tmp_path, files)
    with pytest.raises(KinemaError, match=message):
        list_all(tmp_path, dataset)


def test_counts_are_checked_against_the_files(tmp_path):
    for seed, name in enumerate(NAMES):
        make_video(tmp_path / f"{name}.avi", seed=seed)  # 8 frames
    lines = ("v_Walk_g01_c01 8 0", "v_Walk_g02_c01 7 0", "v_HandstandPushups_g01_c01 6 1")
    write(tmp_path / "train.txt", "\n".join(lines))
    report = build_index(tmp_path, tmp_path / "index")
    (line,) = (line for line in report.messages if "number of frames" in line)
    assert line.startswith(
        "1 of 3 videos have another number of frames than the lists say, such as "
        "'v_HandstandPushups_g01_c01': 6 listed, 8 found."
    )


def test_frame_count_pickle(tmp_path):
    lists = {
        "classInd.txt": CLASSES,
        "trainlist01.txt": "Walk/v_Walk_g01_c01.avi 1\n",
        "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\n",
    }
    put(tmp_path, lists)
    counts = {"v_Walk_g01_c01.avi": 7, "v_HandStandPushups_g01_c01.avi": 99}
    (tmp_path / "frame_count.pickle").write_bytes(pickle.dumps(counts, protocol=0))
    listing = list_all(tmp_path)
    assert {v.id.rpartition("/")[2]: v.claimed_frames for v in listing.videos} == {
        "v_Walk_g01_c01": 7,
        "v_HandStandPushups_g01_c01": 99,
    }
    assert read_frame_counts(tmp_path / "frame_count.pickle")["walk_g01_c01"] == 7


class Harmful:
    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), "asks for 'builtins.print' to be called .* refused"),
        (pickle.dumps([1]), "is not a table of video names"),
        (b"\x80", "cannot be used"),
    ],
)
def test_a_pickle_that_is_no_table_of_counts(tmp_path, content, message, capsys):
    path = tmp_path / "frame_count.pickle"
    path.write_bytes(content)
    with pytest.raises(KinemaError, match=message):
        read_frame_counts(path)
    assert "harm" not in capsys.readouterr().out


def test_a_wrong_n_frames_file_rejects_the_folder(tmp_path):
    for name in ("a/1", "b/2", "b/3"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i in range(1, 6):
            picture = np.full((24, 32, 3), 30 * i + ord(name[-1]), np.uint8)
            cv2.imwrite(str(folder / f"image_{i:05d}.jpg"), picture)
        write(folder / "n_frames", "9" if name == "b/3" else "5")
    database = {
        name: {"subset": part, "annotations": {"label": label}}
        for name, label, part in (
            ("1", "a", "training"),
            ("2", "b", "training"),
            ("3", "b", "validation"),
        )
    }
    write(tmp_path / "set.json", json.dumps({"labels": ["a", "b"], "database": database}))
    report = build_index(tmp_path, tmp_path / "index")
    assert [v.num_frames for v in report.index.videos] == [5, 5]
    ((path, reason),) = report.rejected
    assert path.name == "3" and "n_frames says '9' images, but there are 5" in reason


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An index of six videos in three parts, two classes."""
    root = tmp_path_factory.mktemp("export")
    for seed, (part, label, number) in enumerate(
        (p, c, f"{p}{c}1") for p in ("train", "val", "test") for c in ("run", "walk")
    ):
        make_video(root / "data" / part / label / f"v_{number}.avi", seed=seed, num_frames=6 + seed)
    return build_index(root / "data", root / "index").index, root


def same(found: Index, wanted: Index, *, without_val=False):
    """The same files with the same labels, parts and numbers of frames."""

    def facts(index):
        return {
            v.path: (
                index.classes.index(v.label),
                "train" if without_val and v.split == "val" else v.split,
                v.num_frames,
            )
            for v in index.videos
        }

    assert facts(found) == facts(wanted)


@pytest.mark.parametrize("format", ListFormat.__args__)
def test_what_is_written_is_read_back(small, tmp_path, format):
    index, root = small
    paths = export_index(index, tmp_path / "lists", format=format)
    assert paths and all(path.is_file() for path in paths)
    if format == "frame-count":
        counts = read_frame_counts(paths[0])
        assert counts == {v.path.stem.removeprefix("v_"): v.num_frames - 1 for v in index.videos}
        return
    arguments = {"rule": SplitRule(val_fraction=0)}
    report = build_index(
        root / "data", tmp_path / "i", splits_folder=tmp_path / "lists", **arguments
    )
    assert not any("number of frames" in line for line in report.messages)
    assert report.absent == 0 and report.index.classes == index.classes
    same(report.index, index, without_val=format in ("ucf101", "hmdb51"))


def official():
    splits = (("train", "test"), ("test", "train"), ("train", ""))
    return Index(
        videos=tuple(
            video(f"{c}/v_{c}_g0{i}_c01", c, s[0], splits=s, num_frames=30 + i, fps=10.0)
            for i, (c, s) in enumerate(zip("abb", splits, strict=True))
        ),
        classes=("b", "a"),
    )


def test_lines_by_hand(tmp_path):
    def lines(format, root=""):
        out = tmp_path / format
        paths = export_index(official(), out, format=format, root=root)
        return {str(p.relative_to(out)): p.read_text() for p in paths if p.suffix != ".pickle"}

    tsn = lines("tsn", root="/f/")
    assert tsn["train_rgb_split1.txt"] == "/f/v_a_g00_c01 30 1\n/f/v_b_g02_c01 32 0\n"
    assert tsn["test_flow_split2.txt"] == "/f/v_a_g00_c01 29 1\n"
    assert tsn["classInd.txt"] == "1 b\n2 a\n"
    assert lines("two-column")["testlist02_with_labels.txt"] == "a/v_a_g00_c01 2\n"
    assert lines("mmaction2")["train_split_2_videos.txt"] == "/v/b/v_b_g01_c01.mp4 0\n"
    assert lines("ucf101")["trainlist02.txt"] == "b/v_b_g01_c01.mp4 1\n"
    assert lines("hmdb51")["b_test_split2.txt"] == "v_b_g01_c01.mp4 1\nv_b_g02_c01.mp4 0\n"
    assert lines("kinetics")["split1/test.csv"].splitlines()[1] == "b,v_b_g01_c01,0,3,test"
    hara = json.loads(lines("hara")["hara_01.json"])["database"]["v_b_g01_c01"]
    assert hara == {"subset": "testing", "annotations": {"label": "b", "segment": [1, 32]}}
    slim = lines("slim")
    # 30 frames: every 6th from the 3rd; 29 pairs: every 5th from the 2nd, ten around each.
    first = slim["train_rgb_split1.txt"].splitlines()[0].split()
    assert first == [f"a/v_a_g00_c01/{i:05d}.jpg" for i in (3, 9, 15, 21, 27)] + ["1"]
    flow = slim["train_flow_split1.txt"].splitlines()[0].split()
    assert len(flow) == 101 and flow[0] == "x/a/v_a_g00_c01/frame000001.jpg"
    assert flow[50:60:3] == [f"y/a/v_a_g00_c01/frame{i:06d}.jpg" for i in (1, 1, 3, 6)]


def test_segments_are_written_where_a_form_has_them(small, tmp_path):
    source = small[1] / "data" / "train" / "run" / "v_trainrun1.avi"
    other = small[1] / "data" / "train" / "walk" / "v_trainwalk1.avi"
    rows = f"{source},a,0,3\n{source},b,3,6\n{other},b,,\n{other},a,2,5\n"
    text = f"path,label,segment_start,segment_end,split\n{rows}".replace("\n", ",train\n")
    table = write(tmp_path / "t.csv", text.replace("split,train", "split"))
    rule = SplitRule(test_fraction=0, val_fraction=0)
    index = build_index(table, tmp_path / "index", rule=rule).index
    with pytest.raises(KinemaError, match=r"form tsn name whole videos, but 3 rows are segments"):
        export_index(index, tmp_path / "no", format="tsn")
    with pytest.raises(KinemaError, match=r"hara finds a video by its name alone.*--root FOLDER"):
        export_index(index, tmp_path / "no", format="hara")
    assert not (tmp_path / "no").exists()
    (path,) = export_index(index, tmp_path / "lists", format="activitynet")
    again = build_index(
        small[1] / "data" / "train", tmp_path / "again", splits_folder=path, rule=rule
    )
    assert {(v.path, v.segment, v.label) for v in again.index.videos} == {
        (v.path, v.segment, v.label) for v in index.videos
    }


def test_activitynet_ids_have_no_v_before_them(small, tmp_path):
    source = small[1] / "data" / "train" / "run" / "v_trainrun1.avi"
    database = {
        "trainrun1": {
            "subset": "training",
            "annotations": [
                {"label": "a", "segment": [0, 0.3]},
                {"label": "b", "segment": [0.3, 0.6]},
            ],
        }
    }
    lists = write(tmp_path / "lists" / "net.json", json.dumps({"database": database}))
    rule = SplitRule(test_fraction=0, val_fraction=0)
    index = build_index(source.parent, tmp_path / "i", splits_folder=lists.parent, rule=rule).index
    (path,) = export_index(index, tmp_path / "out", format="activitynet")
    assert list(json.loads(path.read_text())["database"]) == ["trainrun1"]
    again = build_index(source.parent, tmp_path / "j", splits_folder=path.parent, rule=rule).index
    assert [v.id for v in again.videos] == [v.id for v in index.videos]


@pytest.mark.parametrize(
    ("videos", "format", "message"),
    [
        ((video("x/1", "a"), video("y/1", "a")), "ucf101", "'x/1' and 'y/1' have the same name"),
        ((video("x/1", "a"), video("y/1", "b")), "hara", "knows a video by its name alone"),
        ((video("x/1", "a"), video("y/1", "b")), "tsn", "Two videos would be '/f/1' in the lists"),
        ((video("x y", "a"),), "tsn", "'/f/x y' has a space in it"),
    ],
)
def test_what_a_form_cannot_say_is_an_error(tmp_path, videos, format, message):
    with pytest.raises(KinemaError, match=message):
        export_index(
            Index(videos=videos, classes=("a", "b")), tmp_path / "o", format=format, root="/f"
        )
    assert not (tmp_path / "o").exists()


def test_export_on_the_command_line(small, tmp_path):
    done = kinema("index", "export", small[1] / "index", "--format", "tsn", "-o", tmp_path)
    assert done.code == 0 and "train_rgb_split1.txt" in done.out
    assert kinema("index", "export", small[1] / "index", "--format", "x", "-o", tmp_path).code == 2
    done = kinema("index", small[1] / "data", "-o", tmp_path / "index")
    assert done.code == 0 and len(read_index(tmp_path / "index").videos) == 6
    assert [name.value for name in ListFormatOption] == list(ListFormat.__args__)
    with pytest.raises(UsageError, match="Did you mean 'slim'"):
        export_index(small[0], tmp_path, format="slm")


@pytest.mark.parametrize(
    ("format", "layout", "name"),
    [
        ("tsn", "tsn", "train_rgb_split1.txt"),
        ("slim", "slim", "train_rgb_split1.txt"),
        ("mmaction2", "denseflow", "train_split_1_rawframes.txt"),
    ],
)
def test_lists_name_the_images_that_are_written(small, tmp_path, format, layout, name):
    index, root = small
    options = FrameOptions(layout=layout)
    assert not frames(root / "index", tmp_path / "images", options=options, workers=1).failures
    export_index(index, tmp_path / "lists", format=format, root=str(tmp_path / "images"))
    for line in (tmp_path / "lists" / name).read_text().splitlines():
        place = Path(line.split()[0])
        assert place.is_file() if format == "slim" else (place / "img_00001.jpg").is_file()
    rule = SplitRule(val_fraction=0)
    again = build_index(
        tmp_path / "images", tmp_path / "i", splits_folder=tmp_path / "lists", rule=rule
    ).index
    assert {(v.path.name, v.label, v.split, v.num_frames) for v in again.videos} == {
        (v.path.stem, v.label, v.split, v.num_frames) for v in index.videos
    }


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "ucf101").is_dir(), reason="needs ../shared/data")
def test_the_official_ucf101_lists_survive_a_round_trip(tmp_path):
    rule = SplitRule(val_fraction=0)
    index = build_index(SHARED / "ucf101", tmp_path / "index", rule=rule).index
    for format in ("ucf101", "tsn"):
        export_index(index, tmp_path / format, format=format)
        again = build_index(
            SHARED / "ucf101", tmp_path / "index", splits_folder=tmp_path / format, rule=rule
        ).index
        assert again.classes == index.classes
        assert {(v.path, v.label, v.splits) for v in again.videos} == {
            (v.path, v.label, v.splits) for v in index.videos
        }
