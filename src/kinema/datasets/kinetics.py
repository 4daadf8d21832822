"""Kinetics-400, 600 and 700: CSV files with the columns label, youtube_id, time_start, time_end."""

import csv
from pathlib import Path

from kinema.datasets.list_files import ListFolder, header, part_in_name
from kinema.datasets.listing import part_name
from kinema.datasets.named import Entry, Lists, id_part, unique
from kinema.errors import KinemaError

_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})
_OTHER_NAMES = {"validate": "val", "holdout": "test"}


def is_kinetics(folder: ListFolder) -> bool:
    """Tell whether a folder holds the CSV files of Kinetics."""
    return bool(_files(folder))


def read_kinetics(folder: ListFolder) -> Lists:
    """Read the lists of all parts; classes are sorted by name.

    Videos are called ``ID_START_END`` (seconds, six digits each), as the archives have them, or by
    the id alone; their folder is the class with spaces or ``_``, or any other. A file whose rows
    have no label (the test part of some editions) gives videos to leave out.

    Raises:
        KinemaError: a row has another number of columns than the header, or no part or time.
    """
    entries = unique(entry for path in _files(folder) for entry in _entries(path))
    return Lists(entries=entries, classes=tuple(sorted({e.label for e in entries if e.label})))


def _files(folder: ListFolder) -> list[Path]:
    return [path for path in folder.matching(r".*\.csv") if set(header(path)) >= _COLUMNS]


def _entries(path: Path) -> list[Entry]:
    entries = []
    columns = header(path)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        next(reader)
        for values in reader:
            where = f"{path} line {reader.line_num}"
            if not values:
                continue
            if len(values) != len(columns):
                raise KinemaError(
                    f"{where} has {len(values)} columns, its first line {len(columns)} "
                    f"({', '.join(columns)}). Correct the line."
                )
            row = dict(zip(columns, (value.strip() for value in values), strict=True))
            entries.append(_entry(row, path, where))
    return entries


def _entry(row: dict[str, str], path: Path, where: str) -> Entry:
    label, video = row.get("label", ""), row["youtube_id"]
    try:
        start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
    except ValueError as error:
        raise KinemaError(
            f"{where}: the times '{row['time_start']}' and '{row['time_end']}' are not seconds."
        ) from error
    told = row.get("split", "").lower()
    part = part_name(told) or _OTHER_NAMES.get(told, "") or part_in_name(path)
    if not part:
        raise KinemaError(
            f"{where}: neither the column split ('{told}') nor the name of the file says train, "
            "val or test. Rename the file, as train.csv."
        )
    name = f"{video}_{start:06d}_{end:06d}"
    folder = f"{id_part(label)}/" if label else ""
    return Entry(
        id=folder + name, label=label, splits=(part,), keys=(folder + name, folder + video)
    )
