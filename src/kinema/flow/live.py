"""Flow computed while it is read, for those who store none."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.encoding import DEFAULT_BOUND, BoundFinder, encode, half
from kinema.flow.options import MOTION_VECTORS, STORE, FlowOptions, Gray
from kinema.flow.source_pairs import (
    CHUNK_PAIRS,
    ComputedPairs,
    PairSource,
    VectorPairs,
    flow_size,
    stream_flow,
)
from kinema.video.frames import FrameSource

_CACHED_PAIRS = 64


class LiveFlow:
    """A source of encoded flow pairs that computes what is asked for.

    Gives what a lossless store holds. The latest pairs are kept, so that overlapping stacks cost
    only what is new.

    Attributes:
        num_frames: number of pairs: as many fewer than there are frames as the stride is.
        height: of the flow, pixels.
        width: of the flow, pixels.
    """

    def __init__(
        self,
        frames: FrameSource,
        *,
        algorithm: str = "dis",
        bound: float = DEFAULT_BOUND,
        adaptive: bool = False,
        size: str = "none",
        stride: int = 1,
        gray: Gray = "after",
        warp: bool = False,
    ) -> None:
        """Compute nothing yet.

        Args:
            frames: RGB frames; closed together with this. Motion vectors need a video file.
            algorithm: a name of `kinema.flow.algorithms`.
            bound: pixels per stride at the ends of the uint8 scale.
            adaptive: take the video's own bound instead. The first read then goes through the
                whole video to find it.
            size: to which frames are resized before: "WxH", "short:S" or "none".
            stride: from frame t to frame t + stride.
            gray: frames become gray after they are resized, or before.
            warp: whether the camera's motion is taken out.

        Raises:
            UsageError: there is no such algorithm, size or other value.
            KinemaError: there are too few frames, or they are from no video file.
        """
        options = FlowOptions(
            algorithm=algorithm,
            bound=bound,
            adaptive=adaptive,
            size=size,
            stride=stride,
            gray=gray,
            warp=warp,
        )
        self._begin(frames, options)

    def _begin(self, frames: FrameSource, options: FlowOptions) -> None:
        options.check()
        check_length(frames.num_frames, options)
        self._frames, self._options = frames, options
        self.height, self.width = flow_size(frames, options)
        self.num_frames = options.num_pairs(frames.num_frames)
        self._bound = None if options.adaptive else options.bound
        self._source: PairSource
        if options.algorithm == MOTION_VECTORS:
            self._source = VectorPairs(frames, options)
        else:
            self._source = ComputedPairs(frames, options)
        self._pairs: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    @classmethod
    def of(cls, frames: FrameSource, options: FlowOptions) -> "LiveFlow":
        """Return live flow with the options of a store (its quality and format mean nothing).

        Raises:
            UsageError: there is no such algorithm, size or other value.
            KinemaError: there are too few frames, they are from no video file, or a file of
                weights is missing.
        """
        flow = cls.__new__(cls)
        flow._begin(frames, replace(options, quality="standard", format=STORE))
        return flow

    @property
    def bound(self) -> float:
        """Pixels per stride at the ends of the uint8 scale; an adaptive one is found now."""
        if self._bound is None:
            finder = BoundFinder()
            for flow_2HW in stream_flow(self._frames, self._options):
                finder.add(half(flow_2HW))
            self._bound = finder.bound()
        return self._bound

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return encoded pairs (T, H, W, 2), any order, repeats allowed.

        Raises:
            KinemaError: an index is outside the video, or a frame cannot be read.
        """
        wanted = sorted({int(index) for index in indices})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.num_frames:
            raise KinemaError(
                f"The flow has the pairs 0 to {self.num_frames - 1}: "
                f"{wanted[0]} to {wanted[-1]} were asked for."
            )
        pairs_T2HW = np.empty((len(indices), 2, self.height, self.width), np.uint8)
        slots: dict[int, list[int]] = {index: [] for index in wanted}
        for slot, index in enumerate(indices):
            slots[int(index)].append(slot)
        for index, pair_2HW in self._each(wanted):
            for slot in slots[index]:
                pairs_T2HW[slot] = pair_2HW
        return np.moveaxis(pairs_T2HW, 1, 3)

    def _each(self, wanted: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (index, pair) for all wanted pairs, computing those that are not in memory."""
        missing = [index for index in wanted if index not in self._pairs]
        for index in wanted:
            if index in self._pairs:
                self._pairs.move_to_end(index)
                yield index, self._pairs[index]
        for first, last in _runs(missing):
            for index, pair_HW2 in zip(
                range(first, last + 1), self._compute(first, last), strict=True
            ):
                pair_2HW = np.moveaxis(pair_HW2, 2, 0).copy()
                self._pairs[index] = pair_2HW
                yield index, pair_2HW
        while len(self._pairs) > _CACHED_PAIRS:
            self._pairs.popitem(last=False)

    def _compute(self, first: int, last: int) -> NDArray[np.uint8]:
        bound = self.bound
        flow_T2HW = self._source.pairs(first, last)
        return encode(half(flow_T2HW) if self._options.adaptive else flow_T2HW, bound=bound)

    def close(self) -> None:
        """Close the frames and forget the pairs."""
        self._frames.close()
        self._pairs.clear()


def check_length(num_frames: int, options: FlowOptions) -> None:
    """Refuse a video that is too short for one pair.

    Raises:
        KinemaError: says how many frames it has and needs.
    """
    if not options.num_pairs(num_frames):
        needed = "two" if abs(options.stride) == 1 else str(abs(options.stride) + 1)
        raise KinemaError(
            f"Flow at stride {options.stride} needs {needed} frames at least: "
            f"there {'is' if num_frames == 1 else 'are'} {num_frames}."
        )


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of every run of neighbours, cut into chunks."""
    start = 0
    for end in range(1, len(indices) + 1):
        is_neighbour = end < len(indices) and indices[end] == indices[end - 1] + 1
        if not is_neighbour or end - start == CHUNK_PAIRS:
            yield indices[start], indices[end - 1]
            start = end
