"""Stored flow against pairs of JPEG files: bytes, error, and random stacks of ten on one core.

    python benchmarks/loader_flow.py FOLDER_OF_VIDEOS [--videos N] [--pairs N] [--quality standard]

Both forms hold the same encoded flow (DIS, bound 20). A stack is ten neighbouring pairs from a
random place of a random video, opened anew each time: one store, or twenty JPEG files of quality
95 read by OpenCV. The two take turns; times are CPU seconds of this one-threaded process.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import DEFAULT_BOUND, encode
from kinema.flow.store import FlowStore, FlowWriter, Quality
from kinema.video.reader import VideoReader

STACK_PAIRS = 10
PIXELS_PER_LEVEL = DEFAULT_BOUND / 127
JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The flow of one video in both forms, with what they cost."""

    store: Path
    jpegs: Path
    num_pairs: int
    store_bytes: int
    jpeg_bytes: int
    store_error: float  # mean absolute difference to the encoded flow, pixels per frame
    jpeg_error: float


def make_sample(video: Path, out: Path, *, pairs: int, quality: Quality = "standard") -> Sample:
    """Store the flow of the first `pairs` pairs of a video in both forms."""
    with closing(VideoReader(video)) as reader:
        gray_THW = gray_from_rgb(np.stack(list(islice(reader.stream(), pairs + 1))))
    encoded_THW2 = encode(compute(gray_THW, algorithm="dis"))
    store, jpegs = out / f"{video.stem}.mp4", out / video.stem
    height, width = gray_THW.shape[1:]
    with FlowWriter(store, width=width, height=height, metadata={}, quality=quality) as writer:
        for pair_HW2 in encoded_THW2:
            writer.write(pair_HW2)
    jpegs.mkdir()
    for index, pair_HW2 in enumerate(encoded_THW2):
        for component, name in enumerate("xy"):
            image = np.ascontiguousarray(pair_HW2[..., component])
            flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(jpegs / f"{name}_{index:05d}.jpg"), image, flags)
    everything = range(len(encoded_THW2))
    return Sample(
        store=store,
        jpegs=jpegs,
        num_pairs=len(encoded_THW2),
        store_bytes=store.stat().st_size,
        jpeg_bytes=sum(item.stat().st_size for item in jpegs.iterdir()),
        store_error=mean_error(FlowStore(store).read(everything), encoded_THW2),
        jpeg_error=mean_error(read_jpegs(jpegs, everything), encoded_THW2),
    )


def mean_error(found: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference in pixels per frame."""
    return float(np.abs(found.astype(np.int16) - right).mean()) * PIXELS_PER_LEVEL


def read_jpegs(folder: Path, indices: range) -> NDArray[np.uint8]:
    """Read pairs of JPEG files as the older systems do, into planar memory."""
    planes = [
        cv2.imread(str(folder / f"{name}_{index:05d}.jpg"), cv2.IMREAD_GRAYSCALE)
        for index in indices
        for name in "xy"
    ]
    pairs_T2HW = np.stack(planes).reshape(len(indices), 2, *planes[0].shape)
    return np.moveaxis(pairs_T2HW, 1, 3)


def time_stacks(samples: list[Sample], *, stacks: int, seed: int = 0) -> tuple[float, float]:
    """Return the CPU seconds for `stacks` random stacks from the stores and from the JPEGs."""
    rng = np.random.default_rng(seed)
    usable = [item for item in samples if item.num_pairs >= STACK_PAIRS]
    seconds = [0.0, 0.0]
    for turn in range(stacks):
        sample = usable[rng.integers(len(usable))]
        start = int(rng.integers(sample.num_pairs - STACK_PAIRS + 1))
        indices = range(start, start + STACK_PAIRS)
        for form in (turn % 2, 1 - turn % 2):
            started = time.process_time()
            if form == 0:
                FlowStore(sample.store).read(indices)
            else:
                read_jpegs(sample.jpegs, indices)
            seconds[form] += time.process_time() - started
    return seconds[0], seconds[1]


def rows(samples: list[Sample], *, stacks: int = 400, rounds: int = 5) -> Iterator[str]:
    """Yield the lines of the result."""
    pairs = sum(item.num_pairs for item in samples)
    store_bytes = sum(item.store_bytes for item in samples) / pairs
    jpeg_bytes = sum(item.jpeg_bytes for item in samples) / pairs
    yield f"{len(samples)} videos, {pairs} pairs"
    yield f"{'':8}{'bytes/pair':>12}{'mean error px':>15}{'worst video px':>16}{'clips/s':>10}"
    timed = [time_stacks(samples, stacks=stacks, seed=seed) for seed in range(rounds)]
    ratios = sorted(jpeg / store for store, jpeg in timed)
    for name, number, size in (("store", 0, store_bytes), ("jpeg", 1, jpeg_bytes)):
        errors = [(item.store_error, item.jpeg_error)[number] for item in samples]
        weights = [item.num_pairs for item in samples]
        mean = np.average(errors, weights=weights)
        rate = stacks * rounds / sum(item[number] for item in timed)
        yield f"{name:8}{size:12.0f}{mean:15.4f}{max(errors):16.4f}{rate:10.0f}"
    yield f"bytes: store / jpeg = 1 / {jpeg_bytes / store_bytes:.2f}"
    yield (
        f"clips/s: store / jpeg = {ratios[rounds // 2]:.2f} "
        f"(median of {rounds} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def main() -> None:
    """Measure a folder of videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=0, help="how many, evenly taken; 0: all")
    parser.add_argument("--pairs", type=int, default=80, help="at most, of each video")
    parser.add_argument("--quality", choices=("standard", "lossless"), default="standard")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    videos = sorted(item for item in arguments.folder.rglob("*") if item.suffix in (".avi", ".mp4"))
    if arguments.videos:
        videos = videos[:: max(1, len(videos) // arguments.videos)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        samples = [
            make_sample(item, out, pairs=arguments.pairs, quality=arguments.quality)
            for item in videos
        ]
        for line in rows(samples):
            print(line)


if __name__ == "__main__":
    main()
