"""What each way to flow costs in recognition: the same recipe and seeds on each.

    python benchmarks/flow_recognition.py INDEX -o OUT [--ways dis,farneback,...] [--seeds 3]
        [section.field=value ...]

For every way the flow of all videos is stored and a flow stream is trained and tested with each
seed; `rgbdiff` is the stream of frame differences, which needs no flow. The table gives the mean
top-1 over the seeds, its 95 % interval (bootstrap over videos), top-1 of every seed, and the time
of one extraction and one training. What is done already in OUT is kept, with its times.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from kinema import api
from kinema.files import read_json, write_json
from kinema.flow.extract import FlowOptions
from kinema.metrics import ranks
from kinema.scores import load_scores

WAYS = ("dis", "farneback", "tvl1", "tvl1-fast", "motion-vectors", "rgbdiff")
RESAMPLES = 10_000


def main() -> None:
    """Train and test every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path, help="folder that `kinema index` made")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", default="short:240", help="of the images that flow is made from")
    options, overrides = parser.parse_known_args()
    rows = [row_of(way, options, overrides) for way in options.ways.split(",")]
    print("\n| way | top-1 | 95 % interval | each seed | flow, s | training, s |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def row_of(way: str, options: argparse.Namespace, overrides: list[str]) -> tuple[str, ...]:
    """Return one row of the table."""
    store, flow_seconds = None, 0.0
    if way != "rgbdiff":
        store = options.out / "flow" / way
        flow = FlowOptions(algorithm=way, size=options.size)
        flow_seconds = timed(
            options.out / f"seconds-{way}.json",
            lambda: api.extract_flow(options.index, store, options=flow),
        )
    correct, seconds = [], []
    for seed in range(options.seeds):
        folder = options.out / f"{way}-{seed}"
        seconds.append(
            timed(
                folder / "seconds.json",
                lambda folder=folder, seed=seed: api.train(
                    options.index,
                    folder,
                    modality="flow" if store else "rgbdiff",
                    flow_store=store,
                    overrides=[f"train.seed={seed}", *overrides],
                ),
            )
        )
        scores = folder / "scores" / "test.npz"
        if not scores.exists():
            api.test(folder / "best.safetensors", scores)
        correct.append(ranks(load_scores(scores)) < 1)
    right_SV = np.array(correct, float)
    low, high = interval(right_SV.mean(0))
    each = ", ".join(f"{100 * share:.1f}" for share in right_SV.mean(1))
    return (
        way,
        f"{100 * right_SV.mean():.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        each,
        f"{flow_seconds:.0f}" if store else "",
        f"{np.mean(seconds):.0f}",
    )


def timed(record: Path, work) -> float:  # noqa: ANN001
    """Do the work, or find its time of an earlier start in the file `record`."""
    if not record.exists():
        started = time.monotonic()
        work()
        write_json(record, {"seconds": time.monotonic() - started})
    return float(read_json(record)["seconds"])


def interval(shares_V: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over videos."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(shares_V), size=(RESAMPLES, len(shares_V)))
    low, high = np.quantile(shares_V[draws].mean(1), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
