import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError, UsageError
from kinema.models.clip_backbones import create_clip_backbone, is_clip_backbone
from kinema.models.clip_shape import ClipShape
from kinema.models.hf_clips import HUB_NETWORKS, mean_and_std
from kinema.models.network import build_network
from kinema.weights.pretrained import initialise

transformers = pytest.importorskip("transformers")

COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "patch_size": 16,
}
KINDS = {
    "videomae": {"num_frames": 4, "image_size": 32},
    "timesformer": {"num_frames": 4, "image_size": 32},
    "vivit": {"num_frames": 4, "image_size": 32, "tubelet_size": [2, 16, 16]},
    "vjepa2": {"frames_per_clip": 4, "crop_size": 32, "num_pooler_layers": 1},
}
SMALL_PREDICTOR = {
    "pred_hidden_size": 32,
    "pred_num_hidden_layers": 1,
    "pred_num_attention_heads": 2,
}


def checkpoint(folder: Path, kind: str) -> nn.Module:
    """A tiny published network with five classes: its folder as on the hub."""
    torch.manual_seed(2)
    extra = SMALL_PREDICTOR if kind == "vjepa2" else {}
    config = transformers.AutoConfig.for_model(
        kind, **{**COMMON, **KINDS[kind], **extra}, num_labels=5
    )
    network = transformers.AutoModelForVideoClassification.from_config(config).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(folder)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return network


