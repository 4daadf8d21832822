"""Flow without computing any: the motion vectors that are in a compressed video, made dense.

Field t leads from frame t to frame t + 1, as with the algorithms: x to the right, y down, pixels
per frame. A block of 8 x 8 pixels takes the first of these that there is, divided by the number
of frames that it spans:

1. its vector from frame t + 1 to the past, turned round;
2. its vector from frame t to the future;
3. its vector from frame t + 1 to the future;
4. the vector of the nearest block that has one (blocks that were coded without reference).

So vectors lie where their block is in frame t + 1, or in frame t by rule 2. Where no block has
any (frame t + 1 was coded alone), the field before is repeated, or the field is zero.
Zhang et al., Real-time Action Recognition with Enhanced Motion Vector CNNs (CVPR 2016) and Wu et
al., Compressed Video Action Recognition (CVPR 2018) learn from such fields.

Shapes: T fields, H, W; flow has 2 channels, x and y; R, K rows and columns of blocks.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError
from kinema.flow.coded_vectors import CodedVectors, check_codec, coded_vectors
from kinema.video.container import open_video
from kinema.video.reader import VideoReader

Intra = Literal["repeat", "zero"]
_BLOCK = 8  # pixels
_MACROBLOCK = 16


class _Facts(NamedTuple):
    num_frames: int
    height: int
    width: int
    fps: float


class MotionVectors:
    """The motion vectors of a video file as dense flow.

    Frames are those of `VideoReader`, in display order and turned as the metadata says. A frame
    is a step, however long it is shown.

    Args:
        path: a video in H.264, MPEG-1, -2 or -4, H.263, FLV1 or WMV 1 or 2.
        intra: the field that leads to a frame that was coded alone: the one before ("repeat";
            the first is zero) or "zero".

    Raises:
        UsageError: `intra` is neither.
        KinemaError: the file is missing, a folder, no video, or in a codec without vectors.
    """

    def __init__(self, path: Path | str, *, intra: Intra = "repeat") -> None:
        if intra not in get_args(Intra):
            raise UsageError(f"intra is '{intra}': it must be one of {', '.join(get_args(Intra))}.")
        self.path = Path(path)
        if self.path.is_dir():
            raise KinemaError(
                f"{path} is a folder: motion vectors are in compressed videos only. Choose another "
                "algorithm, such as dis, or give the video file."
            )
        self._intra = intra
        video = open_video(self.path, threads=1)
        try:
            check_codec(self.path, video)
        finally:
            video.container.close()

    @cached_property
    def _facts(self) -> _Facts:
        with VideoReader(self.path) as reader:
            return _Facts(reader.num_frames, reader.height, reader.width, reader.fps)

    @property
    def num_frames(self) -> int:
        """The number of frames; there is one field fewer."""
        return self._facts.num_frames

    @property
    def height(self) -> int:
        """Height in pixels, after rotation."""
        return self._facts.height

    @property
    def width(self) -> int:
        """Width in pixels, after rotation."""
        return self._facts.width

    @property
    def fps(self) -> float:
        """Frames per second; 0.0 where the container knows none."""
        return self._facts.fps

    def stream(self) -> Iterator[NDArray[np.float32]]:
        """Yield the flow (2, H, W) from every frame to the next, pixels per frame.

        Raises:
            KinemaError: the video is damaged, changes its picture size, or has no vectors because
                all of its frames were coded alone.
        """
        num_empty = 0
        filler_RK2: NDArray[np.float32] | None = None
        for picture, field_RK2 in self._fields():
            if filler_RK2 is None:
                if field_RK2 is None:
                    num_empty += 1  # held back: there may be no vectors at all
                    continue
                filler_RK2 = np.zeros_like(field_RK2)
            for _ in range(num_empty):
                yield _pixels(filler_RK2, picture)
            num_empty = 0
            if field_RK2 is None:
                field_RK2 = filler_RK2
            elif self._intra == "repeat":
                filler_RK2 = field_RK2
            yield _pixels(field_RK2, picture)
        if num_empty:
            raise KinemaError(
                f"{self.path} has no motion vectors: each of its frames was coded alone. Compute "
                "the flow (algorithm dis), or encode the video anew with fewer keyframes."
            )

    def _fields(self) -> Iterator[tuple[CodedVectors, NDArray[np.float32] | None]]:
        """Yield every frame but the first with the flow per block that leads to it, if any."""
        pictures = coded_vectors(self.path)
        first = next(pictures, None)
        if first is None:
            return
        earlier_DRK2 = _block_flow(first)
        for index, picture in enumerate(pictures, start=1):
            self._check_size(picture, first, index)
            later_DRK2 = _block_flow(picture)
            yield picture, _first_known(later_DRK2[0], earlier_DRK2[1], later_DRK2[1])
            earlier_DRK2 = later_DRK2

    def read(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return the fields `indices` as (T, 2, H, W), in any order and with repeats.

        Everything before the last of them is decoded: `stream` is the quick way.

        Raises:
            KinemaError: there is no such field; see `stream`.
        """
        num_fields = max(self.num_frames - 1, 0)
        for index in indices:
            if not 0 <= index < num_fields:
                raise KinemaError(
                    f"{self.path} has no motion field {index}: its {self.num_frames} frames have "
                    f"{num_fields}, numbered from 0."
                )
        flow_T2HW = np.empty((len(indices), 2, self.height, self.width), np.float32)
        places = np.asarray(indices, dtype=np.int64)
        for index, flow_2HW in enumerate(islice(self.stream(), max(indices, default=-1) + 1)):
            flow_T2HW[places == index] = flow_2HW
        return flow_T2HW

    def _check_size(self, picture: CodedVectors, first: CodedVectors, index: int) -> None:
        sizes = [_shown_size(first), _shown_size(picture)]
        if sizes[0] != sizes[1]:
            (height, width), (other_height, other_width) = sizes
            raise KinemaError(
                f"{self.path} changes its picture size at frame {index}, from {width}x{height} to "
                f"{other_width}x{other_height}. Encode it anew with one size."
            )


