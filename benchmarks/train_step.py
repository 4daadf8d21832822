"""A whole training epoch, with loading and augmentation, against the bare network fed from memory.

    python benchmarks/train_step.py INDEX --flow STORE [--modality flow] [--rounds 3]

Both train the same network with the same optimiser and precision on all cores. They take turns;
the first epoch of each training is left out where it fills the cache of decoded images (it is
printed on its own). The last lines give the medians and their ratio.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from kinema.api import with_sources
from kinema.config import Config, override
from kinema.datasets.index import read_index
from kinema.engine.log import read_metrics
from kinema.engine.optim import build_optimizer
from kinema.engine.runtime import runtime
from kinema.engine.train import train
from kinema.models.modality import MODALITIES
from kinema.models.network import build_network
from kinema.recipes import recipe

EPOCHS = 3


def whole(config: Config) -> list[float]:
    """Return the clips per second of each epoch of a short training, validation left out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train(replace(config, train=replace(config.train, epochs=EPOCHS)), out)
        return [line["clips_per_second"] for line in read_metrics(out / "metrics.jsonl")]


def bare(config: Config, num_clips: int, num_classes: int) -> float:
    """Return the clips per second of the same steps on one batch that lies in memory."""
    data, batch = config.data, config.train.batch_size
    modality = MODALITIES[data.modality]
    network = build_network(
        config.model,
        modality=data.modality,
        stack=data.stack,
        num_classes=num_classes,
        num_segments=data.num_segments,
    )
    network.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(network, config.optim, modality=data.modality)
    images, channels = modality.images_read(data.stack), modality.channels_per_image
    shape = (batch, data.num_segments, images, channels, data.crop, data.crop)
    x_BNTCHW = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels_B = torch.randint(0, num_classes, (batch,))
    steps = -(-num_clips // batch)
    with runtime(precision=config.train.precision, threads=config.train.threads) as place:
        for step in range(steps + 1):
            if step == 1:  # the first one is the warm-up
                started = time.monotonic()
            with place.autocast():
                logits_BK = network(x_BNTCHW)
            cross_entropy(logits_BK.float(), labels_B).backward()
            if config.optim.clip_norm:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return steps * batch / (time.monotonic() - started)


def main() -> None:
    """Print clips per second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--flow", type=Path, default=None)
    parser.add_argument("--recipe", default="scratch")
    parser.add_argument("--modality", default="flow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    config = recipe(arguments.recipe, arguments.modality)
    config = with_sources(config, arguments.index, flow_store=arguments.flow)
    config = override(config, arguments.overrides)
    index = read_index(arguments.index)
    num_clips = len(index.part("train"))
    wholes, bares, firsts = [], [], []
    for _ in range(arguments.rounds):
        bares.append(bare(config, num_clips, len(index.classes)))
        first, *later = whole(config)
        firsts.append(first)
        wholes.append(statistics.median(later))
    ratios = [a / b for a, b in zip(wholes, bares, strict=True)]
    print(f"{arguments.recipe} {arguments.modality}, {num_clips} clips, clips/s, medians")
    print(f"first epoch  {statistics.median(firsts):8.1f}")
    print(f"whole epoch  {statistics.median(wholes):8.1f}")
    print(f"bare network {statistics.median(bares):8.1f}")
    print(f"whole / bare {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
