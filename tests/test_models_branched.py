"""The branched hidden stream: shapes, one encoder for classes and flow, and that it learns."""

import pytest
import torch

from helpers_engine import config_of, figures_of
from kinema.config import ModelConfig
from kinema.engine.checkpoint import load_checkpoint
from kinema.engine.losses import training_loss
from kinema.engine.train import train
from kinema.errors import UsageError
from kinema.flow.motion_file import save_motion
from kinema.flow.motion_network import build_motion_network, motion_input
from kinema.models.branched_motion import BranchedMotion
from kinema.models.flow_losses import TINY_LOSS, flow_loss
from kinema.models.network import build_network
from kinema.models.snippet_network import MotionOutputs
from kinema.weights.pretrained import initialise

pytest_plugins = ["helpers_engine_index"]

MODEL = ModelConfig(backbone="branched-motionnet-tiny", dropout=(), normalise="unit")


def network_of(model=MODEL, *, stack=2, num_classes=2, crop=64):
    torch.manual_seed(0)
    return build_network(
        model, modality="rgb", stack=stack, num_classes=num_classes, num_segments=1, crop=crop
    )


def moving_squares(num_videos, seed=0):
    """Pairs of a bright square on gray that goes 4 pixels right (class 0) or down (class 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((num_videos, 1, 2, 3, 64, 64), 90, dtype=torch.uint8)
    texture = torch.randint(0, 60, (64, 64), generator=generator).to(torch.uint8)
    x += texture
    labels = torch.arange(num_videos) % 2
    for video in range(num_videos):
        top, left = (int(i) for i in torch.randint(4, 36, (2,), generator=generator))
        for frame in range(2):
            y, x0 = top + 4 * frame * int(labels[video]), left + 4 * frame * int(1 - labels[video])
            x[video, 0, frame, :, y : y + 20, x0 : x0 + 20] = 200 + texture[:20, :20] // 2
    return x, labels


def test_shapes_of_both_networks():
    network = network_of(stack=3, num_classes=5).eval()
    x = torch.randint(0, 256, (2, 4, 3, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        assert network.snippet_logits(x).shape == (2, 4, 5) and network.feature_dim == 128
        odd = torch.zeros(1, 1, 3, 3, 50, 70, dtype=torch.uint8)
        assert network.backbone.forward_features(network.folded(odd)).shape == (1, 128, 2, 3)
        published = BranchedMotion("motionnet", in_channels=33, num_classes=7).eval()
        assert published(torch.zeros(2, 33, 32, 64)).shape == (2, 7)
    read = (512, 128 + 512, 128 + 1024)
    assert [layer[0].in_channels for layer in published.branch] == list(read)


def test_what_it_cannot_see_is_refused():
    with pytest.raises(UsageError, match=r"sees 11 RGB frames, but .* data\.stack=11"):
        BranchedMotion("motionnet", in_channels=15, num_classes=7)
    with pytest.raises(UsageError, match=r"sees 2 RGB frames or more, but .* 20 channels"):
        BranchedMotion("motionnet-tiny", in_channels=20, num_classes=7)
    with pytest.raises(UsageError, match=r"frames of 0 to 1: set model\.normalise=unit"):
        network_of(ModelConfig(backbone="branched-motionnet-tiny", dropout=()))
    with pytest.raises(UsageError, match=r"data\.crop=32 is too small: set it to 64 or more"):
        network_of(ModelConfig(**{**vars(MODEL), "motion_loss": 1.0}), crop=32)
    with pytest.raises(UsageError, match=r"model\.motion_loss=1\.0 .* no flow is estimated"):
        network_of(ModelConfig(backbone="tiny", dropout=(), motion_loss=1.0))


@pytest.mark.parametrize("form", ["branched", "stacked"])
def test_the_loss_of_flow_is_that_of_stage_one_and_counts_as_asked(form):
    model = ModelConfig(
        backbone="branched-motionnet-tiny" if form == "branched" else "tiny",
        dropout=(),
        normalise="unit",
        motion="" if form == "branched" else "motionnet-tiny",
        motion_loss=0.5,
    )
    network = network_of(model)
    x, labels = moving_squares(4)
    output = network.train()(x)
    motion = network.backbone.motion if form == "branched" else network.hidden.motion
    frames = motion_input(motion, x.flatten(0, 1).float() / 255)
    expected = flow_loss(motion(frames), frames, TINY_LOSS)["total"]
    assert isinstance(output, MotionOutputs)
    torch.testing.assert_close(output.flow_loss, expected)
    config = config_of("none", "model.motion_loss=0.5", "optim.label_smoothing=0")
    value, logits = training_loss(config, class_weights=None)(output, labels)
    by_hand = -output.logits.log_softmax(1)[torch.arange(4), labels].sum()
    torch.testing.assert_close(value, by_hand + 0.5 * expected.sum())
    assert torch.equal(logits, output.logits)
    assert network.eval()(x).shape == (4, 2)


def test_both_losses_reach_the_encoder():
    network = network_of(ModelConfig(**{**vars(MODEL), "motion_loss": 1.0})).train()
    x, labels = moving_squares(4)
    output = network(x)
    output.flow_loss.sum().backward(retain_graph=True)
    encoder = list(network.backbone.motion.encoder.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder)
    assert all(p.grad is None for p in network.backbone.branch.parameters())
    network.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(output.logits, labels).backward()
    assert sum(float(p.grad.abs().sum()) for p in encoder) > 0
    assert all(p.grad is None for p in network.backbone.motion.decoder.parameters())


def test_without_the_loss_of_flow_the_decoder_does_not_learn():
    """So that no process waits for gradients that never come."""
    network = network_of()
    decoder = network.backbone.motion.decoder
    assert not any(p.requires_grad for p in decoder.parameters())
    assert all(p.requires_grad for p in network.backbone.motion.encoder.parameters())


def test_it_learns_which_way_squares_move():
    network = network_of(ModelConfig(**{**vars(MODEL), "motion_loss": 1.0})).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    x, labels = moving_squares(8)
    losses = []
    for _ in range(12):
        output = network(x)
        by_labels = torch.nn.functional.cross_entropy(output.logits, labels)
        optimizer.zero_grad()
        (by_labels + output.flow_loss.mean()).backward()
        optimizer.step()
        losses.append((float(by_labels.detach()), float(output.flow_loss.mean().detach())))
    assert losses[-1][0] < 0.6 * losses[0][0]
    assert losses[-1][1] < losses[0][1]


def test_it_is_trained_by_the_loop_from_a_motionnet(tiny_index, tmp_path):
    path = tmp_path / "motion.safetensors"
    torch.manual_seed(7)
    save_motion(path, build_motion_network("motionnet-tiny"), name="motionnet-tiny", provenance={})
    config = config_of(
        tiny_index,
        "model.backbone=branched-motionnet-tiny",
        "model.normalise=unit",
        f"model.motion_weights={path}",
        "model.motion_loss=0.1",
        "data.stack=3",
        "data.workers=0",
        "data.crop=64",
        "data.resize=64x64",
        epochs=1,
    )
    network = network_of(config.model, stack=3)
    initialise(network, config.model)
    for name, value in build_motion_network("motionnet-tiny").state_dict().items():
        assert network.backbone.motion.state_dict()[name].shape == value.shape
    result = train(config, tmp_path / "run", device="cpu")
    assert isinstance(load_checkpoint(result.best).network.backbone, BranchedMotion)
    assert figures_of(tmp_path / "run")[0]["train_loss"] > 0
