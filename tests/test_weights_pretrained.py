from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from kinema.config import Config, DataConfig, ModelConfig
from kinema.engine.checkpoint import CheckpointInfo, save_checkpoint
from kinema.engine.protocols import Protocol
from kinema.errors import KinemaError, UsageError
from kinema.models.network import build_network
from kinema.models.snippet_network import SnippetNetwork
from kinema.weights.imagenet import imagenet_weights
from kinema.weights.pretrained import initialise


def network_of(modality: str = "rgb", stack: int = 1, **model: object) -> SnippetNetwork:
    config = ModelConfig(**{"backbone": "tiny", "dropout": (), **model})
    return build_network(config, modality=modality, stack=stack, num_classes=5)


def tiny_file(path: Path, *, num_classes: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    config = ModelConfig(backbone="tiny", dropout=())
    network = build_network(config, modality="rgb", stack=1, num_classes=num_classes)
    state = network.backbone.state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path)
    return state


def test_nothing_asked_nothing_done():
    network = network_of()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert initialise(network, ModelConfig(backbone="tiny")) is None
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_torch_file_for_rgb_keeps_all(tmp_path: Path):
    state = tiny_file(tmp_path / "a.pth")
    network = network_of()
    report = initialise(network, ModelConfig(backbone="tiny", weights=str(tmp_path / "a.pth")))
    assert report is not None
    assert not report.head_replaced and not report.missing and not report.unexpected
    assert len(report.matched) == len(state)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, state[name])
    assert "classifier kept" in report.summary()


@pytest.mark.parametrize(("modality", "stack", "channels"), [("flow", 10, 20), ("rgbdiff", 5, 15)])
def test_other_modalities_take_the_mean_over_rgb(
    tmp_path: Path, modality: str, stack: int, channels: int
):
    state = tiny_file(tmp_path / "a.pth", num_classes=9)
    network = network_of(modality, stack)
    report = initialise(network, ModelConfig(backbone="tiny", weights=str(tmp_path / "a.pth")))
    assert report is not None
    assert report.adapted == ("features.0.0.weight",)
    assert report.head_replaced
    rgb = state["features.0.0.weight"]
    found = network.backbone.state_dict()["features.0.0.weight"]
    wanted = ((rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3)[:, None].expand(-1, channels, -1, -1)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)
    assert torch.equal(
        network.backbone.state_dict()["features.1.0.weight"], state["features.1.0.weight"]
    )
    assert "averaged over its input channels; new classifier" in report.summary()


def test_new_classifier_is_normal_with_std_0_001(tmp_path: Path):
    config = ModelConfig(backbone="tiny", weights=str(tmp_path / "a.pth"))
    tiny_file(tmp_path / "a.pth", num_classes=9)
    network = build_network(config, modality="rgb", stack=1, num_classes=400)
    report = initialise(network, config)
    assert report is not None
    head = network.backbone.get_classifier()
    assert head.weight.detach().std().item() == pytest.approx(0.001, rel=0.05)
    assert head.weight.detach().mean().item() == pytest.approx(0.0, abs=1e-4)
    assert torch.equal(head.bias, torch.zeros(400))
    assert set(report.missing) == {"backbone.fc.weight", "backbone.fc.bias"}
    assert set(report.unexpected) == {"backbone.fc.weight", "backbone.fc.bias"}


def test_own_checkpoint_knows_its_modality_and_normalisation(tmp_path: Path):
    donor = network_of("rgbdiff", input_bn=True, normalise="unit")
    donor.input_bn.running_mean.fill_(0.25)
    config = Config(
        data=DataConfig(modality="rgbdiff"),
        model=ModelConfig(backbone="tiny", dropout=(), input_bn=True, normalise="unit"),
    )
    path = tmp_path / "best.safetensors"
    info = CheckpointInfo(config=config, classes=tuple("abcde"), protocol=Protocol())
    save_checkpoint(path, donor, info)
    model = ModelConfig(backbone="tiny", weights=str(path))
    same = network_of("rgbdiff", input_bn=True, normalise="unit")
    report = initialise(same, model)
    assert report is not None
    assert not report.adapted and not report.notes and not report.missing
    assert torch.equal(same.input_bn.running_mean, donor.input_bn.running_mean)
    other = network_of("rgb")  # three channels too, but of another kind
    report = initialise(other, model)
    assert report is not None
    assert report.adapted == ("features.0.0.weight",)
    assert "trained with model.normalise=unit, this network has standard" in report.summary()


