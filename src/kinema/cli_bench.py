"""Commands that measure: `kinema bench train`."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kinema import api
from kinema.cli_options import DEVICE, OVERRIDES, RECIPE, Modality
from kinema.console import show, table

if TYPE_CHECKING:
    from kinema.training_speed import TrainBench

NUM_CLASSES = typer.Option("--classes", min=1, metavar="NUMBER", help="Outputs of the network.")
STEPS = typer.Option(min=1, metavar="NUMBER", help="Optimiser steps that are timed.")
WARMUP = typer.Option(min=0, metavar="NUMBER", help="Steps before them that are not.")

bench_app = typer.Typer(rich_markup_mode=None, help="Measure speed and memory on this machine.")


@bench_app.callback()
def _group() -> None:
    """Keep `train` a command with a name although it is the only one."""


@bench_app.command()
def train(
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    recipe: Annotated[str, RECIPE] = "scratch",
    modality: Annotated[Modality, typer.Option(help="Which stream.")] = Modality.rgb,
    num_classes: Annotated[int, NUM_CLASSES] = 101,
    steps: Annotated[int, STEPS] = 10,
    warmup: Annotated[int, WARMUP] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Time training steps of a recipe on made-up clips; no data are needed.

    With model.save_memory=true, it is measured without and with it.
    """
    found = api.bench_train(
        recipe=recipe,
        modality=modality.value,
        overrides=overrides or (),
        num_classes=num_classes,
        steps=steps,
        warmup=warmup,
        device=device,
    )
    if as_json:
        show(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    else:
        _show(found)


def _show(found: "Sequence[TrainBench]") -> None:
    first = found[0]
    snippets, images, channels, height, width = first.clip_shape
    show(
        f"{first.backbone}, {first.modality}: {first.parameters / 1e6:.2f} M parameters "
        f"({first.trainable / 1e6:.2f} M trained), {first.multiply_adds / 1e9:.3g} G "
        "multiply-adds for a snippet forward."
    )
    show(
        f"A step has {first.clips_per_step} clips of {snippets} x {images} images of {channels} "
        f"channels, {width}x{height}; {first.device}, {first.precision}; median of "
        f"{first.steps} steps."
    )
    rows = [
        (
            "model.save_memory=true" if one.save_memory else "training",
            f"{one.clips_per_second:.4g}",
            f"{one.seconds_per_step:.4g}",
            "?" if one.peak_bytes is None else f"{one.peak_bytes / 2**20:.0f}",
        )
        for one in found
    ]
    table("", ("", "clips/s", "s/step", "peak MiB"), rows)
    show(f"Peak: {first.peak_is}.")
