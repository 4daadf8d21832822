"""`kinema run --fusion`: every fusion is a network like any other, and the report compares them."""

from dataclasses import replace

import numpy as np
import pytest

from kinema import fusion_plans, run_fusions
from kinema.config import Config
from kinema.datasets.splits import SplitRule
from kinema.errors import UsageError
from kinema.files import read_json
from kinema.fusion_plans import FUSIONS, chosen_fusions
from kinema.pipeline import RunOptions, run
from kinema.prediction import predict
from kinema.samples import make_samples
from kinema.scores import load_scores
from kinema.testing import TestOptions, score_checkpoint

NAMES = ("mlp", "attention", "joint", "conv", "tle", "rgb-taught", "hidden", "emv")
QUICK = ("train.epochs=2", "data.workers=0", "model.tle_dim=64", "train.threads=1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A run with many fusions on 30 small videos; its folder and results."""
    folder = tmp_path_factory.mktemp("fusions")
    make_samples(
        folder / "videos", videos_per_class=5, num_scenes=5, num_frames=16, size=(64, 64), seed=1
    )
    options = RunOptions(
        recipe="tiny", overrides=QUICK, fusion=",".join(NAMES), device="cpu", rule=SplitRule()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion_plans, "_HEAD_EPOCHS", 2)
        patch.setattr(fusion_plans, "FEATURE_PASSES", 1)
        patch.setattr(run_fusions, "motion_config", _quick_motion)
        results = run(folder / "videos", folder / "run", options=options)
        again = run(folder / "videos", folder / "run", options=options)
    assert again["fusions"] == results["fusions"]
    assert again["seconds"] == results["seconds"]
    return folder, results


def _quick_motion():
    from kinema.engine.motion_config import motion_config

    base = motion_config()
    return replace(
        base,
        data=replace(base.data, crop=64, resize="64x64"),
        train=replace(base.train, epochs=1),
    )


def test_every_fusion_has_a_row_with_its_figures(compared):
    folder, results = compared
    names = [row["name"] for row in results["fusions"]]
    both = [
        name for n in NAMES for name in (n, f"rgb and {n}") if n in ("hidden", "emv") or name == n
    ]
    assert names == ["rgb", "flow", "average", *both]
    for row in results["fusions"]:
        low, high = row["metrics"]["top1_interval"]
        assert 0 <= low <= row["metrics"]["top1"] <= high <= 1
        assert row["prediction_seconds"] > 0 and row["training_seconds"] > 0, row["name"]
        assert all((folder / "run" / file).is_file() for file in row["files"])
    average = results["fusions"][2]["metrics"]
    assert average["top1"] == results["fusion"]["metrics"]["top1"]


@pytest.mark.parametrize("name", NAMES)
def test_one_file_of_a_fusion_is_tested_and_predicts(name, compared, tmp_path):
    folder, results = compared
    (row,) = (row for row in results["fusions"] if row["name"] == name)
    (file,) = row["files"]
    checkpoint = folder / "run" / file
    scores = score_checkpoint(checkpoint, tmp_path / "s.npz", options=TestOptions(device="cpu"))
    kept = load_scores(folder / "run" / "fusion" / name / "scores" / "test.npz")
    assert scores.ids == kept.ids
    np.testing.assert_allclose(scores.values, kept.values, atol=2e-4)
    video = next((folder / "videos").rglob("*.mp4"))
    found = predict([checkpoint], [str(video)]).rows[0].probabilities
    assert found.shape == (6,) and found.sum() == pytest.approx(1, abs=1e-5)


def test_the_whole_run_is_one_file_too(compared, tmp_path):
    folder, _ = compared
    scores = score_checkpoint(
        folder / "run" / "fused.safetensors", tmp_path / "s.npz", options=TestOptions(device="cpu")
    )
    fused = load_scores(folder / "run" / "scores" / "fused.npz")
    np.testing.assert_allclose(scores.values, fused.values, atol=1e-4)


def test_the_report_compares_them(compared):
    folder, _ = compared
    page = (folder / "run" / "report.html").read_text()
    section = page[page.index("<h2>Fusions</h2>") : page.index("<h2>Training</h2>")]
    for name in ("average", *NAMES, "rgb and emv"):
        assert f"<td>{name}</td>" in section, name


def test_the_teacher_of_motion_vectors_is_the_flow_stream(compared):
    folder, _ = compared
    config = read_json(folder / "run" / "fusion" / "emv" / "config.json")
    assert config["second"]["teacher"] == str(folder / "run" / "flow" / "best.safetensors")
    assert config["data"]["flow_algorithm"] == "motion-vectors"
    assert config["model"]["weights"] == config["second"]["teacher"]


def test_names_are_checked_before_anything_is_trained(tmp_path):
    assert chosen_fusions("", has_val=True) == ()
    assert set(FUSIONS) - {"svm"} <= set(chosen_fusions("all", has_val=True))
    assert chosen_fusions("all", has_val=False)[0] == "gru-attention"
    assert chosen_fusions("emv, mlp,emv", has_val=True) == ("emv", "mlp")
    with pytest.raises(UsageError, match=r"no fusion 'smv'\. Did you mean 'svm'\? Choose all"):
        chosen_fusions("smv", has_val=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        assert chosen_fusions("all", has_val=True) == tuple(n for n in FUSIONS if n != "svm")
        with pytest.raises(UsageError, match="needs scikit-learn: pip install"):
            chosen_fusions("svm", has_val=True)
    with pytest.raises(UsageError, match="'mlp' learns on validation videos, of which this data"):
        chosen_fusions("mlp", has_val=False)


def test_a_fusion_needs_both_streams(tmp_path):
    make_samples(tmp_path / "v", videos_per_class=4, num_scenes=4, num_frames=10, size=(64, 64))
    options = RunOptions(recipe="tiny", streams=("rgb",), fusion="svm")
    with pytest.raises(UsageError, match="--fusion joins the rgb and the flow stream"):
        run(tmp_path / "v", tmp_path / "r", options=options)
    assert not (tmp_path / "r" / "rgb").exists()


def test_plans_keep_what_a_user_set(tmp_path):
    """A setting for all streams holds for their fusions too."""
    from kinema.fusion_plans import Streams, conv, head_over_time, joint

    rgb = Config()
    rgb = replace(rgb, train=replace(rgb.train, seed=5, epochs=30, threads=1))
    flow = replace(rgb, data=replace(rgb.data, modality="flow", stack=10, flow_store="store"))
    file = tmp_path / "best.safetensors"
    streams = Streams(rgb=rgb, flow=flow, rgb_file=file, flow_file=file)
    for config in (joint(streams), conv(streams), head_over_time("lstm", streams, features=file)):
        assert (config.train.seed, config.train.threads) == (5, 1)
        assert config.data.flow_store == "store" and config.second.stack == 10
    assert joint(streams).train.epochs == 10
    assert joint(streams).optim.lr == pytest.approx(0.3 * rgb.optim.lr)
