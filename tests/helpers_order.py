"""Videos whose class is the order of their images alone, and a short training on them."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from helpers_data import NoiseSource, make_items
from kinema.config import override
from kinema.engine.evaluate import TestSettings
from kinema.engine.protocols import PROTOCOLS
from kinema.models.network import build_network
from kinema.recipes import recipe

NUM_IMAGES, NUM_SEGMENTS, SIDE = 20, 4, 16


class RampSource(NoiseSource):
    """Noise that becomes brighter in even videos; each odd one is the video before it, reversed."""

    height = width = SIDE

    def __init__(self, number):
        super().__init__(number // 2, num_frames=NUM_IMAGES)
        self.is_reversed = number % 2 == 1

    def image(self, index):
        place = self.num_frames - 1 - index if self.is_reversed else index
        noise = super().image(place).astype(float) - 128
        level = 40 + 175 * place / (self.num_frames - 1)
        return np.clip(level + noise / 4, 0, 255).astype(np.uint8)


def config_of(consensus, *overrides):
    return override(
        recipe("tiny", "rgb"),
        [
            f"model.consensus={consensus}",
            f"data.num_segments={NUM_SEGMENTS}",
            f"data.crop={SIDE}",
            "data.resize=none",
            *overrides,
        ],
    )


def network_of(config):
    torch.manual_seed(0)
    return build_network(
        config.model,
        modality="rgb",
        stack=1,
        num_classes=2,
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )


def settings_of(config):
    return TestSettings(
        config=config, protocol=PROTOCOLS["centre-1"], classes=("up", "down"), show_progress=False
    )


def test_items(count=32, *, first=200):
    """Videos that training does not see, in pairs."""
    return make_items(first + count, num_frames=NUM_IMAGES)[first:]


test_items.__test__ = False  # its name is no test for pytest


def train_on_order(network, *, steps, lr=3e-3, batch=16):
    """Train on middles of the segments; returns the losses."""
    rng = np.random.default_rng(0)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr)
    network.train()
    losses = []
    for _ in range(steps):
        numbers = rng.choice(100, batch, replace=False)
        clips = np.stack([RampSource(int(i)).read([2, 7, 12, 17]) for i in numbers])
        x_BNTHWC = torch.from_numpy(clips)[:, :, None]
        loss = cross_entropy(network(x_BNTHWC.movedim(-1, 3)), torch.from_numpy(numbers % 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
