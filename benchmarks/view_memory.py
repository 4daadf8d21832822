"""Peak memory of testing one long video by a protocol of many views, against one view of it.

    python benchmarks/view_memory.py [--backbone i3d_resnet50] [--protocol 10x3-256]

Makes a video of 300 frames, 340x256, and tests a network of random weights on it, each time in a
process of its own: with the protocol, with twice its clips, and with a single clip and crop of the
same size.
"""

import argparse
import multiprocessing
import resource
import tempfile
from dataclasses import replace
from multiprocessing import Queue
from pathlib import Path

import numpy as np
import torch

from kinema.config import override
from kinema.data.items import ClipItem
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Runtime
from kinema.models.network import build_network
from kinema.recipes import recipe
from kinema.video.writer import VideoWriter

FRAMES, WIDTH, HEIGHT = 300, 340, 256
MIB = 2**20


def make_video(path: Path) -> None:
    """Write the video: noise that moves slowly."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    with VideoWriter(path, fps=25, width=WIDTH, height=HEIGHT) as writer:
        for number in range(FRAMES):
            writer.write(np.roll(image, number, axis=1))


def peak(path: Path, backbone: str, protocol: Protocol, queue: "Queue[int]") -> None:
    """Put the most memory that this process held into the queue, bytes."""
    config = override(
        recipe("i3d-nl", "rgb"),
        [f"model.backbone={backbone}", "model.nonlocal_blocks=0", "data.workers=0"],
    )
    network = build_network(
        config.model, modality="rgb", stack=config.data.stack, num_classes=400, num_segments=1
    )
    item = ClipItem(id="long", path=path, label=0, num_frames=FRAMES, fps=25.0)
    settings = TestSettings(
        config=config,
        protocol=protocol,
        classes=tuple(str(i) for i in range(400)),
        show_progress=False,
    )
    evaluate(network, [item], settings, runtime=Runtime(device=torch.device("cpu")))
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Print the peaks and their ratios to that of one view."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="i3d_resnet50")
    parser.add_argument("--protocol", default="10x3-256")
    arguments = parser.parse_args()
    protocol = find_protocol(arguments.protocol)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        make_video(path)
        peaks: dict[str, int] = {}
        for name, chosen in {
            "one view": replace(protocol, num_clips=1, crops="centre"),
            protocol.name: protocol,
            "twice the clips": replace(protocol, num_clips=2 * protocol.num_clips),
        }.items():
            queue: Queue[int] = context.Queue()
            process = context.Process(target=peak, args=(path, arguments.backbone, chosen, queue))
            process.start()
            peaks[name] = queue.get()
            process.join()
            ratio = peaks[name] / peaks["one view"]
            print(f"{name:16} {chosen.num_views:3} views {peaks[name] / MIB:7.0f} MiB {ratio:.2f}x")


if __name__ == "__main__":
    main()
