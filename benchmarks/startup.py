"""How long the package and its command line take to start: medians of new processes.

    python benchmarks/startup.py

Each figure is for a process of its own, with the time of an empty Python process beside it. All are
measured in turn, so that another load on the machine meets them alike. The limits are 0.05 s for
``import kinema`` (above the empty process) and 0.3 s for ``kinema --help`` (as a whole).
"""

import statistics
import subprocess
import sys
import time

_ROUNDS = 10
_PROCESSES = {
    "empty process": ["-c", "pass"],
    "import kinema": ["-c", "import kinema"],
    "kinema --help": ["-m", "kinema", "--help"],
}


def main() -> None:
    """Measure and print the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in _PROCESSES}
    for words in _PROCESSES.values():  # fill the disk cache
        _seconds(words)
    for _ in range(_ROUNDS):
        for name, words in _PROCESSES.items():
            seconds[name].append(_seconds(words))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:14} {median:.3f} s ({min(seconds[name]):.3f} to {max(seconds[name]):.3f})")
    print(f"import kinema alone: {medians['import kinema'] - medians['empty process']:.3f} s")


def _seconds(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
