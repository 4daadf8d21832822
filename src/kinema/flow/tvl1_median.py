"""The 5 x 5 median of TV-L1: a fixed network of minima and maxima, many pixels at a time.

Every column of five is sorted once; then the rows of five such columns. That leaves 13 of the 25
values that can be the median. The rest of the network was found by deleting from a sorting network
what the 7776 sorted 0/1 inputs do not need.
"""

from kinema.flow.tvl1_numba import Planes, Row, Rows, Size, at, distinct, part


@part
def median5(planes: Planes, plane: int, scratch: Planes, size: Size) -> None:
    """Replace the picture in a plane by the median of 5 x 5 pixels, the border repeated.

    Args:
        planes: (planes, H+2, columns), columns a multiple of 16 above W; rows 1 to H and columns
            0 to W-1 are the picture, the columns behind it are 0 and stay so.
        plane: which one.
        scratch: (1, at least 8, columns + 16), overwritten.
        size: H and W.
    """
    height, width = size
    for y in range(1, height + 1):
        for x in range(width):
            scratch[0, 5 + y % 3, x] = planes[plane, y, x]  # for the two rows below
        rows = (
            at(scratch, 0, 5 + max(y - 2, 1) % 3, 0),
            at(scratch, 0, 5 + max(y - 1, 1) % 3, 0),
            at(planes, plane, y, 0),
            at(planes, plane, min(y + 1, height), 0),
            at(planes, plane, min(y + 2, height), 0),
        )
        ranks = (
            at(scratch, 0, 0, 0),
            at(scratch, 0, 1, 0),
            at(scratch, 0, 2, 0),
            at(scratch, 0, 3, 0),
            at(scratch, 0, 4, 0),
        )
        _sort_columns(rows, ranks, width)
        _middle(ranks, at(planes, plane, y, 0), width)


@part
def _sort_columns(rows: Rows, ranks: Rows, width: int) -> None:
    distinct()
    row0, row1, row2, row3, row4 = rows
    rank0, rank1, rank2, rank3, rank4 = ranks
    for x in range(width):
        rank0[x + 2], rank1[x + 2], rank2[x + 2], rank3[x + 2], rank4[x + 2] = _sorted(
            row0[x], row1[x], row2[x], row3[x], row4[x]
        )
    for rank in ranks:
        rank[0] = rank[1] = rank[2]
        rank[width + 2] = rank[width + 3] = rank[width + 1]


@part
def _middle(ranks: Rows, out: Row, width: int) -> None:
    """Write the median of the columns x to x+4; what no result needs is compiled away."""
    distinct()
    r0, r1, r2, r3, r4 = ranks
    whole = (width + 15) // 16 * 16
    for x in range(whole):
        _, _, _, d0, e0 = _sorted(r0[x], r0[x + 1], r0[x + 2], r0[x + 3], r0[x + 4])
        _, _, c1, d1, e1 = _sorted(r1[x], r1[x + 1], r1[x + 2], r1[x + 3], r1[x + 4])
        _, b2, c2, d2, _ = _sorted(r2[x], r2[x + 1], r2[x + 2], r2[x + 3], r2[x + 4])
        a3, b3, c3, _, _ = _sorted(r3[x], r3[x + 1], r3[x + 2], r3[x + 3], r3[x + 4])
        a4, b4, _, _, _ = _sorted(r4[x], r4[x + 1], r4[x + 2], r4[x + 3], r4[x + 4])
        e0, c2 = min(e0, c2), max(e0, c2)
        a4, c2 = min(a4, c2), max(a4, c2)
        b3, d1 = min(b3, d1), max(b3, d1)
        a4, e0 = min(a4, e0), max(a4, e0)
        c1 = max(max(b2, a3), max(d0, c1))
        c2 = min(c2, min(min(c3, d2), min(b4, e1)))
        b3 = max(b3, c1)
        d1 = min(d1, c2)
        a4 = max(a4, b3)
        e0, d1 = min(e0, d1), max(e0, d1)
        out[x] = min(max(e0, a4), d1)
    for x in range(width, whole):
        out[x] = 0


@part
def _sorted(a: float, b: float, c: float, d: float, e: float) -> tuple[float, ...]:
    a, b = min(a, b), max(a, b)
    d, e = min(d, e), max(d, e)
    c, e = min(c, e), max(c, e)
    c, d = min(c, d), max(c, d)
    b, e = min(b, e), max(b, e)
    a, d = min(a, d), max(a, d)
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    b, c = min(b, c), max(b, c)
    return a, b, c, d, e
