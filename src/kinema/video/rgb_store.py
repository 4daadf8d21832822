"""One small video file per video, from which any RGB frame is read as fast as a JPEG file.

MPEG-4 part 2 at its second finest quantiser, in pairs of a keyframe and a frame predicted from it:
two thirds of the bytes of keyframes alone, for half a small frame more to decode on average. It is
decoded faster than H.264 of the same quality. 4:2:0, BT.601, limited range, and the file says so:
ordinary players show the right colours. docs/video.md has the figures.

Shapes: T frames, H height, W width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError
from kinema.video.packed import PackedVideo
from kinema.video.packed_writer import BT601, Coding, PackedWriter

FrameQuality = Literal["standard", "lossless"]

_CODINGS: dict[str, Coding] = {
    "standard": Coding(
        codec="mpeg4",
        pixels="yuv420p",
        options={"qmin": "2", "qmax": "2", "g": "2", "sc_threshold": "1000000000", "flags": "+aic"},
        matrix=BT601,
        color_range=ColorRange.MPEG,
    ),
    "lossless": Coding(
        codec="libx264rgb",
        pixels="rgb24",
        options={
            "preset": "veryfast",
            "tune": "fastdecode",
            "qp": "0",
            "x264-params": "keyint=1:threads=1",
        },
        matrix=0,
    ),
}
_LARGEST_SIDE = 8190  # of MPEG-4, even
# Cb and Cr from 8-bit RGB, BT.601, limited range.
_CHROMA = np.array(
    [[-37.797, -74.203, 112.0, 128 * 255], [112.0, -93.786, -18.214, 128 * 255]], np.float32
) / np.float32(255)


class RgbWriter:
    """Writes the RGB frames of one video; a context manager.

    The file appears whole or not at all: ``with RgbWriter(...) as writer: writer.write(frame)``.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        width: int,
        height: int,
        metadata: Mapping[str, Any],
        quality: FrameQuality = "standard",
        fps: float = 0.0,
    ) -> None:
        """Prepare a store.

        Args:
            path: the file to make.
            width: of the frames, pixels; any number.
            height: of the frames, pixels; any number.
            metadata: JSON values to keep in the file (size rule, source ...).
            quality: "lossless" keeps every bit in about twelve times as many bytes.
            fps: frames per second of the video; 0 where it is unknown.

        Raises:
            UsageError: there is no such quality.
            KinemaError: the frames are too large for it.
        """
        check_quality(quality)
        if quality == "standard" and max(width, height) > _LARGEST_SIDE:
            raise KinemaError(
                f"Frames of {width}x{height} pixels do not fit into {path}: at most "
                f"{_LARGEST_SIDE} a side. Store them with a short side of 256, for example."
            )
        coding = _CODINGS[quality]
        self._shape, self._pixels = (height, width), coding.pixels
        self._writer = PackedWriter(
            path,
            width=width + width % 2,
            height=height + height % 2,
            coding=coding,
            fps=fps,
            metadata={
                **metadata,
                "kind": "rgb",
                "width": width,
                "height": height,
                "fps": fps,
                "quality": quality,
                "codec": coding.codec,
                "codec_options": dict(coding.options),
            },
        )

    @property
    def num_frames(self) -> int:
        """How many frames were written so far."""
        return self._writer.num_frames

    def __enter__(self) -> "RgbWriter":
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._writer.__exit__(kind, error, trace)

    def write(self, frame_HW3: NDArray[np.uint8]) -> None:
        """Add the next frame.

        Raises:
            UsageError: the frame has another size than the store.
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        if frame_HW3.shape != (*self._shape, 3) or frame_HW3.dtype != np.uint8:
            raise UsageError(
                f"{self._writer.path} takes uint8 frames of the shape {(*self._shape, 3)}, "
                f"not {frame_HW3.dtype} {frame_HW3.shape}."
            )
        height, width = self._shape
        image = np.ascontiguousarray(frame_HW3)
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        planes = image if self._pixels == "rgb24" else _i420(image)
        self._writer.encode(av.VideoFrame.from_ndarray(planes, format=self._pixels))


def check_quality(name: str) -> None:
    """Refuse a quality that does not exist.

    Raises:
        UsageError: says which there are.
    """
    if name not in _CODINGS:
        raise UsageError(
            f"There is no quality '{name}' of RGB stores: {' or '.join(get_args(FrameQuality))}."
        )


class RgbStore:
    """Reads the RGB frames of one video by number; a `kinema.video.frames.FrameSource`.

    Opening reads a few kilobytes and holds no file open: a store can be pickled, and shared
    between processes.

    Attributes:
        num_frames: as many as the video has.
        height: of the frames, pixels.
        width: of the frames, pixels.
        fps: frames per second of the video; 0.0 where it is unknown.
        metadata: size rule, quality, source and so on.

    Raises:
        KinemaError: the file is missing, truncated, damaged, or not an RGB store.
    """

    def __init__(self, path: Path | str) -> None:
        self._video = PackedVideo(path)
        self.path, self.metadata = self._video.path, self._video.metadata
        kind = self.metadata.get("kind")
        if kind != "rgb":
            held = "optical flow" if kind == "flow" else "something else"
            raise KinemaError(
                f"{path} is not an RGB store, it holds {held}: make one with `kinema pack`."
            )
        self.num_frames = self._video.num_frames
        self.height: int = self.metadata["height"]
        self.width: int = self.metadata["width"]
        self.fps: float = self.metadata["fps"]

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3), any order, repeats allowed.

        Raises:
            KinemaError: an index is outside the store, or the file is damaged.
        """
        frames_THW3 = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        slots: dict[int, list[int]] = {}
        for slot, index in enumerate(indices):
            slots.setdefault(int(index), []).append(slot)
        for index, frame in self._video.frames(list(slots)):
            first, *others = slots[index]
            _to_rgb(frame, frames_THW3[first])
            for slot in others:
                frames_THW3[slot] = frames_THW3[first]
        return frames_THW3

    def verify(self) -> None:
        """Check the whole file: checksum, number of frames, every frame decodes.

        Raises:
            KinemaError: the file is damaged.
        """
        if self.num_frames != self.metadata["frames"]:
            raise KinemaError(
                f"{self.path} is damaged: it holds {self.num_frames} frames "
                f"instead of {self.metadata['frames']}. Delete it and make it again."
            )
        self._video.verify()

    def close(self) -> None:
        """Nothing is held open; here because every source of frames has it."""


