"""The data sets whose lists are known: one line each, from name to functions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.activitynet import is_activitynet, read_activitynet
from kinema.datasets.charades import is_charades, read_charades
from kinema.datasets.diving48 import is_diving48, read_diving48
from kinema.datasets.kinetics import is_kinetics, read_kinetics
from kinema.datasets.list_files import ListFolder, list_folders
from kinema.datasets.lists_text import (
    counts_from_one,
    counts_from_zero,
    has_mmaction2,
    has_slim,
    has_tsn,
    has_two_columns,
    read_mmaction2,
    read_slim,
    read_tsn,
    read_two_column,
)
from kinema.datasets.moments import is_moments, read_moments
from kinema.datasets.named import Lists
from kinema.datasets.something_v2 import is_something_v2, read_something_v2
from kinema.datasets.twentybn import is_jester, is_something_v1, read_jester, read_something_v1
from kinema.errors import KinemaError


@dataclass(frozen=True)
class Adapter:
    """How the lists of a data set are found and read."""

    claims: Callable[[ListFolder], bool]  # are its lists in this folder?
    read: Callable[[ListFolder], Lists]
    looks_for: str  # in a message
    is_sure: Callable[[ListFolder], bool] | None = None  # instead of `claims`, where none is named


# In this order they are looked for: what is certain first.
ADAPTERS: dict[str, Adapter] = {
    "kinetics": Adapter(
        is_kinetics, read_kinetics, "CSV files with the columns youtube_id, time_start, time_end"
    ),
    "something-v1": Adapter(
        is_something_v1, read_something_v1, "something-something-v1-labels.csv"
    ),
    "something-v2": Adapter(
        is_something_v2, read_something_v2, "something-something-v2-labels.json"
    ),
    "jester": Adapter(is_jester, read_jester, "jester-v1-labels.csv"),
    "moments": Adapter(is_moments, read_moments, "moments_categories.txt"),
    "diving48": Adapter(is_diving48, read_diving48, "Diving48_V2_train.json"),
    "charades": Adapter(is_charades, read_charades, "Charades_v1_train.csv"),
    "activitynet": Adapter(is_activitynet, read_activitynet, "a JSON file with a 'database'"),
    "slim": Adapter(has_slim, read_slim, "train….txt with lines 'image … image class'"),
    "tsn": Adapter(has_tsn, read_tsn, "train….txt with lines 'path number-of-frames class'"),
    "mmaction2": Adapter(
        has_mmaction2,
        read_mmaction2,
        "train….txt with lines 'path class' (from 0)",
        counts_from_zero,
    ),
    "two-column": Adapter(
        has_two_columns,
        read_two_column,
        "train….txt with lines 'path class' (from 1)",
        counts_from_one,
    ),
}


def detect_adapter(place: Path) -> str:
    """Return the name of the data set whose lists are in a folder, or directly below; "" for none.

    Raises:
        KinemaError: there are lists that can be read in two ways.
    """
    folders = list_folders(place)
    for name, adapter in ADAPTERS.items():
        if any(map(adapter.is_sure or adapter.claims, folders)):
            return name
    return ""


def read_lists(name: str, place: Path) -> Lists:
    """Read the lists of a data set.

    Args:
        name: of `ADAPTERS`.
        place: the folder of the lists or one above it, or a list.

    Raises:
        KinemaError: there are none, or they are wrong.
    """
    adapter = ADAPTERS[name]
    folder = next((folder for folder in list_folders(place) if adapter.claims(folder)), None)
    if folder is None:
        raise KinemaError(
            f"No lists of {name} were found in {place} or in a folder directly in it: looked for "
            f"{adapter.looks_for}. Give the folder of the lists (--splits FOLDER)."
        )
    return adapter.read(folder)
