"""Memory over thousands of opened videos: it must stay where it is after the first few.

    python benchmarks/reader_memory.py FOLDER_OF_VIDEOS [--opens N]

Each video is opened, three random frames are read, and it is closed. Linux only (/proc).
"""

import argparse
import os
import random
from pathlib import Path

from kinema.video.reader import VideoReader
from loader_rgb import find_videos

REPORTS = 10


def resident_mib() -> float:
    """Return the memory of this process that is in RAM, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Open videos and print the memory ten times on the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--opens", type=int, default=2000)
    arguments = parser.parse_args()
    videos = find_videos(arguments.folder, at_most=None)
    rng = random.Random(0)
    for number in range(arguments.opens):
        with VideoReader(videos[number % len(videos)]) as reader:
            reader.read([rng.randrange(reader.num_frames) for _ in range(3)])
        if (number + 1) % (arguments.opens // REPORTS) == 0:
            print(f"{number + 1:6d} videos  {resident_mib():8.1f} MiB")


if __name__ == "__main__":
    main()
