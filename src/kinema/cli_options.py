"""Options that several commands share, and the choices that they offer."""

from enum import Enum
from typing import Any, get_args

import typer

from kinema.config import ModalityName
from kinema.errors import UsageError


def _choices(name: str, values: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Return an enumeration, which the command line shows as the values allowed."""
    return Enum(name, {value.replace("-", "_"): value for value in values}, type=str)


Modality = _choices("Modality", get_args(ModalityName))
Algorithm = _choices(
    "Algorithm", ("dis", "dis-fast", "dis-ultrafast", "farneback", "raft-small", "raft-large")
)
Dataset = _choices("Dataset", ("auto", "folder", "csv", "ucf101", "hmdb51"))
Part = _choices("Part", ("train", "val", "test"))
Rule = _choices("Rule", ("logits", "softmax", "l1"))
Quality = _choices("Quality", ("standard", "lossless"))
Precision = _choices("Precision", ("auto", "fp32", "bf16", "fp16"))

OUT = typer.Option("--out", "-o", help="Folder to write to.")
OVERRIDES = typer.Argument(metavar="[SECTION.FIELD=VALUE]…", help="Changed settings.")
GROUP = typer.Option(help="Regular expression for the group in a video's id, or a CSV column.")
TEST_FRACTION = typer.Option(help="Held out for testing, where no split is given.")
VAL_FRACTION = typer.Option(help="Of the training videos, for validation.")
TEST_GROUPS = typer.Option(help="Exactly these groups are tested on, separated by commas.")
FLOW_SIZE = typer.Option(help="Images are brought to WxH or short:S for the flow; or none.")
BOUND = typer.Option(help="Largest motion stored, pixels per frame.")
QUALITY = typer.Option(help="standard or lossless.")
PROTOCOL = typer.Option(help="A name of `kinema recipes` or a JSON file; none: the checkpoint's.")
SEED = typer.Option(help="Of splits and training.")
DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")


def words(text: str) -> tuple[str, ...]:
    """Split a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str) -> tuple[float, ...]:
    """Split a list of numbers; fractions such as 1/3 are allowed.

    Raises:
        UsageError: something in it is no number.
    """
    found = []
    for part in words(text):
        above, _, below = part.partition("/")
        try:
            found.append(float(above) / float(below or 1))
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(f"'{part}' in '{text}' is not a number.") from error
    return tuple(found)


def part_of(text: str) -> tuple[int, int]:
    """Read a part as "i/n", counted from 0.

    Raises:
        UsageError: it has another form.
    """
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--shard {text} is not possible: write i/n, such as 0/4 to 3/4.")
    return int(part), int(parts)
