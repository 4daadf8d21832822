"""Unpacking: an archive's files appear in their folder when all of it was read, or not at all."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from kinema.datasets.archives import (
    explained,
    kind_of,
    open_pieces,
    tar_files,
    zip_bytes,
    zip_files,
)
from kinema.datasets.unpack_rar import unpack_rar
from kinema.errors import KinemaError

_BLOCK_BYTES = 1 << 20
_NESTED = (".rar", ".zip", ".tar", ".tar.gz", ".tgz")


def unpack(archive: Path, folder: Path, *, flat: bool = False, nested: bool = False) -> int:
    """Unpack a zip, tar (compressed or not) or RAR archive and return the number of files.

    Everything is written to a hidden folder inside `folder` first and moved when it is complete;
    files of the same names are replaced.

    Args:
        archive: the file; of an archive in pieces the first one (``x.zip.001``).
        folder: where to; made if it is missing.
        flat: leave the archive's own folders out.
        nested: archives in it are unpacked too, each where it lies, and removed.

    Raises:
        KinemaError: it is no archive, is cut short or damaged, holds links or a file that would
            lie outside `folder`, no program for it is installed, or the disk is full.
    """
    with _staging(folder, archive.name) as staging:
        _unpack_into(archive, staging)
        if nested:
            for inner in sorted(p for p in staging.rglob("*") if p.name.endswith(_NESTED)):
                _unpack_into(inner, inner.parent)
                inner.unlink()
        return _move_files(staging, folder, flat=flat)


def unpack_stream(stream: BinaryIO, name: str, folder: Path) -> int:
    """Unpack a tar archive (compressed or not) while it is read; see `unpack`.

    Args:
        stream: the archive, read once from its beginning.
        name: of the archive, for messages.
        folder: where to.
    """
    with _staging(folder, name) as staging:
        _write_files(tar_files(stream, name), staging, name=name)
        return _move_files(staging, folder, flat=False)


def _unpack_into(archive: Path, folder: Path) -> None:
    kind = kind_of(archive)
    if kind == "rar":
        unpack_rar(archive, folder)
    elif kind == "zip":
        needed, free = zip_bytes(archive), shutil.disk_usage(folder).free
        if needed > free:
            raise KinemaError(
                f"{archive.name} needs {needed / 1e9:.1f} GB unpacked, but {folder} has "
                f"{free / 1e9:.1f} GB left. Free some space and run the same command again."
            )
        _write_files(zip_files(archive), folder, name=archive.name)
    else:
        with open_pieces(archive) as stream:
            _write_files(tar_files(stream, archive.name), folder, name=archive.name)


def _write_files(
    files: Iterator[tuple[PurePosixPath, IO[bytes]]], folder: Path, *, name: str
) -> None:
    with explained(name):
        for inner, content in files:
            path = folder / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as handle:
                shutil.copyfileobj(content, handle, _BLOCK_BYTES)


@contextmanager
def _staging(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new hidden folder in `folder`, which is gone at the end, with all that is in it."""
    staging = folder / f".unpacking-{name}"
    try:
        if staging.exists():  # of a run that was killed
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise KinemaError(
                f"No space left on the disk while unpacking {name} to {folder}: nothing of it was "
                "kept. Free some space and run the same command again."
            ) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_files(staging: Path, folder: Path, *, flat: bool) -> int:
    files = [path for path in staging.rglob("*") if path.is_file()]
    for path in files:
        target = folder / (path.name if flat else path.relative_to(staging))
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    return len(files)
