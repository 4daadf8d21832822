"""One video's flow in the layout of an older tool, read as Kinema's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError
from kinema.flow.encoding import DEFAULT_BOUND
from kinema.flow.formats.find import find_videos, pair_of_folders
from kinema.flow.formats.pairs import Pairs
from kinema.flow.formats.videos import OldVideo

_FEW = 3


class OldFlow:
    """A source of encoded pairs, as `kinema.flow.store.FlowStore` is; image files are its frames.

    Values are those of the old files at the same bound, moved to Kinema's levels: by half a grey
    level at most (0.079 pixels at bound 20). What has no bound, such as floats in HDF5, is cut at
    the bound that is asked for.

    Attributes:
        num_frames: number of pairs.
        height: of the flow, pixels.
        width: of the flow, pixels.
        bound: pixels at the ends of the uint8 scale.
        layout: what was found, such as "dense-flow".
        stride: of the pairs, as far as the names tell it.

    Raises:
        KinemaError: an image is missing, damaged, or x and y do not go together.
    """

    def __init__(self, video: OldVideo, *, bound: float = DEFAULT_BOUND) -> None:
        self.pairs: Pairs = video.make(bound)
        self.bound, self.layout, self.stride = bound, video.layout, video.stride
        self.num_frames = len(self.pairs)
        try:
            _, self.height, self.width = self.pairs.read(0).shape
        except KinemaError:
            self.pairs.close()
            raise

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return encoded pairs (T, H, W, 2), any order, repeats allowed.

        The memory of the result is planar (x, then y).

        Raises:
            KinemaError: an index is outside the video, or an image is damaged or of another size.
        """
        pairs_T2HW = np.empty((len(indices), 2, self.height, self.width), np.uint8)
        for slot, index in enumerate(indices):
            if not 0 <= index < self.num_frames:
                raise KinemaError(
                    f"The flow has the pairs 0 to {self.num_frames - 1}: {index} was asked for."
                )
            pair_2HW = self.pairs.read(int(index))
            if pair_2HW.shape != pairs_T2HW.shape[1:]:
                raise KinemaError(
                    f"Pair {index} is {pair_2HW.shape[2]}x{pair_2HW.shape[1]} pixels, the first "
                    f"one {self.width}x{self.height}: all must have one size."
                )
            pairs_T2HW[slot] = pair_2HW
        return np.moveaxis(pairs_T2HW, 1, 3)

    def close(self) -> None:
        """Close what was opened."""
        self.pairs.close()


def open_old_flow(
    path: Path | str,
    *,
    y: Path | str | None = None,
    video: str | None = None,
    bound: float = DEFAULT_BOUND,
    stride: int = 1,
) -> OldFlow:
    """Open the flow of one video; its layout is found by itself.

    Args:
        path: the folder of the video (that of the x component, where they lie apart), an HDF5
            file, or a folder or archive with several videos.
        y: the folder of the y component, where it cannot be found from the name of the first.
        video: which one, by its id, where there are several.
        bound: pixels that the ends of the old scale stand for. They do not tell it: 20 with TSN
            and twostreamfusion, 32 by default with denseflow.
        stride: which pairs, where there are several kinds.

    Raises:
        UsageError: there are several videos or no such one.
        KinemaError: there is no stored flow, or it is incomplete or damaged.
    """
    path = Path(path)
    if y is not None:
        return OldFlow(pair_of_folders(path, Path(y)), bound=bound)
    found = list(find_videos(path))
    wanted = [item for item in found if video in (None, item.id)]
    if not found:
        raise KinemaError(f"There is no stored flow in {path}, in any of the known layouts.")
    ids = sorted({item.id for item in wanted})
    if len(ids) != 1:
        every = sorted({item.id for item in found})
        names = ", ".join(every[:_FEW]) + (" …" if len(every) > _FEW else "")
        asked = "which one is not said" if video is None else f"there is no '{video}'"
        raise UsageError(f"{path} holds the flow of {len(every)} videos, {asked}: {names}.")
    at_stride = [item for item in wanted if item.stride == stride]
    if not at_stride:
        known = ", ".join(str(item.stride) for item in wanted)
        raise UsageError(
            f"{path} has no flow of {ids[0]} at stride {stride}. There is stride {known}."
        )
    if len(at_stride) > 1:
        raise KinemaError(f"{path} holds the flow of {ids[0]} twice: give the folder of one.")
    return OldFlow(at_stride[0], bound=bound)
