"""RGB frames from videos and from stores, against decord, JPEG folders and a bare PyAV loop.

    python benchmarks/loader_rgb.py FOLDER_OF_VIDEOS [--videos N] [--rounds N] [--short-side S]

Three random snippets of one frame each, the video opened anew each time: our reader, our store
(`kinema pack`), decord's `get_batch` (where installed) and OpenCV reading frame folders of JPEG
quality 95. Then whole videos: all frames, and 25 spread evenly, against a PyAV loop that converts
the same frames. All take turns on one core; times are CPU seconds of this process, medians over
the rounds. With --short-side, stores and JPEG files hold frames that were shrunk to it.
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

from kinema.packing.job import PackOptions, pack_video
from kinema.video.images import ImageFrames
from kinema.video.reader import VideoReader
from kinema.video.rgb_store import RgbStore
from kinema.video.sizes import shrunk_size

NUM_SNIPPETS = 3
NUM_TEST_FRAMES = 25
AT_ONCE = 32  # frames, where a whole video is read from a store
JPEG_QUALITY = 95
STORE, JPEG = "kinema store", "JPEG folder, OpenCV"
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
    store: Path
    indices: list[int]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The frames of one video as JPEG files and in a store, with what they cost."""

    jpegs: Path
    store: Path
    num_frames: int
    bytes: tuple[int, int]  # of the JPEG files, of the store
    errors: tuple[float, float]  # mean absolute difference to the frames, grey levels


Read = Callable[[Work], object]


def read_ours(work: Work) -> NDArray[np.uint8]:
    """Read frames with our reader."""
    with VideoReader(work.path) as reader:
        return reader.read(work.indices)


def stream_ours(work: Work) -> int:
    """Read all frames with our reader."""
    with VideoReader(work.path) as reader:
        return sum(1 for _ in reader.stream())


def read_store(work: Work) -> NDArray[np.uint8]:
    """Read frames from our store."""
    return RgbStore(work.store).read(work.indices)


def stream_store(work: Work) -> int:
    """Read all frames from our store."""
    store = RgbStore(work.store)
    starts = range(0, store.num_frames, AT_ONCE)
    return sum(len(store.read(range(i, min(i + AT_ONCE, store.num_frames)))) for i in starts)


def read_jpegs(work: Work) -> NDArray[np.uint8]:
    """Read frames from a folder as the older systems do: the name is known, OpenCV reads it."""
    frames_THWC = []
    for i in work.indices:
        image = cv2.imread(str(work.jpegs / f"img_{i + 1:05d}.jpg"))
        assert image is not None
        frames_THWC.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return np.asarray(frames_THWC, dtype=np.uint8)


def read_folder(work: Work) -> NDArray[np.uint8]:
    """Read frames from a folder with our ImageFrames, which lists it first."""
    return ImageFrames(work.jpegs).read(work.indices)


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


