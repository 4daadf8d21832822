"""A MotionNet that was trained without labels: how near to TV-L1, to ground truth, and how fast?

    kinema train-motion INDEX -o RUN
    python benchmarks/flow_motionnet.py INDEX RUN/last.safetensors GROUND_TRUTH

Distance: the mean end-point difference to TV-L1 on pairs of the index's test videos, which the
training has not seen, in proportion to that of zero flow; to `tvl1`, whose pyramid ends at two
fifths of the size as OpenCV's does, and to `tvl1-fast`, whose own ends at a sixteenth. Ground
truth: a folder per scene with frame10.png, frame11.png and flow10.flo (Middlebury). Speed: `kinema
flow` on some of these videos (decoding, flow, writing), each algorithm in turn.
"""

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flow_tvl1 import UNKNOWN, distance, print_row, read_flo
from kinema.datasets.index import Video, read_index
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.extract import extract_flow
from kinema.flow.job import FlowJob, FlowOptions
from kinema.video.segment import open_segment

SIZE = (240, 320)  # height and width of the frames
WORST = 4  # pairs that are shown one by one
SMALLEST = 0.05  # pixels: what a pair's zero flow is off counts as so much at least
REFERENCES = ("tvl1", "tvl1-fast")
LEVELS = (0, 0.25, 1, 3, 8, 1000)  # pixels of TV-L1's motion, for the table by motion


def pairs_of(video: Video, num_pairs: int) -> NDArray[np.uint8]:
    """Return gray pairs of frames (P, 2, H, W) from all over a video."""
    with closing(open_segment(video.path, video.segment)) as frames:
        firsts = np.linspace(0, frames.num_frames - 2, num_pairs + 2)[1:-1].astype(int)
        read = frames.read([int(i) for first in firsts for i in (first, first + 1)])
    return gray_from_rgb(read, size=SIZE).reshape(num_pairs, 2, *SIZE)


@dataclass(frozen=True)
class Comparison:
    """What was found in pairs of frames, P of them.

    Attributes:
        videos: index of each pair's video, (P,).
        errors: mean difference to the reference of zero flow, MotionNet and DIS, pixels, (P, 3).
        left: grey difference that the warp by zero flow, the reference, MotionNet and DIS leaves,
            (P, 4).
        motion: length of the reference's flow in a sixteenth of all pixels.
        missed: MotionNet's difference to it there.
    """

    videos: NDArray[np.int64]
    errors: NDArray[np.float64]
    left: NDArray[np.float64]
    motion: NDArray[np.float32]
    missed: NDArray[np.float32]


def compared(videos: list[Video], weights: str, num_pairs: int) -> dict[str, Comparison]:
    """Compute flow of pairs of all videos, and compare it with every reference."""
    pairs: dict[str, list[Comparison]] = {name: [] for name in REFERENCES}
    for row, video in enumerate(videos):
        for pair in pairs_of(video, num_pairs):
            found = compute(pair, algorithm="motionnet", weights=weights)[0]
            dis = compute(pair, algorithm="dis")[0]
            zero = np.zeros_like(found)
            for name in REFERENCES:
                target = compute(pair, algorithm=name)[0]
                maps = [distance(flow, target) for flow in (zero, found, dis)]
                left = [after_warp(pair, flow) for flow in (zero, target, found, dis)]
                one = Comparison(
                    videos=np.array([row]),
                    errors=np.array([[item.mean() for item in maps]]),
                    left=np.array([left]),
                    motion=maps[0][::4, ::4].ravel(),
                    missed=maps[1][::4, ::4].ravel(),
                )
                pairs[name].append(one)
    return {name: joined(items) for name, items in pairs.items()}


def joined(items: list[Comparison]) -> Comparison:
    """Return what was found in all pairs of several comparisons."""
    return Comparison(
        **{
            field.name: np.concatenate([getattr(item, field.name) for item in items])
            for field in fields(Comparison)
        }
    )


