"""The files of a fusion that is learned: those that are fused, and those that it learns from."""

from collections.abc import Sequence
from pathlib import Path

from kinema.errors import KinemaError
from kinema.fusion_tables import Stream
from kinema.score_formats.old_features import are_features, read_any_features
from kinema.score_formats.read import read_any_scores


def read_streams(
    paths: Sequence[Path],
    train_on: Sequence[Path],
    *,
    ids: Path | None = None,
    classes: Path | None = None,
) -> tuple[list[Stream], list[Stream]]:
    """Read score or feature files, of Kinema or of older systems.

    Args:
        paths: what is fused.
        train_on: what is learned from.
        ids: list of the videos of `paths`, for files of older systems.
        classes: their class names, in order.

    Raises:
        KinemaError: a file is on both sides, or cannot be read.
    """
    fused = {path.resolve() for path in paths}
    for path in train_on:
        if path.resolve() in fused:
            raise KinemaError(
                f"{path} is fused and trained on: a fusion is never trained on the videos that it "
                "is tested on. Train on the file of the validation part."
            )
    return (
        [read_stream(path, ids=ids, classes=classes) for path in paths],
        [read_stream(path, classes=classes) for path in train_on],
    )


def read_stream(path: Path, *, ids: Path | None = None, classes: Path | None = None) -> Stream:
    """Read one score or feature file; see `read_streams`."""
    if are_features(path):
        return read_any_features(path, ids=ids, classes=classes)
    return read_any_scores(path, ids=ids, classes=classes)
