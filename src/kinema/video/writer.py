"""Writing frames to an H.264 mp4 that every player shows; the file appears whole or not at all."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.files import replacing

_BT601 = 6  # SMPTE 170M, said in the file: players otherwise guess by the size of the picture
_LIMITED_RANGE = 1


class VideoWriter:
    """Encodes RGB frames; use it as a context manager.

    The picture is padded at the right and lower edge to even sizes, which 4:2:0 video must have.

    Args:
        path: the file to make; its suffix chooses the container.
        fps: frames per second.
        width: of the frames in pixels.
        height: of the frames in pixels.
        codec: FFmpeg's name of the encoder.
        crf: quality of x264 and x265, 0 (without loss) to 51.

    Raises:
        KinemaError: the file cannot be written or the encoder is not there.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float,
        width: int,
        height: int,
        codec: str = "libx264",
        crf: int = 18,
    ) -> None:
        self.path = Path(path)
        self._shape = (height, width, 3)
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._codec, self._crf = codec, crf
        self._has_frames = False

    def __enter__(self) -> "VideoWriter":
        try:
            with ExitStack() as stack:
                temporary = stack.enter_context(replacing(self.path))
                self._container = stack.enter_context(av.open(str(temporary.absolute()), "w"))
                self._stream = self._add_stream()
                self._stack = stack.pop_all()
        except (FFmpegError, ValueError) as error:
            raise self._failed(error) from error
        return self

    def write(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Append one RGB frame of the size given at the start.

        Raises:
            KinemaError: the frame is of another size or type, or the disk is full.
        """
        if frame_HWC.shape != self._shape or frame_HWC.dtype != np.uint8:
            raise KinemaError(
                f"A frame for {self.path} is {frame_HWC.dtype} {frame_HWC.shape}; "
                f"it must be uint8 {self._shape}."
            )
        padding = ((0, self._shape[0] % 2), (0, self._shape[1] % 2), (0, 0))
        image = np.pad(frame_HWC, padding, mode="edge")
        self._encode(VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))
        self._has_frames = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self._has_frames:
                raise KinemaError(f"{self.path} was not made: no frame was written to it.")
            self._encode(None)

    def _add_stream(self) -> VideoStream:
        stream = self._container.add_stream(self._codec, rate=self._rate)
        if not isinstance(stream, VideoStream):
            raise ValueError(f"{self._codec} is not a video encoder")
        height, width, _ = self._shape
        context = stream.codec_context
        context.height, context.width = height + height % 2, width + width % 2
        context.pix_fmt = "yuv420p"
        context.colorspace, context.color_range = _BT601, _LIMITED_RANGE
        context.options = {"crf": str(self._crf)}
        return stream

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except FFmpegError as error:
            if isinstance(error, OSError):  # a full disk: explained where the file is given up
                raise
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> KinemaError:
        return KinemaError(f"{self.path} cannot be written: {error}")
