"""Freezing a part of a network: what is before a layer, and that training leaves it as it is."""

import pytest
import torch
from torch import nn

from kinema.config import ModelConfig, override
from kinema.errors import UsageError
from kinema.models.backbones import create_backbone
from kinema.models.freezing import layer_depths, part_before
from kinema.models.network import build_network


def network_with(*overrides):
    model = override(ModelConfig(dropout=(0.5,)), overrides)
    torch.manual_seed(0)
    return build_network(model, modality="rgb", stack=1, num_classes=3)


def trained_names(network):
    return {name for name, value in network.named_parameters() if value.requires_grad}


def one_step(network):
    """Take one step of SGD and return what changed, buffers included."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network.train()
    x_BNTCHW = torch.randint(0, 256, (4, 1, 1, 3, 32, 32), dtype=torch.uint8)
    nn.functional.cross_entropy(network(x_BNTCHW), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    return {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }


def test_finetuning_from_a_layer_leaves_everything_before_it():
    changed = one_step(network_with("backbone=resnet18", "finetune_from=layer4"))
    assert {name.split(".")[1] for name in changed} == {"layer4", "fc"}
    assert "backbone.layer4.1.bn2.running_mean" in changed


def test_finetuning_from_a_block_inside_a_layer():
    network = network_with("backbone=resnet18", "finetune_from=layer4.1")
    blocks = {tuple(name.split(".")[1:3]) for name in trained_names(network)}
    assert blocks == {("layer4", "1"), ("fc", "weight"), ("fc", "bias")}


def test_finetuning_only_the_head_of_a_transformer_freezes_its_embeddings():
    network = network_with("backbone=vit_tiny_patch16_224", "finetune_from=head")
    assert trained_names(network) == {"backbone.head.weight", "backbone.head.bias"}


def test_frozen_batch_norms_keep_statistics_and_parameters():
    changed = one_step(network_with("backbone=resnet18", "freeze_bn=true"))
    assert changed and not any("bn" in name or "downsample.1" in name for name in changed)
    partial = one_step(network_with("backbone=resnet18", "partial_bn=true"))
    assert {name for name in partial if "bn" in name} == {
        f"backbone.bn1.{part}"
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer5", r"there is no layer 'layer5'\. Did you mean 'layer[1-4]'\? Choose one of conv1"),
        ("layer4.7", r"there is no layer '7' in layer4.* Choose one of 0, 1\."),
    ],
)
def test_unknown_layers(layer, message):
    with pytest.raises(UsageError, match=message):
        network_with("backbone=resnet18", f"finetune_from={layer}")


def test_what_is_before_a_layer():
    backbone = create_backbone("resnet18", num_classes=3)
    modules, parameters = part_before(backbone, "layer1")
    assert [type(m).__name__ for m in modules] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert parameters == ()


def test_depths_of_a_transformer_count_embeddings_as_the_input():
    depths = layer_depths(create_backbone("vit_tiny_patch16_224", num_classes=3))
    assert {depths[name] for name in ("cls_token", "pos_embed", "patch_embed.proj.weight")} == {0}
    assert [depths[f"blocks.{i}.attn.qkv.weight"] for i in range(12)] == list(range(1, 13))
    assert (depths["norm.weight"], depths["head.weight"]) == (13, 14)


def test_depths_of_a_resnet_follow_its_blocks():
    depths = layer_depths(create_backbone("resnet18", num_classes=3))
    assert (depths["conv1.weight"], depths["bn1.weight"]) == (0, 1)
    assert [depths[f"layer{i}.{j}.conv1.weight"] for i in range(1, 5) for j in (0, 1)] == [
        2, 3, 4, 5, 6, 7, 8, 9,
    ]  # fmt: skip
    assert depths["fc.bias"] == 10


def test_depths_of_a_trunk_around_a_list_of_blocks():
    """As in networks of transformers: the trunk is not one layer."""

    class Trunk(nn.Module):
        def __init__(self):
            super().__init__()
            self.embeddings = nn.Linear(2, 2)
            self.encoder = nn.Module()
            self.encoder.layer = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))

    network = nn.Module()
    network.trunk, network.fc = Trunk(), nn.Linear(2, 2)
    depths = layer_depths(network)
    names = ["trunk.embeddings", *(f"trunk.encoder.layer.{i}" for i in range(3)), "fc"]
    assert [depths[f"{name}.weight"] for name in names] == [0, 1, 2, 3, 4]
