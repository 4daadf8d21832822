"""`kinema run`: what it leaves, that it goes on where it stopped, that it refuses to mix."""

import json
import shlex

import numpy as np
import pytest

import kinema as package
from helpers_cli import OPTIONS, STREAMS, FinishedRun, contents, copy_of, inside, kinema
from kinema import pipeline
from kinema.datasets.index import read_index
from kinema.datasets.splits import SplitRule
from kinema.engine.checkpoint import read_info, weights_hash
from kinema.errors import KinemaError, UsageError
from kinema.files import read_json
from kinema.flow.job import FlowOptions
from kinema.fusion import fuse, search_weights
from kinema.metrics import summary, top_k
from kinema.pipeline import RunOptions

NO_RESIZE = FlowOptions(size="none")


@pytest.fixture(scope="module")
def results(finished: FinishedRun) -> dict:
    return read_json(finished.folder / "results.json")


def test_results_name_what_was_made(finished, results):
    assert results["videos"] == {"train": 12, "val": 6, "test": 6}
    assert results["classes"] == list(read_index(finished.folder / "index").classes)
    assert len(results["classes"]) == 6
    assert set(results["streams"]) == set(STREAMS)
    assert set(results["seconds"]) == {"index", "flow", "train rgb", "train flow", "test"}
    assert min(results["seconds"].values()) > 0
    assert 5e7 < results["peak_memory_bytes"] < 2e10
    assert results["kinema"] == package.__version__
    for stream in STREAMS:
        facts, config = results["streams"][stream], results["config"][stream]
        assert config["data"]["modality"] == stream and config["recipe"] == "tiny"
        assert (finished.folder / facts["checkpoint"]).is_file()
        assert len((finished.folder / stream / "metrics.jsonl").read_text().splitlines()) == 4
    assert (finished.folder / "report.html").stat().st_size > 20_000
    assert len(list((finished.folder / "flow-store").rglob("*.mp4"))) == 24


def test_figures_are_those_of_the_score_files(finished, results):
    for stream in STREAMS:
        scores = finished.scores(stream)
        assert results["streams"][stream]["metrics"] == json.loads(json.dumps(summary(scores)))
        assert scores.checkpoint == weights_hash(finished.checkpoint(stream))
        assert scores.protocol == "centre-1" and len(scores.ids) == 6
    assert results["fusion"]["metrics"] == json.loads(json.dumps(summary(finished.fused)))


def test_weights_are_searched_on_the_validation_part(finished, results):
    fusion = results["fusion"]
    val = [finished.scores(stream, "val") for stream in STREAMS]
    test = [finished.scores(stream) for stream in STREAMS]
    weights = search_weights(val, test=test)
    assert tuple(fusion["weights"].values()) == weights
    assert sum(weights) == pytest.approx(1)
    again = fuse(test, weights=weights)
    np.testing.assert_array_equal(again.values, finished.fused.values)
    best = max(top_k(scores, k=1) for scores in test)
    gain = np.mean(list(fusion["gain_per_class"].values()))
    assert gain == pytest.approx(fusion["metrics"]["top1"] - best)
    for stream, weight in zip(STREAMS, weights, strict=True):
        noted = read_info(finished.checkpoint(stream)).provenance
        assert noted["fusion_weight"] == weight and noted["fusion_rule"] == "softmax"


def test_groups_stay_whole(finished):
    index = read_index(finished.folder / "index")
    parts = {video.group: {v.split for v in index.videos if v.group == video.group}
             for video in index.videos}  # fmt: skip
    assert len(parts) == 4
    assert all(len(found) == 1 for found in parts.values())


def test_the_end_is_shown_as_a_table(finished, results):
    lines = finished.outcome.out.splitlines()
    assert lines[0] == "Test on 6 videos"
    top1 = 100 * results["fusion"]["metrics"]["top1"]
    assert any(line.startswith("fused") and f"{top1:.1f} %" in line for line in lines)
    assert f"Report: {finished.folder / 'report.html'}" in lines
    assert f"Use it: kinema predict {finished.folder} VIDEO" in lines
    assert max(map(len, lines[:5])) <= 80


def test_a_second_start_does_nothing_again(finished):
    before = contents(finished.folder)
    again = kinema("run", finished.data, "--out", finished.folder, *OPTIONS)
    assert again.code == 0
    assert again.out == finished.outcome.out
    assert contents(finished.folder) == before
    assert again.err.count("All 4 epochs are done already.") == 2
    assert "24 already done" in again.err
    assert "Scoring" not in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", "1"), r"holds a run with seed=0 instead of 1: choose another --out"),
        (("--test-groups", "scene-01"), r"test_groups=\(none\) instead of scene-01"),
        (("--flow-size", "32x32"), r"made with size=none, but size=32x32 is asked for"),
        (("train.epochs=5",), r"train\.epochs=4 instead of 5: choose another output folder"),
    ],
)
def test_other_options_are_refused(finished, options, message):
    before = contents(finished.folder)
    other = kinema("run", finished.data, "--out", finished.folder, *OPTIONS, *options)
    assert other.code == 1
    with pytest.raises(KinemaError, match=message):
        raise KinemaError(other.error)
    after = contents(finished.folder)
    assert {**after, "seconds.json": b""} == {**before, "seconds.json": b""}


