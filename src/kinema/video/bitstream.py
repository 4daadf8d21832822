"""Which coded pictures others depend on: the few header bits of H.264 and MPEG-4 that say so.

Containers tell where a packet lies, not whether decoding can start there without a trace of
what came before, nor whether a picture may be left out because no other picture refers to it.
Sources: ITU-T H.264 section 7.3.1 (NAL units); ISO/IEC 14496-2 section 6.2.5 (VOPs) and the
"packed bitstream" of DivX and XviD, which puts two VOPs in one AVI chunk and an empty one after.
"""

import re
from typing import NamedTuple

_START = b"\x00\x00\x01"
_VOP_START = b"\x00\x00\x01\xb6"
_B_VOP = 2
_B_SLICE = 1
_PACKED = re.compile(rb"\x00\x00\x01\xb2DivX\d+(?:Build|b)\d+p")
_NAL_IDR = 5
_NAL_LAST_SLICE = 5

SMALLEST_CODED_VOP_BYTES = 20
"""A VOP below this size may be an empty placeholder, for which a decoder gives no picture."""


class Picture(NamedTuple):
    """What the header of an H.264 picture says."""

    restarts: bool  # an IDR picture: nothing after it refers to anything before it
    referenced: bool  # other pictures may refer to it
    bidirectional: bool  # made of B slices: shown before a picture that was decoded earlier


def h264_length_size(extradata: bytes | None) -> int:
    """Return the bytes of a NAL unit's length field (MP4 style), or 0 for start codes."""
    if extradata and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    return 0


def h264_picture(data: bytes, *, length_size: int) -> Picture:
    """Read the header of a packet's first slice; for `length_size` see `h264_length_size`."""
    at = _first_slice_mp4(data, length_size) if length_size else _first_slice(data)
    if at is None:
        return Picture(restarts=False, referenced=True, bidirectional=True)
    header = data[at]
    bits = int.from_bytes(data[at + 1 : at + 9].ljust(8, b"\0"), "big")
    _, left = _exp_golomb(bits, 64)  # first_mb_in_slice
    slice_type, _ = _exp_golomb(bits, left)
    return Picture(
        restarts=header & 31 == _NAL_IDR,
        referenced=header & 0x60 != 0,
        bidirectional=slice_type % 5 == _B_SLICE,
    )


def _exp_golomb(bits: int, left: int) -> tuple[int, int]:
    """Read an unsigned Exp-Golomb code from the last `left` bits; return it and what is left."""
    rest = bits & ((1 << left) - 1)
    zeros = left - rest.bit_length()
    left = max(left - 2 * zeros - 1, 0)
    return (rest >> left) - 1, left


def _first_slice(data: bytes) -> int | None:
    at = data.find(_START)
    while 0 <= at < len(data) - 3:
        if 1 <= data[at + 3] & 31 <= _NAL_LAST_SLICE:
            return at + 3
        at = data.find(_START, at + 3)
    return None


def _first_slice_mp4(data: bytes, length_size: int) -> int | None:
    at = 0
    while at + length_size < len(data):
        if 1 <= data[at + length_size] & 31 <= _NAL_LAST_SLICE:
            return at + length_size
        at += length_size + int.from_bytes(data[at : at + length_size], "big")
    return None


def is_packed(headers: bytes) -> bool:
    """Whether MPEG-4 headers announce a packed bitstream (two VOPs in one packet)."""
    return _PACKED.search(headers) is not None


def find_vop(data: bytes, start: int = 0) -> int:
    """Return where the next VOP of an MPEG-4 packet starts, in bytes; -1 if there is none."""
    return data.find(_VOP_START, start, len(data) - 1)


def is_b_vop(data: bytes, offset: int) -> bool:
    """Whether the VOP at `offset` is bidirectional: no other VOP ever refers to it."""
    return data[offset + len(_VOP_START)] >> 6 == _B_VOP


def vop_display_order(bidirectional: list[bool]) -> list[int] | None:
    """Return the place in display order of each VOP, given in decoding order.

    A B-VOP is shown at once, any other when the next one that is not B arrives. None if a B-VOP
    comes before there are two pictures to refer to: such a VOP gives no picture.
    """
    order = [0] * len(bidirectional)
    shown, held, num_references = 0, -1, 0
    for number, is_b in enumerate(bidirectional):
        if is_b and num_references < 2:
            return None
        if is_b:
            order[number], shown = shown, shown + 1
            continue
        if held >= 0:
            order[held], shown = shown, shown + 1
        held, num_references = number, num_references + 1
    if held >= 0:
        order[held] = shown
    return order
