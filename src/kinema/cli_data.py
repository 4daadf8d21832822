"""Commands that prepare data: index, stores of frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kinema import api
from kinema.cli_groups import unless_named
from kinema.cli_options import (
    DATA,
    DATASET,
    GROUP,
    IMAGE_FPS,
    INDEX,
    LIST_FORMAT,
    LIST_ROOT,
    MIN_FRAMES,
    OUT,
    SEED,
    SHARD,
    SHORT_SIDE,
    SPLITS,
    TEST_FRACTION,
    TEST_GROUPS,
    VAL_FRACTION,
    VERIFY,
    WORKERS,
    Dataset,
    ListFormat,
    Quality,
    part_of,
    words,
)
from kinema.console import show

_INDEX = "make"
index_app = typer.Typer(
    cls=unless_named(_INDEX),
    rich_markup_mode=None,
    help="List and check the videos, and divide them into parts.",
)


@index_app.command(_INDEX)
def index(
    data: Annotated[Path, DATA],
    out: Annotated[Path, OUT],
    dataset: Annotated[Dataset, DATASET] = Dataset.auto,
    splits: Annotated[Path | None, SPLITS] = None,
    group: Annotated[str, GROUP] = "",
    test_fraction: Annotated[float, TEST_FRACTION] = 0.2,
    val_fraction: Annotated[float, VAL_FRACTION] = 0.15,
    test_groups: Annotated[str, TEST_GROUPS] = "",
    min_frames: Annotated[int, MIN_FRAMES] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on any bad file.")] = False,
    fps: Annotated[float, IMAGE_FPS] = 0.0,
    seed: Annotated[int, SEED] = 0,
) -> None:
    """List and check the videos, and divide them into parts.

    Writes index.csv, classes.txt, and rejected.csv with every file that cannot be used.
    """
    from kinema.datasets.splits import SplitRule

    rule = SplitRule(
        group=group,
        test_fraction=test_fraction,
        val_fraction=val_fraction,
        test_groups=words(test_groups),
        seed=seed,
    )
    report = api.index(
        data,
        out,
        dataset=dataset.value,
        splits_folder=splits,
        rule=rule,
        min_frames=min_frames,
        strict=strict,
        fps=fps,
    )
    show("\n".join(report.messages))


@index_app.command()
def export(
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    layout: Annotated[ListFormat, LIST_FORMAT],
    root: Annotated[str, LIST_ROOT] = "",
) -> None:
    """Write the lists of an older tool, so that it reads the same videos in the same parts."""
    paths = api.export_index(index_folder, out, format=layout.value, root=root)
    show("\n".join(map(str, paths)))


def pack(
    index_folder: Annotated[Path, INDEX],
    out: Annotated[Path, OUT],
    short_side: Annotated[int, SHORT_SIDE] = 256,
    quality: Annotated[Quality, typer.Option(help="Of the stored frames.")] = Quality.standard,
    workers: Annotated[int, WORKERS] = 0,
    shard: Annotated[str, SHARD] = "0/1",
    verify: Annotated[bool, VERIFY] = False,
) -> None:
    """Store the frames of every video so that any of them is read fast.

    One small file per video, for training on videos with few keyframes. It can be stopped at any
    moment: the same command goes on from there.
    """
    if verify:
        show_faults(api.verify_pack(index_folder, out))
        return
    summary = api.pack(
        index_folder,
        out,
        short_side=short_side or None,
        quality=quality.value,
        workers=workers or None,
        shard=part_of(shard),
    )
    show(summary.describe())
    if summary.failures:
        raise typer.Exit(1)


def show_faults(bad: Sequence[tuple[str, str]]) -> None:
    """Show what a check of stores found; leave with exit code 1 where that is anything."""
    show("\n".join(f"{video}: {reason}" for video, reason in bad) or "All stores are whole.")
    if bad:
        raise typer.Exit(1)
