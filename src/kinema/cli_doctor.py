"""The command that examines an index."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema import api
from kinema.cli_options import INDEX
from kinema.console import say, show, table

if TYPE_CHECKING:
    from kinema.datasets.doctor import Diagnosis

HTML = typer.Option("--html", metavar="FILE", help="Write a page with pictures, too.")
AS_JSON = typer.Option("--json", help="Write JSON to standard output.")
DECODE = typer.Option("--decode", help="Decode every video to its end.")
SIMILAR = typer.Option("--similar", help="Find copies that were encoded again, by their pictures.")
_SIGNS = {"problem": "✗ problem", "warning": "! warning", "note": "· note"}
_MOST_CLASSES = 12


def doctor(
    index_folder: Annotated[Path, INDEX],
    html: Annotated[Path | None, HTML] = None,
    as_json: Annotated[bool, AS_JSON] = False,
    decode: Annotated[bool, DECODE] = False,
    similar: Annotated[bool, SIMILAR] = False,
) -> None:
    """Examine an index: leaks, doubles, balance, lengths, rates, broken files.

    Exit code 1 where something makes results wrong: leaks between the parts, or files that are
    gone, changed or broken.
    """
    from kinema.datasets.doctor import DoctorOptions

    options = DoctorOptions(decode=decode, similar=similar)
    found = api.doctor(index_folder, html=html, options=options)
    if as_json:
        show(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        _show(found)
    if html:
        say(f"Page: {html}")
    if found.count("problem"):
        raise typer.Exit(1)


def _show(found: "Diagnosis") -> None:
    from kinema.datasets.doctor_finding import LEVELS, many

    facts = found.facts
    fewest, median, most = facts.frames
    rows = [
        ("videos", f"{facts.num_videos}, {facts.hours:.1f} hours"),
        ("classes", f"{facts.num_classes}"),
        ("groups", f"{facts.num_groups}" if facts.num_groups else "unknown"),
        *(
            (name, ", ".join(f"{count} {part}" for part, count in parts.items()))
            for name, parts in facts.parts.items()
        ),
        ("frames", f"{fewest} to {most}, median {median:g}"),
        ("sizes", ", ".join(f"{bar.name} ({bar.count})" for bar in facts.sizes[:4])),
        ("rates", ", ".join(f"{bar.name} ({bar.count})" for bar in facts.rates[:6])),
        ("keyframes", f"one every {facts.keyframe_interval:.0f} frames (median)"),
    ]
    table(str(found.folder), ("", ""), rows)
    show("")
    if len(facts.classes) <= _MOST_CLASSES:
        counts = [
            (name, *(str(n) for n in parts.values())) for name, parts in facts.classes.items()
        ]
        table("Videos by class", ("class", "train", "val", "test"), counts)
        show("")
    for finding in found.findings:
        advice = f" {finding.advice}" if finding.advice else ""
        show(f"{_SIGNS[finding.level]:10} {finding.topic}: {finding.text}{advice}")
    counted = [many(found.count(level), f"{level}s") for level in LEVELS]
    show(f"{', '.join(counted)}.")
