"""Pickles of other systems: their numbers come out, their code does not run."""

import io
import os
import pickle
import struct
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from kinema.errors import KinemaError
from kinema.score_formats.read import read_any_scores
from kinema.score_formats.safe_pickle import load_pickle

UCF = ["Archery", "Basketball", "HandstandPushups"]
ROWS = {
    "Archery_g01_c01": [3.0, 1.0, -2.0],
    "Basketball_g02_c03": [0.5, 4.0, 1.0],
    "HandStandPushups_g07_c02": [-1.0, 0.0, 9.0],
}


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classInd.txt"
    path.write_text("".join(f"{i + 1} {name}\r\n" for i, name in enumerate(UCF)))
    return path


@pytest.fixture
def testlist(tmp_path):
    path = tmp_path / "testlist01.txt"
    path.write_text(
        "Archery/v_Archery_g01_c01.avi\r\n"
        "HandstandPushups/v_HandStandPushups_g07_c02.avi\r\n"
        "Basketball/v_Basketball_g02_c03.avi\r\n"
    )
    return path


def dump(tmp_path, content, protocol=2):
    path = tmp_path / "scores.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def python2_pickle(rows):
    """The bytes that Python 2 and an old NumPy write for a dict of float32 vectors."""

    def text(data):
        if len(data) < 256:
            return b"U" + bytes([len(data)]) + data
        return b"T" + struct.pack("<i", len(data)) + data

    out = b"\x80\x02}("
    for name, row in rows.items():
        data = np.array(row, "<f4").tobytes()
        out += text(name.encode()) + b"cnumpy.core.multiarray\n_reconstruct\n"
        out += b"cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01K"
        out += bytes([len(row)]) + b"\x85cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R(K\x03"
        out += text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(data) + b"tb"
    return out + b"u."


def test_huang_written_by_python_2(tmp_path, classes, testlist):
    rows = {name: np.linspace(-3, 7, 3) + i for i, name in enumerate(ROWS)}
    path = tmp_path / "spatial_video_preds.pickle"
    path.write_bytes(python2_pickle(rows))
    reference = pickle.loads(path.read_bytes(), encoding="latin1")
    scores = read_any_scores(path, ids=testlist, classes=classes)
    assert scores.kind == "logits" and scores.classes == tuple(UCF)
    assert scores.ids[1] == "HandstandPushups/v_HandStandPushups_g07_c02"
    assert scores.labels.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(
        scores.values, [reference[name] for name in (list(ROWS)[i] for i in (0, 2, 1))]
    )


def test_python2_vectors_longer_than_a_short_string():
    data = python2_pickle({"a": np.arange(101)})
    content = load_pickle(io.BytesIO(data))
    np.testing.assert_array_equal(content["a"], np.arange(101, dtype=np.float32))


@pytest.mark.parametrize("protocol", range(6))
def test_huang_in_every_protocol(tmp_path, classes, protocol):
    rows = {name: np.array(row, np.float32) for name, row in ROWS.items()}
    scores = read_any_scores(dump(tmp_path, rows, protocol), classes=classes)
    assert scores.ids == tuple(ROWS)
    np.testing.assert_array_equal(scores.values, np.array(list(ROWS.values()), np.float32))
    assert scores.labels.tolist() == [0, 1, 2]


def test_without_lists_names_and_numbers_stay(tmp_path):
    rows = {"b": np.arange(4.0), "a": np.ones(4)}
    scores = read_any_scores(dump(tmp_path, rows))
    assert scores.ids == ("a", "b") and scores.classes == ("0", "1", "2", "3")
    assert scores.labels.tolist() == [-1, -1]
    assert "Huang" in scores.protocol


def test_elkomy_divides_by_the_samples_that_a_video_had(tmp_path):
    rows = {"a": 19 * np.array([0.5, 0.25, 0.25]), "b": 7 * np.array([0.125, 0.75, 0.125])}
    path = tmp_path / "spatial.preds"
    path.write_bytes(pickle.dumps((rows, 19)))
    scores = read_any_scores(path)
    assert scores.kind == "probabilities"
    np.testing.assert_allclose(scores.values, [[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])


def test_elkomy_with_other_numbers_is_refused(tmp_path):
    path = dump(tmp_path, ({"a": np.array([1.0, 2.5]), "b": np.array([9.0, 10.0])}, 19))
    with pytest.raises(KinemaError, match="sums of softmax scores, but does not for a"):
        read_any_scores(path)


def test_mmaction2_with_tensors(tmp_path, testlist, classes):
    torch = pytest.importorskip("torch")
    probabilities = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]
    samples = [
        {
            "pred_score": torch.tensor(row),
            "gt_label": torch.tensor([label]),
            "pred_label": torch.tensor([label]),
            "num_classes": 3,
            "img_shape": (224, 224),
        }
        for row, label in zip(probabilities, (0, 2, 1), strict=True)
    ]
    scores = read_any_scores(dump(tmp_path, samples, 4), ids=testlist, classes=classes)
    assert scores.kind == "probabilities"
    np.testing.assert_allclose(scores.values, probabilities, rtol=1e-6)
    assert scores.labels.tolist() == [0, 2, 1]


def test_mmaction2_tensor_views_and_half_precision(tmp_path, testlist):
    torch = pytest.importorskip("torch")
    block = torch.arange(12.0).reshape(3, 4).to(torch.bfloat16)
    samples = [{"pred_score": column} for column in block.T[:3]]
    scores = read_any_scores(dump(tmp_path, samples), ids=testlist)
    np.testing.assert_array_equal(scores.values, [[0, 4, 8], [1, 5, 9], [2, 6, 10]])
    assert scores.kind == "logits" and scores.labels.tolist() == [-1, -1, -1]


