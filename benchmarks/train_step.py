"""A whole training epoch, with loading and augmentation, against the bare network fed from memory.

    python benchmarks/train_step.py INDEX --flow STORE [--modality flow] [--rounds 3]
    python benchmarks/train_step.py INDEX --modality rgb --torchvision r2plus1d_18 --clips 24 \
        --recipe torchvision-video-reference train.batch_size=2

Both train the same network with the same optimiser and precision on all cores, the bare one as
Kinema builds it or, with --torchvision, as torchvision does. They take turns;
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
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

from kinema.api import with_sources
from kinema.config import Config, override
from kinema.datasets.index import Index, read_index, write_index
from kinema.engine.log import read_metrics
from kinema.engine.optim import Part, build_optimizer
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


def kinema_network(config: Config, num_classes: int) -> nn.Module:
    """Return the network of the recipe."""
    network = build_network(
        config.model,
        modality=config.data.modality,
        stack=config.data.stack,
        num_classes=num_classes,
        num_segments=config.data.num_segments,
        crop=config.data.crop,
    )
    network.channels_last()
    return network


class TorchvisionNetwork(nn.Module):
    """A network of torchvision on the same uint8 clips, one per video."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        self.network = torchvision.models.get_model(name, num_classes=num_classes)
        self.network.to(memory_format=torch.channels_last_3d)

    def forward(self, x_BNTCHW: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, K)."""
        return self.network((x_BNTCHW[:, 0].float() / 255 - 0.45).div_(0.225).transpose(1, 2))


def bare(config: Config, network: nn.Module, *, num_clips: int, num_classes: int) -> float:
    """Return the clips per second of the same steps on one batch that lies in memory."""
    data, batch = config.data, config.train.batch_size
    modality = MODALITIES[data.modality]
    network.train()
    optimizer = build_optimizer([Part(network, data.modality)], config.optim)
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


def part_of(folder: Path, num_clips: int, out: Path) -> Index:
    """Write an index of some training videos, evenly taken, and no others; returns it."""
    index = read_index(folder)
    videos = index.part("train")
    step = max(1, len(videos) // num_clips) if num_clips else 1
    smaller = replace(index, videos=videos[::step][: num_clips or None])
    write_index(smaller, out)
    return smaller


def main() -> None:
    """Print clips per second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--flow", type=Path, default=None)
    parser.add_argument("--recipe", default="scratch")
    parser.add_argument("--modality", default="flow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torchvision", default="", help="network of torchvision to compare with")
    parser.add_argument("--clips", type=int, default=0, help="training videos used; 0: all")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        index = part_of(arguments.index, arguments.clips, Path(folder))
        config = recipe(arguments.recipe, arguments.modality)
        config = with_sources(config, Path(folder), flow_store=arguments.flow)
        config = override(config, arguments.overrides)
        num_clips, num_classes = len(index.part("train")), len(index.classes)
        wholes, bares, firsts = [], [], []
        for _ in range(arguments.rounds):
            if arguments.torchvision:
                network: nn.Module = TorchvisionNetwork(arguments.torchvision, num_classes)
            else:
                network = kinema_network(config, num_classes)
            bares.append(bare(config, network, num_clips=num_clips, num_classes=num_classes))
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
