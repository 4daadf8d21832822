"""Commands that store optical flow: `kinema flow INDEX`, `kinema flow convert FOLDER`."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_data import show_faults
from kinema.cli_groups import unless_named
from kinema.cli_options import (
    ALGORITHM,
    BOUND,
    FLOW_BOUND,
    FLOW_SIZE,
    FORMAT,
    GRAY,
    IDS_OF_INDEX,
    INDEX,
    MOTION_WEIGHTS,
    OLD_FLOW,
    OUT,
    RAY,
    SHARD,
    STRIDE,
    TOLD_ALGORITHM,
    VERIFY,
    WARP,
    WORKERS,
    Algorithm,
    Format,
    Gray,
    Quality,
    bound_of,
    part_of,
)
from kinema.console import show

_EXTRACT = "extract"


flow_app = typer.Typer(
    cls=unless_named(_EXTRACT),
    rich_markup_mode=None,
    help="Store the optical flow of every video, one small file each.",
)


@flow_app.command(_EXTRACT)
def extract(
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    algorithm: Annotated[Algorithm, ALGORITHM] = Algorithm.dis,
    weights: Annotated[Path | None, MOTION_WEIGHTS] = None,
    bound: Annotated[str, FLOW_BOUND] = "",
    size: Annotated[str, FLOW_SIZE] = "short:256",
    stride: Annotated[int, STRIDE] = 1,
    gray: Annotated[Gray, GRAY] = Gray.after,
    warp: Annotated[bool, WARP] = False,
    quality: Annotated[Quality, typer.Option(help="Of the stored flow.")] = Quality.standard,
    layout: Annotated[Format, FORMAT] = Format.store,
    workers: Annotated[int, WORKERS] = 0,
    shard: Annotated[str, SHARD] = "0/1",
    ray: Annotated[str, RAY] = "",
    verify: Annotated[bool, VERIFY] = False,
) -> None:
    """Store the optical flow of every video, one small file each.

    It can be stopped at any moment: the same command goes on from there. `kinema flow convert`
    packs the flow folders of older tools.
    """
    from kinema.flow.options import FlowOptions

    if verify:
        show_faults(api.verify_flow(index_folder, out))
        return
    options = FlowOptions(
        algorithm=algorithm.value,
        weights=str(weights.absolute()) if weights else "",
        **bound_of(bound, layout.value),
        size=size,
        stride=stride,
        gray=gray.value,
        warp=warp,
        quality=quality.value,
        format=layout.value,
    )
    summary = api.extract_flow(
        index_folder,
        out,
        options=options,
        workers=workers or None,
        shard=part_of(shard),
        ray=ray,
    )
    show(summary.describe())
    if summary.failures:
        raise typer.Exit(1)


@flow_app.command()
def convert(
    source: Annotated[Path, OLD_FLOW],
    out: Annotated[Path, OUT],
    bound: Annotated[float, BOUND] = 20.0,
    algorithm: Annotated[str, TOLD_ALGORITHM] = "unknown",
    index_folder: Annotated[Path | None, IDS_OF_INDEX] = None,
    quality: Annotated[Quality, typer.Option(help="Of the stored flow.")] = Quality.standard,
    workers: Annotated[int, WORKERS] = 0,
) -> None:
    """Pack the flow images of older tools into stores, one small file per video.

    Folders of JPEG or PNG pairs, zips (also in parts) and HDF5 files are found by themselves.
    """
    summary = api.convert_flow(
        source,
        out,
        bound=bound,
        algorithm=algorithm,
        index_folder=index_folder,
        quality=quality.value,
        workers=workers or None,
    )
    show(summary.describe())
    if summary.failures:
        raise typer.Exit(1)
