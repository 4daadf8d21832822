"""Wrong arguments: one clear sentence, exit code 2 for wrong usage and 1 for work that failed."""

from dataclasses import replace

import numpy as np
import pytest

from helpers_cli import OPTIONS, STREAMS, contents, inside, kinema
from helpers_scores import make_scores
from kinema.console import table
from kinema.fusion import fuse
from kinema.scores import load_scores, save_scores


def fill(words, finished):
    """Put the places of the finished run in."""
    places = {"DATA": finished.data, "INDEX": finished.folder / "index", "RUN": finished.folder}
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    return words


USAGE = {
    ("trian",): "No such command 'trian'",
    ("index", "DATA"): "Missing option '--out'",
    ("train", "INDEX", "-o", "x", "--lr", "3"): "No such option: --lr",
    ("test", "RUN", "--part", "vall"): "'vall' is not one of",
    ("train", "INDEX", "-o", "x", "--modality", "flo"): "'flo' is not one of",
    ("predict", "RUN", "DATA", "--top", "0"): "Invalid value for '--top'",
    ("run", "DATA", "--out", "x", "--seed", "one"): "Invalid value for '--seed'",
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_the_command_line_itself(finished, tmp_path, words):
    with inside(tmp_path):
        done = kinema(*fill(words, finished))
    assert done.code == 2 and not done.out
    assert USAGE[words] in done.err
    assert "--help" in done.err and len(done.err.splitlines()) <= 4
    assert contents(tmp_path) == {}


WRONG = {
    ("train", "INDEX", "-o", "x", "--recipe", "tsnn"): "Unknown recipe 'tsnn'. Did you mean 'tsn'?",
    ("train", "INDEX", "-o", "x", "optim.lrr=1"): (
        "Unknown setting 'optim.lrr'. Did you mean 'optim.lr'?"
    ),
    ("train", "INDEX", "-o", "x", "lr=1"): "Did you mean 'optim.lr'?",
    ("train", "INDEX", "-o", "x", "optim.lr=fast"): "optim.lr=fast is not possible: a number is",
    ("train", "INDEX", "-o", "x", "train.epochs=1.5"): "a whole number is expected",
    ("train", "INDEX", "-o", "x", "optim.name=sdg"): "choose sgd, adamw, adam",
    ("train", "INDEX", "-o", "x", "model.partial_bn=maybe"): "write true or false",
    ("train", "INDEX", "-o", "x", "optim"): "'optim' is not an override",
    ("train", "INDEX", "-o", "x", "optim=1"): "'optim' is a section",
    ("run", "DATA", "--out", "x", "--streams", "rgb,flo"): "has no modality 'flo'. Did you mean",
    ("run", "DATA", "--out", "x", "--recipe", "xception", "--streams", "rgbdiff"): "no modality",
    ("run", "DATA", "--out", "x", "--protocol", "tsn-25"): "Did you mean 'tsn-25x10'?",
    ("run", "DATA", "--out", "x", "--test-fraction", "2"): "test-fraction is 2.0: give a number",
    ("run", "DATA", "--out", "x", "--group", "("): "'(' is not a regular expression",
    ("run", "DATA", "--out", "x", "--group", "person"): "'person' is not found in 24 of 24 video",
    ("run", "DATA", "--out", "DATA/run"): "lies in the folder of the videos",
    ("run", "DATA", "--out", "RUN/results.json"): "is a file: choose a folder",
    ("test", "RUN", "-o", "x.npz"): "--out names one score file: give one checkpoint",
    ("test", "RUN/rgb", "-o", "scores"): "a score file ends in .npz",
    ("test", "RUN", "--protocol", "gone.json"): "Unknown protocol 'gone.json'",
    ("flow", "INDEX", "-o", "x", "--shard", "4/4"): "There is no part 4 of 4: parts count from 0",
    ("flow", "INDEX", "-o", "x", "--shard", "4"): "write i/n, such as 0/4 to 3/4",
    ("flow", "INDEX", "-o", "x", "--size", "big"): "'big' is not a size",
    ("flow", "INDEX", "-o", "x", "--bound", "0"): "The bound must be positive",
    ("fuse", "A.npz"): "fusion needs two score files at least",
    ("fuse", "A.npz", "B.npz", "--weights", "1", "--search-on", "C.npz"): "not both",
    ("fuse", "A{}.npz", "B.npz", "--splits", "3"): "B.npz has no {} in its name, which --splits 3",
    ("fuse", "A{}.npz", "B{}.npz"): "A{}.npz has {} in its name: say how many --splits there are",
    ("fuse", "RUN/rgb/scores/test.npz", "RUN/flow/scores/test.npz", "--weights", "1"):
        "1 weights (1) for 2 score files: give one per file",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage(finished, tmp_path, words):
    with inside(tmp_path):
        done = kinema(*fill(words, finished))
    assert done.code == 2 and WRONG[words] in done.error
    assert contents(tmp_path) == {} and not (finished.data / "run").exists()


FAILED = {
    ("run", "gone", "--out", "x"): "gone does not exist. Check the path.",
    ("index", "gone", "-o", "x"): "gone does not exist. Check the path.",
    ("index", "RUN/results.json", "-o", "x"): "is a file: give the folder that holds the videos",
    ("index", "DATA", "-o", "x", "--test-groups", "scene-9"): "scene-9",
    ("train", "gone", "-o", "x"): "gone (index.csv is missing): make one with",
    ("flow", "gone", "-o", "x"): "There is no index in gone (index.csv is missing)",
    ("test", "gone.safetensors"): "There is no checkpoint gone.safetensors",
    ("test", "DATA"): "is not the folder of a finished run (no results.json)",
    ("test", "RUN/rgb", "--index", "DATA", "-o", "x.npz"): "There is no index in ",
    ("report", "DATA"): "results.json is missing",
    ("fuse", "gone.npz", "gone2.npz"): "There is no score file gone.npz.",
    ("compare", "RUN/rgb/scores/test.npz", "RUN/results.json"): "results.json",
    ("fuse", "RUN/rgb/scores/test.npz", "RUN/flow/scores/val.npz"): "not hold the same videos",
    ("train", "INDEX", "-o", "x", "--recipe", "tiny", "--modality", "flow", "--flow", "DATA"):
        "There is no stored flow in",
    ("train", "INDEX", "-o", "x", "--recipe", "tiny", "model.weights=gone.pt"):
        "There is no weights file gone.pt",
    ("train", "INDEX", "-o", "x", "--recipe", "tiny", "model.weights=RUN/results.json"):
        "cannot be read as weights",
    ("train", "INDEX", "-o", "x", "--recipe", "scratch", "model.weights=RUN/rgb/best.safetensors"):
        "does not fit the backbone 'resnet18'",
    ("train", "INDEX", "-o", "x", "--device", "cuda"): "torch sees no CUDA device: take cpu",
    ("train", "INDEX", "-o", "RUN/results.json", "--recipe", "tiny"): "results.json: File exists.",
    ("report", "RUN", "-o", "RUN/results.json/x.html"): "a file where a folder is needed",
}  # fmt: skip


@pytest.mark.parametrize("words", FAILED, ids=" ".join)
def test_work_that_fails(finished, tmp_path, words, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with inside(tmp_path):
        done = kinema(*fill(words, finished))
    assert done.code == 1 and FAILED[words] in done.error
    assert set(contents(tmp_path)) <= {"x/probe-cache.json", "x/rejected.csv"}


def test_a_run_does_not_work_under_torchrun(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = kinema("run", finished.data, "--out", tmp_path / "run", *OPTIONS)
    assert done.code == 2 and "works in one process, not under torchrun" in done.error


def test_results_are_shown_by_the_first_process_alone(finished, monkeypatch):
    words = ("compare", *(finished.folder / s / "scores" / "test.npz" for s in STREAMS))
    assert len(kinema(*words).out.splitlines()) >= 12
    monkeypatch.setenv("RANK", "1")
    assert kinema(*words).out == ""


def test_the_debug_option_shows_the_traceback(monkeypatch):
    monkeypatch.delenv("KINEMA_DEBUG", raising=False)
    monkeypatch.setattr("kinema.cli.os.environ", {})
    with pytest.raises(Exception, match="does not exist"):
        kinema("--debug", "index", "gone", "-o", "x")


def test_score_files_in_another_order_are_put_right(finished, tmp_path):
    rgb, flow = (finished.scores(stream) for stream in STREAMS)
    order = np.random.default_rng(0).permutation(6)
    turned = replace(
        flow,
        classes=tuple(flow.classes[i] for i in order),
        values=flow.values[::-1][:, order],
        ids=flow.ids[::-1],
        labels=np.argsort(order)[flow.labels[::-1]],
    )
    save_scores(turned, tmp_path / "turned.npz")
    path = finished.folder / "rgb" / "scores" / "test.npz"
    done = kinema("fuse", path, tmp_path / "turned.npz", "-o", tmp_path / "fused.npz")
    assert done.code == 0
    found = load_scores(tmp_path / "fused.npz")
    np.testing.assert_allclose(found.values, fuse([rgb, flow]).values, atol=1e-7)
    assert found.ids == rgb.ids and found.classes == rgb.classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("v0", "v1", "v9")}, "it lacks v2 and alone has v9"),
        ({"classes": ("run", "jump", "fly")}, "only in file 1: wave; only in file 2: fly"),
        ({"labels": [0, 1, 1]}, "gives other labels than those before it for v2"),
    ],
)
def test_score_files_that_do_not_fit(tmp_path, changes, message):
    values = np.eye(3)
    save_scores(make_scores(values, labels=[0, 1, 2]), tmp_path / "a.npz")
    save_scores(make_scores(values, **{"labels": [0, 1, 2], **changes}), tmp_path / "b.npz")
    for verb in ("fuse", "compare"):
        done = kinema(verb, tmp_path / "a.npz", tmp_path / "b.npz")
        assert done.code == 1 and message in done.error


