"""Activations that are computed again: the same bits in less memory, whatever the network."""

import copy

import pytest
import torch
from torch import nn

from helpers_engine import WITH_STATE, assert_same_files, config_of, figures_of
from kinema.config import ModelConfig
from kinema.engine.train import train
from kinema.errors import UsageError
from kinema.models.activations import save_memory
from kinema.models.describe import describe_network
from kinema.models.network import build_network

pytest_plugins = ("helpers_engine_index",)

# Lists of blocks, nested lists, lists in which features are collected; BatchNorm, LayerNorm,
# stochastic depth.
NETWORKS = {
    "tiny": (64, 0.0),
    "resnet18": (64, 0.1),
    "densenet121": (64, 0.0),
    "mobilenet": (64, 0.0),
    "bn_inception": (64, 0.0),
    "test_vit": (160, 0.0),
    "convnext_atto": (64, 0.1),
}


def network_of(name, *, size=64, drop_path=0.0):
    torch.manual_seed(0)
    config = ModelConfig(backbone=name, dropout=(0.3,), drop_path=drop_path)
    return build_network(config, modality="rgb", stack=1, num_classes=4, crop=size).train()


def step(network, size):
    """Loss of a forward and a backward pass, and the bytes that were kept between them."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    generator = torch.Generator().manual_seed(3)
    x_BNTCHW = torch.randint(
        0, 256, (2, 2, 1, 3, size, size), dtype=torch.uint8, generator=generator
    )
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = network(x_BNTCHW).square().sum()
    loss.backward()
    return loss.detach(), sum(kept.values())


def assert_equal(one, two):
    for (name, value), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert (value.grad is None) == (other.grad is None), name
        assert value.grad is None or torch.equal(value.grad, other.grad), name
    for (name, value), other in zip(one.named_buffers(), two.buffers(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_gradients_and_statistics_are_the_same_bits_in_less_memory(name):
    size, drop_path = NETWORKS[name]
    plain = network_of(name, size=size, drop_path=drop_path)
    saving = copy.deepcopy(plain)
    assert save_memory(saving.backbone) > 2
    for number in range(2):
        loss, kept = step(plain, size)
        other_loss, other_kept = step(saving, size)
        assert torch.equal(loss, other_loss)
        assert_equal(plain, saving)
        assert other_kept < 0.6 * kept, f"{other_kept} of {kept}"
        counts = [
            int(layer.num_batches_tracked)
            for layer in saving.modules()
            if isinstance(layer, nn.BatchNorm2d)
        ]
        assert set(counts) <= {number + 1}  # once per pass, not twice
    assert saving.state_dict().keys() == plain.state_dict().keys()


def test_a_long_list_of_single_layers_is_cut_into_pieces():
    """As VGG is written: nine layers become three pieces."""
    layers = [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(3)]
    parts = [part for layer in layers for part in (layer, nn.BatchNorm2d(8), nn.ReLU(inplace=True))]
    plain = network_of("tiny")
    plain.backbone = nn.Sequential()
    plain.backbone.features = nn.Sequential(*parts)
    plain.backbone.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 32 * 32, 4))
    saving = copy.deepcopy(plain)
    assert save_memory(saving.backbone) == 2
    loss, kept = step(plain, 32)
    other_loss, other_kept = step(saving, 32)
    assert torch.equal(loss, other_loss)
    assert_equal(plain, saving)
    # The input of each piece and of the head, and the weights; six more images without it.
    assert other_kept < 0.75 * kept


def test_a_cumulative_average_of_statistics_stays_right():
    plain = network_of("tiny")
    for layer in plain.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    saving = copy.deepcopy(plain)
    save_memory(saving.backbone)
    for _ in range(3):
        assert torch.equal(step(plain, 64)[0], step(saving, 64)[0])
        assert_equal(plain, saving)
    momenta = {m.momentum for m in saving.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {None}


def test_frozen_layers_stay_frozen():
    torch.manual_seed(0)
    config = ModelConfig(backbone="resnet18", partial_bn=True, finetune_from="layer3")
    plain = build_network(config, modality="rgb", stack=1, num_classes=4).train()
    saving = copy.deepcopy(plain)
    save_memory(saving.backbone)
    before = saving.backbone.layer4[0].bn1.running_mean.clone()
    assert torch.equal(step(plain, 64)[0], step(saving, 64)[0])
    assert_equal(plain, saving)
    assert torch.equal(saving.backbone.layer4[0].bn1.running_mean, before)


def test_evaluation_copies_and_counts_are_untouched():
    plain = network_of("resnet18")
    saving = copy.deepcopy(plain)
    save_memory(saving.backbone)
    assert describe_network(saving, image_size=64) == describe_network(plain, image_size=64)
    twin = copy.deepcopy(saving)
    with torch.no_grad():
        next(saving.backbone.layer1.parameters()).zero_()
    assert torch.equal(step(twin, 64)[0], step(plain, 64)[0])  # it does not run the original
    x_BNTCHW = torch.zeros((1, 1, 1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(twin.eval()(x_BNTCHW), plain.eval()(x_BNTCHW))


def test_a_network_without_blocks_is_refused():
    with pytest.raises(UsageError, match=r"Linear is not made of blocks.*save_memory=false"):
        save_memory(nn.Linear(3, 2))


def test_a_training_is_the_same_to_the_bit(tiny_index, tmp_path):
    for value in ("false", "true"):
        config = config_of(tiny_index, *WITH_STATE, f"model.save_memory={value}")
        train(config, tmp_path / value, device="cpu")
    assert_same_files(tmp_path / "false", tmp_path / "true")
    assert figures_of(tmp_path / "false") == figures_of(tmp_path / "true")


def test_it_does_not_go_with_compiled_networks(tiny_index, tmp_path):
    config = config_of(tiny_index, "model.save_memory=true", "train.compile=true")
    with pytest.raises(UsageError, match=r"save_memory=true and train\.compile=true do not go"):
        train(config, tmp_path, device="cpu")
