"""What is in an archive: its kind by its first bytes, its files as streams, each name checked."""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Literal, cast

from kinema.errors import KinemaError
from kinema.video.split_zip import SplitFile, split_parts

ArchiveKind = Literal["zip", "tar", "rar"]
_DRIVE = re.compile(r"^[A-Za-z]:")
_FIRST_PIECE = re.compile(r".*\.0*1")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_RAR = b"Rar!\x1a\x07"
_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_TAR_MARK, _TAR_MARK_OFFSET, _TAR_BLOCK = b"ustar", 257, 512
_BLOCK_BYTES = 1 << 20
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
)


class DamagedArchiveError(KinemaError):
    """An archive that is cut short or damaged."""


@contextmanager
def open_pieces(path: Path) -> Iterator[BinaryIO]:
    """Open an archive, whole or (given the first piece, ``….001``) cut in pieces, as one file.

    Raises:
        KinemaError: it or a piece is missing or cannot be read.
    """
    try:
        whole: BinaryIO = (
            io.BufferedReader(SplitFile(split_parts(path)))
            if _FIRST_PIECE.fullmatch(path.name)
            else path.open("rb")
        )
    except OSError as error:
        raise KinemaError(f"{path} cannot be read: {error.strerror}.") from error
    with whole:
        yield whole


def kind_of(path: Path) -> ArchiveKind:
    """Return the kind of an archive, which its name may not tell.

    Raises:
        KinemaError: it is none that can be unpacked.
    """
    with open_pieces(path) as whole:
        head = whole.read(_TAR_MARK_OFFSET + len(_TAR_MARK))
    if head.startswith(_ZIP):
        return "zip"
    if head.startswith(_RAR):
        return "rar"
    if head.startswith(tuple(_COMPRESSED)) or head[_TAR_MARK_OFFSET:] == _TAR_MARK:
        return "tar"
    raise KinemaError(
        f"{path} is not an archive (zip, tar, tar.gz or rar): it begins with {head[:8]!r}. "
        "Perhaps the server sent a page instead of the file: remove it and fetch it again."
    )


def safe_name(name: str, archive: str) -> PurePosixPath:
    """Return the path of a member below the folder that it is unpacked to.

    Raises:
        KinemaError: it would be written outside of that folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name) or "\0" in name:
        raise KinemaError(
            f"{archive} holds the file '{name}', which lies outside the folder that it is unpacked "
            "to: nothing of this archive was unpacked. Do not use it."
        )
    return path


def zip_files(path: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield name and content of each file of a zip archive, in one piece or cut in many.

    To be used within `explained`.

    Raises:
        KinemaError: it is encrypted, or holds links or names that are not safe.
    """
    with open_pieces(path) as whole, zipfile.ZipFile(whole) as archive:
        for entry in archive.infolist():
            name = safe_name(entry.filename, path.name)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _no_file(path.name, entry.filename)
            if entry.flag_bits & 0x1:
                raise KinemaError(f"{path} is encrypted: unpack it by other means.")
            if not entry.is_dir():
                with archive.open(entry) as content:
                    yield name, content


def zip_bytes(path: Path) -> int:
    """Return how many bytes a zip archive has when it is unpacked."""
    with explained(path.name), open_pieces(path) as whole, zipfile.ZipFile(whole) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def tar_files(stream: BinaryIO, name: str) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield name and content of each file of a tar archive, compressed or not, while it is read.

    The archive is read to its very end, so that checksums and the closing mark are seen. To be
    used within `explained`.

    Args:
        stream: read from its beginning, never backwards.
        name: of the archive, for messages.

    Raises:
        KinemaError: it holds links or names that are not safe.
    """
    plain = _EndSeen(_decompressed(stream))
    with tarfile.open(fileobj=cast("IO[bytes]", plain), mode="r|") as archive:
        for entry in archive:
            path = safe_name(entry.name, name)
            if entry.isdir():
                continue
            content = archive.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise _no_file(name, entry.name)
            yield path, content
        end = archive.offset
    plain.read_to_end()
    if not plain.is_closed_at(end):
        raise EOFError("its closing mark is missing")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the readers of archives raise into one sentence.

    Raises:
        DamagedArchiveError: the archive is cut short or damaged.
    """
    try:
        yield
    except _DAMAGE as error:
        raise DamagedArchiveError(
            f"{name} is cut short or damaged ({error or 'unexpected end'}): nothing of it was "
            "unpacked."
        ) from error
    except NotImplementedError as error:
        raise KinemaError(f"{name} cannot be unpacked: {error}.") from error


def _decompressed(stream: BinaryIO) -> BinaryIO:
    head = io.BufferedReader(stream)  # type: ignore[type-var]
    start = head.peek(8)[:8]
    for mark, open_file in _COMPRESSED.items():
        if start.startswith(mark):
            return cast("BinaryIO", open_file(head))
    return cast("BinaryIO", head)


def _no_file(archive: str, name: str) -> KinemaError:
    return KinemaError(
        f"{archive} holds '{name}', which is a link or a device and no file: nothing of this "
        "archive was unpacked. Do not use it."
    )


class _EndSeen:
    """A stream that remembers how long it is and where its last byte is that is not zero.

    Python's tarfile ends without a word at a damaged header; whether the archive ended there is
    seen only by what follows.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = self._last = 0  # `_last`: one behind the last byte that is not zero

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        block = self._stream.read(size)
        used = len(block.rstrip(b"\0"))
        if used:
            self._last = self._length + used
        self._length += len(block)
        return block

    def read_to_end(self) -> None:
        """Read what is left."""
        while self.read(_BLOCK_BYTES):
            pass

    def is_closed_at(self, offset: int) -> bool:
        """Tell whether from `offset` on there is a block of zeros, and nothing else."""
        return self._length >= offset + _TAR_BLOCK and self._last <= offset
