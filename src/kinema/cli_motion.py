"""The command that trains a MotionNet, which estimates flow: `kinema train-motion`."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import DEVICE, FRAME_STORE, INDEX, OUT, OVERRIDES
from kinema.console import show

_NETWORK = typer.Option(metavar="NAME", help="motionnet-tiny or motionnet.")


def train_motion(
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    network: Annotated[str, _NETWORK] = "motionnet-tiny",
    frame_store: Annotated[Path | None, FRAME_STORE] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train a network that estimates flow, from videos alone, without labels or flow.

    Its file is for `kinema flow --algorithm motionnet --weights FILE`, and for model.motion=FILE
    of a training. A stopped training goes on to the same result.
    """
    result = api.train_motion(
        index_folder,
        out,
        network=network,
        frame_store=frame_store,
        overrides=overrides or (),
        device=device,
    )
    show(f"Weights: {result.weights}")
