"""The report's charts as inline SVG: text, no script, no file beside it, light and dark.

Colours are names of CSS classes that the page defines (``c-rgb``, ``c-flow``, …), so that one
drawing serves both themes. All text is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH = 520  # of line and interval charts, in SVG units; 12 units of text stay legible on phones
_COMPACT_ABOVE = 20  # classes: no numbers in a confusion matrix with more
_LONGEST_LABEL = 22  # characters


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: `points` are (x, y); missing values are left out by the caller."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One share with its interval, all between 0 and 1."""

    name: str
    colour: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Maps values to SVG units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 1)


def shorten(text: str, *, longest: int = _LONGEST_LABEL) -> str:
    """Return `text` with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 3
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) that cover low to high."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line], *, title: str, x_label: str, percent: bool = False
) -> Markup | None:
    """Draw curves over whole-numbered x (epochs); None where there is no point at all.

    Args:
        lines: drawn in order, the last on top.
        title: what is drawn, for screen readers.
        x_label: under the axis.
        percent: y is a share: the axis goes from 0 to 100 %.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    height, left, right, bottom = 270, 46, 12, 40
    xs, ys = zip(*points, strict=True)
    # Whole epochs only: at least one apart.
    x_ticks = [tick for tick in ticks(min(xs), max(max(xs), min(xs) + 1)) if tick == int(tick)]
    y_ticks = [0, 0.25, 0.5, 0.75, 1.0] if percent else ticks(min(0, *ys), max(ys))
    x = _Scale(low=min(xs), high=max(max(xs), min(xs) + 1), start=left, end=_WIDTH - right)
    y = _Scale(low=y_ticks[0], high=y_ticks[-1], start=height - bottom, end=12)
    parts = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            left, _WIDTH - right, y(tick), y(tick)
        )
        + _text(left - 7, y(tick) + 4, f"{tick:.0%}" if percent else f"{tick:g}", anchor="end")
        for tick in y_ticks
    ]
    parts += [
        _text(x(tick), height - bottom + 17, f"{tick:g}")
        for tick in x_ticks
        if x.low <= tick <= x.high
    ]
    parts.append(_text((left + _WIDTH - right) / 2, height - 5, x_label, css="axis"))
    parts += [_curve(line, x, y) for line in lines if line.points]
    return _svg(parts, width=_WIDTH, height=height, label=_describe(lines, title, percent=percent))


def _curve(line: Line, x: _Scale, y: _Scale) -> Markup:
    css = f"line {line.colour}{' dashed' if line.dashed else ''}"
    if len(line.points) == 1:
        (only,) = line.points
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(
            line.colour, x(only[0]), y(only[1])
        )
    path = " ".join(f"{x(a)},{y(b)}" for a, b in line.points)
    return Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(
        css, path, line.name
    )


def _describe(lines: Sequence[Line], title: str, *, percent: bool) -> str:
    ends = [
        f"{line.name} ends at {line.points[-1][1]:{'.1%' if percent else '.3g'}}"
        for line in lines
        if line.points
    ]
    return f"{title}: {'; '.join(ends)}"


def interval_chart(rows: Sequence[Estimate], *, chance: float | None = None) -> Markup:
    """Draw shares with their intervals on one axis from 0 to 100 %, one row each."""
    left, right, row_height, top = 92, 62, 34, 8
    bottom = top + row_height * len(rows)
    height = bottom + 24
    x = _Scale(low=0, high=1, start=left, end=_WIDTH - right)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            x(tick), top, bottom
        )
        + _text(x(tick), bottom + 17, f"{tick:.0%}")
        for tick in (0, 0.25, 0.5, 0.75, 1.0)
    ]
    if chance is not None:
        parts.append(
            Markup(
                '<line class="chance" x1="{0}" x2="{0}" y1="{1}" y2="{2}">'
                "<title>chance: {3}</title></line>"
            ).format(x(chance), top, bottom, f"{chance:.1%}")
        )
    for number, row in enumerate(rows):
        parts.append(_estimate(row, x, top + row_height * (number + 0.5), left=left))
    names = "; ".join(f"{row.name} {row.value:.1%}" for row in rows)
    return _svg(parts, width=_WIDTH, height=height, label=f"Accuracy with intervals: {names}")


