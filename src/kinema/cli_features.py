"""The command that writes what networks see before their classifier: `kinema features`."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import (
    CHECKPOINTS,
    DEVICE,
    OFFICIAL_SPLIT,
    OTHER_FLOW_STORE,
    OTHER_INDEX,
    OUT,
    PROTOCOL,
    VIEWS_PER_PASS,
    Part,
    Precision,
)
from kinema.console import show

_PART = typer.Option(help="Of the index; none: all, with --augment the training part.")
_MAPS = typer.Option("--maps", help="The feature map, not its mean.")
_AUGMENT = typer.Option("--augment", help="Random clips and crops as in training, no protocol.")
_PASSES = typer.Option(min=1, metavar="NUMBER", help="Random passes, with --augment.")
_SNIPPETS = typer.Option(
    min=0, metavar="NUMBER", help="Clips of a random pass; 0: as many as the protocol has."
)
_SEED = typer.Option(metavar="NUMBER", help="Of the random passes.")


def features(
    checkpoints: Annotated[list[Path], CHECKPOINTS],
    out: Annotated[Path, OUT],
    part: Annotated[Part | None, _PART] = None,
    protocol: Annotated[str, PROTOCOL] = "",
    maps: Annotated[bool, _MAPS] = False,
    augment: Annotated[bool, _AUGMENT] = False,
    passes: Annotated[int, _PASSES] = 1,
    snippets: Annotated[int, _SNIPPETS] = 0,
    seed: Annotated[int, _SEED] = 0,
    index_folder: Annotated[str, OTHER_INDEX] = "",
    flow_store: Annotated[str | None, OTHER_FLOW_STORE] = None,
    official_split: Annotated[int, OFFICIAL_SPLIT] = 0,
    precision: Annotated[Precision, typer.Option(help="Of the network.")] = Precision.fp32,
    views_per_pass: Annotated[int, VIEWS_PER_PASS] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Write the features before the classifier, of every video, view and clip.

    One file per checkpoint and part: FOLDER/STREAM-PART.safetensors. A stopped extraction goes on.
    """
    from kinema.ensemble import find_checkpoints
    from kinema.feature_run import FeatureOptions
    from kinema.testing import TestOptions

    options = FeatureOptions(
        part=part.value if part else None,
        maps=maps,
        augment=augment,
        passes=passes,
        snippets=snippets,
        seed=seed,
        test=TestOptions(
            index=index_folder,
            protocol=protocol,
            flow_store=flow_store,
            official_split=official_split,
            device=device,
            precision=precision.value,
            views_per_pass=views_per_pass,
        ),
    )
    for path in api.extract_features(find_checkpoints(checkpoints), out, options=options):
        show(f"Features: {path}")