def test_plain_safetensors_file(tmp_path: Path):
    save_file(network_of().backbone.state_dict(), tmp_path / "plain.safetensors")
    path = str(tmp_path / "plain.safetensors")
    report = initialise(network_of(), ModelConfig(backbone="tiny", weights=path))
    assert report is not None
    assert not report.missing and not report.head_replaced


def test_bn_inception_file_of_the_caffe_port(hub: Path):
    donor = network_of(backbone="bn_inception").backbone.state_dict()
    old = {
        k[: -len("fc.bias")] + "last_linear.bias" if k == "fc.bias" else k: v
        for k, v in donor.items()
    }
    old = {k: v[None] if "_bn." in k and v.ndim == 1 else v for k, v in old.items()}
    old = {k: v for k, v in old.items() if "num_batches" not in k and k != "fc.weight"}
    torch.save(old, hub / "bn_inception-52deb4733.pth")
    network = network_of("flow", 5, backbone="bn_inception", normalise="caffe")
    report = initialise(network, ModelConfig(backbone="bn_inception", pretrained=True))
    assert report is not None
    assert report.unexpected == ("backbone.last_linear.bias",)
    assert report.adapted == ("conv1_7x7_s2.weight",) and report.head_replaced
    found = network.backbone.state_dict()
    name = "inception_4e_double_3x3_2_bn.running_var"
    assert torch.equal(found[name], donor[name])
    assert torch.equal(found["conv1_7x7_s2.bias"], donor["conv1_7x7_s2.bias"])


def test_pretrained_comes_from_torchvisions_cache(hub: Path):
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), hub / "resnet18-f37072fd.pth")
    network = network_of("flow", 10, backbone="resnet18")
    report = initialise(network, ModelConfig(backbone="resnet18", pretrained=True))
    assert report is not None
    assert report.head_replaced and report.adapted == ("conv1.weight",)
    ours, state = network.backbone.state_dict(), theirs.state_dict()
    assert torch.equal(ours["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    wanted = state["conv1.weight"].mean(1, keepdim=True).expand(-1, 20, -1, -1)
    torch.testing.assert_close(ours["conv1.weight"], wanted, atol=1e-7, rtol=0)
    assert "the ImageNet weights of resnet18" in report.summary()


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "bn_inception"])
def test_offline_without_cache_says_how_to_go_on(hub: Path, name: str):
    with pytest.raises(KinemaError, match=r"pretrained=false .* model.weights=FILE") as caught:
        imagenet_weights(name)
    assert f"The ImageNet weights of '{name}'" in str(caught.value)
    assert "Name or service not known" in str(caught.value)


def test_offline_through_timm_says_the_same(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object) -> None:
        raise FileNotFoundError("cannot find the requested files in the local cache.\nMore.")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(KinemaError, match=r"in the local cache\). Without a network"):
        imagenet_weights("mobilenet")


def test_no_published_weights():
    with pytest.raises(KinemaError, match="'tiny' has no ImageNet weights"):
        imagenet_weights("tiny")
    with pytest.raises(UsageError, match="Unknown backbone"):
        imagenet_weights("resnet51")


def test_file_of_another_network(tmp_path: Path):
    tiny_file(tmp_path / "tiny.pth")
    model = ModelConfig(backbone="resnet18", weights=str(tmp_path / "tiny.pth"))
    network = network_of(backbone="resnet18")
    before = network.backbone.conv1.weight.clone()
    with pytest.raises(KinemaError, match=r"does not fit the backbone 'resnet18': 10\d of its 122"):
        initialise(network, model)
    assert torch.equal(network.backbone.conv1.weight, before)


def test_file_of_a_wider_network_names_the_tensor(tmp_path: Path):
    state = tiny_file(tmp_path / "a.pth")
    state["features.2.0.weight"] = torch.zeros(99, 32, 3, 3)
    torch.save(state, tmp_path / "b.pth")
    model = ModelConfig(backbone="tiny", weights=str(tmp_path / "b.pth"))
    with pytest.raises(KinemaError, match=r"1 of its .* such as features.2.0.weight"):
        initialise(network_of(), model)


def test_networks_with_two_classifiers(tmp_path: Path):
    name = "deit_tiny_distilled_patch16_224"
    donor = network_of(backbone=name).backbone
    donor.reset_classifier(9)
    torch.save(donor.state_dict(), tmp_path / "a.pth")
    report = initialise(
        network_of(backbone=name), ModelConfig(backbone=name, weights=str(tmp_path / "a.pth"))
    )
    assert report is not None
    heads = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
    assert set(report.missing) == {f"backbone.{head}" for head in heads}
