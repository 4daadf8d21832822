"""MATLAB 5 matrices, as the Caffe tools for two-stream networks save them.

Only real matrices of floating-point class are read, by the published layout of the format: a
header of 128 bytes, then elements of a tag (type, number of bytes) and data padded to 8 bytes.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.score_formats.table import Table

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_DOUBLE, _SINGLE = 6, 7  # classes of arrays


class _Element(NamedTuple):
    kind: int
    data: bytes


def read_mat(path: Path) -> Table:
    """Read the one score matrix of a MATLAB 5 file, videos in the rows or in the columns.

    Raises:
        KinemaError: a MATLAB 7.3 file, none or several matrices, or a broken file.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER_BYTES])
    if order is None or content.startswith(b"MATLAB 7.3"):
        raise KinemaError(
            "it is a MATLAB 7.3 file or damaged. Save it again in MATLAB with save(..., '-v7')."
        )
    try:
        matrices = dict(_matrices(content[_HEADER_BYTES:], order))
    except (struct.error, zlib.error, ValueError) as error:
        raise KinemaError(f"it is not a MATLAB file that can be read ({error}).") from error
    if len(matrices) != 1:
        found = f": {', '.join(matrices)}" if matrices else ""
        raise KinemaError(
            f"it must hold one score matrix, but holds {len(matrices)}{found}. Save each to its "
            "own file."
        )
    values = next(iter(matrices.values()))
    return Table(values=values, source="MATLAB matrix", may_be_transposed=True)


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    """Split bytes into elements; short ones keep their data inside the tag."""
    place = 0
    while place + 8 <= len(data):
        (first,) = struct.unpack_from(f"{order}I", data, place)
        if first >> 16:
            start, kind, count = place + 4, first & 0xFFFF, first >> 16
            place += 8
        else:
            start, kind = place + 8, first
            (count,) = struct.unpack_from(f"{order}I", data, place + 4)
            place = start + count + (0 if kind == _COMPRESSED else -count % 8)
        if start + count > len(data):
            raise ValueError("it ends too early")
        yield _Element(kind, data[start : start + count])


def _matrices(data: bytes, order: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield name and values of the matrices that have more than one row and column."""
    for element in _elements(data, order):
        if element.kind == _COMPRESSED:
            yield from _matrices(zlib.decompress(element.data), order)
        elif element.kind == _MATRIX:
            parts = list(_elements(element.data, order))  # flags, sides, name, real part
            if len(parts) == 4 and _is_score_matrix(parts, order):
                yield _named_matrix(parts, order)


def _is_score_matrix(parts: list[_Element], order: str) -> bool:
    (flags,) = struct.unpack_from(f"{order}I", parts[0].data)
    sides = np.frombuffer(parts[1].data, f"{order}i4")
    return flags & 0xFF in (_DOUBLE, _SINGLE) and len(sides) == 2 and bool(sides.min() > 1)


def _named_matrix(parts: list[_Element], order: str) -> tuple[str, NDArray[np.float64]]:
    _, sides, name, stored = parts
    if stored.kind not in _STORED_AS:
        raise ValueError(f"it holds numbers of the unknown type {stored.kind}")
    flat = np.frombuffer(stored.data, f"{order}{_STORED_AS[stored.kind]}").astype(np.float64)
    shape = np.frombuffer(sides.data, f"{order}i4")
    return name.data.decode("latin1"), flat.reshape(shape, order="F")