def after_warp(pair_2HW: NDArray[np.uint8], flow_2HW: NDArray[np.float32]) -> float:
    """Return the mean difference of the frames after the warp, where it stays in the picture."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    u, v = x + flow_2HW[0], y + flow_2HW[1]
    seen = cv2.remap(pair_2HW[1], u, v, cv2.INTER_LINEAR).astype(np.float32)
    inside = (u >= 0) & (u <= SIZE[1] - 1) & (v >= 0) & (v <= SIZE[0] - 1)
    return float(np.abs(seen - pair_2HW[0])[inside].mean())


def print_distance(found: Comparison, videos: list[Video], reference: str) -> None:
    """Print the difference to TV-L1 for zero flow, MotionNet and DIS: by data, pair and motion."""
    print(f"\nDifference to {reference}\n")
    labels = np.array([video.label for video in videos])[found.videos]
    print("| videos | pairs | zero flow, px | MotionNet, px | DIS, px | MotionNet / zero |")
    print("|---|---|---|---|---|---|")
    cost = np.bincount(found.videos, weights=found.errors[:, 1] - found.errors[:, 0])
    worst = int(cost.argmax())
    parts = {name: labels == name for name in sorted(set(labels))}
    parts["all"] = np.ones(len(labels), bool)
    parts[f"all but {videos[worst].path.stem}"] = found.videos != worst
    for name, part in parts.items():
        means = found.errors[part].mean(axis=0)
        print_row(f"{name} | {part.sum()}", np.array([*means, means[1] / means[0]]))
    bounds = np.percentile(resampled_ratios(found), (2.5, 97.5))
    ratios = found.errors[:, 1] / np.maximum(found.errors[:, 0], SMALLEST)
    print(f"\nMotionNet / zero, 95 % of resampled videos: {bounds[0]:.3f} to {bounds[1]:.3f}")
    print(f"MotionNet / zero, median of the pairs: {np.median(ratios):.3f}")
    print_worst(found, videos)
    print("\n| motion by the reference, px | share of pixels | zero flow, px | MotionNet, px |")
    print("|---|---|---|---|")
    for low, high in pairwise(LEVELS):
        part = (found.motion >= low) & (found.motion < high)
        if part.any():
            values = (part.mean(), found.motion[part].mean(), found.missed[part].mean())
            print_row(f"{low} to {high}", np.array(values))


def print_worst(found: Comparison, videos: list[Video]) -> None:
    """Print the pairs that MotionNet's mean suffers from most, and which flow is right there.

    The right one leaves the smallest difference of the frames.
    """
    cost = found.errors[:, 1] - found.errors[:, 0]
    print(
        "\n| pair | px: zero flow | MotionNet | DIS "
        "| grey: zero flow | reference | MotionNet | DIS |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for pair in np.argsort(-cost)[:WORST]:
        name = videos[found.videos[pair]].path.stem
        print_row(name, np.array([*found.errors[pair], *found.left[pair]]))
    print_row("mean of all", np.array([*found.errors.mean(axis=0), *found.left.mean(axis=0)]))


def resampled_ratios(found: Comparison) -> list[float]:
    """Return the ratio of MotionNet's to zero's mean for 2000 draws of the videos."""
    rng = np.random.default_rng(0)
    count = found.videos.max() + 1
    sums = np.stack([found.errors[found.videos == row].sum(axis=0) for row in range(count)])
    draws = (sums[rng.integers(0, count, count)].sum(axis=0) for _ in range(2000))
    return [float(total[1] / total[0]) for total in draws]


def compare_to_truth(folder: Path, weights: str) -> None:
    """Print the end-point error of every scene."""
    algorithms = (*REFERENCES, "dis")
    heads = " | ".join(f"{name}, px" for name in ("zero flow", "MotionNet", *algorithms))
    print(f"\n| scene | {heads} |\n|---|---|---|---|---|---|")
    rows = []
    for scene in sorted(item for item in folder.iterdir() if (item / "flow10.flo").is_file()):
        pair = np.stack([cv2.imread(str(scene / f"frame{n}.png"), 0) for n in (10, 11)])
        truth = read_flo(scene / "flow10.flo")
        known = (np.abs(truth) < UNKNOWN).all(axis=0)
        found = [
            np.zeros_like(truth),
            compute(pair, algorithm="motionnet", weights=weights)[0],
            *(compute(pair, algorithm=name)[0] for name in algorithms),
        ]
        rows.append([distance(flow, truth)[known].mean() for flow in found])
        print_row(scene.name, np.array(rows[-1]))
    print_row("mean", np.mean(rows, axis=0))


def compare_speed(videos: list[Video], weights: str, workers: int) -> None:
    """Print how many pairs a second `kinema flow` computes and stores with each algorithm."""
    jobs = [FlowJob(id=f"v{i}", path=v.path, segment=v.segment) for i, v in enumerate(videos)]
    print(f"\n| algorithm, {workers} processes | pairs/s | CPU ms a pair | of it flow |")
    print("|---|---|---|---|")
    for algorithm in ("motionnet", "tvl1", "tvl1-fast", "dis"):
        file = weights if algorithm == "motionnet" else ""
        options = FlowOptions(algorithm=algorithm, weights=file, size=f"{SIZE[1]}x{SIZE[0]}")
        with tempfile.TemporaryDirectory() as folder:
            extract_flow(jobs[:workers], Path(folder) / "first", options=options, workers=workers)
            started = time.perf_counter()
            done = extract_flow(jobs, Path(folder) / "flow", options=options, workers=workers)
            seconds = time.perf_counter() - started
        values = (
            done.pairs / seconds,
            1e3 * done.shares.total / done.pairs,
            1e3 * done.shares.flow / done.pairs,
        )
        print_row(algorithm, np.array(values))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path, help="folder that `kinema index` made")
    parser.add_argument("weights", type=Path, help="what `kinema train-motion` wrote")
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("--num-pairs", type=int, default=8, help="of each test video")
    parser.add_argument("--timed-videos", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("tvl1", "truth", "speed"), help="one of the tables")
    chosen = parser.parse_args()
    videos, weights = list(read_index(chosen.index).part("test")), str(chosen.weights)
    if chosen.only in (None, "tvl1"):
        for reference, found in compared(videos, weights, chosen.num_pairs).items():
            print_distance(found, videos, reference)
    if chosen.only in (None, "truth"):
        compare_to_truth(chosen.ground_truth, weights)
    if chosen.only in (None, "speed"):
        step = max(1, len(videos) // chosen.timed_videos)
        compare_speed(videos[::step][: chosen.timed_videos], weights, chosen.workers)


if __name__ == "__main__":
    main()