def _estimate(row: Estimate, x: _Scale, y: float, *, left: float) -> Markup:
    whisker = Markup("")
    if row.low is not None and row.high is not None:
        whisker = Markup(
            '<rect class="whisker {}" x="{}" y="{}" width="{}" height="8" rx="4"/>'
        ).format(row.colour, x(row.low), y - 4, round(max(x(row.high) - x(row.low), 1), 1))
    return (
        _text(left - 10, y + 4, shorten(row.name, longest=12), anchor="end")
        + whisker
        + Markup('<circle class="dot {}" cx="{}" cy="{}" r="5.5"/>').format(
            row.colour, x(row.value), y
        )
        + _text(_WIDTH, y + 4, f"{row.value:.1%}", anchor="end", css="strong")
    )


def confusion_chart(counts: Sequence[Sequence[int]], *, classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix: rows are true classes, columns predictions, colour is row share.

    Up to 20 classes every cell shows its number of videos; above that cells are small and tell
    it when pointed at.
    """
    compact = len(classes) > _COMPACT_ABOVE
    cell, size = (10, 9) if compact else (48 if len(classes) <= 12 else 36, 12)
    labels = [shorten(name) for name in classes]
    left = 22 + round(max(map(len, labels)) * size * 0.58)
    top, side = left, cell * len(classes)
    cells = [
        _cell(row, column, counts=counts, classes=classes, cell=cell, origin=(left, top))
        for row, total in enumerate(map(sum, counts))
        for column in range(len(classes))
        if total and (counts[row][column] or row == column)
    ]
    names = [
        _text(left - 5, top + cell * (k + 0.5) + size * 0.36, label, anchor="end", size=size)
        + Markup(
            '<text font-size="{}" text-anchor="start" transform="translate({} {}) rotate(-90)">'
            "{}</text>"
        ).format(size, left + cell * (k + 0.5) + size * 0.36, top - 5, label)
        for k, label in enumerate(labels)
    ]
    frame = Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>').format(
        left, top, side, side
    )
    titles = _text(left + side / 2, 12, "predicted", css="axis") + Markup(
        '<text class="axis" text-anchor="middle" transform="translate(12 {}) rotate(-90)">'
        "true</text>"
    ).format(top + side / 2)
    right = sum(counts[k][k] for k in range(len(classes)))
    return _svg(
        [frame, *cells, *names, titles],
        width=left + side + 2,
        height=top + side + 2,
        label=f"Confusion matrix of {len(classes)} classes: {right} of "
        f"{sum(map(sum, counts))} videos are on the diagonal",
        css="fixed",
    )


def _cell(
    row: int,
    column: int,
    *,
    counts: Sequence[Sequence[int]],
    classes: Sequence[str],
    cell: int,
    origin: tuple[int, int],
) -> Markup:
    count = counts[row][column]
    share = count / sum(counts[row])
    left, top = origin[0] + column * cell, origin[1] + row * cell
    css = "right" if row == column else "wrong"
    # The square root keeps single mistakes visible.
    box = Markup(
        '<rect class="{}" fill-opacity="{:.2f}" x="{}" y="{}" width="{}" height="{}">'
        "<title>{} → {}: {} of {} ({})</title></rect>"
    ).format(
        css,
        math.sqrt(share),
        left,
        top,
        cell,
        cell,
        classes[row],
        classes[column],
        count,
        sum(counts[row]),
        f"{share:.0%}",
    )
    if cell < 20 or not count:
        return box
    ink = "on" if math.sqrt(share) > 0.6 else ""
    return box + _text(left + cell / 2, top + cell / 2 + 4, str(count), css=ink)


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", css: str = "", size: int = 12
) -> Markup:
    return Markup(
        '<text class="{}" x="{}" y="{}" text-anchor="{}" font-size="{}">{}</text>'
    ).format(css, round(x, 1), round(y, 1), anchor, size, text)


def _svg(
    parts: Sequence[Markup], *, width: float, height: float, label: str, css: str = ""
) -> Markup:
    return Markup(
        '<svg class="{4}" role="img" aria-label="{2}" viewBox="0 0 {0} {1}" '
        'style="max-width:{0}px;min-width:{5}px">{3}</svg>'
    ).format(
        width,
        height,
        label,
        Markup("").join(parts),
        css,
        # A matrix is scrolled rather than shrunk until nobody can read it.
        round(width * (1 if width > 700 else 0.8)) if css == "fixed" else 0,
    )
