from pathlib import Path

import pytest

from helpers_datasets import make_folder, write
from kinema.datasets.build import build_index
from kinema.datasets.hmdb51 import hmdb51_lists, list_hmdb51
from kinema.datasets.part_checks import divided_groups
from kinema.datasets.splits import SplitRule
from kinema.datasets.ucf101 import list_ucf101, ucf101_lists
from kinema.errors import KinemaError

SHARED = Path(__file__).parents[2] / "shared" / "data"
NOWHERE = Path("/nowhere")
HAND = "HandstandPushups/v_HandStandPushups_g0{}_c01.avi"
WALK = "Walk/v_Walk_g0{}_c01.avi"


def ucf(root, *, end="\n", splits=2):
    """Lists of two classes; each split tests one of the groups 1..3 and trains on the others."""
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", end.join(["1 HandstandPushups", "2 Walk", "3 Yoga", ""]))
    for k in range(1, splits + 1):
        train = [n.format(g) for n in (HAND, WALK) for g in (1, 2, 3) if g != k]
        test = [n.format(k) for n in (HAND, WALK)]
        numbered = [f"{n} {1 if 'Hand' in n else 2}" for n in train]
        write(lists / f"trainlist0{k}.txt", end.join([*numbered, ""]))
        write(lists / f"testlist0{k}.txt", end.join([*test, ""]))
    return lists


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ucf101_flat_or_in_folders_with_either_spelling(tmp_path, end):
    lists = ucf(tmp_path, end=end)
    for name in (
        "v_HandstandPushups_g01_c01.avi",
        "HandstandPushups/v_HandStandPushups_g02_c01.avi",
        "deep/er/v_Walk_g02_c01.mp4",
        "v_Walk_g03_c01.avi",
    ):
        write(tmp_path / name, "x")
    assert ucf101_lists(tmp_path) == lists
    listing = list_ucf101(tmp_path, lists, skip=NOWHERE)
    assert listing.classes == ("HandstandPushups", "Walk", "Yoga")
    assert [(v.id, v.label, v.group, v.splits) for v in listing.videos] == [
        (f"HandstandPushups/v_HandStandPushups_g0{g}_c01", "HandstandPushups", group, splits)
        for g, group, splits in (
            (1, "HandstandPushups_g01", ("test", "train")),
            (2, "HandstandPushups_g02", ("train", "test")),
        )
    ] + [
        ("Walk/v_Walk_g02_c01", "Walk", "Walk_g02", ("train", "test")),
        ("Walk/v_Walk_g03_c01", "Walk", "Walk_g03", ("train", "train")),
    ]
    assert listing.absent == 2
    assert listing.official_counts == ((4, 2), (4, 2))
    assert listing.messages == (
        "Official lists, train/test: split 1 4/2, split 2 4/2.",
        "4 of the 6 listed videos are present (split 1 3/1, split 2 2/2), 2 are absent.",
    )


def test_videos_in_no_list_and_copies(tmp_path):
    lists = ucf(tmp_path, splits=1)
    for name in ("v_Walk_g01_c01.avi", "copy/v_Walk_g01_c01.avi", "v_Other_g01_c01.avi"):
        write(tmp_path / name, "x")
    listing = list_ucf101(tmp_path, lists, skip=NOWHERE)
    first = tmp_path / "copy/v_Walk_g01_c01.avi"
    assert listing.videos[0].path == first
    assert listing.rejected == ((tmp_path / "v_Walk_g01_c01.avi", f"same name as {first}"),)
    assert "1 videos are in none of the official lists" in listing.messages[-1]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", "ApplyEyeMakeup\n", "is not a line like '1 ApplyEyeMakeup'"),
        ("trainlist01.txt", "Dance/v_Dance_g01_c01.avi 1\n", "class 'Dance' .* not in classInd"),
        (
            "trainlist01.txt",
            WALK.format(2) + " 1\n",
            "says class 1, but classInd.txt has Walk as 2",
        ),
        ("testlist01.txt", WALK.format(2) + "\n", "is in the training list of this split too"),
        ("testlist01.txt", None, "testlist01.txt cannot be read"),
    ],
)
def test_wrong_ucf101_lists_are_named(tmp_path, file, text, message):
    lists = ucf(tmp_path, splits=1)
    if text is None:
        (lists / file).unlink()
    else:
        write(lists / file, text)
    with pytest.raises(KinemaError, match=message):
        list_ucf101(tmp_path, lists, skip=NOWHERE)


def test_lists_without_videos(tmp_path):
    lists = ucf(tmp_path)
    with pytest.raises(KinemaError, match=r"name 6 videos, but none of them is below"):
        list_ucf101(tmp_path, lists, skip=NOWHERE)


