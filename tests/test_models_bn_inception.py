import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import KinemaError
from kinema.models import bn_inception
from kinema.models.bn_inception import BNInception


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_bn_inception_has_the_grids_of_the_paper():
    with torch.device("meta"):
        network = BNInception(in_channels=3, num_classes=1000)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, module in network.named_modules():
            module.register_forward_hook(
                lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
            )
        features = network.forward_features(torch.zeros(1, 3, 224, 224))
    assert count(network) - count(network.fc) == 10_270_240
    assert features.shape == (1, 1024, 7, 7)
    assert shapes["conv1_7x7_s2"] == (64, 112, 112)
    assert shapes["conv2_3x3"] == (192, 56, 56)
    assert shapes["inception_3c_double_3x3_2"] == (96, 14, 14)
    assert shapes["inception_4e_3x3"] == (192, 7, 7)
    inputs = {"3a": 192, "3b": 256, "3c": 320, "4a": 576, "4b": 576, "4c": 576, "4d": 608}
    inputs |= {"4e": 608, "5a": 1056, "5b": 1024}
    for block, channels in inputs.items():
        layer = network.get_submodule(f"inception_{block}_3x3_reduce")
        assert layer.in_channels == channels
    assert not hasattr(network, "inception_3c_1x1")
    assert not hasattr(network, "inception_4e_pool_proj")
    # 69 convolutions with BatchNorm and one classifier: as many layers as in the Caffe model.
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 69
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 69


def test_bn_inception_pools_as_caffe():
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    # ceil((6 - 3) / 2) + 1 = 3: the last window hangs over the border.
    assert bn_inception._halve(x)[0, 0].tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]


def test_bn_inception_refuses_sides_that_do_not_fit():
    with torch.device("meta"), pytest.raises(KinemaError, match=r"multiple of 32, such as 224"):
        BNInception(in_channels=3, num_classes=2)(torch.zeros(1, 3, 299, 299))


def unit(network: BNInception, name: str, x: Tensor) -> Tensor:
    """Convolution, BatchNorm and ReLU from the formulas, with the tensors of the Caffe names."""
    state = network.state_dict()
    weight = state[f"{name}.weight"]
    stride = 2 if name in ("inception_3c_3x3", "inception_3c_double_3x3_2") else 1
    y = functional.conv2d(x, weight, state[f"{name}.bias"], stride, weight.shape[-1] // 2)
    mean, var, scale, shift = (
        state[f"{name}_bn.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((y - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)


def chain(network: BNInception, prefix: str, names: str, x: Tensor) -> Tensor:
    for name in names.split():
        x = unit(network, f"inception_{prefix}_{name}", x)
    return x


def block_output(network: BNInception, name: str, x: Tensor) -> Tensor:
    (block,) = [block for block in bn_inception._BLOCKS if block.name == name]
    with torch.no_grad():
        return network.run_block(block, x)


@pytest.fixture(scope="module")
def network() -> BNInception:
    torch.manual_seed(0)
    network = BNInception(in_channels=3, num_classes=2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network.eval()


def test_bn_inception_concatenates_1x1_3x3_double_pool(network: BNInception):
    x = torch.rand(1, 192, 8, 8)
    pooled = functional.conv2d(
        functional.pad(x, (1, 1, 1, 1)), torch.full((192, 1, 3, 3), 1 / 9), groups=192
    )
    wanted = [
        chain(network, "3a", "1x1", x),
        chain(network, "3a", "3x3_reduce 3x3", x),
        chain(network, "3a", "double_3x3_reduce double_3x3_1 double_3x3_2", x),
        chain(network, "3a", "pool_proj", pooled),
    ]
    torch.testing.assert_close(block_output(network, "3a", x), torch.cat(wanted, 1))


def test_bn_inception_halves_without_1x1_and_projection(network: BNInception):
    x = torch.rand(1, 320, 8, 8)
    wanted = [
        chain(network, "3c", "3x3_reduce 3x3", x),
        chain(network, "3c", "double_3x3_reduce double_3x3_1 double_3x3_2", x),
        functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, stride=2),
    ]
    torch.testing.assert_close(block_output(network, "3c", x), torch.cat(wanted, 1))


def test_bn_inception_ends_with_max_pooling(network: BNInception):
    x = torch.rand(1, 1024, 4, 4)
    wanted = chain(network, "5b", "pool_proj", functional.max_pool2d(x, 3, 1, 1))
    torch.testing.assert_close(block_output(network, "5b", x)[:, -128:], wanted)
