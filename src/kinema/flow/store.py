"""One small video file per video holds its flow: x above y in the luma of every frame.

H.264, every frame a keyframe, constant quantiser, no deblocking and no CABAC: as small as with
short groups of pictures (flow is too noisy to be predicted), and the fastest to decode at random.
An index at the end of the file replaces the opening of the container. docs/flow.md has the figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError
from kinema.files import replacing
from kinema.flow.encoding import DEFAULT_BOUND, ZERO, rescaling
from kinema.video.packed import PackedVideo, append_index, store_path

Quality = Literal["standard", "lossless"]
_QUANTISER: dict[str, int] = {"standard": 18, "lossless": 0}
_X264 = "keyint=1:ipratio=1:aq-mode=0:no-mbtree=1:no-psy=1:subme=6:threads=1"


def flow_path(folder: Path, video_id: str) -> Path:
    """Return where the flow of a video lies: ``folder/<id>.mp4``.

    Raises:
        UsageError: the id would lead out of the folder.
    """
    return store_path(folder, video_id)


def check_quality(name: str) -> None:
    """Refuse a quality that does not exist.

    Raises:
        UsageError: says which there are.
    """
    if name not in _QUANTISER:
        raise UsageError(
            f"There is no quality '{name}' of flow stores: {' or '.join(get_args(Quality))}."
        )


class FlowWriter:
    """Writes the flow of one video; a context manager. The file appears whole or not at all.

    Pairs are written in order with `write`; ``with FlowWriter(...) as writer: ...``.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        width: int,
        height: int,
        metadata: Mapping[str, Any],
        quality: Quality = "standard",
        fps: float = 25.0,
    ) -> None:
        """Prepare a store.

        Args:
            path: the file to make.
            width: of the flow, pixels; any number.
            height: of the flow, pixels; any number.
            metadata: JSON values to keep in the file (algorithm, bound, source ...).
            quality: "lossless" keeps every bit in about five times as many bytes.
            fps: how fast a player shows it.

        Raises:
            UsageError: there is no such quality.
        """
        check_quality(quality)
        self.path = Path(path)
        self.num_pairs = 0
        self._shape = height, width
        self._quality, self._fps = quality, fps if isfinite(fps) and fps > 0 else 25.0
        self._metadata = dict(metadata)
        self._session: AbstractContextManager[None] = self._writing()

    def __enter__(self) -> "FlowWriter":
        self._session.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._session.__exit__(kind, error, trace)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        height, width = self._shape
        with replacing(self.path) as temporary:
            with av.open(str(temporary), "w", format="mp4") as self._container:
                self._stream = self._open_stream()
                yield
                self._container.mux(self._stream.encode(None))
            store = {
                "kind": "flow",
                "width": width,
                "height": height,
                "pairs": self.num_pairs,
                "quality": self._quality,
            }
            append_index(temporary, metadata={**self._metadata, **store})

    def _open_stream(self) -> VideoStream:
        height, width = self._shape
        options = {
            "preset": "veryfast",
            "tune": "fastdecode",
            "qp": str(_QUANTISER[self._quality]),
            "x264-params": _X264,
        }
        rate = Fraction(self._fps).limit_denominator(1001)
        stream: VideoStream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = width + width % 2, 2 * height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_range = ColorRange.JPEG
        stream.codec_context.thread_count = 1
        return stream

    def write(self, pair_HW2: NDArray[np.uint8]) -> None:
        """Add the encoded flow of the next pair.

        Raises:
            UsageError: the pair has another size than the store.
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        if pair_HW2.shape != (*self._shape, 2):
            raise UsageError(
                f"{self.path} takes flow of the shape {(*self._shape, 2)}, not {pair_HW2.shape}."
            )
        frame = av.VideoFrame(self._stream.width, self._stream.height, "yuv420p")
        frame.pts, frame.color_range = self.num_pairs, ColorRange.JPEG
        luma, *chromas = (np.frombuffer(memoryview(plane), np.uint8) for plane in frame.planes)
        picture = luma.reshape(self._stream.height, -1)
        height, width = self._shape
        picture[:height, :width], picture[height:, :width] = pair_HW2[..., 0], pair_HW2[..., 1]
        picture[:, width:] = picture[:, width - 1 : width]
        for chroma in chromas:
            chroma[:] = ZERO
        self._container.mux(self._stream.encode(frame))
        self.num_pairs += 1


class FlowStore:
    """Reads the flow of one video: frames are encoded pairs.

    Pair t leads from frame t to t + stride; with a negative stride s, from frame t - s to frame t.
    Opening reads a few kilobytes and holds no file open: a store can be pickled, and shared
    between processes.

    Attributes:
        num_frames: number of pairs, as many fewer than the video has frames as the stride is.
        height: of the flow, pixels.
        width: of the flow, pixels.
        bound: at which pairs are given, pixels per stride.
        metadata: algorithm, parameters, the bound in the file, quality, source and so on.
    """

    def __init__(self, path: Path | str, *, as_bound: float | None = None) -> None:
        """Open a store.

        Args:
            path: the file.
            as_bound: pairs are given encoded at this bound, whatever the file has; None: as the
                file has them.

        Raises:
            KinemaError: the file is missing, truncated, damaged, or not a flow store.
        """
        self._video = PackedVideo(path)
        self.path, self.metadata = self._video.path, self._video.metadata
        if self.metadata.get("kind") != "flow":
            raise KinemaError(f"{path} is not a flow store: make one with `kinema flow`.")
        self.num_frames = self._video.num_frames
        self.height: int = self.metadata["height"]
        self.width: int = self.metadata["width"]
        held = float(self.metadata.get("bound") or DEFAULT_BOUND)
        self.bound = held if as_bound is None else as_bound
        self._table = rescaling(held, self.bound) if self.bound != held else None

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return encoded pairs (T, H, W, 2), any order, repeats allowed.

        The memory of the result is planar (x, then y).

        Raises:
            KinemaError: an index is outside the store, or the file is damaged.
        """
        pairs_T2HW = np.empty((len(indices), 2, self.height, self.width), np.uint8)
        slots: dict[int, list[int]] = {}
        for slot, index in enumerate(indices):
            slots.setdefault(int(index), []).append(slot)
        for index, frame in self._video.frames(list(slots)):
            luma = frame.planes[0]
            picture = np.frombuffer(memoryview(luma), np.uint8).reshape(-1, luma.line_size)
            for slot in slots[index]:
                for component in range(2):
                    top = component * self.height
                    plane_HW = picture[top : top + self.height, : self.width]
                    pairs_T2HW[slot, component] = (
                        plane_HW if self._table is None else cv2.LUT(plane_HW, self._table)
                    )
        return np.moveaxis(pairs_T2HW, 1, 3)

    def verify(self) -> None:
        """Check the whole file: checksum, number of pairs, every pair decodes.

        Raises:
            KinemaError: the file is damaged.
        """
        if self.num_frames != self.metadata["pairs"]:
            raise KinemaError(
                f"{self.path} is damaged: it holds {self.num_frames} pairs "
                f"instead of {self.metadata['pairs']}. Delete it and make it again."
            )
        self._video.verify()

    def close(self) -> None:
        """Nothing is held open; here because every source of frames has it."""
