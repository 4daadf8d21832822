"""The size of a network in numbers: parameters and multiply-adds."""

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from kinema.config import ModelConfig
from kinema.models.network import build_network
from kinema.models.video_network import VideoNetwork


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """`multiply_adds` are those of the convolutions and matrix products for one snippet."""

    parameters: int
    trainable: int
    multiply_adds: int


def describe_network(network: VideoNetwork, *, image_size: int) -> NetworkSize:
    """Count without computing: a copy runs on torch's meta device with `image_size` pixels.

    A network that sees several snippets together is counted with all of them.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    shape = (1, network.joined, *network.snippet_shape, image_size, image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.zeros(shape, dtype=torch.uint8, device="meta"))
    return NetworkSize(
        parameters=sum(p.numel() for p in network.parameters()),
        trainable=sum(p.numel() for p in network.parameters() if p.requires_grad),
        multiply_adds=counter.get_total_flops() // 2 // network.joined,
    )


def meta_size(name: str, *, frames: int, size: int, num_classes: int) -> NetworkSize:
    """Count a network for RGB by its name, without memory for its weights.

    Args:
        name: a backbone.
        frames: images per snippet.
        size: their side, pixels.
        num_classes: outputs.
    """
    config = ModelConfig(backbone=name, dropout=())
    with torch.device("meta"):
        network = build_network(
            config, modality="rgb", stack=frames, num_classes=num_classes, crop=size
        )
        return describe_network(network, image_size=size)
