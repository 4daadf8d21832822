"""Fusions of several runs that differ in their seed: one table of means, with intervals.

    kinema run DATA --out RUN0 --fusion all train.seed=0      # and so on
    python benchmarks/fusions_over_seeds.py RUN0 RUN1 RUN2

Top-1 of every run and its mean; the interval is of the mean over runs, for draws of the test videos
(the same ones in all runs). Training, on top of the streams, and the time of one prediction
are those of the fastest run, which other programs disturbed least.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from flow_recognition import interval
from kinema.files import read_json
from kinema.scores import load_scores


def right(run: Path, row: dict[str, Any]) -> dict[str, bool]:
    """Return for every test video whether it was classified right."""
    folder = run / row["name"] if row["kind"] == "stream" else run / "fusion" / row["name"]
    scores = load_scores(folder / "scores" / "test.npz")
    found = scores.values.argmax(1) == scores.labels
    return dict(zip(scores.ids, found.tolist(), strict=True))


def print_row(runs: list[Path], rows: list[dict[str, Any]]) -> None:
    """Print what several runs have of one fusion."""
    tables = [right(run, row) for run, row in zip(runs, rows, strict=True)]
    right_RN = np.array([[table[video] for video in tables[0]] for table in tables], float)
    low, high = (100 * bound for bound in interval(right_RN.mean(0)))
    each = " ".join(f"{100 * value:.1f}" for value in right_RN.mean(1))
    training = min(row["training_seconds"] for row in rows)
    prediction = min(row["prediction_seconds"] for row in rows)
    print(
        f"| {rows[0]['name']} | {100 * right_RN.mean():.1f} % | {low:.1f} to {high:.1f} | {each} "
        f"| {training:.0f} s | {prediction:.2f} s |"
    )


def main() -> None:
    """Print the table of the fusions that all runs have."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of `kinema run --fusion`")
    runs = parser.parse_args().runs
    tables = [
        {row["name"]: row for row in read_json(run / "results.json")["fusions"]} for run in runs
    ]
    print("| | top-1 | interval | each run | training | one video |")
    print("|---|---|---|---|---|---|")
    for name in tables[0]:
        if all(name in table for table in tables):
            print_row(runs, [table[name] for table in tables])


if __name__ == "__main__":
    main()
