"""RGB frames straight from videos: our reader against decord, JPEG folders and a bare PyAV loop.

    python benchmarks/loader_rgb.py FOLDER_OF_VIDEOS [--videos N] [--rounds N]

Three random snippets of one frame each, the video opened anew each time: our reader, decord's
`get_batch` (where installed) and OpenCV reading frame folders of JPEG quality 95. Then whole
videos: all frames, and 25 spread evenly, against a PyAV loop that converts the same frames. All
take turns on one core; times are CPU seconds of this process, medians over the rounds.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.video.frames import ImageFolder
from kinema.video.reader import VideoReader

NUM_SNIPPETS = 3
NUM_TEST_FRAMES = 25
JPEG_QUALITY = 95
SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: what was read, by what, how fast, and how much slower than ours."""

    task: str
    reader: str
    videos_per_second: float
    times_ours: float  # CPU time divided by that of our reader, median over the rounds


@dataclass(frozen=True, kw_only=True)
class Work:
    """A video and the frames that are read from it in this round."""

    path: Path
    jpegs: Path
    indices: list[int]


Read = Callable[[Work], object]


def read_ours(work: Work) -> NDArray[np.uint8]:
    """Read frames with our reader."""
    with VideoReader(work.path) as reader:
        return reader.read(work.indices)


def stream_ours(work: Work) -> int:
    """Read all frames with our reader."""
    with VideoReader(work.path) as reader:
        return sum(1 for _ in reader.stream())


def read_jpegs(work: Work) -> NDArray[np.uint8]:
    """Read frames from a folder as the older systems do: the name is known, OpenCV reads it."""
    frames_THWC = []
    for i in work.indices:
        image = cv2.imread(str(work.jpegs / f"img_{i + 1:05d}.jpg"))
        assert image is not None
        frames_THWC.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return np.asarray(frames_THWC, dtype=np.uint8)


def read_folder(work: Work) -> NDArray[np.uint8]:
    """Read frames from a folder with our ImageFolder, which lists it first."""
    return ImageFolder(work.jpegs).read(work.indices)


def loop_over_all(work: Work) -> int:
    """Decode and convert everything: the bare PyAV loop."""
    with av.open(str(work.path)) as container:
        return sum(1 for f in container.decode(video=0) if f.to_ndarray(format="rgb24") is not None)


def loop_over_wanted(work: Work) -> list[NDArray[np.uint8]]:
    """Decode everything up to the last frame and convert what is wanted."""
    wanted, images = set(work.indices), []
    with av.open(str(work.path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                images.append(frame.to_ndarray(format="rgb24"))
            if len(images) == len(wanted):
                break
    return images


def decord_reader() -> Read | None:
    """Return decord's way of reading frames, or None where it is not installed."""
    if importlib.util.find_spec("decord") is None:
        return None
    decord = importlib.import_module("decord")

    def read(work: Work) -> object:
        return decord.VideoReader(str(work.path), num_threads=1).get_batch(work.indices).asnumpy()

    return read


def extract_jpegs(path: Path, out: Path) -> Path:
    """Write all frames of a video as the older systems kept them."""
    folder = out / path.stem
    folder.mkdir()
    with VideoReader(path) as reader:
        for i, image in enumerate(reader.stream()):
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(folder / f"img_{i + 1:05d}.jpg"), bgr, flags)
    return folder


def measure(readers: dict[str, Read], rounds: Sequence[Sequence[Work]]) -> dict[str, list[float]]:
    """Return the CPU seconds of each reader in each round; they take turns at every video."""
    seconds: dict[str, list[float]] = {name: [0.0] * len(rounds) for name in readers}
    for number, works in enumerate(rounds):
        for turn, work in enumerate(works):
            names = list(readers)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = time.process_time()
                readers[name](work)
                seconds[name][number] += time.process_time() - started
    return seconds


def make_rows(task: str, seconds: dict[str, list[float]], num_videos: int) -> list[Row]:
    """Turn times into rows; our reader is the first of them."""
    ours = np.asarray(next(iter(seconds.values())))
    return [
        Row(
            task=task,
            reader=name,
            videos_per_second=num_videos / float(np.median(times)),
            times_ours=float(np.median(np.asarray(times) / ours)),
        )
        for name, times in seconds.items()
    ]


def rgb_rows(videos: Sequence[Path], *, rounds: int = 5, seed: int = 0) -> list[Row]:
    """Measure random snippets and whole videos; frame folders are made in a temporary place."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        jpegs = {path: extract_jpegs(path, Path(folder)) for path in videos}
        counts = {path: len(list(images.iterdir())) for path, images in jpegs.items()}

        def works(choose: Callable[[int], NDArray[np.int64]]) -> list[Work]:
            return [
                Work(path=path, jpegs=jpegs[path], indices=sorted(choose(counts[path]).tolist()))
                for path in videos
            ]

        snippets: dict[str, Read] = {"kinema": read_ours}
        if (decord := decord_reader()) is not None:
            snippets["decord get_batch"] = decord
        snippets |= {"JPEG folder, OpenCV": read_jpegs, "JPEG folder, kinema": read_folder}
        random = [works(lambda n: rng.integers(0, n, NUM_SNIPPETS)) for _ in range(rounds)]
        spread = [works(lambda n: np.unique(np.linspace(0, n - 1, NUM_TEST_FRAMES).astype(int)))]
        whole: dict[str, Read] = {"kinema": stream_ours, "PyAV loop": loop_over_all}
        some: dict[str, Read] = {"kinema": read_ours, "PyAV loop": loop_over_wanted}
        results = {
            "three random snippets": measure(snippets, random),
            "all frames": measure(whole, spread * rounds),
            f"{NUM_TEST_FRAMES} frames": measure(some, spread * rounds),
        }
    return [row for task, times in results.items() for row in make_rows(task, times, len(videos))]


def use_one_core() -> None:
    """Keep this process on one core, where the system can, and OpenCV in one thread."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def find_videos(folder: Path, *, at_most: int | None) -> list[Path]:
    """Return the videos below a folder, evenly thinned out to `at_most`."""
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if at_most is None or len(videos) <= at_most:
        return videos
    return [videos[i] for i in np.linspace(0, len(videos) - 1, at_most).astype(int)]


def main() -> None:
    """Print the table for a folder of videos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=None, help="use only so many")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    use_one_core()
    videos = find_videos(arguments.folder, at_most=arguments.videos)
    print(f"{len(videos)} videos, {arguments.rounds} rounds, one core, CPU time")
    print(f"{'task':24s}{'reader':24s}{'videos/s':>10s}{'time / ours':>13s}")
    for row in rgb_rows(videos, rounds=arguments.rounds):
        print(f"{row.task:24s}{row.reader:24s}{row.videos_per_second:10.1f}{row.times_ours:13.2f}")


if __name__ == "__main__":
    main()
