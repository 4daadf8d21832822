"""The hidden two-stream network: flow estimated inside, trained end to end from RGB."""

from dataclasses import replace

import pytest
import torch

from helpers_engine import config_of, figures_of
from kinema.config import ModelConfig
from kinema.engine.checkpoint import load_checkpoint
from kinema.engine.train import train
from kinema.errors import KinemaError, UsageError
from kinema.flow.motion_file import save_motion
from kinema.flow.motion_network import build_motion_network, full_flow
from kinema.models.describe import describe_network
from kinema.models.hidden_flow import HiddenFlow
from kinema.models.network import build_network
from kinema.testing import TestOptions, score_checkpoint
from kinema.weights.files import read_weights
from kinema.weights.pretrained import initialise

pytest_plugins = ["helpers_engine_index"]

MODEL = ModelConfig(backbone="tiny", dropout=(), motion="motionnet-tiny")


def network_of(model=MODEL, *, stack=4):
    torch.manual_seed(0)
    return build_network(model, modality="rgb", stack=stack, num_classes=5, num_segments=2)


def clips(*, frames=4, side=64):
    shape = (2, 2, frames, 3, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


@pytest.fixture(scope="module")
def motion_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("motion") / "last.safetensors"
    torch.manual_seed(7)
    save_motion(path, build_motion_network("motionnet-tiny"), name="motionnet-tiny", provenance={})
    return path


def test_it_is_the_flow_network_behind_the_estimated_flow():
    network = network_of().eval()
    flow_network = build_network(
        replace(MODEL, motion=""), modality="flow", stack=3, num_classes=5, num_segments=2
    ).eval()
    flow_network.load_state_dict(
        {k: v for k, v in network.state_dict().items() if not k.startswith("hidden.")}
    )
    x = clips()
    with torch.no_grad():
        found = network(x)
        flow = full_flow(network.hidden.motion, x.flatten(0, 1).float() / 255)
        images = (flow.clamp(-20, 20) * 127 / 20 + 128).unflatten(0, (2, 2))
        torch.testing.assert_close(found, flow_network(images))
    assert found.shape == (2, 5)


def test_flow_is_cut_at_twenty_pixels():
    hidden = HiddenFlow("motionnet-tiny")
    with torch.no_grad():
        for decoder in hidden.motion.decoder:
            decoder[-1].weight.zero_()
        hidden.motion.decoder[0][-1].bias[:2] = torch.tensor([50.0, -1.0])
        images = hidden(clips())
    assert images.shape == (2, 2, 3, 2, 64, 64)
    assert images[..., 0, :, :].unique().tolist() == [255.0]  # 128 + 127: 20 pixels and more
    assert (images[..., 1, :, :].unique() - 128).tolist() == pytest.approx([-2 * 127 / 20])


def test_gradients_reach_the_motion_network():
    network = network_of()
    network(clips()).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    first = network.hidden.motion.encoder[0][0].weight.grad
    assert float(first.abs().max()) > 0


def test_its_first_part_can_be_frozen():
    layer = next(name for name, _ in network_of().backbone.named_children())
    network = network_of(replace(MODEL, finetune_from=layer))
    assert not any(p.requires_grad for p in network.hidden.parameters())
    assert all(p.requires_grad for p in network.backbone.parameters())


def test_weights_of_flow_and_of_motion(tmp_path, motion_file, tiny_index):
    config = config_of(tiny_index, "data.stack=3", "train.epochs=1", modality="flow")
    flow_run = train(config, tmp_path / "flow", device="cpu")
    model = replace(
        config.model,
        motion="motionnet-tiny",
        motion_weights=str(motion_file),
        weights=str(flow_run.last),
    )
    network = build_network(model, modality="rgb", stack=4, num_classes=6, num_segments=1)
    report = initialise(network, model)
    assert not report.adapted
    assert all(name.startswith("hidden.") for name in report.missing)
    given = read_weights(flow_run.last).tensors
    for name, value in given.items():
        assert torch.equal(network.state_dict()[name], value)
    torch.manual_seed(7)
    motion = build_motion_network("motionnet-tiny")
    assert torch.equal(network.hidden.motion.encoder[0][0].weight, motion.encoder[0][0].weight)


def test_train_checkpoint_and_test(tiny_index, tmp_path, motion_file):
    config = config_of(
        tiny_index,
        "data.stack=4",
        "model.motion=motionnet-tiny",
        f"model.motion_weights={motion_file}",
        "data.workers=0",
    )
    result = train(config, tmp_path / "run", device="cpu")
    assert len(figures_of(tmp_path / "run")) == 2
    motion_file.rename(tmp_path / "gone.safetensors")  # a checkpoint holds all that it needs
    try:
        checkpoint = load_checkpoint(result.last)
        moved = checkpoint.network.hidden.motion.state_dict()
        torch.manual_seed(7)
        start = build_motion_network("motionnet-tiny").state_dict()
        assert any(not torch.equal(moved[name], start[name]) for name in start)
        options = TestOptions(protocol="uniform-19", device="cpu")
        scores = score_checkpoint(result.last, tmp_path / "s.npz", part="test", options=options)
        assert scores.values.shape == (6, 6)
    finally:
        (tmp_path / "gone.safetensors").rename(motion_file)


def test_size():
    size = describe_network(network_of(stack=3), image_size=64)
    hidden = sum(p.numel() for p in build_motion_network("motionnet-tiny").parameters())
    assert size.parameters > hidden
    assert size.multiply_adds > 0


@pytest.mark.parametrize(
    ("model", "modality", "stack", "message"),
    [
        (MODEL, "flow", 4, "set data.modality=rgb"),
        (MODEL, "rgb", 1, "takes 2 frames at least, but data.stack=1"),
        (replace(MODEL, motion="motionnet"), "rgb", 5, "takes 11 frames, but data.stack=5"),
        (ModelConfig(motion_weights="x"), "rgb", 1, "is of no use without model.motion"),
    ],
)
def test_what_is_refused(model, modality, stack, message):
    with pytest.raises(UsageError, match=message):
        build_network(model, modality=modality, stack=stack, num_classes=5)


def test_the_wrong_clips_and_the_wrong_file(tmp_path, motion_file):
    with pytest.raises(KinemaError, match="takes 4 images of 3 channels"):
        network_of()(clips(frames=5))
    torch.manual_seed(0)
    model = replace(MODEL, motion="motionnet", motion_weights=str(motion_file))
    with torch.device("meta"):
        network = build_network(model, modality="rgb", stack=11, num_classes=5)
    with pytest.raises(KinemaError, match="holds the network motionnet-tiny, but model"):
        initialise(network, model)
