"""Score files: written and read unchanged, and refused where they are wrong."""

import zipfile

import numpy as np
import pytest

from helpers_scores import make_scores, random_scores
from kinema.errors import KinemaError
from kinema.scores import align, load_scores, save_scores


def test_a_file_comes_back_exactly(tmp_path):
    scores = make_scores(
        [[1.5, -2, 3e-7], [0.1, 1e6, -0.0]],
        labels=[2, -1],
        ids=["Über/ä b_g01", "x/y"],
        protocol="tsn-25x10",
        checkpoint="ab12",
        clip_top1=0.25,
    )
    save_scores(scores, tmp_path / "deep" / "a.npz")
    back = load_scores(tmp_path / "deep" / "a.npz")
    assert back.values.tobytes() == scores.values.tobytes()
    assert back.values.dtype == np.float32 and back.labels.dtype == np.int64
    assert back.labels.tolist() == [2, -1]
    for name in ("ids", "kind", "classes", "protocol", "checkpoint", "clip_top1"):
        assert getattr(back, name) == getattr(scores, name)


def test_unknown_clip_accuracy_comes_back_as_none(tmp_path):
    save_scores(make_scores([[1, 2, 3]]), tmp_path / "a.npz")
    assert load_scores(tmp_path / "a.npz").clip_top1 is None


def test_the_same_scores_give_the_same_bytes(tmp_path):
    scores = random_scores(videos=20, classes=4, seed=0)
    save_scores(scores, tmp_path / "a.npz")
    save_scores(scores, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_holds_no_pickle_and_opens_with_numpy_alone(tmp_path):
    save_scores(random_scores(videos=5, classes=3, seed=1), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["values"].shape == (5, 3)
        assert arrays["ids"].tolist() == ["v0", "v1", "v2", "v3", "v4"]


def test_an_older_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_scores(make_scores([[1, 2, 3]]), path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(KinemaError, match="No space left"):
        save_scores(make_scores([[3, 2, 1]]), path)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": [[1, 2], [3, 4]]}, r"shape \(2, 2\).*\(2, 3\) is expected"),
        ({"values": [[1, np.nan, 2], [1, 2, np.inf]]}, "not finite numbers for v0, v1"),
        ({"ids": ["a", "a"]}, "video ids occur more than once: a"),
        ({"ids": ["a", "b", "c"]}, r"\(3, 3\) is expected"),
        ({"classes": ["run", "jump", "run"]}, "classes occur more than once: run"),
        ({"labels": [0]}, r"labels have the shape \(1,\)"),
        ({"labels": [0, 3]}, "Label 3 of 'v1' is not a class.*0 to 2"),
        ({"labels": [-2, 0]}, "Label -2 of 'v0'"),
        ({"kind": "scores"}, "not 'scores'"),
        ({"kind": "probabilities"}, "called probabilities.*'v0', sum 6"),
        (
            {"kind": "probabilities", "values": [[0.5, 0.5, 0], [-0.1, 0.5, 0.6]]},
            "of 1 videos.*'v1'",
        ),
    ],
)
def test_contents_that_do_not_fit_are_refused(changed, message):
    given = {"values": [[1, 2, 3], [3, 2, 1]], "labels": [0, 1]} | changed
    with pytest.raises(KinemaError, match=message):
        make_scores(given.pop("values"), **given)


def test_no_video_is_refused():
    with pytest.raises(KinemaError, match="at least one video"):
        make_scores(np.zeros((0, 3)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KinemaError, match=r"no score file .*gone\.npz"):
        load_scores(tmp_path / "gone.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", format=np.array([{}], object))
    np.savez(tmp_path / "newer.npz", format=np.array("kinema-scores-2"))
    for name in ("text", "other", "pickled"):
        with pytest.raises(KinemaError, match=rf"{name}\.npz is not a score file of Kinema"):
            load_scores(tmp_path / f"{name}.npz")
    with pytest.raises(KinemaError, match=r"format 'kinema-scores-2'.*reads 'kinema-scores-1'"):
        load_scores(tmp_path / "newer.npz")


def test_a_truncated_file_is_refused(tmp_path):
    save_scores(random_scores(videos=50, classes=5, seed=2), tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KinemaError, match="is not a score file of Kinema"):
        load_scores(tmp_path / "a.npz")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    save_scores(random_scores(videos=50, classes=5, seed=2), path)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("values.npy").header_offset
    damaged = bytearray(path.read_bytes())
    damaged[start + 200 : start + 260] = bytes(60)
    path.write_bytes(damaged)
    with pytest.raises(KinemaError, match="is not a score file of Kinema"):
        load_scores(path)


def test_align_joins_rows_by_id_and_columns_by_name():
    first = make_scores([[1, 2, 3], [4, 5, 6]], ids=["a", "b"], labels=[0, 2])
    other = make_scores(
        [[60, 40, 50], [30, 10, 20]],
        ids=["b", "a"],
        labels=[0, 1],
        classes=["wave", "run", "jump"],
    )
    _, moved = align([first, other])
    assert moved.ids == ("a", "b") and moved.classes == first.classes
    assert moved.values.tolist() == [[10, 20, 30], [40, 50, 60]]
    assert moved.labels.tolist() == [0, 2]


def test_align_takes_unknown_labels_from_another_stream():
    first = make_scores([[1, 2, 3], [4, 5, 6]], labels=[-1, 2])
    other = make_scores([[1, 2, 3], [4, 5, 6]], labels=[1, -1])
    for stream in align([first, other]):
        assert stream.labels.tolist() == [1, 2]


def test_align_undoes_any_permutation():
    scores = random_scores(videos=30, classes=7, seed=3)
    rng = np.random.default_rng(4)
    rows, columns = rng.permutation(30), rng.permutation(7)
    shuffled = make_scores(
        scores.values[rows][:, columns],
        ids=[scores.ids[i] for i in rows],
        labels=[int(np.flatnonzero(columns == scores.labels[i])[0]) for i in rows],
        classes=[scores.classes[i] for i in columns],
    )
    _, back = align([scores, shuffled])
    np.testing.assert_array_equal(back.values, scores.values)
    np.testing.assert_array_equal(back.labels, scores.labels)


def test_align_lists_missing_and_surplus_videos():
    first = make_scores(np.eye(3)[[0] * 8], ids=[f"clip{i}" for i in range(8)])
    other = make_scores(np.eye(3)[[0] * 2], ids=["clip7", "else"])
    message = r"file 2 .*lacks clip0, clip1, clip2, clip3, clip4, … \(7 in all\) and alone has else"
    with pytest.raises(KinemaError, match=message):
        align([first, other])
    with pytest.raises(KinemaError, match=r"file 2 .*: it alone has clip0"):
        align([make_scores([[1, 2, 3]], ids=["clip7"]), first])


def test_align_refuses_other_classes_and_other_labels():
    first = make_scores([[1, 2, 3]], labels=[0])
    with pytest.raises(KinemaError, match=r"only in file 1: wave; only in file 2: fall"):
        align([first, make_scores([[1, 2, 3]], classes=["run", "jump", "fall"])])
    with pytest.raises(KinemaError, match=r"\(2 and 3\).*only in file 2: none"):
        align([first, make_scores([[1, 2]], classes=["run", "jump"])])
    with pytest.raises(KinemaError, match=r"file 2 gives other labels .* for v0"):
        align([first, make_scores([[1, 2, 3]], labels=[1])])
