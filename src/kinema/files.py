"""Files appear whole or not at all: everything is written to a temporary name and renamed."""

import errno
import filecmp
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError


@contextmanager
def replacing(path: Path, *, unless_equal: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) and rename it to `path` at the end.

    On any error the temporary file is removed and an older `path` stays as it was.

    Args:
        path: what is written.
        unless_equal: an older file of the same bytes stays; waiting for the disk takes longer
            than comparing small files.

    Raises:
        KinemaError: the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not (unless_equal and path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explain(path: Path, error: OSError) -> KinemaError | OSError:
    if error.errno == errno.ENOSPC:
        return KinemaError(
            f"No space left on the disk while writing {path}: the file was not changed. "
            "Free some space and run the same command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return KinemaError(f"Cannot write {path}: permission denied. Choose another folder.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return KinemaError(
            f"Cannot write {path}: there is a folder of this name, or a file where a folder is "
            "needed. Choose another name."
        )
    return error


def write_text(path: Path, text: str, *, unless_equal: bool = False) -> None:
    """Write `text` to `path`, whole or not at all; see `replacing`."""
    with replacing(path, unless_equal=unless_equal) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read JSON; a file that is not JSON is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise KinemaError(f"{path} is not a JSON file: {error}") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
