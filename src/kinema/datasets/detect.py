"""Which layout lies in a folder, and what it lists."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from kinema.datasets.adapters import ADAPTERS, detect_adapter, read_lists
from kinema.datasets.folder import LAYOUTS, list_folder
from kinema.datasets.frame_counts import with_frame_counts
from kinema.datasets.hmdb51 import hmdb51_lists, list_hmdb51
from kinema.datasets.index import absolute
from kinema.datasets.layouts import frames_root
from kinema.datasets.listing import Listed, Listing
from kinema.datasets.named import present
from kinema.datasets.names import DatasetName
from kinema.datasets.splits import groups_by_pattern
from kinema.datasets.table import list_table, read_table, table_path
from kinema.datasets.ucf101 import list_ucf101, ucf101_lists
from kinema.errors import KinemaError, UsageError, did_you_mean
from kinema.video.images import is_images


def list_data(
    data: Path,
    *,
    dataset: DatasetName,
    splits_folder: Path | None,
    group: str,
    out: Path,
) -> Listing:
    """List the videos of `data` with the adapter that fits.

    Args:
        data: absolute path of a folder, or of a CSV file.
        dataset: the layout; "auto" looks at what is there.
        splits_folder: folder of lists that are not in `data`, or one list.
        group: regular expression on the id, or a column of the table; empty: what the layout says.
        out: where the index will be written; left out of the search.

    Raises:
        KinemaError: `data` is not there, or its content does not fit the layout.
    """
    if dataset not in get_args(DatasetName):
        raise UsageError(
            f"There is no data set layout '{dataset}': choose one of "
            f"{', '.join(get_args(DatasetName))}.{did_you_mean(dataset, get_args(DatasetName))}"
        )
    if not data.exists():
        raise KinemaError(f"The data folder {data} does not exist. Check the path.")
    chosen = detect(data, splits_folder) if dataset == "auto" else dataset
    if chosen == "csv":
        return _list_csv(data, group)
    _check_place(data, out)
    lists = absolute(splits_folder) if splits_folder else data
    if chosen == "ucf101":
        found = ucf101_lists(lists)
        listing = list_ucf101(data, _required(found, lists, "trainlist01.txt"), skip=out)
    elif chosen == "hmdb51":
        found = hmdb51_lists(lists)
        listing = list_hmdb51(data, _required(found, lists, "CLASS_test_split1.txt"), skip=out)
    elif chosen in ADAPTERS:
        listing = present(data, read_lists(chosen, lists), skip=out)
    else:
        return _with_groups(list_folder(frames_root(data), skip=out), group)
    return _with_groups(with_frame_counts(listing, lists), group)


def detect(data: Path, splits_folder: Path | None = None) -> DatasetName:
    """Return the layout of `data`: a table first, then official lists, else a folder per class.

    Raises:
        KinemaError: `data` is a file that is not a CSV, or `splits_folder` holds no lists.
    """
    lists = splits_folder or data
    if data.is_file() and table_path(data) is None and not (splits_folder and is_images(data)):
        raise KinemaError(f"{data} is a file: give the folder that holds the videos. {LAYOUTS}")
    if not splits_folder and table_path(data):
        return "csv"
    if ucf101_lists(lists):
        return "ucf101"
    if hmdb51_lists(lists):
        return "hmdb51"
    found = detect_adapter(lists) if lists.is_dir() or splits_folder else ""
    if splits_folder and not found:
        raise KinemaError(
            f"{splits_folder} holds no official lists: looked for trainlist01.txt (UCF101), "
            "CLASS_test_split1.txt (HMDB51), "
            f"{'; '.join(f'{adapter.looks_for} ({name})' for name, adapter in ADAPTERS.items())}, "
            "there and in the folders directly in it."
        )
    return cast(DatasetName, found or "folder")


def _required(lists: Path | None, searched: Path, name: str) -> Path:
    if lists is None:
        raise KinemaError(
            f"No {name} was found in {searched} or in a folder directly in it: "
            "give the folder of the official lists (--splits FOLDER)."
        )
    return lists


def _check_place(data: Path, out: Path) -> None:
    if out.is_relative_to(data) and len(out.relative_to(data).parts) != 1:
        raise KinemaError(
            f"The output {out} lies inside the data {data}: what is written there would be taken "
            "for videos the next time. Choose a folder outside."
        )


def _list_csv(data: Path, group: str) -> Listing:
    path = table_path(data)
    if path is None:
        raise KinemaError(f"{data} is not a CSV file and holds no index.csv. {LAYOUTS}")
    table = read_table(path)
    if group.lower() in table.columns:
        return list_table(table, group_column=group.lower())
    return _with_groups(list_table(table), group, columns=table.columns)


def _with_groups(listing: Listing, pattern: str, columns: Sequence[str] = ()) -> Listing:
    if not pattern:
        return listing
    videos: Sequence[Listed] = listing.videos
    groups = groups_by_pattern([video.id for video in videos], pattern, columns=columns)
    return replace(
        listing,
        videos=tuple(replace(v, group=group) for v, group in zip(videos, groups, strict=True)),
    )
