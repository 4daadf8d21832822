"""Checkpoints and states: round trips, what travels with the weights, broken files, full disks."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers_engine import assert_same_files, config_of, figures_of
from kinema.config import override
from kinema.engine.checkpoint import (
    CheckpointInfo,
    add_provenance,
    load_checkpoint,
    load_state,
    read_info,
    save_checkpoint,
    save_state,
    weights_hash,
)
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.train import train
from kinema.errors import KinemaError
from kinema.models.network import build_network
from kinema.recipes import recipe
from kinema.testing import score_checkpoint

pytest_plugins = ("helpers_engine_index",)

CLASSES = ("drehen", "stehen", "Über die Brücke")


def info_of(*overrides, modality="flow", **provenance):
    config = override(recipe("tiny", modality), overrides)
    protocol = find_protocol(config.protocol)
    return CheckpointInfo(config=config, classes=CLASSES, protocol=protocol, provenance=provenance)


def network_of(info, *, seed=0):
    torch.manual_seed(seed)
    data = info.config.data
    return build_network(
        info.config.model,
        modality=data.modality,
        stack=data.stack,
        num_classes=3,
        num_segments=data.num_segments,
    ).eval()


@pytest.mark.parametrize(
    ("modality", "overrides"),
    [
        ("rgb", ("model.consensus=weighted", "model.normalise=caffe", "data.num_segments=4")),
        ("flow", ("data.stack=10", "model.input_bn=true", "model.partial_bn=true")),
        ("rgbdiff", ("model.backbone=test_efficientnet_ln", "augment.scales=1,0.5")),
    ],
)
def test_a_checkpoint_comes_back_ready_for_use(tmp_path, modality, overrides):
    info = info_of(*overrides, modality=modality, epoch=3, val_top1=0.5)
    network = network_of(info).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "a" / "x.safetensors", network, info)
    checkpoint = load_checkpoint(tmp_path / "a" / "x.safetensors")
    assert checkpoint.info == info
    assert checkpoint.config == info.config
    assert checkpoint.classes == CLASSES
    assert not checkpoint.network.training
    images = info.config.data.stack + (modality == "rgbdiff")
    channels = 2 if modality == "flow" else 3
    x = torch.randint(0, 256, (2, 3, images, channels, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.network(x), network(x), rtol=0, atol=1e-5)
    assert checkpoint.hash == weights_hash(tmp_path / "a" / "x.safetensors")
    assert len(checkpoint.hash) == 16


def test_the_hash_is_of_the_weights_alone(tmp_path):
    info = info_of(epoch=1)
    names = {"same": (info, 0), "later": (info_of(epoch=2, note="x" * 999), 0), "other": (info, 1)}
    for name, (what, seed) in names.items():
        save_checkpoint(tmp_path / name, network_of(info, seed=seed), what)
    same, later, other = (weights_hash(tmp_path / name) for name in names)
    assert same == later != other


def test_facts_are_added_and_the_weights_stay(tmp_path):
    path, info = tmp_path / "x.safetensors", info_of(epoch=1)
    save_checkpoint(path, network_of(info), info)
    before, digest = load_file(path), weights_hash(path)
    add_provenance(path, {"fusion_weight": 1.5})
    add_provenance(path, {"epoch": 2})
    assert read_info(path).provenance == {"epoch": 2, "fusion_weight": 1.5}
    assert read_info(path).config == info.config
    assert weights_hash(path) == digest
    assert all(torch.equal(value, before[name]) for name, value in load_file(path).items())


def test_a_file_that_is_no_checkpoint_is_one_sentence(tmp_path):
    path, info = tmp_path / "x.safetensors", info_of()
    for absent in (path, tmp_path):
        with pytest.raises(KinemaError, match=r"There is no checkpoint .*: give the path of a"):
            read_info(absent)
    save_checkpoint(path, network_of(info), info)
    whole = path.read_bytes()
    for broken in (b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-1], whole + b"0"):
        path.write_bytes(broken)
        with pytest.raises(KinemaError, match=r"x\.safetensors is not a complete safetensors file"):
            load_checkpoint(path)
        with pytest.raises(KinemaError, match=r"is not a complete safetensors file"):
            add_provenance(path, {})
        assert path.read_bytes() == broken


def test_foreign_weights_are_sent_to_their_place(tmp_path):
    path = tmp_path / "timm.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(KinemaError, match=r"no description.*model\.weights=.*timm\.safetensors"):
        load_checkpoint(path)


def rewritten(path, **changes):
    """Change the JSON entry of a checkpoint."""
    with safe_open(path, framework="pt") as handle:
        entry = json.loads(handle.metadata()["kinema"])
    save_file(load_file(path), path, metadata={"kinema": json.dumps({**entry, **changes})})


def test_a_newer_format_asks_for_an_update(tmp_path):
    path, info = tmp_path / "x.safetensors", info_of()
    save_checkpoint(path, network_of(info), info)
    rewritten(path, format=2)
    with pytest.raises(KinemaError, match=r"x\.safetensors was written by a newer Kinema: update"):
        read_info(path)
    rewritten(path, format=1, config={"data": {"speed": 1}})
    with pytest.raises(KinemaError, match=r"Unknown setting 'speed'"):
        read_info(path)


def test_settings_that_an_older_file_lacks_take_their_defaults(tmp_path):
    path, info = tmp_path / "x.safetensors", info_of()
    save_checkpoint(path, network_of(info), info)
    rewritten(path, config={"model": {"backbone": "tiny", "dropout": []}})
    config = read_info(path).config
    assert (config.model.backbone, config.model.dropout, config.data.crop) == ("tiny", (), 224)


def test_a_protocol_of_the_users_own_travels_with_the_weights(tiny_index, tmp_path):
    own = tmp_path / "mine.json"
    own.write_text(json.dumps({"rule": "uniform", "num_clips": 3, "crops": "three"}))
    result = train(config_of(tiny_index, f"protocol={own}", epochs=1), tmp_path / "run")
    own.unlink()
    protocol = load_checkpoint(result.best).protocol
    assert protocol == Protocol(name="mine", rule="uniform", num_clips=3, crops="three")
    scores = score_checkpoint(result.best, tmp_path / "scores.npz")
    assert scores.protocol == "mine"


def test_a_state_comes_back(tmp_path):
    state = {"weights": torch.randn(3, 4), "steps": 3, "best": float("inf"), "names": ["a", None]}
    save_state(tmp_path / "state.pt", state)
    found = load_state(tmp_path / "state.pt")
    assert torch.equal(found.pop("weights"), state.pop("weights"))
    assert found == state


def writers():
    info = info_of()
    network = network_of(info)
    large = {"weights": torch.zeros(300_000)}
    return {
        "checkpoint": lambda path: save_checkpoint(path, network, info),
        "state": lambda path: save_state(path, large),
        "small state": lambda path: save_state(path, {"steps": 1}),
    }


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("what", ["checkpoint", "state", "small state"])
def test_a_disk_that_fills_up_while_writing(tmp_path, what):
    path = tmp_path / "file.bin"
    path.write_bytes(b"older")
    (tmp_path / f".file.{os.getpid()}.part.bin").symlink_to("/dev/full")
    with pytest.raises(KinemaError, match=r"No space left.*file\.bin: the file was not changed"):
        writers()[what](path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["checkpoint", "state"])
def test_a_disk_that_fills_up_at_the_end(tmp_path, monkeypatch, what):
    path = tmp_path / "file.bin"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(KinemaError, match=r"No space left on the disk while writing .*file\.bin"):
        writers()[what](path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def room_for(count, plain):
    """An fsync that fails after so many files."""
    left = iter(range(count))
    return lambda handle: full_disk() if next(left, None) is None else plain(handle)


def test_another_failure_of_torch_stays_what_it_is(tmp_path, monkeypatch):
    def failing(*arguments):
        raise RuntimeError("out of ideas")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(RuntimeError, match="out of ideas"):
        save_state(tmp_path / "state.pt", {})


def test_a_training_goes_on_when_there_is_room_again(tiny_index, tmp_path, monkeypatch):
    """Each life ends at a full disk, one file later than the one before."""
    config = config_of(tiny_index, "train.save_every_seconds=0", batch=16)
    train(config, tmp_path / "whole", device="cpu")
    plain, failures = os.fsync, []
    for room in range(1, 30):
        monkeypatch.setattr(os, "fsync", room_for(room, plain))
        try:
            train(config, tmp_path / "out", device="cpu")
        except KinemaError as error:
            failures.append(str(error))
            continue
        break
    assert len(failures) >= 5
    assert all(text.startswith("No space left on the disk while writing") for text in failures)
    monkeypatch.setattr(os, "fsync", plain)
    assert_same_files(tmp_path / "out", tmp_path / "whole")
    assert figures_of(tmp_path / "out") == figures_of(tmp_path / "whole")
