"""Where the flow of a video goes while it is computed: what a sink is, and the store as one."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.flow.encoding import BoundFinder, encode, half
from kinema.flow.store import FlowWriter, Quality


class FlowSink(Protocol):
    """Takes the flow of one video; a context manager. What it makes is whole or absent.

    Attributes:
        wants_frames: whether `write_frame` is to be called.
        num_pairs: written so far.
    """

    wants_frames: bool
    num_pairs: int

    def __enter__(self) -> "FlowSink":
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Finish, or throw everything away after an error."""

    def write_frame(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Take the next RGB frame, resized; every one of the video, before pairs end in it."""

    def write_pair(self, flow_2HW: NDArray[np.float32]) -> None:
        """Take the next pair, pixels per stride."""


class StoreSink:
    """One flow store with a fixed bound.

    Args:
        path: the file to make.
        height: of the flow, pixels.
        width: of the flow, pixels.
        metadata: JSON values to keep in the file; `bound` is needed.
        quality: see `kinema.flow.store`.
        fps: how fast a player shows it.
    """

    wants_frames = False

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        metadata: Mapping[str, Any],
        quality: Quality = "standard",
        fps: float = 25.0,
    ) -> None:
        self._bound = float(metadata["bound"])
        self._writer = FlowWriter(
            path, width=width, height=height, metadata=metadata, quality=quality, fps=fps
        )
        self.num_pairs = 0

    def __enter__(self) -> "StoreSink":
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._writer.__exit__(kind, error, trace)

    def write_frame(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Leave it: a flow store has no frames."""

    def write_pair(self, flow_2HW: NDArray[np.floating]) -> None:
        """Encode and store the next pair."""
        self._writer.write(encode(flow_2HW[None], bound=self._bound)[0])
        self.num_pairs += 1


class AdaptiveStoreSink:
    """One flow store with the bound of its own video, which is known when all flow is.

    Until then the flow waits as 16-bit floats in a nameless temporary file in the same folder
    (300 KB for a pair of 320x240); it vanishes with the process, however that ends.

    Args:
        path: the file to make.
        height: of the flow, pixels.
        width: of the flow, pixels.
        metadata: JSON values to keep in the file; the bound is added.
        quality: see `kinema.flow.store`.
        fps: how fast a player shows it.
    """

    wants_frames = False

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        metadata: Mapping[str, Any],
        quality: Quality = "standard",
        fps: float = 25.0,
    ) -> None:
        self._path, self._shape = path, (2, height, width)
        self._metadata, self._quality, self._fps = dict(metadata), quality, fps
        self._finder = BoundFinder()
        self.num_pairs = 0

    def __enter__(self) -> "AdaptiveStoreSink":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._spill: IO[bytes] = tempfile.TemporaryFile(dir=self._path.parent)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        with self._spill:
            if kind is None:
                self._store()
        return None

    def write_frame(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Leave it: a flow store has no frames."""

    def write_pair(self, flow_2HW: NDArray[np.floating]) -> None:
        """Keep the next pair until the bound is known."""
        waiting_2HW = half(flow_2HW)
        self._finder.add(waiting_2HW)
        self._spill.write(waiting_2HW.tobytes())
        self.num_pairs += 1

    def _store(self) -> None:
        metadata = {**self._metadata, "bound": self._finder.bound()}
        _, height, width = self._shape
        waiting_2HW = np.empty(self._shape, np.float16)
        self._spill.seek(0)
        with StoreSink(
            self._path,
            height=height,
            width=width,
            metadata=metadata,
            quality=self._quality,
            fps=self._fps,
        ) as sink:
            for _ in range(self.num_pairs):
                self._spill.readinto(waiting_2HW.data)  # type: ignore[attr-defined]
                sink.write_pair(waiting_2HW)
