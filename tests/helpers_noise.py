"""Videos of noise without files, and what is needed to test networks on them."""

import torch

from helpers_data import NoiseSource, make_items
from kinema.config import override
from kinema.engine.evaluate import TestSettings
from kinema.models.network import build_network
from kinema.recipes import recipe

CLASSES = tuple("abcde")
NUM_CLASSES, NUM_IMAGES = len(CLASSES), 60


def source(number, spec):
    """A video of 60 images of 64x48 pixels."""
    channels = 3 if spec.stream == "rgb" else 2
    return NoiseSource(number, num_frames=NUM_IMAGES, channels=channels)


def items_of(num=3):
    return make_items(num, num_frames=NUM_IMAGES, labels=NUM_CLASSES)


def settings_of(protocol, *overrides, modality="rgb", **options):
    config = override(recipe("tiny", modality), ["data.crop=24", *overrides])
    return TestSettings(
        config=config, protocol=protocol, classes=CLASSES, show_progress=False, **options
    )


def network_of(settings):
    """A network whose output depends on its input, although it was never trained."""
    config = settings.config
    torch.manual_seed(3)
    network = build_network(
        config.model,
        modality=config.data.modality,
        stack=config.data.stack,
        num_classes=NUM_CLASSES,
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 2, 4)
    return network.eval()
