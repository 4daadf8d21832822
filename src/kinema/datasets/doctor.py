"""Examining an index: everything that can make results wrong, uncertain or slow, and what to do."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.datasets import doctor_checks as checks
from kinema.datasets.build import REJECTED_FILE
from kinema.datasets.doctor_facts import Facts, facts_of
from kinema.datasets.doctor_files import changed, look_alikes, undecodable, vanished
from kinema.datasets.doctor_finding import LEVELS, Finding, Level
from kinema.datasets.doctor_leaks import leaks
from kinema.datasets.index import Index, read_index
from kinema.errors import KinemaError

_SPLIT = re.compile(r"split \d")


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What is done beyond what the index knows."""

    decode: bool = False  # decode every video to its end
    similar: bool = False  # compare pictures to find copies that were encoded again
    workers: int | None = None  # threads; None for one per core


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found in an index; the worst first."""

    folder: Path
    index: Index
    facts: Facts
    findings: tuple[Finding, ...]

    def count(self, level: Level) -> int:
        """Return how many findings have a level."""
        return sum(finding.level == level for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return findings and figures as plain values."""
        return {
            "index": str(self.folder),
            "counts": {level: self.count(level) for level in LEVELS},
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "facts": dataclasses.asdict(self.facts),
        }


def examine(folder: Path, *, options: DoctorOptions | None = None) -> Diagnosis:
    """Examine the index in a folder, and the files that it names.

    Problems make results wrong: leaks, files that are gone, changed or broken, classes that
    training lacks. Warnings make them uncertain; notes say what could be better.

    Raises:
        KinemaError: there is no index, it cannot be read, or it has no videos.
    """
    options = options or DoctorOptions()
    index = read_index(folder)
    if not index.videos:
        raise KinemaError(
            f"The index in {folder} has no videos: make it again with `kinema index`."
        )
    found: list[Finding] = [
        *vanished(index),
        *changed(index, folder),
        *(undecodable(index, workers=options.workers) if options.decode else ()),
        *leaks(index),
        *checks.classes(index),
        *checks.labels(index),
        *checks.rejected(folder / REJECTED_FILE),
        *(look_alikes(index, workers=options.workers) if options.similar else ()),
        *checks.rates(index),
        *checks.lengths(index),
        *checks.sizes(index),
        *checks.keyframes(index),
    ]
    return Diagnosis(
        folder=folder, index=index, facts=facts_of(index), findings=_in_order(_joined(found))
    )


def _in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """Say once what is true of several official splits, but for names and numbers."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        words = re.sub(r"'[^']*'|\d+|and|more|,", "", finding.text).split()
        alike.setdefault((finding.level, finding.topic, *words), []).append(finding)
    joined = []
    for first, *others in alike.values():
        names = [match[0] for finding in others if (match := _SPLIT.search(finding.text))]
        more = f" Likewise in {' and '.join(names)}." if names else ""
        joined.append(dataclasses.replace(first, text=first.text + more))
    return joined