def store_frames(path: Path, out: Path, *, short_side: int | None) -> Stored:
    """Write all frames of a video as the older systems kept them, and into a store."""
    options = PackOptions(short_side=short_side)
    jpegs, store = out / path.stem, out / f"{path.stem}.mp4"
    num_frames = pack_video(path, store, options=options)
    jpegs.mkdir()
    found = RgbStore(store)
    errors = np.zeros(2)
    with VideoReader(path) as reader:
        height, width = shrunk_size(options.size, height=reader.height, width=reader.width)
        for i, native in enumerate(reader.stream()):
            image = native
            if native.shape[:2] != (height, width):
                image = cv2.resize(native, (width, height), interpolation=cv2.INTER_AREA)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            name = str(jpegs / f"img_{i + 1:05d}.jpg")
            cv2.imwrite(name, bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            errors += (
                np.abs(cv2.imread(name).astype(np.int16) - bgr).mean(),
                np.abs(found.read([i])[0].astype(np.int16) - image).mean(),
            )
    jpeg_bytes = sum(item.stat().st_size for item in jpegs.iterdir())
    return Stored(
        jpegs=jpegs,
        store=store,
        num_frames=num_frames,
        bytes=(jpeg_bytes, store.stat().st_size),
        errors=(errors[0] / num_frames, errors[1] / num_frames),
    )


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


def rgb_rows(
    videos: Sequence[Path], *, rounds: int = 5, seed: int = 0, short_side: int | None = None
) -> tuple[list[Row], list[str]]:
    """Measure random snippets and whole videos; return the rows and lines about store and JPEG.

    Stores and frame folders are made in a temporary place.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        stored = {path: store_frames(path, Path(folder), short_side=short_side) for path in videos}

        def works(choose: Callable[[int], NDArray[np.int64]]) -> list[Work]:
            return [
                Work(
                    path=path,
                    jpegs=item.jpegs,
                    store=item.store,
                    indices=sorted(choose(item.num_frames).tolist()),
                )
                for path, item in stored.items()
            ]

        snippets: dict[str, Read] = {"kinema": read_ours, STORE: read_store}
        if (decord := decord_reader()) is not None:
            snippets["decord get_batch"] = decord
        snippets |= {JPEG: read_jpegs, "JPEG folder, kinema": read_folder}
        random = [works(lambda n: rng.integers(0, n, NUM_SNIPPETS)) for _ in range(rounds)]
        spread = [works(lambda n: np.unique(np.linspace(0, n - 1, NUM_TEST_FRAMES).astype(int)))]
        whole: dict[str, Read] = {
            "kinema": stream_ours,
            STORE: stream_store,
            "PyAV loop": loop_over_all,
        }
        some: dict[str, Read] = {
            "kinema": read_ours,
            STORE: read_store,
            "PyAV loop": loop_over_wanted,
            JPEG: read_jpegs,
        }
        results = {
            "three random snippets": measure(snippets, random),
            "all frames": measure(whole, spread * rounds),
            f"{NUM_TEST_FRAMES} frames": measure(some, spread * rounds),
        }
    rows = [row for task, times in results.items() for row in make_rows(task, times, len(videos))]
    return rows, against_jpeg(list(stored.values()), results["three random snippets"])


def against_jpeg(stored: Sequence[Stored], seconds: dict[str, list[float]]) -> list[str]:
    """Compare store and JPEG files: bytes, error, and clips per second in the same rounds."""
    num_frames = np.array([item.num_frames for item in stored])
    jpeg_bytes, store_bytes = np.array([item.bytes for item in stored]).sum(0) / num_frames.sum()
    errors = np.array([item.errors for item in stored])
    jpeg_error, store_error = (errors * num_frames[:, None]).sum(0) / num_frames.sum()
    ratios = sorted(np.asarray(seconds[JPEG]) / np.asarray(seconds[STORE]))
    return [
        f"JPEG: {jpeg_bytes:.0f} bytes a frame, mean error {jpeg_error:.2f} grey levels, "
        f"worst video {errors[:, 0].max():.2f}",
        f"store: {store_bytes:.0f} bytes a frame, mean error {store_error:.2f}, "
        f"worst video {errors[:, 1].max():.2f}",
        f"bytes: store / JPEG = 1 / {jpeg_bytes / store_bytes:.2f}",
        f"clips/s: store / JPEG = {ratios[len(ratios) // 2]:.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} rounds)",
    ]


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
    parser.add_argument("--short-side", type=int, default=None, help="of stored frames, pixels")
    arguments = parser.parse_args()
    use_one_core()
    videos = find_videos(arguments.folder, at_most=arguments.videos)
    print(f"{len(videos)} videos, {arguments.rounds} rounds, one core, CPU time")
    print(f"{'task':24s}{'reader':24s}{'videos/s':>10s}{'time / ours':>13s}")
    rows, lines = rgb_rows(videos, rounds=arguments.rounds, short_side=arguments.short_side)
    for row in rows:
        print(f"{row.task:24s}{row.reader:24s}{row.videos_per_second:10.1f}{row.times_ours:13.2f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