def test_mmaction2_older_forms(tmp_path, testlist):
    rows = np.arange(9.0).reshape(3, 3)
    nested = [{"pred_scores": {"item": r}, "gt_labels": {"item": np.array([1])}} for r in rows]
    scores = read_any_scores(dump(tmp_path, nested), ids=testlist)
    np.testing.assert_array_equal(scores.values, rows)
    assert scores.labels.tolist() == [1, 1, 1]
    plain = read_any_scores(dump(tmp_path, list(rows)), ids=testlist)
    np.testing.assert_array_equal(plain.values, rows)
    whole = read_any_scores(dump(tmp_path, rows), ids=testlist)
    np.testing.assert_array_equal(whole.values, rows)


def test_mmaction2_labels_that_are_not_those_of_the_list(tmp_path, testlist, classes):
    samples = [{"pred_score": np.eye(3)[i], "gt_label": np.array([i])} for i in range(3)]
    message = r"labels in the file are not .* HandstandPushups/v_HandStandPushups_g07_c02, Bask"
    with pytest.raises(KinemaError, match=message):
        read_any_scores(dump(tmp_path, samples), ids=testlist, classes=classes)


class Payload:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def payloads(command):
    evil = Payload(command)
    return {
        "alone": evil,
        "value": {"a": evil},
        "key order": {"a": np.zeros(3), "b": [evil]},
        "in an object array": {"a": np.array([1, evil], object)},
        "preds": ({"a": np.ones(2)}, evil),
    }


@pytest.mark.parametrize("where", payloads(""))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_runs_nothing(tmp_path, where, protocol):
    trace = tmp_path / "trace"
    content = payloads(f"touch '{trace}'")[where]
    path = dump(tmp_path, content, protocol)
    with pytest.raises(KinemaError, match=r"asks for '(posix|nt)\.system' .*: refused.*savez"):
        read_any_scores(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the same bytes do run elsewhere
    assert trace.exists()


def test_a_malicious_tensor_runs_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    trace = tmp_path / "trace"
    inner = io.BytesIO()
    torch.save(Payload(f"touch '{trace}'"), inner, _use_new_zipfile_serialization=False)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    path = dump(tmp_path, [{"pred_score": Storage()}])
    with pytest.raises(KinemaError, match="a storage that is not plain"):
        read_any_scores(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "numpy.load", "torch.load", "kinema.files.replacing"],
)
def test_other_functions_are_refused(tmp_path, name):
    module, _, function = name.rpartition(".")
    path = tmp_path / "a.pickle"
    path.write_bytes(f"c{module}\n{function}\n(Vx\ntR.".encode())
    with pytest.raises(KinemaError, match=f"asks for '{name}'"):
        read_any_scores(path)


def test_forged_arrays_are_refused(tmp_path):
    """Bytes that claim to be object pointers would crash NumPy's own constructor."""
    path = tmp_path / "a.pickle"
    state = b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R\x89U\x08AAAAAAAAtb."
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    path.write_bytes(head + state)
    with pytest.raises(KinemaError, match="cannot be read as a pickle"):
        read_any_scores(path)
    path.write_bytes(head + state.replace(b"O8", b"V8"))
    with pytest.raises(KinemaError, match=r"asks for 'numpy\.dtype V8'"):
        read_any_scores(path)


def test_plain_values_come_through():
    content = {
        "ints": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">f8"),
        "text": np.array(["ab", "c"]),
        "ragged": np.array([np.zeros(2), "x", None, [1, 2]], object),
        "scalar": np.float32(1.5),
        "bytes": b"\x00\xff",
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, a=[1]),
        "set": {1, 2},
        "nested": [(1, {"x": np.ones(1)})],
    }
    for protocol in range(6):
        back = load_pickle(io.BytesIO(pickle.dumps(content, protocol)))
        for name in ("ints", "fortran", "big endian", "text"):
            np.testing.assert_array_equal(back[name], content[name])
            assert back[name].dtype == content[name].dtype
        assert [type(element) for element in back["ragged"]] == [np.ndarray, str, type(None), list]
        assert (back["scalar"], back["bytes"], back["set"]) == (1.5, b"\x00\xff", {1, 2})
        assert back["ordered"] == {"a": 1} and back["default"] == {"a": [1]}
        np.testing.assert_array_equal(back["nested"][0][1]["x"], [1])


def test_other_contents_and_broken_pickles(tmp_path):
    with pytest.raises(KinemaError, match="pickle of int, not of scores"):
        read_any_scores(dump(tmp_path, 5))
    with pytest.raises(KinemaError, match=r"not all have 'pred_score': the first has x"):
        read_any_scores(dump(tmp_path, [{"x": 1}]))
    ragged = r"same length; it has \(2,\), \(3,\)"
    with pytest.raises(KinemaError, match=ragged):
        read_any_scores(dump(tmp_path, {"a": np.zeros(3), "b": np.zeros(2)}))
    with pytest.raises(KinemaError, match="are not numbers"):
        read_any_scores(dump(tmp_path, {"a": "text"}))
    path = dump(tmp_path, {"a": np.zeros(300)})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(KinemaError, match="cannot be read as a pickle"):
        read_any_scores(path)
    loop: list = []
    loop.append(loop)
    with pytest.raises(KinemaError, match="cannot be read as a pickle"):
        read_any_scores(dump(tmp_path, loop))
