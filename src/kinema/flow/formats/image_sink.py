"""Writes flow and frames as images, in folders or in zip archives, as older tools do."""

import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kinema.flow.formats.quantise import quantise, quantise_png
from kinema.flow.formats.staging import whole_folders
from kinema.flow.formats.target import Part, Target
from kinema.video.image_bytes import encode_frame, encode_image

Put = Callable[[str, bytes], None]


class ImageSink:
    """One video as images: x, y and frames, or denseflow's png; see `kinema.flow.sinks.FlowSink`.

    Args:
        target: where the images go, and their names.
        bound: pixels at the ends of the uint8 scale; of no use to png.
    """

    def __init__(self, target: Target, *, bound: float) -> None:
        self.wants_frames, self.num_pairs, self._num_frames = target.frames, 0, 0
        self._target, self._bound = target, bound
        parts: tuple[Part, ...] = ("frames", "x", "y")
        self._groups = {
            part: target.group(part) for part in parts if target.frames or part != "frames"
        }
        self._puts: dict[Part, Put] = {}

    def __enter__(self) -> "ImageSink":
        with ExitStack() as stack:
            folders = stack.enter_context(whole_folders(list(self._groups.values())))
            for part, group in self._groups.items():
                self._puts[part] = self._open(part, folders[group.folder], stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def _open(self, part: Part, folder: Path, stack: ExitStack) -> Put:
        if self._target.layout.kind != "zip":
            return lambda name, data: _write(folder / name, data)
        archive = stack.enter_context(zipfile.ZipFile(folder / self._target.archive(part), "w"))
        # Members without a date: the same flow gives the same bytes.
        return lambda name, data: archive.writestr(zipfile.ZipInfo(name), data)

    def write_frame(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Write the next RGB frame, where the tool writes it.

        Raises:
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        name = self._target.frame_name(self._num_frames)
        self._num_frames += 1
        if name and self.wants_frames:
            self._puts["frames"](name, encode_frame(frame_HWC))

    def write_pair(self, flow_2HW: NDArray[np.float32]) -> None:
        """Write the next pair, where the tool writes it.

        Raises:
            OSError: the disk is full (a KinemaError once the ``with`` block is left).
        """
        index = self.num_pairs
        self.num_pairs += 1
        x, y = (self._target.pair_name(part, index) for part in ("x", "y"))
        if x is None or y is None:
            return
        if self._target.layout.kind == "png":
            self._puts["y"](y, encode_image(quantise_png(flow_2HW), ".png"))
            return
        levels_2HW = quantise(flow_2HW, bound=self._bound)
        self._puts["x"](x, encode_image(levels_2HW[0], ".jpg"))
        self._puts["y"](y, encode_image(levels_2HW[1], ".jpg"))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
