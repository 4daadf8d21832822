"""Kinema's TV-L1 beside OpenCV's DualTVL1: the same flow?, error to ground truth, speed.

    python benchmarks/flow_tvl1.py VIDEOS GROUND_TRUTH [--num-videos N] [--threads N] [--only PART]

Needs a build of OpenCV with contrib. It cannot be installed beside the one that Kinema uses, so:

    pip install --target contrib --no-deps opencv-contrib-python-headless
    PYTHONPATH=contrib python benchmarks/flow_tvl1.py ...

Ground truth: a folder per scene with frame10.png, frame11.png and flow10.flo (Middlebury). Speed:
for each video the same pairs in turn by all programs, wall-clock time. OpenCV is measured as it is
(its own threads inside a pair) and with a pair per thread.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from kinema.flow.algorithms import gray_from_rgb
from kinema.flow.tvl1 import FAST, STANDARD, tvl1
from kinema.flow.tvl1_torch import tvl1_batched
from kinema.video.reader import VideoReader

Flow = NDArray[np.float32]
PAIRS = 5  # of each video, far apart, to compare the flow
TIMED_PAIRS = 16  # of each video, neighbours, to measure the time
UNKNOWN = 1e9  # pixels; ground truth holds larger ones where it is not known


def opencv_pair(first_HW: NDArray[np.uint8], second_HW: NDArray[np.uint8]) -> Flow:
    """Return the flow (2, H, W) of a pair by OpenCV with its default parameters."""
    engine = cv2.optflow.DualTVL1OpticalFlow_create()
    return np.moveaxis(engine.calc(first_HW, second_HW, None), 2, 0)


def distance(flow_2HW: Flow, other_2HW: Flow) -> NDArray[np.float32]:
    """Return the end-point distance of every pixel, pixels."""
    return np.linalg.norm(flow_2HW - other_2HW, axis=0)


def gray_frames(video: Path) -> NDArray[np.uint8]:
    """Return all frames of a video (T, H, W)."""
    with closing(VideoReader(video)) as reader:
        return gray_from_rgb(np.stack(list(islice(reader.stream(), 400))))


def compare_flow(videos: dict[str, NDArray[np.uint8]]) -> None:
    """Print how far the flow is from OpenCV's, and the torch path (on the CPU) from it, pixels."""
    print("| video | motion, px | tvl1 to OpenCV | tvl1-fast to OpenCV | torch path to tvl1 |")
    print("|---|---|---|---|---|")
    rows = []
    for name, frames_THW in videos.items():
        for first in np.linspace(0, len(frames_THW) - 2, PAIRS).astype(int):
            pair = frames_THW[first : first + 2]
            right = opencv_pair(*pair)
            found = [tvl1(pair, settings=settings)[0] for settings in (STANDARD, FAST)]
            motion = np.linalg.norm(right, axis=0).mean()
            batched = tvl1_batched(torch.from_numpy(pair))[0].numpy()
            to_opencv = (distance(flow, right).mean() for flow in found)
            rows.append([motion, *to_opencv, distance(batched, found[0]).mean()])
        print_row(name, np.mean(rows[-PAIRS:], axis=0))
    print_row(f"mean of {len(rows)} pairs", np.mean(rows, axis=0))
    print_row("largest of a pair", np.max(rows, axis=0))


def print_row(name: str, values: NDArray[np.float64]) -> None:
    """Print a row of a table."""
    print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |", flush=True)


def read_flo(path: Path) -> Flow:
    """Return the flow (2, H, W) of a .flo file."""
    content = np.fromfile(path, np.float32)
    width, height = content[1:3].view(np.int32)
    return content[3:].reshape(height, width, 2).transpose(2, 0, 1)


def compare_to_truth(folder: Path) -> None:
    """Print the end-point error of every scene, and the mean over the scenes."""
    print("\n| scene | OpenCV, px | tvl1, px | tvl1-fast, px |\n|---|---|---|---|")
    rows = []
    for scene in sorted(item for item in folder.iterdir() if (item / "flow10.flo").is_file()):
        pair = np.stack([cv2.imread(str(scene / f"frame{n}.png"), 0) for n in (10, 11)])
        truth = read_flo(scene / "flow10.flo")
        known = (np.abs(truth) < UNKNOWN).all(axis=0)
        found = [opencv_pair(*pair), tvl1(pair)[0], tvl1(pair, settings=FAST)[0]]
        rows.append([distance(flow, truth)[known].mean() for flow in found])
        print_row(scene.name, np.array(rows[-1]))
    print_row("mean", np.mean(rows, axis=0))


def compare_speed(videos: dict[str, NDArray[np.uint8]], threads: int) -> None:
    """Print the time of a pair by every program and how many times OpenCV's that is."""

    def opencv(frames_THW: NDArray[np.uint8]) -> None:
        cv2.setNumThreads(threads)
        for pair in pairwise(frames_THW):
            opencv_pair(*pair)

    def opencv_in_threads(frames_THW: NDArray[np.uint8]) -> None:
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(opencv_pair, frames_THW[:-1], frames_THW[1:]))

    programs: dict[str, Callable[[NDArray[np.uint8]], object]] = {
        "OpenCV": opencv,
        "OpenCV, a pair per thread": opencv_in_threads,
        "tvl1": lambda frames_THW: tvl1(frames_THW, threads=threads),
        "tvl1-fast": lambda frames_THW: tvl1(frames_THW, settings=FAST, threads=threads),
    }
    for program in programs.values():  # the first use compiles
        program(next(iter(videos.values()))[:2])
    seconds, work = np.zeros((2, len(videos), len(programs)))
    for row, frames_THW in enumerate(videos.values()):
        first = max(0, len(frames_THW) // 2 - TIMED_PAIRS)
        frames = frames_THW[first : first + TIMED_PAIRS + 1]
        for column in np.random.default_rng(row).permutation(len(programs)):
            started, worked = time.perf_counter(), time.process_time()
            list(programs.values())[column](frames)
            seconds[row, column] = (time.perf_counter() - started) / (len(frames) - 1)
            work[row, column] = (time.process_time() - worked) / (len(frames) - 1)
    print(f"| {threads} threads | ms a pair | CPU ms a pair | times OpenCV | by video | least |")
    print("|---|---|---|---|---|---|")
    ratios = seconds[:, :1] / seconds
    for column, name in enumerate(programs):
        wall, cpu = seconds[:, column].mean() * 1e3, work[:, column].mean() * 1e3
        mean, least = np.exp(np.log(ratios[:, column]).mean()), ratios[:, column].min()
        total = seconds[:, 0].mean() * 1e3 / wall
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {total:.1f} | {mean:.1f} | {least:.1f} |")
    print(flush=True)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("--num-videos", type=int, default=10, help="evenly taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("speed", "flow", "truth"), help="one of the tables")
    arguments = parser.parse_args()
    if not hasattr(cv2, "optflow"):
        sys.exit("This OpenCV has no optflow. " + __doc__.split("Needs ")[1].split("Ground")[0])
    paths = sorted(item for item in arguments.videos.rglob("*") if item.suffix in (".avi", ".mp4"))
    paths = paths[:: max(1, len(paths) // arguments.num_videos)][: arguments.num_videos]
    videos = {path.stem: gray_frames(path) for path in paths}
    if arguments.only in (None, "speed"):
        compare_speed(videos, arguments.threads)
    if arguments.only in (None, "flow"):
        compare_flow(videos)
    if arguments.only in (None, "truth"):
        compare_to_truth(arguments.ground_truth)


if __name__ == "__main__":
    main()