def logits_of(network: nn.Module, x_BTCHW: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(**{network.main_input_name: x_BTCHW}).logits


@pytest.mark.parametrize("kind", KINDS)
def test_same_logits_as_transformers(tmp_path: Path, kind: str):
    theirs = checkpoint(tmp_path, kind)
    model = ModelConfig(backbone=f"hf:{tmp_path}", pretrained=True, dropout=(0.5,))
    network = build_network(model, modality="rgb", stack=4, num_classes=5, crop=32)
    report = initialise(network, model)
    assert report is not None and not report.head_replaced
    assert not report.missing
    assert all(".predictor." in name for name in report.unexpected)
    assert bool(report.unexpected) == (kind == "vjepa2")
    x_BTCHW = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = logits_of(theirs, x_BTCHW)
    backbone = network.eval().backbone
    with torch.no_grad():
        found = backbone(x_BTCHW.transpose(1, 2))
        features_BF = backbone.forward_head(
            backbone.forward_features(x_BTCHW.transpose(1, 2)), pre_logits=True
        )
    assert torch.equal(found, expected) and expected.std() > 0.01
    assert features_BF.shape == (2, backbone.head_hidden_size) == (2, 32)
    assert torch.equal(backbone.get_classifier()(features_BF), expected)
    twin = copy.deepcopy(network)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        assert torch.equal(twin.backbone(x_BTCHW.transpose(1, 2)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_preprocessing_comes_with_it(tmp_path: Path, kind: str):
    checkpoint(tmp_path, kind)
    model = ModelConfig(backbone=f"hf:{tmp_path}", dropout=())
    network = build_network(model, modality="rgb", stack=2, num_classes=3, crop=64)
    assert network.is_clip
    assert network.modality.mean == pytest.approx((0.1, 0.2, 0.3))
    assert network.modality.std == pytest.approx((0.4, 0.5, 0.6))
    assert network.backbone.pretrained_cfg["input_size"] == (3, 4, 32, 32)
    x_BNTCHW = torch.randint(0, 256, (1, 1, 2, 3, 64, 64), dtype=torch.uint8)
    network.train()(x_BNTCHW).sum().backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if "mask_token" not in n)


@pytest.mark.parametrize("kind", KINDS)
def test_flow_takes_the_mean_over_the_colours(tmp_path: Path, kind: str):
    theirs = checkpoint(tmp_path, kind)
    model = ModelConfig(backbone=f"hf:{tmp_path}", pretrained=True)
    network = build_network(model, modality="flow", stack=4, num_classes=9, crop=32)
    report = initialise(network, model)
    assert report is not None and report.head_replaced and len(report.adapted) == 1
    first = f"{report.adapted[0]}"
    expected = theirs.state_dict()[first].mean(1)
    found = network.backbone.state_dict()[first]
    assert found.shape[1] == 2
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found[:, 1], expected)


def test_position_embeddings_of_another_length(tmp_path: Path):
    theirs = checkpoint(tmp_path, "timesformer")
    model = ModelConfig(backbone=f"hf:{tmp_path}", pretrained=True)
    network = build_network(model, modality="rgb", stack=8, num_classes=5, crop=64)
    report = initialise(network, model)
    assert report is not None and len(report.resized) == 2
    name = "timesformer.embeddings.time_embeddings"
    old, new = theirs.state_dict()[name][0], network.backbone.state_dict()[name][0]
    assert new.shape == (8, 32)
    torch.testing.assert_close(new[0], old[0])  # half-pixel centres: the ends are repeated
    torch.testing.assert_close(new[1], 0.75 * old[0] + 0.25 * old[1])
    places = "timesformer.embeddings.position_embeddings"
    found = network.backbone.state_dict()[places]
    assert found.shape == (1, 1 + 16, 32)
    assert torch.equal(found[:, 0], theirs.state_dict()[places][:, 0])


def test_no_such_checkpoint(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    shape = ClipShape(in_channels=3, num_classes=5, frames=4, size=32)
    assert is_clip_backbone("hf:some/network")
    with pytest.raises(KinemaError, match=r"'hf:some/network' is not in the cache and could not"):
        create_clip_backbone("hf:some/network", shape)


def test_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no connection")

    auto = transformers.AutoModelForVideoClassification
    monkeypatch.setattr(auto, "from_pretrained", unreachable)
    from kinema.weights.kinetics import published_weights

    with pytest.raises(KinemaError, match=r"'videomae_base' .*no connection.*pretrained=false"):
        published_weights("videomae_base")


def test_other_kinds_of_checkpoints(tmp_path: Path):
    transformers.AutoConfig.for_model("vit", **COMMON).save_pretrained(tmp_path)
    shape = ClipShape(in_channels=3, num_classes=5, frames=4, size=32)
    with pytest.raises(UsageError, match=r"of the kind 'vit', which transformers does not use"):
        create_clip_backbone(f"hf:{tmp_path}", shape)


@pytest.mark.parametrize("name", HUB_NETWORKS)
def test_sizes_that_are_not_possible(name: str):
    shape = ClipShape(in_channels=3, num_classes=5, frames=4, size=40)
    with pytest.raises(KinemaError, match=rf"'{name}' cannot be built for 4 images of 40 pixels"):
        create_clip_backbone(name, shape)


def test_other_images_than_it_was_made_for(tmp_path: Path):
    checkpoint(tmp_path, "vjepa2")
    shape = ClipShape(in_channels=3, num_classes=5, frames=4, size=32)
    network = create_clip_backbone(f"hf:{tmp_path}", shape)
    with pytest.raises(KinemaError, match=r"takes 4 images of 3 channels and 32 x 32"):
        network(torch.zeros(1, 3, 8, 32, 32))


@pytest.mark.parametrize(
    ("name", "millions"), [("timesformer_base", 121.57), ("vivit_base", 88.95)]
)
def test_short_names_have_the_published_sizes(name: str, millions: float):
    published = HUB_NETWORKS[name]
    shape = ClipShape(
        in_channels=3, num_classes=400, frames=published.frames, size=published.size, dropout=0.5
    )
    with torch.device("meta"):
        network = create_clip_backbone(name, shape)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert network.pretrained_cfg["input_size"] == (3, published.frames, 224, 224)


def test_vivits_scale_is_part_of_mean_and_std():
    said = {"offset": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    mean, std = mean_and_std(said)
    pixel = 200.0
    assert (pixel / 255 - mean[0]) / std[0] == pytest.approx((pixel / 127.5 - 1 - 0.5) / 0.5)
    assert mean_and_std({"do_normalize": False, "offset": True}) == ((0.5,) * 3, (0.5,) * 3)
    mean, std = mean_and_std({"image_mean": [0.485] * 3, "image_std": [0.229] * 3})
    assert mean == pytest.approx((0.485,) * 3) and std == pytest.approx((0.229,) * 3)


def test_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    shape = ClipShape(in_channels=3, num_classes=5, frames=4, size=32)
    with pytest.raises(KinemaError, match=r"needs transformers: pip install 'kinema\[hf\]'"):
        create_clip_backbone("vivit_base", shape)
