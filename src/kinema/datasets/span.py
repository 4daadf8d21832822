"""The part of a video that a list means, told before the video has been opened."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kinema.errors import KinemaError

Unit = Literal["frames", "seconds"]
_COLUMNS: dict[Unit, tuple[str, str]] = {
    "frames": ("segment_start", "segment_end"),
    "seconds": ("start_seconds", "end_seconds"),
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """From `start` up to, but not including, `end`, counted from 0."""

    start: float = 0.0
    end: float | None = None  # None: to the end of the video
    unit: Unit = "frames"

    def resolve(self, *, num_frames: int, fps: float) -> tuple[int, int] | None:
        """Return the first frame and the one after the last; None for the whole video.

        Lists round their times: an end that lies one frame (in seconds: one second) behind the
        video's is taken for its end.

        Args:
            num_frames: of the video.
            fps: its frames per second, 0 where unknown.

        Raises:
            KinemaError: the span is empty, outside the video, or in seconds and no rate is known;
                the message is a reason, it does not name the video.
        """
        scale = 1.0
        if self.unit == "seconds":
            if fps <= 0:
                raise KinemaError(
                    f"the segment {self} is in seconds, but the video has no frame rate (images "
                    "have none): give it in frames, or the rate (--fps)"
                )
            scale = fps
        start = round(self.start * scale)
        end = num_frames if self.end is None else round(self.end * scale)
        if num_frames < end <= num_frames + max(1, round(scale)):
            end = num_frames
        if start < 0 or end > num_frames or start >= num_frames:
            raise KinemaError(
                f"the segment {self} is outside the video, which has {num_frames} frames"
            )
        if start >= end:
            raise KinemaError(f"the segment {self} has no frame in it")
        return None if (start, end) == (0, num_frames) else (start, end)

    def __str__(self) -> str:
        """Return it as the list gives it."""
        end = "the end" if self.end is None else f"{self.end:g}"
        return f"from {self.start:g} to {end} {self.unit}"


def row_span(row: Mapping[str, str], where: str) -> Span | None:
    """Return the segment that a row of a table gives; None where it gives none.

    Args:
        row: values by column: ``segment_start`` and ``segment_end`` are frame numbers, from 0 and
            without the last; ``start_seconds`` and ``end_seconds`` are times.
        where: names the row in a message.

    Raises:
        KinemaError: both kinds of columns are filled, a value is no number or none that can be.
    """
    filled = [unit for unit, names in _COLUMNS.items() if any(row.get(name) for name in names)]
    if not filled:
        return None
    if len(filled) > 1:
        raise KinemaError(
            f"{where}: the segment is given in frames and in seconds. Empty the columns "
            f"{' and '.join(_COLUMNS['seconds'])}, or the other two."
        )
    unit = filled[0]
    start_name, end_name = _COLUMNS[unit]
    start = _value(row, start_name, unit, where) or 0.0
    end = _value(row, end_name, unit, where)
    if end is not None and end <= start:
        raise KinemaError(
            f"{where}: the segment ends at {end:g}, which is not after its start at {start:g}. "
            f"Correct {start_name} or {end_name}."
        )
    return Span(start=start, end=end, unit=unit)


def _value(row: Mapping[str, str], column: str, unit: Unit, where: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0) or (unit == "frames" and value % 1):
        kind = "a whole number of frames" if unit == "frames" else "a number of seconds"
        raise KinemaError(f"{where}: the {column} '{text}' is not {kind}, 0 or more. Correct it.")
    return value


def span_suffix(span: Span | None) -> str:
    """Return what tells the id of a segment from others: ``_10-40``, or ``_1500-3000ms``."""
    if span is None:
        return ""
    scale, unit = (1, "") if span.unit == "frames" else (1000, "ms")
    end = "end" if span.end is None else f"{round(span.end * scale)}"
    return f"_{round(span.start * scale)}-{end}{unit}"
