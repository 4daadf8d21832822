"""A MotionNet that was trained without labels: how near to TV-L1, to ground truth, and how fast?

    kinema train-motion INDEX -o RUN
    python benchmarks/flow_motionnet.py INDEX RUN/last.safetensors GROUND_TRUTH

Distance: the mean end-point difference to TV-L1 on pairs of the index's test videos, which the
training has not seen, in proportion to that of zero flow. Ground truth: a folder per scene with
frame10.png, frame11.png and flow10.flo (Middlebury). Speed: `kinema flow` on some of these videos
(decoding, flow, writing), each algorithm in turn.
"""

import argparse
import tempfile
import time
from contextlib import closing
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
LEVELS = (0, 0.25, 1, 3, 8, 1000)  # pixels of TV-L1's motion, for the table by motion


def pairs_of(video: Video, num_pairs: int) -> NDArray[np.uint8]:
    """Return gray pairs of frames (P, 2, H, W) from all over a video."""
    with closing(open_segment(video.path, video.segment)) as frames:
        firsts = np.linspace(0, frames.num_frames - 2, num_pairs + 2)[1:-1].astype(int)
        read = frames.read([int(i) for first in firsts for i in (first, first + 1)])
    return gray_from_rgb(read, size=SIZE).reshape(num_pairs, 2, *SIZE)


def compare_to_tvl1(videos: list[Video], weights: str, num_pairs: int) -> None:
    """Print the difference to TV-L1 for zero flow, MotionNet and DIS, by data and by motion."""
    names: list[str] = []
    rows, lengths, errors = [], [], []
    for video in videos:
        for pair in pairs_of(video, num_pairs):
            target = compute(pair, algorithm="tvl1")[0]
            found = [
                np.zeros_like(target),
                compute(pair, algorithm="motionnet", weights=weights)[0],
                compute(pair, algorithm="dis")[0],
            ]
            maps = [distance(flow, target) for flow in found]
            rows.append([item.mean() for item in maps])
            names.append(video.label)
            lengths.append(maps[0][::4, ::4].ravel())
            errors.append(maps[1][::4, ::4].ravel())
    table, labels = np.array(rows), np.array(names)
    print("| videos | pairs | zero flow, px | MotionNet, px | DIS, px | MotionNet / zero |")
    print("|---|---|---|---|---|---|")
    for name in (*sorted(set(names)), "all"):
        part = table[(labels == name) | (name == "all")]
        means = part.mean(axis=0)
        print_row(f"{name} | {len(part)}", np.array([*means, means[1] / means[0]]))
    bounds = np.percentile(resampled_ratios(table, labels), (2.5, 97.5))
    print(f"\nMotionNet / zero, 95 % of resampled pairs: {bounds[0]:.3f} to {bounds[1]:.3f}\n")
    print("| motion by TV-L1, px | share of pixels | zero flow, px | MotionNet, px |")
    print("|---|---|---|---|")
    length, error = np.concatenate(lengths), np.concatenate(errors)
    for low, high in pairwise(LEVELS):
        part = (length >= low) & (length < high)
        if part.any():
            values = (part.mean(), length[part].mean(), error[part].mean())
            print_row(f"{low} to {high}", np.array(values))


def resampled_ratios(table: NDArray[np.float64], labels: NDArray[np.str_]) -> list[float]:
    """Return the ratio of MotionNet's to zero's mean for 2000 draws of the pairs."""
    rng = np.random.default_rng(0)
    draws = (table[rng.integers(0, len(labels), len(labels))].mean(axis=0) for _ in range(2000))
    return [float(mean[1] / mean[0]) for mean in draws]


def compare_to_truth(folder: Path, weights: str) -> None:
    """Print the end-point error of every scene."""
    print(
        "\n| scene | zero flow, px | MotionNet, px | TV-L1, px | DIS, px |\n|---|---|---|---|---|"
    )
    rows = []
    for scene in sorted(item for item in folder.iterdir() if (item / "flow10.flo").is_file()):
        pair = np.stack([cv2.imread(str(scene / f"frame{n}.png"), 0) for n in (10, 11)])
        truth = read_flo(scene / "flow10.flo")
        known = (np.abs(truth) < UNKNOWN).all(axis=0)
        found = [
            np.zeros_like(truth),
            compute(pair, algorithm="motionnet", weights=weights)[0],
            compute(pair, algorithm="tvl1")[0],
            compute(pair, algorithm="dis")[0],
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
    parser.add_argument("--num-pairs", type=int, default=2, help="of each test video")
    parser.add_argument("--timed-videos", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("tvl1", "truth", "speed"), help="one of the tables")
    chosen = parser.parse_args()
    videos, weights = list(read_index(chosen.index).part("test")), str(chosen.weights)
    if chosen.only in (None, "tvl1"):
        compare_to_tvl1(videos, weights, chosen.num_pairs)
    if chosen.only in (None, "truth"):
        compare_to_truth(chosen.ground_truth, weights)
    if chosen.only in (None, "speed"):
        step = max(1, len(videos) // chosen.timed_videos)
        compare_speed(videos[::step][: chosen.timed_videos], weights, chosen.workers)


if __name__ == "__main__":
    main()