def test_other_videos_are_refused(finished, tmp_path):
    options = RunOptions(recipe="tiny", flow=NO_RESIZE)
    with pytest.raises(KinemaError, match=rf"data={finished.data} instead of {tmp_path}"):
        package.run(tmp_path, finished.folder, options=options)


def test_the_commands_of_the_report_give_the_same(finished, results, tmp_path):
    """Run in another place, they come to the same weights and scores, bit by bit."""
    own = [line.replace(str(finished.folder), "again") for line in results["commands"]]
    with inside(tmp_path):
        for line in own:
            verb, *words = shlex.split(line)[1:]
            done = kinema(verb, *words)
            assert done.code == 0, f"{line}\n{done.err}"
    for stream in STREAMS:
        again = tmp_path / "again" / stream
        assert weights_hash(again / "best.safetensors") == weights_hash(finished.checkpoint(stream))
        made = contents(again / "scores")["test.npz"]
        assert made == (finished.folder / stream / "scores" / "test.npz").read_bytes()
    top1 = 100 * results["fusion"]["metrics"]["top1"]
    assert f"{top1:.1f} %" in done.out.splitlines()[-1]


def test_a_stopped_run_goes_on_to_the_same_result(finished, results, tmp_path, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    arguments = ("run", finished.data, "--out", tmp_path / "run", *OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "current_scores", stop)
        stopped = kinema(*arguments)
    assert stopped.code == 130 and stopped.err.splitlines()[-1] == "Stopped."
    assert not (tmp_path / "run" / "results.json").exists()
    assert kinema(*arguments).code == 0
    again = read_json(tmp_path / "run" / "results.json")
    assert again["streams"] == results["streams"] and again["fusion"] == results["fusion"]


def test_one_stream_alone_from_python(finished, tmp_path):
    """A recipe's change for one stream, a group that is named, no validation part."""
    rule = SplitRule(test_groups=("scene-02",), val_fraction=0)
    options = RunOptions(
        recipe="tiny", streams=("rgb",), rule=rule, overrides=("rgb.train.epochs=1",)
    )
    results = package.run(str(finished.data), str(tmp_path / "run"), options=options)
    assert json.loads(json.dumps(results)) == read_json(tmp_path / "run" / "results.json")
    assert results["videos"] == {"train": 18, "val": 0, "test": 6}
    assert list(results["streams"]) == ["rgb"] and "fusion" not in results
    assert results["config"]["rgb"]["train"]["epochs"] == 1
    assert results["command"] == ""
    assert all("scene-02" in line for line in results["commands"][:1])
    assert not (tmp_path / "run" / "flow-store").exists()


def test_score_files_that_are_out_of_date_are_made_again(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    path = folder / "flow" / "scores" / "test.npz"
    whole = path.read_bytes()
    path.write_bytes((folder / "flow" / "scores" / "val.npz").read_bytes())
    (folder / "rgb" / "scores" / "test.npz").write_bytes(b"damaged")
    rule = SplitRule()
    options = RunOptions(recipe="tiny", flow=NO_RESIZE, rule=rule, overrides=("train.seed=0",))
    config = pipeline.stream_config(options, "flow", folder)
    index = read_index(folder / "index")
    found = pipeline._scores("test", {"flow": config}, index, folder, options)
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(found["flow"].values, finished.scores("flow").values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": ()}, "give each of them once"),
        ({"streams": ("rgb", "rgb")}, "'rgb,rgb' cannot be trained"),
        ({"streams": ("rgb", "flw")}, "no modality 'flw'. Did you mean 'flow'"),
        ({"recipe": "tinny"}, "Unknown recipe 'tinny'. Did you mean 'tiny'"),
        ({"protocol": "tsn25x10"}, "Unknown protocol 'tsn25x10'. Did you mean 'tsn-25x10'"),
        ({"overrides": ("optm.lr=1",)}, "Unknown setting 'optm.lr'. Did you mean 'optim'"),
        ({"overrides": ("data.index=x",)}, "'data.index' is not to be set: a run makes its own"),
        (
            {"overrides": ("second.modality=flow",)},
            "'second.modality' is not to be set: the streams of a run are trained alone",
        ),
        ({"overrides": ("flow.data.flow_size=none",)}, "stores its flow by --algorithm and"),
        ({"overrides": ("rgbdiff.optim.lr=1",)}, "for a stream that is not trained"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(finished, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        package.run(finished.data, tmp_path / "run", options=RunOptions(**changes))
    assert not (tmp_path / "run").exists()


def test_overrides_hold_for_all_streams_or_for_one():
    assert pipeline.own_override("optim.lr=1", "rgb") == "optim.lr=1"
    assert pipeline.own_override("flow.optim.lr=1", "flow") == "optim.lr=1"
    assert pipeline.own_override("flow.optim.lr=1", "rgb") == ""
