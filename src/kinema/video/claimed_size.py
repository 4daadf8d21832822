"""How long a file should be by what its own container says: the quick test for truncation."""

from pathlib import Path
from typing import BinaryIO

_EBML_ID = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"
_MOST_BOXES = 10_000


def claimed_size(path: Path) -> int | None:
    """Return the size in bytes that MP4 boxes, RIFF or Matroska headers speak of.

    None where the container is another one or was written without sizes (a live recording).
    """
    with path.open("rb") as handle:
        head = handle.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
            return _mp4_size(handle, path.stat().st_size)
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            return 8 + size if 0 < size < 0xFFFFFFF0 else None
        if head[:4] == _EBML_ID:
            return _matroska_size(handle)
    return None


def _mp4_size(handle: BinaryIO, file_size: int) -> int | None:
    at = 0
    for _ in range(_MOST_BOXES):
        handle.seek(at)
        header = handle.read(16)
        if len(header) < 8 or not header[4:8].isalnum():  # the end, or what is no box at all
            break
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:  # 0: the box goes to the end of the file
            return None
        at += size
        if at >= file_size:
            break
    return at


def _matroska_size(handle: BinaryIO) -> int | None:
    handle.seek(4)
    header_size = _vint(handle)
    if header_size is None:
        return None
    handle.seek(header_size, 1)
    if handle.read(4) != _SEGMENT_ID:
        return None
    size = _vint(handle)
    return None if size is None else handle.tell() + size


def _vint(handle: BinaryIO) -> int | None:
    """Read an EBML size; None if it is not known (all ones)."""
    first = handle.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(
        bytes([first[0] & ((1 << (8 - length)) - 1)]) + handle.read(length - 1), "big"
    )
    return None if value == (1 << (7 * length)) - 1 else value
