"""The command that writes videos as folders of images: `kinema frames`."""

from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_options import OUT, SHARD, WORKERS, FrameLayout, ImageFormat, part_of
from kinema.console import show

SOURCE = typer.Argument(metavar="VIDEOS", help="Index, folder of videos, or one video.")
LAYOUT = typer.Option(
    metavar="NAME", help=f"Whose layout: {', '.join(item.value for item in FrameLayout)}."
)
SIZE = typer.Option(metavar="SIZE", help="height:H, short:S, WxH; or none.")
FPS = typer.Option(min=0, metavar="NUMBER", help="Frames per second; 0: all.")
EVERY = typer.Option(min=1, metavar="NUMBER", help="Every so many frames, from the first.")
JPEG_QUALITY = typer.Option(min=1, max=100, metavar="NUMBER", help="Of jpg.")


def frames(
    source: Annotated[Path, SOURCE],
    out: Annotated[Path, OUT],
    layout: Annotated[FrameLayout, LAYOUT],
    size: Annotated[str, SIZE] = "none",
    fps: Annotated[float, FPS] = 0.0,
    every: Annotated[int, EVERY] = 1,
    image: Annotated[
        ImageFormat, typer.Option("--format", help="Of the images.")
    ] = ImageFormat.jpg,
    quality: Annotated[int, JPEG_QUALITY] = 95,
    workers: Annotated[int, WORKERS] = 0,
    shard: Annotated[str, SHARD] = "0/1",
) -> None:
    """Write videos as images, in the layout of an older system.

    It can be stopped at any moment: the same command goes on from there. Videos are never changed.
    Flow in such layouts: `kinema flow INDEX --format NAME`.
    """
    from kinema.framing.options import FrameOptions

    options = FrameOptions(
        layout=layout.value,
        size=size,
        fps=fps,
        every=every,
        format=image.value,
        quality=quality,
    )
    summary = api.frames(
        source, out, options=options, workers=workers or None, shard=part_of(shard)
    )
    show(summary.describe())
    if summary.failures:
        raise typer.Exit(1)
