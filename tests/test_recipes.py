import pytest
import torch

from kinema.config import Config, from_dict, override, to_dict
from kinema.errors import UsageError
from kinema.models.video_network import build_video_network
from kinema.recipes import RECIPES, recipe
from kinema.streams import has_second, second_stream

_JOINT = ("conv-fusion", "joint-adam", "joint-sgd", "mars", "emv")
_TWO_STREAMS = (
    *("very-deep-two-stream", "segments-resnet101", "xception", "slim-resnet50"),
    *_JOINT,
)
ALL = [
    (name, modality)
    for name in RECIPES
    for modality in ("rgb", "flow", "rgbdiff")
    if modality != "rgbdiff" or name not in _TWO_STREAMS
]


@pytest.mark.parametrize(("name", "modality"), ALL)
def test_every_recipe_builds_a_network_that_takes_its_input(name: str, modality: str):
    if name == "videomae-finetune":
        pytest.importorskip("transformers")
    config = recipe(name, modality)
    assert (config.recipe, config.data.modality) == (name, modality)
    data, configs = config.data, [config]
    if has_second(config):
        configs.append(second_stream(config))
    with torch.device("meta"):
        network = build_video_network(config, num_classes=11).eval()
        streams = network.streams if has_second(config) else (network,)
        shapes = [
            (stream.modality.images_read(own.data.stack), stream.modality.channels_per_image)
            for stream, own in zip(streams, configs, strict=True)
        ]
        images, channels = shapes[0]
        if len(shapes) > 1:  # side by side, as one image
            images, channels = 1, sum(number * each for number, each in shapes)
        side = data.crop
        x = torch.zeros(2, data.num_segments, images, channels, side, side, dtype=torch.uint8)
        assert network(x).shape == (2, 11)


@pytest.mark.parametrize(("name", "modality"), ALL)
def test_every_recipe_survives_json_and_overrides(name: str, modality: str):
    config = recipe(name, modality)
    assert from_dict(Config, to_dict(config)) == config
    changed = override(config, ["model.pretrained=false", "train.epochs=3"])
    assert changed.train.epochs == 3 and not changed.model.pretrained


@pytest.mark.parametrize("name", RECIPES)
def test_every_docstring_says_what_to_expect(name: str):
    assert "xpected" in (RECIPES[name].__doc__ or "") or "there rgb has" in RECIPES[name].__doc__


def test_very_deep_two_stream_as_in_its_readme():
    rgb, flow = (recipe("very-deep-two-stream", m) for m in ("rgb", "flow"))
    assert rgb.model.backbone == flow.model.backbone == "resnet152"
    assert (rgb.model.dropout, flow.model.dropout) == ((0.8,), (0.7,))
    assert (rgb.data.stack, flow.data.stack) == (1, 10)
    assert (rgb.train.epochs, rgb.optim.milestones) == (250, (100, 200))
    assert (flow.train.epochs, flow.optim.milestones) == (350, (200, 300))
    assert rgb.train.batch_size * rgb.optim.accumulate == 125
    assert rgb.augment.scales == (1.0, 0.875, 0.75, 0.66)
    assert flow.augment.scales == (1.0, 0.875, 0.75)
    for config in (rgb, flow):
        assert config.optim.name == "sgd"
        assert (config.optim.lr, config.optim.momentum) == (0.001, 0.9)
        assert config.optim.weight_decay == 5e-4
        assert (config.data.resize, config.data.crop) == ("340x256", 224)


def test_tsn_as_in_its_readme():
    wanted = {  # segments, stack, epochs, milestones, clip, dropout
        "rgb": (3, 1, 80, (30, 60), 20.0, 0.8),
        "flow": (3, 5, 340, (190, 300), 20.0, 0.7),
        "rgbdiff": (7, 5, 180, (80, 160), 40.0, 0.8),
    }
    for modality, values in wanted.items():
        c = recipe("tsn", modality)
        data, optim = c.data, c.optim
        found = (data.num_segments, data.stack, c.train.epochs, optim.milestones, optim.clip_norm)
        assert (*found, c.model.dropout[0]) == values
        assert c.model.partial_bn and c.model.normalise == "caffe" and optim.groups == "tsn"
        assert (c.train.batch_size, optim.lr, optim.weight_decay) == (128, 0.001, 5e-4)


def test_the_other_published_systems():
    huang_rgb, huang_flow = (recipe("segments-resnet101", m) for m in ("rgb", "flow"))
    assert (huang_rgb.optim.lr, huang_flow.optim.lr) == (5e-4, 1e-2)
    assert (huang_rgb.train.batch_size, huang_flow.train.batch_size) == (25, 64)
    assert huang_rgb.model.consensus == "sum" and huang_rgb.optim.weight_decay == 0
    assert huang_flow.model.normalise == "unit" and not huang_flow.augment.mirror
    elkomy = recipe("xception", "flow")
    assert (elkomy.data.crop, elkomy.optim.lr, elkomy.train.epochs) == (299, 1e-5, 350)
    assert elkomy.model.input_bn and elkomy.augment.photometric == "heavy"
    slim = recipe("slim-resnet50", "rgb")
    assert (slim.optim.name, slim.optim.lr, slim.train.epochs) == ("adam", 1e-4, 500)
    assert (slim.data.num_segments, slim.train.batch_size) == (5, 5)


def test_unknown_names_and_modalities():
    with pytest.raises(UsageError, match=r"Unknown recipe 'tns'. Did you mean 'tsn'"):
        recipe("tns", "rgb")
    with pytest.raises(
        UsageError, match=r"'xception' has no modality 'rgbdiff'.* Choose rgb, flow"
    ):
        recipe("xception", "rgbdiff")
    with pytest.raises(UsageError, match=r"'scratch' has no modality 'flows'. Did you mean 'flow'"):
        recipe("scratch", "flows")
