"""Where every member of a zip archive lies, in little memory.

Python's zipfile keeps about 600 bytes per member: 3 GB for the flow of UCF101, 4.9 million images.
Here the table of contents is read once, from beginning to end, and the caller keeps what it needs.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kinema.errors import KinemaError
from kinema.video.split_zip import is_first_part, open_split_zip

_END = struct.Struct("<4s4H2LH")
_END_64_PLACE = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 1 << 16
_IS_UTF8, _IS_ENCRYPTED = 0x800, 0x1
_STORED, _DEFLATED = 0, 8
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF


class Member(NamedTuple):
    """Where a member lies and how it is packed."""

    offset: int  # of its header in the archive
    size: int  # packed, bytes
    method: int
    checksum: int  # CRC-32 of the unpacked bytes


def open_archive(path: Path) -> BinaryIO:
    """Open an archive, whole or cut in pieces (given the first).

    Raises:
        KinemaError: it is missing, or a piece is.
    """
    if is_first_part(path):
        return open_split_zip(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise KinemaError(f"{path} cannot be read: {error.strerror}.") from error


def list_members(file: BinaryIO, path: Path) -> Iterator[tuple[str, Member]]:
    """Yield (name, place) of every file in an archive, in the order of its table of contents.

    Args:
        file: the open archive.
        path: names it in messages.

    Raises:
        KinemaError: it is no zip archive, or damaged, cut off or encrypted.
    """
    count, start = _table_of_contents(file, path)
    file.seek(start)

    for _ in range(count):
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or head[:4] != b"PK\x01\x02":
            raise KinemaError(_damaged(path))
        (_, _, _, flags, method, _, _, checksum, size, full_size, *lengths, _, offset) = (
            _ENTRY.unpack(head)
        )
        name_length, extra_length, comment_length = lengths[:3]
        raw_name = file.read(name_length)
        extra = file.read(extra_length)
        file.read(comment_length)
        name = raw_name.decode("utf-8" if flags & _IS_UTF8 else "cp437", "replace")
        if name.endswith("/"):
            continue
        if flags & _IS_ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise KinemaError(
                f"{path} holds {name} encrypted or packed by a method other than deflate: unpack "
                "it with the program that made it."
            )
        size, offset = _long_values(extra, full_size, size, offset)
        yield name, Member(offset, size, method, checksum)


def read_member(file: BinaryIO, member: Member, *, what: str) -> bytes:
    """Return the unpacked bytes of a member.

    Args:
        file: the open archive.
        member: its place.
        what: names it in messages.

    Raises:
        KinemaError: it is damaged.
    """
    file.seek(member.offset)
    head = file.read(_LOCAL.size)
    if len(head) == _LOCAL.size and head[:4] == b"PK\x03\x04":
        *_, name_length, extra_length = _LOCAL.unpack(head)
        file.seek(member.offset + _LOCAL.size + name_length + extra_length)
        data = file.read(member.size)
        try:
            unpacked = zlib.decompress(data, -15) if member.method == _DEFLATED else data
        except zlib.error:
            unpacked = b""
        if zlib.crc32(unpacked) == member.checksum:
            return unpacked
    raise KinemaError(f"{what} is damaged: its checksum is wrong. Download the archive again.")


def _table_of_contents(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Return the number of entries and the place of the first."""
    length = file.seek(0, io.SEEK_END)
    tail_start = max(0, length - _LONGEST_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise KinemaError(_damaged(path))
    _, disk, first_disk, _, count, _, start, _ = _END.unpack_from(tail, place)
    if disk not in (0, _FULL_16) or first_disk not in (0, _FULL_16):
        raise KinemaError(
            f"{path} is the last of several archives made by `zip -s`: join them first, by "
            f"`zip -s 0 {path.name} --out whole.zip`."
        )
    if count == _FULL_16 or start == _FULL_32:
        return _table_of_contents_64(file, tail_start + place, path)
    return count, start


def _table_of_contents_64(file: BinaryIO, end: int, path: Path) -> tuple[int, int]:
    file.seek(max(0, end - _END_64_PLACE.size))
    head = file.read(_END_64_PLACE.size)
    if head[:4] != b"PK\x06\x07":
        raise KinemaError(_damaged(path))
    _, _, place, _ = _END_64_PLACE.unpack(head)
    file.seek(place)
    record = file.read(_END_64.size)
    if len(record) < _END_64.size or record[:4] != b"PK\x06\x06":
        raise KinemaError(_damaged(path))
    *_, count, _, start = _END_64.unpack(record)
    return count, start


def _long_values(extra: bytes, full_size: int, size: int, offset: int) -> tuple[int, int]:
    """Return packed size and offset, from the field for archives over 4 GB where they are there."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            if full_size == _FULL_32:
                values.pop(0)
            if size == _FULL_32:
                size = values.pop(0)
            if offset == _FULL_32:
                offset = values.pop(0)
            break
        place += 4 + length
    return size, offset


def _damaged(path: Path) -> str:
    if is_first_part(path):
        return (
            f"{path} and the pieces beside it are no whole zip archive: the last piece is missing, "
            "or one is damaged. Download them again."
        )
    return f"{path} is not a whole zip archive: it is damaged or cut off. Download it again."
