"""Learning rates against torch's schedulers, parameter groups, plateaus and averaged weights."""

import warnings

import pytest
import torch
import torchvision
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import lr_scheduler

from kinema.config import ModelConfig, OptimConfig
from kinema.engine.optim import (
    Average,
    Part,
    Plateau,
    build_optimizer,
    current_rate,
    layer_scales,
    learning_rate,
    parameter_groups,
    set_rate,
)
from kinema.errors import UsageError
from kinema.models.network import build_network

STEPS, EPOCHS = 7, 12


def rates(config, *, epochs=EPOCHS, steps=STEPS):
    return [
        learning_rate(config, step=i, steps_per_epoch=steps, epochs=epochs)
        for i in range(steps * epochs)
    ]


def torch_rates(make_scheduler, *, lr, count, every=1):
    """The rates at which a torch optimiser steps, with one scheduler step per `every` of them."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make_scheduler(optimizer)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(count):
            found.append(optimizer.param_groups[0]["lr"])
            if (i + 1) % every == 0 and i + 1 < count:
                scheduler.step()
    return found


@pytest.mark.parametrize("epochs", [1, 3, 12])
def test_onecycle_is_that_of_torch_at_every_step(epochs):
    total = STEPS * epochs
    expected = torch_rates(
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.02, total_steps=total), lr=0.02, count=total
    )
    found = rates(OptimConfig(lr=0.02, schedule="onecycle"), epochs=epochs)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert max(found) <= 0.02


def test_cosine_is_that_of_torch_at_every_step():
    total = STEPS * EPOCHS
    found = rates(OptimConfig(lr=0.1, schedule="cosine", min_lr=0.003))
    expected = torch_rates(
        lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=total, eta_min=0.003), lr=0.1, count=total
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_multistep_is_that_of_torch_at_every_step():
    found = rates(OptimConfig(lr=0.1, schedule="multistep", milestones=(4, 9), gamma=0.2))
    expected = torch_rates(
        lambda o: lr_scheduler.MultiStepLR(o, milestones=[4, 9], gamma=0.2),
        lr=0.1,
        count=STEPS * EPOCHS,
        every=STEPS,
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[4 * STEPS - 1 : 4 * STEPS + 1] == pytest.approx([0.1, 0.02])


@pytest.mark.parametrize("schedule", ["constant", "plateau", "multistep", "cosine", "onecycle"])
def test_the_warm_up_is_a_line_that_the_schedule_follows(schedule):
    config = OptimConfig(lr=0.08, schedule=schedule, milestones=(5,), warmup_epochs=1.0)
    found = rates(config)
    assert found[:STEPS] == pytest.approx([0.08 * (i + 1) / 8 for i in range(STEPS)])
    if schedule in ("cosine", "onecycle"):  # the rest is a whole schedule of the rest's length
        plain = OptimConfig(lr=0.08, schedule=schedule)
        assert found[STEPS:] == pytest.approx(rates(plain, epochs=EPOCHS - 1))
    if schedule == "multistep":  # epochs are counted from the start
        assert found[5 * STEPS - 1 : 5 * STEPS + 1] == pytest.approx([0.08, 0.008])
    if schedule in ("constant", "plateau"):
        assert set(found[STEPS:]) == {0.08}


def test_half_an_epoch_of_warm_up_rounds_to_whole_steps():
    config = OptimConfig(lr=1.0, schedule="constant", warmup_epochs=0.5)
    assert rates(config)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # round(3.5) = 4 steps


def test_the_plateau_is_that_of_torch_and_goes_on_from_its_state():
    config = OptimConfig(lr=0.1, schedule="plateau", patience=2, gamma=0.3, min_lr=0.002)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.3, min_lr=0.002)
    generator = torch.Generator().manual_seed(2)
    losses = (1 + 0.2 * torch.rand(60, generator=generator)).tolist()
    losses[3:6] = [0.9, 0.89995, 0.8998]  # less than 1e-4 better does not count
    plateau = Plateau(config)
    for loss in losses:
        scheduler.step(loss)
        plateau.update(loss)
        copy = Plateau(config)
        copy.load_state_dict(plateau.state_dict())
        plateau = copy
        assert 0.1 * plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
    assert 0.1 * plateau.factor == pytest.approx(0.002)


def test_other_schedules_have_no_plateau():
    plateau = Plateau(OptimConfig(schedule="cosine", patience=0))
    for _ in range(5):
        plateau.update(1.0)
    assert plateau.factor == 1.0


def network_of(modality="rgb", **model):
    stack = 1 if modality == "rgb" else 5
    config = ModelConfig(**{"backbone": "bn_inception", "dropout": (), **model})
    return build_network(config, modality=modality, stack=stack, num_classes=4)


def groups_by_name(network, config, modality):
    """(scale, decay) of every parameter that is trained."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {}
    for group in parameter_groups(network, config, modality=modality):
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["scale"], group["weight_decay"])
    return found


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_the_groups_of_tsn_pytorch(modality):
    network = network_of(modality)
    found = groups_by_name(network, OptimConfig(groups="tsn", weight_decay=5e-4), modality)
    assert found.keys() == dict(network.named_parameters()).keys()
    first = 5.0 if modality == "flow" else 1.0
    seen = {"first": 0, "weight": 0, "bias": 0, "norm": 0}
    for name, (scale, decay) in found.items():
        module = network.get_submodule(name.rpartition(".")[0])
        is_bias = name.endswith("bias")
        if isinstance(module, nn.BatchNorm2d):
            kind, expected = "norm", (1.0, 0.0)
        elif "conv1_7x7" in name and isinstance(module, nn.Conv2d):
            kind, expected = "first", (2 * first, 0.0) if is_bias else (first, 5e-4)
        elif is_bias:
            kind, expected = "bias", (2.0, 0.0)
        else:
            kind, expected = "weight", (1.0, 5e-4)
        assert (scale, decay) == expected, name
        seen[kind] += 1
    assert seen == {"first": 2, "weight": 69, "bias": 69, "norm": 138}