def resize_flow(flow_2HW: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return flow (2, H, W) at another size, its vectors in pixels of that size.

    By area where both sides shrink, else bilinear.
    """
    old_height, old_width = flow_2HW.shape[1:]
    if (old_height, old_width) == (height, width):
        return flow_2HW
    shrinks = height <= old_height and width <= old_width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planes = [cv2.resize(plane, (width, height), interpolation=interpolation) for plane in flow_2HW]
    scale_2 = np.asarray([width / old_width, height / old_height], np.float32)
    return np.stack(planes).astype(np.float32, copy=False) * scale_2[:, None, None]


def _shown_size(picture: CodedVectors) -> tuple[int, int]:
    size = picture.height, picture.width
    return size if picture.quarter_turns % 2 == 0 else size[::-1]


def _block_flow(picture: CodedVectors) -> NDArray[np.float32]:
    """Return the flow per block (2, R, K, 2) by vectors to the past and to the future, x and y.

    Not a number where there is no vector.
    """
    per_macroblock = _MACROBLOCK // _BLOCK
    num_rows = -(-picture.height // _MACROBLOCK) * per_macroblock
    num_columns = -(-picture.width // _MACROBLOCK) * per_macroblock
    flow_DRK2 = np.full((2, num_rows, num_columns, 2), np.nan, np.float32)
    blocks = picture.blocks
    if len(blocks) == 0:
        return flow_DRK2
    direction = (blocks["source"] > 0).astype(np.int64)
    # A vector leads from a block to where it is in the other picture.
    steps = np.where(direction == 1, picture.future_span, -picture.past_span)
    steps = steps * blocks["motion_scale"]
    motion_2 = np.stack([blocks["motion_x"], blocks["motion_y"]], axis=1) / steps[:, None]
    block_height, block_width = blocks["h"].astype(np.int64), blocks["w"].astype(np.int64)
    row = (blocks["dst_y"] - block_height // 2) // _BLOCK
    column = (blocks["dst_x"] - block_width // 2) // _BLOCK
    for down in range(per_macroblock):
        for right in range(per_macroblock):
            covers = (block_height > down * _BLOCK) & (block_width > right * _BLOCK)
            covers &= (row + down < num_rows) & (column + right < num_columns)  # what is cropped
            place = direction[covers], row[covers] + down, column[covers] + right
            flow_DRK2[place] = motion_2[covers]
    return flow_DRK2


def _first_known(*choices_RK2: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the first choice that is known per block, else the nearest block's; None if none."""
    field_RK2 = choices_RK2[0]
    for choice_RK2 in choices_RK2[1:]:
        field_RK2 = np.where(np.isnan(field_RK2), choice_RK2, field_RK2)
    unknown_RK = np.isnan(field_RK2[..., 0])
    if unknown_RK.all():
        return None
    if not unknown_RK.any():
        return field_RK2
    _, nearest_RK = cv2.distanceTransformWithLabels(
        unknown_RK.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    motion_of = np.empty((int(nearest_RK.max()) + 1, 2), np.float32)
    motion_of[nearest_RK[~unknown_RK]] = field_RK2[~unknown_RK]
    filled_RK2: NDArray[np.float32] = motion_of[nearest_RK]
    return filled_RK2


def _pixels(field_RK2: NDArray[np.float32], picture: CodedVectors) -> NDArray[np.float32]:
    """Fill each block with its flow and turn the picture, (2, H, W)."""
    wide = field_RK2.transpose(2, 0, 1).repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=1)
    flow_2HW = wide[:, : picture.height, : picture.width]
    for _ in range(picture.quarter_turns):  # counterclockwise: what was right is up
        flow_2HW = np.rot90(flow_2HW, axes=(1, 2))
        flow_2HW = np.stack([flow_2HW[1], -flow_2HW[0]])
    return np.ascontiguousarray(flow_2HW)
