"""Charades and its like, in which a video has several labels: recognised, to say what is not."""

from typing import NoReturn

from kinema.datasets.list_files import ListFolder, header
from kinema.errors import KinemaError


def is_charades(folder: ListFolder) -> bool:
    """Tell whether a folder holds a CSV with the columns id and actions."""
    return any({"id", "actions"} <= set(header(path)) for path in folder.matching(r".*\.csv"))


def read_charades(folder: ListFolder) -> NoReturn:
    """Refuse.

    Raises:
        KinemaError: always.
    """
    raise KinemaError(
        f"The lists in {folder.path} give a video several labels (a column 'actions', as Charades "
        "has): training with several labels per video is not supported yet. For one label per "
        "piece, write a CSV with path, label, start_seconds and end_seconds, one row per action."
    )
