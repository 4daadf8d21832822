"""The command that lists the networks: `kinema models`."""

import json
from typing import Annotated

import typer

from kinema import api
from kinema.console import show, table

FILTER = typer.Argument(metavar="[FILTER]", help="Part of the name, or a pattern such as 'x3d*'.")
AS_JSON = typer.Option("--json", help="Write JSON to standard output.")
_COLUMNS = ("name", "kind", "input", "params", "work", "weights", "arXiv")
_OTHERS = (
    "params: millions. work: 1e9 multiply-adds for one snippet of the input, images x side.\n"
    "Any other 2D network of timm goes by its name there, any video transformer of the hub by "
    "hf:ORG/NAME."
)


def models(pattern: Annotated[str, FILTER] = "", as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List the networks: size, work, published weights, source."""
    found = api.list_models(pattern)
    if as_json:
        show(json.dumps(found, indent=2))
        return
    rows = [
        (
            row["name"],
            row["kind"],
            f"{row['frames']}x{row['size']}",
            f"{row['parameters'] / 1e6:.2f}",
            _work(row["multiply_adds"] / 1e9),
            row["weights"] or "none",
            row["source"].removeprefix("arXiv "),
        )
        for row in found
    ]
    table("", _COLUMNS, rows)
    show(_OTHERS)


def _work(giga: float) -> str:
    return f"{giga:.2f}" if giga < 100 else f"{giga:.0f}"
