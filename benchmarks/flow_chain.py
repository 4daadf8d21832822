"""Extraction as a whole: videos per minute of a folder, and where the time goes.

    python benchmarks/flow_chain.py FOLDER_OF_VIDEOS [--algorithms dis,tvl1] [--limit N]

Every algorithm in turn extracts the same videos into a fresh folder with all cores, as
`kinema flow` does: start of the processes, decoding, flow, encoding and writing. The shares are
those of the cores' time.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kinema.errors import KinemaError
from kinema.flow.extract import FlowJob, FlowOptions, FlowSummary, extract_flow

SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg")
ALGORITHMS = "dis,dis-fast,dis-ultrafast,farneback,tvl1,tvl1-fast,motion-vectors"


def extract(videos: Sequence[Path], options: FlowOptions, *, workers: int) -> FlowSummary:
    """Extract the flow of the videos into a folder that is thrown away."""
    jobs = [FlowJob(id=str(number), path=path) for number, path in enumerate(videos)]
    with tempfile.TemporaryDirectory() as folder:
        return extract_flow(jobs, Path(folder), options=options, workers=workers)


def row(name: str, summary: FlowSummary) -> str:
    """Return one line of the table."""
    shares = summary.shares
    minutes = summary.seconds / 60
    percent = [
        100 * part / max(shares.total, 1e-9) for part in (shares.decode, shares.flow, shares.write)
    ]
    return (
        f"| {name} | {summary.videos / minutes:.1f} | {summary.pairs / summary.seconds:.0f} | "
        f"{percent[0]:.0f} % | {percent[1]:.0f} % | {percent[2]:.0f} % | "
        f"{summary.bytes / max(1, summary.pairs):.0f} |"
    )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--algorithms", default=ALGORITHMS, help="names, separated by commas")
    parser.add_argument("--limit", type=int, default=0, help="videos, evenly taken; 0: all")
    parser.add_argument("--size", default="none", help="WxH, short:S or none")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    videos = sorted(path for path in arguments.folder.rglob("*") if path.suffix in SUFFIXES)
    if arguments.limit:
        videos = videos[:: max(1, len(videos) // arguments.limit)][: arguments.limit]
    print(f"{len(videos)} videos, size {arguments.size}, {arguments.workers} processes\n")
    print("| algorithm | videos/min | pairs/s | decoding | flow | writing | bytes a pair |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.algorithms.split(","):
        options = FlowOptions(algorithm=name, size=arguments.size)
        try:
            summary = extract(videos, options, workers=arguments.workers)
        except KinemaError as error:
            print(f"| {name} | {error} |")
        else:
            print(row(name, summary), flush=True)
            for video, reason in summary.failures:
                print(f"failed: {videos[int(video)]}: {reason}")


if __name__ == "__main__":
    main()
