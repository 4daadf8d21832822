import pickle
import random
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from kinema.errors import KinemaError
from kinema.models.backbones import create_backbone
from kinema.weights.files import network_names, read_weights


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))


def test_wrappers_and_containers(tmp_path: Path):
    tensor = torch.arange(3.0)
    for name in ("module.conv1.weight", "module.base_model.conv1.weight", "_orig_mod.conv1.weight"):
        torch.save({"model": {name: tensor}, "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
        assert list(read_weights(tmp_path / "a.pth").tensors) == ["backbone.conv1.weight"]
    names = network_names({"backbone.fc.weight": tensor, "input_bn.running_mean": tensor})
    assert list(names) == ["backbone.fc.weight", "input_bn.running_mean"]


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "vgg19", "densenet121", "resnet34"])
def test_torchvisions_names_become_ours(name: str):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).state_dict()
        ours = create_backbone(name).state_dict()
    assert list(network_names(theirs)) == [f"backbone.{key}" for key in ours]


def test_old_densenet_names():
    old = {"features.denseblock1.denselayer2.norm.1.weight": torch.zeros(1)}
    wanted = "backbone.features.denseblock1.denselayer2.norm1.weight"
    assert list(network_names(old)) == [wanted]


def test_legacy_torch_format(tmp_path: Path):
    state = {"state_dict": {"module.a": torch.ones(2)}, "arch": "flow_resnet152", "epoch": 5}
    torch.save(state, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth.tar").tensors["backbone.a"].tolist() == [1.0, 1.0]


def test_files_that_are_no_weights(tmp_path: Path):
    with pytest.raises(KinemaError, match="There is no weights file"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("hello, this is not a checkpoint")
    with pytest.raises(KinemaError, match=r"text.pth cannot be read as weights"):
        read_weights(tmp_path / "text.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(KinemaError, match=r"empty.pth cannot be read as weights"):
        read_weights(tmp_path / "empty.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(KinemaError, match="holds no tensors by name"):
        read_weights(tmp_path / "none.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(KinemaError, match="holds no tensors by name"):
        read_weights(tmp_path / "list.pth")


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(KinemaError, match="would run code are refused"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_torch_files_are_an_error_and_never_a_crash(tmp_path: Path, is_zip: bool):
    path = tmp_path / "a.pth"
    state = {"state_dict": {"a": torch.ones(20), "b": torch.zeros(3, 3)}, "epoch": 5}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    whole, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole[: generator.randrange(1, len(whole))])
        for _ in range(3):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except KinemaError:
            refused += 1
    assert refused >= 95


def test_cut_off_files(tmp_path: Path):
    save_file({"fc.weight": torch.zeros(50, 50)}, tmp_path / "a.safetensors")
    torch.save({"fc.weight": torch.zeros(50, 50)}, tmp_path / "a.pth")
    for name, message in (
        ("a.safetensors", "not a complete safetensors file"),
        ("a.pth", "cannot be read as weights"),
    ):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(KinemaError, match=message):
            read_weights(tmp_path / name)
