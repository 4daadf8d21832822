"""The size of a network in numbers: parameters and multiply-adds."""

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from kinema.models.network import SnippetNetwork


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """`multiply_adds` are those of the convolutions and matrix products for one snippet."""

    parameters: int
    trainable: int
    multiply_adds: int


def describe_network(network: SnippetNetwork, *, image_size: int) -> NetworkSize:
    """Count without computing: a copy runs on torch's meta device with `image_size` pixels."""
    shadow = copy.deepcopy(network).to("meta").eval()
    images = network.modality.images_read(network.stack)
    shape = (1, 1, images, network.modality.channels_per_image, image_size, image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.zeros(shape, dtype=torch.uint8, device="meta"))
    return NetworkSize(
        parameters=sum(p.numel() for p in network.parameters()),
        trainable=sum(p.numel() for p in network.parameters() if p.requires_grad),
        multiply_adds=counter.get_total_flops() // 2,
    )