def hmdb(root, end="\n"):
    lists = root / "testTrainMulti_7030_splits"
    for label in ("wave", "brush_hair"):
        names = [f"Film_{n}_{label}_u_nm_np1_ba_goo_{k}.avi" for n in (1, 2) for k in (0, 1)]
        for split in (1, 2, 3):
            codes = {1: "1122", 2: "2211", 3: "1020"}[split]
            lines = [f"{name} {code} " for name, code in zip(names, codes, strict=True)]
            write(lists / f"{label}_test_split{split}.txt", end.join([*lines, ""]))
        for name in names[:3]:
            write(root / label / name, "x")
    return lists


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_hmdb51(tmp_path, end):
    lists = hmdb(tmp_path, end)
    assert hmdb51_lists(tmp_path) == lists
    listing = list_hmdb51(tmp_path, lists, skip=NOWHERE)
    assert listing.classes == ("brush_hair", "wave")
    assert listing.official_counts == ((4, 4), (4, 4), (2, 2))
    assert listing.absent == 2
    assert [(v.id, v.group, v.splits) for v in listing.videos if v.label == "wave"] == [
        ("wave/Film_1_wave_u_nm_np1_ba_goo_0", "wave/Film_1", ("train", "test", "train")),
        ("wave/Film_1_wave_u_nm_np1_ba_goo_1", "wave/Film_1", ("train", "test", "")),
        ("wave/Film_2_wave_u_nm_np1_ba_goo_0", "wave/Film_2", ("test", "train", "test")),
    ]


def test_wrong_hmdb51_files_are_named(tmp_path):
    lists = hmdb(tmp_path)
    write(lists / "wave_test_split1.txt", "a.avi 3\n")
    with pytest.raises(KinemaError, match=r"wave_test_split1\.txt: 'a\.avi 3' is not a line like"):
        list_hmdb51(tmp_path, lists, skip=NOWHERE)
    (lists / "wave_test_split2.txt").unlink()
    with pytest.raises(KinemaError, match=r"wave_test_split\*\.txt is not there for every split"):
        list_hmdb51(tmp_path, lists, skip=NOWHERE)


def test_an_index_of_official_splits_follows_them_as_published(tmp_path):
    ucf(tmp_path, splits=2)
    names = [n.format(g) for n in (HAND, WALK) for g in (1, 2, 3)]
    make_folder(tmp_path / "videos", names)
    first, second = (tmp_path / "videos" / WALK.format(g) for g in (2, 3))
    second.write_bytes(first.read_bytes())
    report = build_index(tmp_path, tmp_path / "out", rule=SplitRule(val_fraction=0.5))
    index = report.index
    assert report.rejected == ()
    assert len(index.videos) == 6
    assert any("1 videos have the same content as another, kept" in m for m in report.messages)
    for official in (1, 2):
        test = index.part("test", official=official)
        assert {v.group[-3:] for v in test} == {f"g0{official}"}
        sizes = [len(index.part(part, official=official)) for part in ("train", "val", "test")]
        assert sizes == [2, 2, 2]


def test_an_official_split_with_a_film_on_both_sides_is_followed_and_it_is_said(tmp_path):
    lists = tmp_path / "splits"
    for label in ("wave", "clap"):
        names = [f"Film_{label}_u_nm_np1_ba_goo_{k}.avi" for k in (0, 1)]
        write(lists / f"{label}_test_split1.txt", f"{names[0]} 1\n{names[1]} 2\n")
        make_folder(tmp_path / "videos" / label / label, names)
    for path in (tmp_path / "videos/clap").rglob("*.avi"):
        path.write_bytes(path.read_bytes() + b"JUNK")
    report = build_index(tmp_path, tmp_path / "out", rule=SplitRule())
    assert [v.split for v in report.index.videos] == ["train", "test"] * 2
    assert "Official split 1 has 2 groups on both sides, as published" in " ".join(report.messages)


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "ucf101").is_dir(), reason="needs ../shared/data")
def test_ucf101_as_published():
    lists = SHARED / "ucf101" / "splits"
    listing = list_ucf101(SHARED / "ucf101", lists, skip=NOWHERE)
    assert listing.official_counts == ((9537, 3783), (9586, 3734), (9624, 3696))
    assert len(listing.videos) == 101
    assert listing.absent == 13320 - 101
    assert len(listing.classes) == 101
    assert len({v.label for v in listing.videos}) == 63
    assert sum(v.split == "test" for v in listing.videos) == 34
    for k in range(3):
        assert divided_groups(listing.videos, [v.splits[k] for v in listing.videos]) == {}