def _i420(image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB of even sides as luma above both chromas, each the mean of 2 x 2 pixels."""
    height, width = image_HW3.shape[:2]
    planes = np.asarray(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2YUV_I420), np.uint8)
    half = cv2.resize(image_HW3, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma_HW2 = cv2.transform(half, _CHROMA)
    planes.reshape(-1)[height * width :] = np.moveaxis(chroma_HW2, 2, 0).reshape(-1)
    return planes


def _to_rgb(frame: av.VideoFrame, out_HW3: NDArray[np.uint8]) -> None:
    """Write the upper left part of a decoded frame as RGB into `out_HW3`.

    OpenCV's conversion is rounded; FFmpeg's gives images that are one grey level too dark.
    """
    height, width = out_HW3.shape[:2]
    if frame.format.name == "gbrp":
        green, blue, red = (_picture(plane)[:height, :width] for plane in frame.planes)
        cv2.merge((red, green, blue), out_HW3)
        return
    planes = np.empty((frame.height * 3 // 2, frame.width), np.uint8)
    begin, flat = 0, planes.reshape(-1)
    for plane in frame.planes:
        size = plane.height * plane.width
        flat[begin : begin + size].reshape(plane.height, -1)[:] = _picture(plane)[:, : plane.width]
        begin += size
    if (height, width) == (frame.height, frame.width):
        cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420, out_HW3)
    else:
        out_HW3[:] = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)[:height, :width]


def _picture(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    """Return the rows of a plane with their padding."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height]
