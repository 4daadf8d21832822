"""Indexing very many small videos, against a plain loop of `av.open`.

    python benchmarks/index_many.py [--videos N] [--folder FOLDER]

Makes N different videos (8 frames of 32x32 pixels, 20 classes) in a temporary folder, then times,
each in a process of its own with its peak memory: a loop that opens every file and reads what its
container says of it; `kinema index`; `kinema index` again, where nothing changed. The index decodes
and hashes as well. The second run may take a twentieth of the first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

CLASSES, KINDS, FRAMES, SIDE = 20, 300, 8, 32
PLAIN_LOOP = """
import sys, pathlib, av
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.mp4")):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = stream.frames, stream.average_rate, stream.width, stream.height
"""


def make_videos(folder: Path, count: int) -> None:
    """Write `count` videos that differ in their bytes: few pictures, and a number at the end."""
    kinds = [encoded(number) for number in range(min(KINDS, count))]
    for name in range(CLASSES):
        (folder / f"class{name:02}").mkdir(parents=True)
    for number in range(count):
        note = b"free" + number.to_bytes(8, "big")  # a box that players leave alone
        data = kinds[number % len(kinds)] + (len(note) + 4).to_bytes(4, "big") + note
        (folder / f"class{number % CLASSES:02}" / f"{number:06}.mp4").write_bytes(data)


def encoded(seed: int) -> bytes:
    """Return one small video as bytes."""
    image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"g": "4"})
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
            for i in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.roll(image, i, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def measured(name: str, words: list[str], count: int) -> tuple[float, float]:
    """Run a process, print its time and memory, and return seconds and seconds of CPU."""
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{name} failed")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    print(
        f"{name:28} {seconds:8.2f} s  {1000 * seconds / count:7.3f} s per thousand  "
        f"CPU {cpu_seconds:7.2f} s  peak {usage.ru_maxrss / 1024:6.0f} MiB"
    )
    return seconds, cpu_seconds


def main() -> None:
    """Make the videos and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="kept; else a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        data, out, count = root / "data", root / "index", arguments.videos
        if not data.is_dir():
            make_videos(data, count)
        index = [sys.executable, "-m", "kinema", "index", str(data), "-o", str(out)]
        measured("loop of av.open (cold)", [sys.executable, "-c", PLAIN_LOOP, str(data)], count)
        loop = measured("loop of av.open", [sys.executable, "-c", PLAIN_LOOP, str(data)], count)
        first = measured("kinema index", index, count)
        second = measured("kinema index, again", index, count)
    for what, i in (("time", 0), ("CPU", 1)):
        shares = f"index : loop = {first[i] / loop[i]:.2f}; again : first"
        print(f"{what:4} {shares} = 1 : {first[i] / second[i]:.1f}")


if __name__ == "__main__":
    main()
