"""A CSV of videos: columns path and label; group, split, id, split1..3, segments where present."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.index import CLASSES_FILE, INDEX_FILE, absolute, read_classes
from kinema.datasets.listing import Listed, Listing, id_of, part_name
from kinema.datasets.span import row_span, span_suffix
from kinema.errors import KinemaError
from kinema.video.images import is_there

_REQUIRED = ("path", "label")


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a CSV file, column names in lower case, all values stripped."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]  # line in the file of each row

    def where(self, row: int) -> str:
        """Name the place of a row for a message."""
        return f"{self.path} line {self.lines[row]}"


def table_path(data: Path) -> Path | None:
    """Return the CSV that `data` is or holds as index.csv, or None."""
    if data.is_file() and data.suffix.lower() == ".csv":
        return data
    inside = data / INDEX_FILE
    return inside if inside.is_file() else None


def read_table(path: Path) -> Table:
    """Read a CSV file with a header, separated by commas or semicolons.

    Raises:
        KinemaError: not text, a required column is missing or there is no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KinemaError(f"{path} cannot be read as a UTF-8 text table: {error}.") from error
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = tuple((name or "").strip().lower() for name in reader.fieldnames or ())
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise KinemaError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)}: "
            f"its first line holds {', '.join(columns) or 'nothing'}. Needed are path and label; "
            "group, split and id are used where they are."
        )
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    for row in reader:
        values = [row.get(name) for name in reader.fieldnames or ()]
        rows.append({c: (v or "").strip() for c, v in zip(columns, values, strict=True)})
        lines.append(reader.line_num)
    if not rows:
        raise KinemaError(f"{path} has a header but no rows: nothing to index.")
    return Table(path=path, columns=columns, rows=tuple(rows), lines=tuple(lines))


def list_table(table: Table, *, group_column: str = "group") -> Listing:
    """List the videos of a table; relative paths count from the table's folder.

    Rows whose file is not there are rejected. Classes are in the order of a `classes.txt` beside
    the table, otherwise sorted.

    Args:
        table: what `read_table` returned.
        group_column: column that holds the group, used where present.

    Raises:
        KinemaError: an empty path or label, an unknown or partly missing split, an id that is
            there twice, a label that `classes.txt` lacks, or no file at all is there.
    """
    split_columns = _split_columns(table)
    videos: list[Listed] = []
    rejected: list[tuple[Path, str]] = []
    first: dict[str, str] = {}
    for i, row in enumerate(table.rows):
        video = _listed(table, i, split_columns, group_column)
        if video.id in first:
            raise KinemaError(
                f"{table.where(i)}: the id '{video.id}' is there already ({first[video.id]}). "
                "Remove one of the rows, or tell them apart in a column 'id'."
            )
        first[video.id] = table.where(i)
        if is_there(video.path):
            videos.append(video)
        else:
            rejected.append((video.path, f"no such file (line {table.lines[i]}: {row['path']})"))
    if not videos:
        raise KinemaError(
            f"None of the {len(rejected)} files of {table.path} is there, the first is "
            f"{rejected[0][0]}. Paths count from the folder of the table."
        )
    return Listing(videos=tuple(videos), classes=_classes(table, videos), rejected=tuple(rejected))


def _split_columns(table: Table) -> list[str]:
    """Return split1, split2, … or split; a partly filled 'split' alone is an error."""
    columns: list[str] = []
    while f"split{len(columns) + 1}" in table.columns:
        columns.append(f"split{len(columns) + 1}")
    if columns or "split" not in table.columns:
        return columns
    without = [i for i, row in enumerate(table.rows) if not row["split"]]
    if without and len(without) < len(table.rows):
        raise KinemaError(
            f"{table.where(without[0])}: the split is empty, and in {len(without) - 1} other rows "
            f"of {len(table.rows)}. Fill it in every row (train, val or test) or in none."
        )
    return ["split"]


def _listed(table: Table, i: int, split_columns: Sequence[str], group_column: str) -> Listed:
    row = table.rows[i]
    for name in _REQUIRED:
        if not row[name]:
            raise KinemaError(f"{table.where(i)}: the {name} is empty. Fill it or remove the row.")
    splits = tuple(_part(table, i, name) for name in split_columns)
    relative = Path(row["path"].replace("\\", "/"))
    span = row_span(row, table.where(i))
    return Listed(
        id=_safe_id(table, i, row.get("id", ""))
        or id_of(relative, is_folder=(table.path.parent / relative).is_dir()) + span_suffix(span),
        path=absolute(table.path.parent / relative),
        label=row["label"],
        split=splits[0] if splits else "",
        # Segments of one video stay together where parts are yet to be made.
        group=row.get(group_column, "") or (id_of(relative) if span and not splits else ""),
        splits=splits if split_columns != ["split"] else (),
        span=span,
    )


def _part(table: Table, i: int, column: str) -> str:
    value = table.rows[i][column]
    part = part_name(value)
    if value and not part:
        raise KinemaError(
            f"{table.where(i)}: the {column} '{value}' is not one of train, val, test. Correct it."
        )
    return part


def _safe_id(table: Table, i: int, id: str) -> str:
    if id.startswith("/") or ".." in id.split("/") or "\\" in id:
        raise KinemaError(
            f"{table.where(i)}: the id '{id}' cannot become a file name. Use letters, digits, "
            "'_', '-' and '/' between folders."
        )
    return id


def _classes(table: Table, videos: Sequence[Listed]) -> tuple[str, ...]:
    labels = {video.label for video in videos}
    path = table.path.with_name(CLASSES_FILE)
    if not path.is_file():
        return tuple(sorted(labels))
    classes = read_classes(path)
    unknown = sorted(labels - set(classes))
    if unknown:
        raise KinemaError(
            f"{table.path} has the label '{unknown[0]}', which {path} does not list. Add it there, "
            "correct the rows, or remove that file to use the labels in alphabetical order."
        )
    return tuple(name for name in classes if name in labels)
