"""Every verb once, on a small run."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import kinema as package
from helpers_cli import STREAMS, FinishedRun, copy_of, kinema
from helpers_scores import random_scores
from kinema.cli import app
from kinema.cli_options import Algorithm
from kinema.engine.checkpoint import read_info
from kinema.engine.protocols import PROTOCOLS
from kinema.flow.algorithms import ALGORITHMS
from kinema.flow.motionnet import MOTIONNET
from kinema.flow.options import MOTION_VECTORS
from kinema.fusion import fuse, search_weights
from kinema.metrics import top_k
from kinema.recipes import RECIPES
from kinema.scores import load_scores, save_scores
from kinema.testing import TestOptions

VERBS = [
    command.name or command.callback.__name__.replace("_", "-")
    for command in app.registered_commands
]
VERBS += [group.name for group in app.registered_groups]


def score_files(run: FinishedRun, part: str = "test") -> list:
    return [run.folder / stream / "scores" / f"{part}.npz" for stream in STREAMS]


def test_help_lists_every_verb():
    shown = kinema("--help")
    assert shown.code == 0 and sorted(VERBS) == [
        "bench", "checks", "compare", "demo", "doctor", "download", "features", "flow", "frames",
        "fuse", "index", "models", "pack", "predict", "recipes", "report", "run", "test", "train",
        "train-motion",
    ]  # fmt: skip
    lines = shown.out.splitlines()
    for verb in VERBS:
        (line,) = (line for line in lines if line.startswith(f"  {verb} "))
        assert line.endswith("."), f"cut short: {line}"
    assert max(map(len, lines)) <= 80
    assert kinema("--version").out.strip() == package.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb):
    shown = kinema(verb, "--help")
    assert shown.code == 0 and not shown.err
    assert shown.out.startswith(f"Usage: kinema {verb} ")
    assert max(map(len, shown.out.splitlines())) <= 80


def test_it_runs_as_a_module_and_leaves_with_the_code():
    for words, code in ((["--version"], 0), (["trian"], 2), (["index", "gone", "-o", "x"], 1)):
        done = subprocess.run([sys.executable, "-m", "kinema", *words], capture_output=True)
        assert done.returncode == code, done.stderr


def test_index(finished, tmp_path):
    done = kinema("index", finished.data, "-o", tmp_path, "--test-groups", "scene-01,scene-02")
    assert done.code == 0
    assert "Parts: 6 train, 6 val, 12 test." in done.out
    with (tmp_path / "index.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 24
    assert {row["group"] for row in rows if row["split"] == "test"} == {"scene-01", "scene-02"}
    assert {(row["num_frames"], row["width"]) for row in rows} == {("10", "64")}
    report = package.index(finished.data, tmp_path / "again")
    assert [video.id for video in report.index.videos] == [row["id"] for row in rows]


def test_flow_goes_on_in_parts_and_is_verified(finished, tmp_path):
    index, store = finished.folder / "index", tmp_path / "store"
    words = ("flow", index, "-o", store, "--size", "32x32", "--workers", "1")
    first = kinema(*words, "--shard", "0/8")
    assert first.code == 0 and first.out.startswith("3 videos stored (0 of them before)")
    assert len(list(store.rglob("*.mp4"))) == 3
    assert "; 27 pairs, " in first.out
    missing = kinema(*words, "--verify")
    assert missing.code == 1 and len(missing.out.splitlines()) == 21
    rest = kinema(*words)
    assert rest.code == 0 and rest.out.startswith("24 videos stored (3 of them before)")
    assert kinema(*words, "--verify").out == "All stores are whole.\n"
    damaged = next(store.rglob("*.mp4"))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    found = kinema(*words, "--verify")
    assert found.code == 1 and found.out.startswith(
        damaged.relative_to(store).with_suffix("").as_posix()
    )
    assert package.verify_flow(index, store) == (
        (found.out.split(": ")[0], found.out.split(": ", 1)[1].strip()),
    )


def test_train_with_overrides(finished, tmp_path):
    words = ("--recipe", "tiny", "--modality", "flow", "--flow", finished.folder / "flow-store")
    changes = ("train.epochs=1", "optim.lr=0.01", "model.dropout=0.3")
    done = kinema("train", finished.folder / "index", "-o", tmp_path / "flow", *words, *changes)
    assert done.code == 0
    assert done.out == f"Checkpoint: {tmp_path / 'flow' / 'best.safetensors'}\n"
    config = read_info(tmp_path / "flow" / "best.safetensors").config
    assert (config.train.epochs, config.optim.lr, config.model.dropout) == (1, 0.01, (0.3,))
    assert config.data.flow_size == "none" and config.data.flow_store.startswith("/")
    again = package.train(
        finished.folder / "index",
        tmp_path / "flow",
        recipe="tiny",
        modality="flow",
        flow_store=finished.folder / "flow-store",
        overrides=changes,
    )
    assert again.epochs == 1 and 0 <= again.val_top1 <= 1


def test_test_by_two_protocols(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    done = kinema("test", folder, "--protocol", "uniform-10")
    assert done.code == 0 and done.out.count("Scores: ") == 2
    for stream in STREAMS:
        scores = load_scores(folder / stream / "scores" / "test-uniform-10.npz")
        assert scores.protocol == "uniform-10" and scores.values.shape == (6, 6)
        assert f"top-1 {100 * top_k(scores, k=1):.2f} %" in done.out
        assert scores.ids == finished.scores(stream).ids
    val = kinema("test", folder / "flow", "--part", "val", "-o", tmp_path / "val.npz")
    assert val.code == 0
    expected = finished.scores("flow", "val")
    np.testing.assert_array_equal(load_scores(tmp_path / "val.npz").values, expected.values)


def test_a_protocol_of_the_users_own(finished, tmp_path):
    (tmp_path / "mine.json").write_text('{"num_clips": 2, "resize": "train", "crops": "ten"}')
    options = TestOptions(protocol=str(tmp_path / "mine.json"), views_per_pass=7)
    scores = package.test(finished.checkpoint("rgb"), tmp_path / "a.npz", options=options)
    assert scores.protocol == "mine" and scores.kind == "logits"
    options = TestOptions(protocol=str(tmp_path / "mine.json"))
    again = package.test(finished.checkpoint("rgb"), tmp_path / "b.npz", options=options)
    np.testing.assert_allclose(again.values, scores.values, atol=1e-5)


def test_algorithms_offered_are_those_of_the_table():
    assert {choice.value for choice in Algorithm} == {*ALGORITHMS, MOTION_VECTORS, MOTIONNET}


def test_a_store_of_frames_is_packed_checked_and_trained_from(finished, tmp_path):
    index, store = finished.folder / "index", tmp_path / "frames"
    done = kinema("pack", index, "-o", store, "--short-side", "40", "--workers", "1")
    assert done.code == 0, done.err
    assert kinema("pack", index, "-o", store, "--verify").out.strip() == "All stores are whole."
    some = next(store.rglob("*.mp4"))
    some.write_bytes(some.read_bytes()[:-9])
    broken = kinema("pack", index, "-o", store, "--verify")
    assert broken.code == 1 and "its index is missing" in broken.out
    assert kinema("pack", index, "-o", store, "--short-side", "40").code == 0
    words = ("--recipe", "tiny", "train.epochs=1")
    trained = kinema("train", index, "-o", tmp_path / "run", "--frames", store, *words)
    assert trained.code == 0, trained.err
    data = read_info(tmp_path / "run" / "best.safetensors").config.data
    assert data.frame_store == str(store)


def test_flow_in_an_old_layout_is_converted_and_trained_from(finished, tmp_path):
    index, old, store = finished.folder / "index", tmp_path / "old", tmp_path / "store"
    words = ("--size", "32x32", "--workers", "1", "--format", "denseflow", "--stride", "2")
    done = kinema("flow", index, "-o", old, *words)
    assert done.code == 0 and "bound 32" in done.err
    words = ("--modality", "flow", "--flow", old, "--recipe", "tiny", "train.epochs=1")
    done = kinema("train", index, "-o", tmp_path / "direct", *words)
    assert done.code == 0, done.err
    data = read_info(tmp_path / "direct" / "best.safetensors").config.data
    assert (data.flow_stride, data.flow_bound) == (2, 32)
    words = ("--bound", "32", "--algorithm", "dis", "--index", index)
    done = kinema("flow", "convert", old, "-o", store, *words)
    assert done.code == 0, done.err
    words = ("--modality", "flow", "--flow", store, "--recipe", "tiny", "train.epochs=1")
    done = kinema("train", index, "-o", tmp_path / "run", *words)
    assert done.code == 0, done.err
    data = read_info(tmp_path / "run" / "best.safetensors").config.data
    assert (data.flow_bound, data.flow_stride, data.flow_algorithm) == (32, 2, "dis")


def test_fuse_shows_the_means_over_official_splits(tmp_path):
    for split in (1, 2, 3):
        for stream, strength in (("rgb", 0.5), ("flow", 1.5)):
            scores = random_scores(videos=40, classes=4, seed=split, strength=strength)
            save_scores(scores, tmp_path / f"{stream}{split}.npz")
    names = [tmp_path / "rgb{}.npz", tmp_path / "flow{}.npz"]
    done = kinema("fuse", *names, "--splits", "3", "-o", tmp_path / "fused{}.npz")
    assert done.code == 0, done.err
    fused = [
        fuse([load_scores(tmp_path / f"{stream}{split}.npz") for stream in ("rgb", "flow")])
        for split in (1, 2, 3)
    ]
    for split, expected in enumerate(fused, 1):
        written = load_scores(tmp_path / f"fused{split}.npz")
        np.testing.assert_allclose(written.values, expected.values, atol=1e-7)
    shares = [100 * top_k(one, k=1) for one in fused]
    last = [line for line in done.out.splitlines() if line.startswith("fused")][-1]
    figures = [float(word) for word in last.split() if word[0].isdigit()]
    np.testing.assert_allclose(figures[:4], [*shares, np.mean(shares)], atol=0.051)


def test_fuse_with_fractions_and_search(finished, tmp_path):
    test, val = score_files(finished), score_files(finished, "val")
    out = tmp_path / "fused.npz"
    done = kinema("fuse", *test, "--weights", "1/3,2/3", "-o", out)
    assert done.code == 0 and done.out.endswith(f"Scores: {out}\n")
    streams = [load_scores(path) for path in test]
    expected = fuse(streams, weights=(1 / 3, 2 / 3))
    np.testing.assert_array_equal(load_scores(out).values, expected.values)
    assert [line.split()[-1] for line in done.out.splitlines()[1:3]] == ["0.333", "0.667"]
    found = kinema("fuse", *test, "--search-on", ",".join(map(str, val)), "--rule", "logits")
    weights = search_weights([load_scores(path) for path in val], rule="logits")
    assert [float(line.split()[-1]) for line in found.out.splitlines()[1:3]] == [*weights]
    fused, chosen, _ = package.fuse(test, rule="logits", search_on=val)
    assert chosen == weights and fused.kind == "logits"


def test_compare(finished):
    done = kinema("compare", *score_files(finished))
    assert done.code == 0
    a, b = (top_k(finished.scores(stream), k=1) for stream in STREAMS)
    figures = dict(line.split("  ", 1) for line in done.out.splitlines()[2:])
    assert figures["top-1 of A"].split()[0] == f"{100 * a:.2f}"
    assert figures["difference B - A"].split()[0] == f"{100 * (b - a):+.2f}"
    assert package.compare(*score_files(finished)).num_videos == 6


def test_report(finished, tmp_path):
    done = kinema("report", finished.folder, "-o", tmp_path / "page.html")
    assert done.out == f"Report: {tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text()
    assert page == (finished.folder / "report.html").read_text()
    top1 = 100 * top_k(finished.fused, k=1)
    assert f"{top1:.1f}" in page and "checkered-bounce" in page


def test_recipes_lists_all():
    lines = kinema("recipes").out.splitlines()
    names = {line.split()[0] for line in lines if line}
    assert set(RECIPES) | set(PROTOCOLS) <= names
    (line,) = (line for line in lines if line.startswith("tsn-25x10"))
    assert line.split()[1:] == ["25", "ten", "340x256", "mean", "of", "logits"]


def test_checks_says_what_a_bug_report_needs():
    done = kinema("checks")
    assert done.code == 0
    figures = dict(line.split(maxsplit=1) for line in done.out.splitlines() if line[:2] == "  ")
    assert figures["python"].strip() == ".".join(map(str, sys.version_info[:3]))
    assert figures["numpy"].strip() == np.__version__
    assert figures["h264"].strip() == "yes"
    assert {"system", "packages", "devices", "codecs"} <= set(done.out.split())
    assert json.loads(json.dumps(package.checks()))["packages"]["kinema"] == package.__version__


def test_every_function_of_the_package_is_there():
    for name in package.__all__:
        assert callable(getattr(package, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = package.trian
