"""Flow computed while it is read, for those who store none."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.algorithms import compute, find_algorithm, gray_from_rgb
from kinema.flow.encoding import DEFAULT_BOUND, encode
from kinema.video.frames import FrameSource
from kinema.video.sizes import shrunk_size

_CHUNK_PAIRS = 16  # computed at once: bounds the memory
_CACHED_PAIRS = 64


class LiveFlow:
    """A source of encoded flow pairs that computes what is asked for.

    Gives what a lossless store holds. The latest pairs are kept, so that overlapping stacks cost
    only what is new.

    Attributes:
        num_frames: number of pairs, one fewer than there are frames.
        height: of the flow, pixels.
        width: of the flow, pixels.
    """

    def __init__(
        self,
        frames: FrameSource,
        *,
        algorithm: str = "dis",
        bound: float = DEFAULT_BOUND,
        size: str = "none",
    ) -> None:
        """Compute nothing yet.

        Args:
            frames: RGB frames; closed together with this.
            algorithm: a name of `kinema.flow.algorithms`.
            bound: pixels per frame at the ends of the uint8 scale.
            size: to which frames are resized before: "WxH", "short:S" or "none".

        Raises:
            UsageError: there is no such algorithm or size.
            KinemaError: there are fewer than two frames.
        """
        find_algorithm(algorithm)
        if frames.num_frames < 2:
            raise KinemaError(f"Flow needs two frames at least: there is {frames.num_frames}.")
        self._frames, self._algorithm, self._bound = frames, algorithm, bound
        self.height, self.width = shrunk_size(size, height=frames.height, width=frames.width)
        self.num_frames = frames.num_frames - 1
        self._pairs: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._last_gray: tuple[int, NDArray[np.uint8]] | None = None

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
        flow = compute(self._gray(first, last + 1), algorithm=self._algorithm)
        return encode(flow, bound=self._bound)

    def _gray(self, first: int, last: int) -> NDArray[np.uint8]:
        """Return the gray frames first to last, the first one from memory where it is there."""
        known = self._last_gray if self._last_gray and self._last_gray[0] == first else None
        rgb = self._frames.read(range(first + (known is not None), last + 1))
        gray_THW = gray_from_rgb(rgb, size=(self.height, self.width))
        if known:
            gray_THW = np.concatenate((known[1][None], gray_THW))
        self._last_gray = last, gray_THW[-1].copy()
        return gray_THW

    def close(self) -> None:
        """Close the frames and forget the pairs."""
        self._frames.close()
        self._pairs.clear()


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of every run of neighbours, cut into chunks."""
    start = 0
    for end in range(1, len(indices) + 1):
        is_neighbour = end < len(indices) and indices[end] == indices[end - 1] + 1
        if not is_neighbour or end - start == _CHUNK_PAIRS:
            yield indices[start], indices[end - 1]
            start = end
