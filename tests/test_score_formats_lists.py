"""The lists that give foreign score files their videos, labels and classes."""

import numpy as np
import pytest

from kinema.errors import KinemaError
from kinema.score_formats.listing import key, label_from_name, read_classes, read_listing
from kinema.score_formats.read import read_any_scores

CLASSES = ("Archery", "HandstandPushups", "Biking")


def write(tmp_path, text, name="list.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "name",
    [
        "HandstandPushups/v_HandStandPushups_g01_c02.avi",
        "v_HandstandPushups_g01_c02",
        "HandStandPushups_g01_c02",
        "/data/frames/v_HandStandPushups_g01_c02",
        "v_HandstandPushups_g01_c02.MP4",
    ],
)
def test_names_of_one_video_in_all_systems_have_one_key(name):
    assert key(name) == "handstandpushups_g01_c02"


def test_dots_and_odd_letters_stay_in_a_key():
    assert key("a/#20_Rhythm_clap_u_nm.1_goo_0.avi") == "#20_rhythm_clap_u_nm.1_goo_0"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Archery/anything.mp4", 0),
        ("v_HandStandPushups_g01_c02", 1),
        ("Biking_g25_c07.avi", 2),
        ("deep/Biking/x", 2),
        ("v_Skiing_g01_c01", -1),
        ("0a1b2c", -1),
    ],
)
def test_labels_from_names(name, label):
    assert label_from_name(name, classes=CLASSES) == label


@pytest.mark.parametrize(
    ("text", "ids", "labels"),
    [
        ("Archery/a.avi\r\nBiking/b.avi\r\n", ("Archery/a", "Biking/b"), [0, 2]),
        ("Archery/a.avi 1\nBiking/b.avi 3\n", ("Archery/a", "Biking/b"), [0, 2]),
        ("/x/a 120 0\n/x/b 90 2\n\n", ("a", "b"), [0, 2]),
        ("a b/c.mp4 120 0\na b/d.mp4 90 1\n", ("a b/c", "a b/d"), [0, 1]),
        ("a Biking\nb Archery\n", ("a", "b"), [2, 0]),
        ("clip one\nclip two\n", ("clip one", "clip two"), [-1, -1]),
        ("\ufeffa 0\nb -1\n", ("a", "b"), None),
        ("C:\\x\\a.avi 30 1\n", ("C:/x/a",), [1]),
    ],
)
def test_columns(tmp_path, text, ids, labels):
    path = write(tmp_path, text)
    if labels is None:
        with pytest.raises(KinemaError, match="run from -1 to 0 with 3 classes: no numbering"):
            read_listing(path, classes=CLASSES)
        return
    listing = read_listing(path, classes=CLASSES)
    assert listing.ids == ids
    assert listing.labels.tolist() == labels


def test_numbers_that_could_mean_two_things_are_refused(tmp_path):
    with pytest.raises(KinemaError, match="1 to 2 with 3 classes: they may count from 0 or from 1"):
        read_listing(write(tmp_path, "a 1\nb 2\n"), classes=CLASSES)
    with pytest.raises(KinemaError, match="0 to 3 with 3 classes: no numbering"):
        read_listing(write(tmp_path, "a 0\nb 3\n"), classes=CLASSES)
    with pytest.raises(KinemaError, match="1 to 3 with 3 classes: no numbering"):
        read_listing(write(tmp_path, "a 50 1\nb 60 3\n"), classes=CLASSES)


def test_class_lists(tmp_path):
    assert read_classes(write(tmp_path, "b\na\n")) == ("b", "a")
    assert read_classes(write(tmp_path, "1 Archery\r\n2 Baby Crawling\r\n")) == (
        "Archery",
        "Baby Crawling",
    )
    assert read_classes(write(tmp_path, '{"labels": ["x", "y"]}', "a.json")) == ("x", "y")
    with pytest.raises(KinemaError, match="no class names"):
        read_classes(write(tmp_path, "\n\n"))
    with pytest.raises(KinemaError, match=r"no list .*gone"):
        read_classes(tmp_path / "gone.txt")


def test_empty_and_binary_lists(tmp_path):
    with pytest.raises(KinemaError, match="lists no video"):
        read_listing(write(tmp_path, "\n"), classes=CLASSES)
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(KinemaError, match="not a text file"):
        read_listing(tmp_path / "list.txt", classes=CLASSES)
    with pytest.raises(KinemaError, match="no 'database'"):
        read_listing(write(tmp_path, "[1]", "a.json"), classes=CLASSES)


@pytest.fixture
def matrix(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3)[[0, 1, 2, 0]] * 4)
    return tmp_path / "a.npy"


def test_a_matrix_needs_its_list(matrix, tmp_path):
    with pytest.raises(KinemaError, match=r"a\.npy: a NumPy matrix has no names .*its 4 videos"):
        read_any_scores(matrix)
    with pytest.raises(KinemaError, match="4 rows of scores, but the list has 3 videos"):
        read_any_scores(matrix, ids=write(tmp_path, "a\nb\nc\n"))
    with pytest.raises(KinemaError, match="video ids occur more than once: a"):
        read_any_scores(matrix, ids=write(tmp_path, "a\nb\nc\na\n"))


def test_a_wrong_number_of_class_names(matrix, tmp_path):
    names = write(tmp_path, "x\ny\n", "classes.txt")
    with pytest.raises(KinemaError, match="3 scores per video, but 2 class names"):
        read_any_scores(matrix, ids=write(tmp_path, "a\nb\nc\nd\n"), classes=names)


def test_named_rows_and_a_list_that_do_not_fit(tmp_path):
    path = write(tmp_path, '{"v_a": {"pred_outputs": [1, 2]}, "b": {"pred_outputs": [3, 4]}}')
    with pytest.raises(KinemaError, match="videos are not in the list: b"):
        read_any_scores(path, ids=write(tmp_path, "a.avi\nc.avi\n", "ids.txt"))
    with pytest.raises(KinemaError, match="videos of the list have no scores: c"):
        read_any_scores(path, ids=write(tmp_path, "a.avi\nb.avi\nc.avi\n", "ids.txt"))
    with pytest.raises(KinemaError, match=r"'x/a\.avi' and 'y/a\.avi' in the list are the same"):
        read_any_scores(path, ids=write(tmp_path, "x/a.avi\ny/a.avi\nb.avi\n", "ids.txt"))