def test_groups_without_decay_for_biases_and_norms():
    network = network_of(backbone="test_efficientnet_ln")
    found = groups_by_name(network, OptimConfig(groups="no-decay", weight_decay=0.05), "rgb")
    norms = {n for n, m in network.named_modules() if isinstance(m, nn.LayerNorm)}
    assert len(norms) > 5
    for name, (scale, decay) in found.items():
        module, _, kind = name.rpartition(".")
        assert scale == 1.0
        assert decay == (0.0 if kind == "bias" or module in norms else 0.05), name


def test_plain_groups_are_one():
    groups = list(parameter_groups(network_of(backbone="tiny"), OptimConfig(), modality="flow"))
    assert [(g["scale"], g["weight_decay"]) for g in groups] == [(1.0, 5e-4)]


@pytest.mark.parametrize("groups", ["plain", "no-decay", "tsn"])
def test_frozen_batch_norms_are_in_no_group(groups):
    network = network_of(partial_bn=True).train()
    found = groups_by_name(network, OptimConfig(groups=groups), "rgb")
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert len(frozen) == 2 * 68  # of 69 BatchNorms, all but the first
    assert found.keys() == dict(network.named_parameters()).keys() - frozen


def test_layer_decay_by_hand():
    """tiny: four blocks, then the classifier; pooling and dropout have no parameters."""
    network = network_of(backbone="tiny")
    scales = layer_scales(network, 0.5)
    expected = {f"features.{i}": 0.5 ** (4 - i) for i in range(4)} | {"fc": 1.0}
    assert scales.keys() == {name for name, _ in network.named_parameters()}
    for name, scale in scales.items():
        layer = next(key for key in expected if name.startswith(f"backbone.{key}."))
        assert scale == pytest.approx(expected[layer]), name
    assert layer_scales(network, 1.0) == {}


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resnet18", "resnet50"])
def test_layer_decay_is_that_of_timm(backbone):
    network = network_of(backbone=backbone)
    groups = param_groups_layer_decay(network.backbone, layer_decay=0.75)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    theirs = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    ours = layer_scales(network, 0.75)
    assert ours.keys() == theirs.keys()
    for name, scale in theirs.items():
        assert ours[name] == pytest.approx(scale), name
    layers = {"vit_tiny_patch16_224": 12, "resnet18": 8, "resnet50": 16}[backbone]
    assert min(ours.values()) == pytest.approx(0.75 ** (layers + 1))  # those, then the classifier


