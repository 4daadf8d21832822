"""Recipes of two streams: the numbers of their sources, and what they ask of a teacher."""

from pathlib import Path

import pytest
import torch

from kinema.config import override
from kinema.engine.train import train
from kinema.errors import UsageError
from kinema.models.two_streams import MapStreams, ScoreStreams
from kinema.models.video_network import build_video_network
from kinema.recipes import recipe
from kinema.streams import check_streams, stream_name

pytest_plugins = ("helpers_engine_index",)

SMALL = (
    "model.backbone=tiny",
    "model.pretrained=false",
    "model.dropout=",
    "data.crop=32",
    "data.resize=40x32",
    "data.workers=0",
    "train.epochs=1",
    "train.batch_size=4",
    "train.precision=fp32",
    "train.threads=1",
    "optim.accumulate=1",
    "optim.lr=0.001",
)


def test_convolutional_fusion_as_in_its_published_code():
    config = recipe("conv-fusion", "rgb")
    data, optim, second = config.data, config.optim, config.second
    assert (data.num_segments, data.stack, second.modality, second.stack) == (5, 1, "flow", 10)
    assert (second.fusion, second.pool, second.keep, second.loss) == ("conv", "3d", "both", "each")
    assert config.model.dropout == (0.85, 0.85)
    assert config.train.batch_size * optim.accumulate == 96
    # Every epoch of the source passes all videos ten times.
    passed = [sum(10 * k >= mark for mark in optim.milestones) for k in range(5)]
    rates = [optim.lr * optim.gamma**marks for marks in passed]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])
    with torch.device("meta"):
        network = build_video_network(config, num_classes=3)
    assert isinstance(network, MapStreams) and network.joined == 5
    tower = network.first.backbone.features
    kinds = [type(tower[place]).__name__ for place in (28, 29, 30)]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"]  # conv5_3, ReLU5_3, pool5
    assert second.layer == "features.29"
    assert network.fusion.conv.weight.shape == (512, 1024, 3, 3, 3)
    assert recipe("conv-fusion", "flow").second.modality == "rgb"


def test_joint_trainers_as_published():
    adam, sgd = recipe("joint-adam", "rgb"), recipe("joint-sgd", "rgb")
    assert (adam.optim.name, adam.optim.lr, adam.train.batch_size) == ("adam", 1e-4, 5)
    assert (adam.optim.loss_on, adam.data.sampling, adam.train.epochs) == ("snippet", "slim", 500)
    assert (sgd.optim.name, sgd.optim.lr, sgd.second.lr) == ("sgd", 1e-4, 1e-4)
    assert (sgd.optim.momentum, sgd.optim.weight_decay) == (0.9, 0.0)
    assert (sgd.model.backbone, sgd.train.batch_size, sgd.train.epochs) == ("resnet101", 32, 50)
    for config in (adam, sgd):
        check_streams(config)
        assert stream_name(config) == "rgb+flow" and config.second.loss == "each"
        assert (config.data.stack, config.second.stack) == (1, 10)


def test_mars_and_emv_say_what_they_need():
    mars, emv = recipe("mars", "rgb"), recipe("emv", "flow")
    assert (mars.second.distil, mars.second.distil_weight) == ("features", 50)
    assert (mars.data.stack, mars.data.crop, mars.optim.lr) == (16, 112, 0.1)
    assert mars.augment.scales == pytest.approx([2 ** (-k / 4) for k in range(5)], abs=5e-4)
    assert (mars.optim.weight_decay, mars.optim.dampening) == (1e-3, 0.9)
    assert (emv.data.flow_algorithm, emv.data.stack) == ("motion-vectors", 10)
    assert (emv.second.distil, emv.second.distil_weight) == ("soft", 1)
    for config, kind in ((mars, "features"), (emv, "soft")):
        wanted = f"second.distil={kind} needs a network to learn from: set second.teacher="
        with pytest.raises(UsageError, match=wanted):
            check_streams(config)
    for name, modality in (("mars", "flow"), ("emv", "rgb")):  # the teacher, the partner
        check_streams(recipe(name, modality))
        assert stream_name(recipe(name, modality)) == modality


@pytest.mark.parametrize("name", ["conv-fusion", "joint-adam", "joint-sgd"])
def test_joint_recipes_train_on_a_small_index(name: str, tiny_index: Path, tmp_path: Path):
    layer = ["second.layer=features.2"] if name == "conv-fusion" else []
    config = override(
        recipe(name, "rgb"), [*SMALL, *layer, f"data.index={tiny_index}", "second.stack=2"]
    )
    result = train(config, tmp_path / "run", device="cpu")
    assert result.val_top1 is not None and 0 <= result.val_top1 <= 1
    both = isinstance(build_video_network(config, num_classes=6), ScoreStreams)
    assert (tmp_path / "run" / "best-flow.safetensors").exists() == both


@pytest.mark.parametrize("name", ["mars", "emv"])
def test_teacher_and_student_by_recipe(name: str, tiny_index: Path, tmp_path: Path):
    small = [*SMALL, f"data.index={tiny_index}", "data.stack=3", "protocol=centre-1"]
    taught = {"mars": "rgb", "emv": "flow"}[name]
    untaught = {"mars": "flow", "emv": "rgb"}[name]
    teacher = override(recipe(name, untaught), [*small, "data.modality=flow"])
    best = train(teacher, tmp_path / "teacher", device="cpu").best
    student = override(recipe(name, taught), [*small, f"second.teacher={best}"])
    if name == "emv":
        student = override(student, [f"model.weights={best}"])
    result = train(student, tmp_path / "student", device="cpu")
    assert result.val_top1 is not None and result.epochs == 1
