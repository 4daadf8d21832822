"""The command that fetches public data sets."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import OUT, words
from kinema.console import show

NAME = typer.Argument(
    metavar="NAME",
    help="ucf101, hmdb51, something-v1, something-v2, kinetics400, kinetics600, kinetics700.",
)
PARTS = typer.Option(metavar="NAMES", help="Of Kinetics: train, val, test, by commas; else all.")
MIRROR = typer.Option(metavar="ADDRESS", help="A folder with the same files; tried first.")
CONNECTIONS = typer.Option(min=1, metavar="NUMBER", help="Files fetched at the same time.")


def download(
    name: Annotated[str, NAME],
    out: Annotated[Path, OUT],
    parts: Annotated[str, PARTS] = "",
    mirror: Annotated[list[str] | None, MIRROR] = None,
    connections: Annotated[int, CONNECTIONS] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives.")] = False,
) -> None:
    """Fetch a public data set, check and unpack it.

    It can be stopped at any moment: the same command goes on from there. What can be fetched only
    by hand is said step by step (exit code 1), and unpacked by the next call.
    """
    from kinema.datasets.download import DownloadOptions

    report = api.download(
        name,
        out,
        options=DownloadOptions(
            parts=words(parts),
            mirrors=tuple(mirror or ()),
            connections=connections,
            keep_archives=keep,
        ),
    )
    show("\n".join(report.steps or report.messages))
    if report.steps:
        raise typer.Exit(1)
