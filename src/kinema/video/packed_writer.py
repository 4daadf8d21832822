"""Writing a packed video: an mp4 that appears whole or not at all, with its index box."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from kinema.files import replacing
from kinema.video.packed import append_index

BT601 = 6  # SMPTE 170M, ITU-T H.273
_DEFAULT_FPS, _LOWEST_FPS, _HIGHEST_FPS = 25.0, 0.01, 1000.0
_LARGEST_DENOMINATOR = 1001  # 30000/1001 is kept as it is
_LARGEST_NUMERATOR = 65535  # of MPEG-4


@dataclass(frozen=True, kw_only=True)
class Coding:
    """An encoder with its options, and what the colours of its frames mean."""

    codec: str  # FFmpeg's name of the encoder
    pixels: str  # FFmpeg's name of the pixel format
    options: Mapping[str, str] = field(default_factory=dict)
    matrix: int = 2  # colour matrix, ITU-T H.273: 0 RGB, 2 not said, BT601
    color_range: ColorRange = ColorRange.JPEG


class PackedWriter:
    """Encodes the frames of one packed video; a context manager.

    The file appears when the ``with`` block is left without an error; its metadata gets the
    number of frames as "frames".

    Args:
        path: the file to make.
        width: of the coded frames, pixels; even where chroma is halved.
        height: of the coded frames, pixels.
        coding: how they are coded, without B-frames.
        metadata: JSON values to keep in the file.
        fps: how fast a player shows it; 25 where it is not positive.

    Attributes:
        num_frames: written so far.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        width: int,
        height: int,
        coding: Coding,
        metadata: Mapping[str, Any],
        fps: float = _DEFAULT_FPS,
    ) -> None:
        self.path = Path(path)
        self.num_frames = 0
        self._shape, self._coding = (height, width), coding
        self._fps = fps
        self._metadata = dict(metadata)
        self._session: AbstractContextManager[None] = self._writing()

    def __enter__(self) -> "PackedWriter":
        self._session.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._session.__exit__(kind, error, trace)

    def encode(self, frame: av.VideoFrame) -> None:
        """Add the next frame, which has the size and the pixel format of the video.

        Raises:
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        frame.pts = self.num_frames
        frame.colorspace, frame.color_range = self._coding.matrix, self._coding.color_range
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with replacing(self.path) as temporary:
            with av.open(str(temporary), "w", format="mp4") as self._container:
                self._stream = self._open_stream()
                yield
                self._container.mux(self._stream.encode(None))
            append_index(temporary, metadata={**self._metadata, "frames": self.num_frames})

    def _open_stream(self) -> VideoStream:
        stream: VideoStream = self._container.add_stream(
            self._coding.codec, rate=_rate(self._fps), options=dict(self._coding.options)
        )
        stream.height, stream.width = self._shape
        stream.pix_fmt = self._coding.pixels
        context = stream.codec_context
        context.colorspace, context.color_range = self._coding.matrix, self._coding.color_range
        if self._coding.matrix == BT601:  # said in full: mp4 keeps all three or none
            context.color_primaries = context.color_trc = BT601
        context.thread_count, context.max_b_frames = 1, 0
        return stream


def _rate(fps: float) -> Fraction:
    """Return the nearest frame rate that every encoder takes."""
    if not (isfinite(fps) and fps > 0):
        fps = _DEFAULT_FPS
    fps = min(max(fps, _LOWEST_FPS), _HIGHEST_FPS)
    return Fraction(fps).limit_denominator(
        min(_LARGEST_DENOMINATOR, int(_LARGEST_NUMERATOR / max(fps, 1.0)))
    )