def test_layer_decay_on_a_network_of_torchvision():
    network = nn.Module()
    network.backbone = torchvision.models.resnet18(num_classes=5)
    network.consensus = nn.Linear(5, 5)
    scales = layer_scales(network, 0.9)
    assert scales["backbone.conv1.weight"] == scales["backbone.bn1.bias"] == 0.9**9
    assert scales["backbone.layer1.0.conv1.weight"] == pytest.approx(0.9**8)
    assert scales["backbone.layer2.0.downsample.1.weight"] == pytest.approx(0.9**6)
    assert scales["backbone.layer4.1.bn2.weight"] == pytest.approx(0.9)
    assert scales["backbone.fc.bias"] == 1.0
    found = groups_by_name(network, OptimConfig(layer_decay=0.9), "rgb")
    assert found["consensus.weight"] == (1.0, 5e-4)
    assert found["backbone.conv1.weight"] == (pytest.approx(0.9**9), 5e-4)


@pytest.mark.parametrize("groups", ["plain", "no-decay", "tsn"])
def test_layer_decay_multiplies_the_rates_of_the_groups(groups):
    network = network_of("flow", backbone="resnet18")
    plain = groups_by_name(network, OptimConfig(groups=groups), "flow")
    scales = layer_scales(network, 0.75)
    both = groups_by_name(network, OptimConfig(groups=groups, layer_decay=0.75), "flow")
    for name, (scale, decay) in plain.items():
        assert both[name] == (pytest.approx(scale * scales[name]), decay), name
    if groups == "tsn":
        assert both["backbone.conv1.weight"][0] == pytest.approx(5 * 0.75**9)
    optimizer = build_optimizer(
        [Part(network, "flow")], OptimConfig(groups=groups, layer_decay=0.75)
    )
    set_rate(optimizer, 0.002)
    assert current_rate(optimizer) == pytest.approx(0.002)
    assert max(group["lr"] for group in optimizer.param_groups) <= 0.002 * 2.0001


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.2])
def test_other_layer_decays_are_refused(decay):
    with pytest.raises(UsageError, match=r"layer_decay=.*above 0 and at most 1"):
        layer_scales(network_of(backbone="tiny"), decay)


def test_rates_are_shared_out_by_the_groups():
    config = OptimConfig(groups="tsn", lr=0.01, momentum=0.8, dampening=0.1)
    optimizer = build_optimizer([Part(network_of("flow"), "flow")], config)
    set_rate(optimizer, 0.002)
    assert {group["lr"] / 0.002 for group in optimizer.param_groups} == {5.0, 10.0, 1.0, 2.0}
    assert current_rate(optimizer) == pytest.approx(0.002)
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert optimizer.param_groups[0]["dampening"] == 0.1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimisers_by_name(name, kind):
    config = OptimConfig(name=name, lr=0.5, momentum=0.7, nesterov=name == "sgd")
    optimizer = build_optimizer([Part(network_of(backbone="tiny"), "rgb")], config)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert group["nesterov"] if name == "sgd" else group["betas"] == (0.7, 0.999)


def test_the_average_follows_its_formula_and_swaps_back():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = Average(network, 0.9)
    expected = {k: v.clone() for k, v in network.state_dict().items() if v.is_floating_point()}
    for _ in range(5):
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.add_(torch.randn_like(value))
        average.update(network)
        for name, value in expected.items():
            value.mul_(0.9).add_(network.state_dict()[name], alpha=0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    average.swap(network)
    for name, value in expected.items():
        torch.testing.assert_close(network.state_dict()[name], value)
        assert torch.equal(average.values[name], before[name])
    average.swap(network)
    assert len(expected) == 6  # with the statistics of BatchNorm, without its counter
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())