def test_weights_of_another_modality_and_of_other_classes(finished, tmp_path):
    """Both can be used; a line says what was done."""
    words = ("--recipe", "tiny", "train.epochs=1")
    weights = f"model.weights={finished.checkpoint('flow')}"
    done = kinema("train", finished.folder / "index", "-o", tmp_path / "rgb", *words, weights)
    assert done.code == 0 and "averaged over its input channels; classifier kept" in done.err
    few = tmp_path / "few"
    few.mkdir()
    for name in ("striped-circle", "striped-bounce", "striped-shuttle"):
        (few / name).symlink_to(finished.data / name)
    assert kinema("index", few, "-o", tmp_path / "index").code == 0
    weights = f"model.weights={finished.checkpoint('rgb')}"
    done = kinema("train", tmp_path / "index", "-o", tmp_path / "few-rgb", *words, weights)
    assert done.code == 0 and "new classifier" in done.err
    mixed = kinema("predict", finished.folder / "flow", tmp_path / "few-rgb", finished.data)
    assert mixed.code == 1 and "only checkpoints of the same data set" in mixed.error
    wrong = kinema("test", tmp_path / "few-rgb", "--index", finished.folder / "index")
    assert wrong.code == 1 and "has the label 'checkered-bounce', which the network" in wrong.error


def test_long_tables_are_shown_in_part(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    classes = tuple(f"class{i:03d}" for i in range(101))
    labels = np.arange(101)
    values = np.eye(101)
    save_scores(make_scores(values, labels=labels, classes=classes), tmp_path / "a.npz")
    values = np.roll(values, 1, axis=1)
    save_scores(make_scores(values, labels=labels, classes=classes), tmp_path / "b.npz")
    done = kinema("compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert "… 81 more" in done.out and len(done.out.splitlines()) < 40
    table("", ("path", "n"), [("a" * 200, "1")], paths=True)
    assert f"{'a' * 200}  1" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "50")
    table("", ("path", "n"), [("x/" * 100 + "end", "1")], paths=True)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("…") and line.rstrip().endswith("end  1") and len(line) <= 50
