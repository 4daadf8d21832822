"""The layouts of older flow tools by name: where files lie, how they are numbered and scaled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kinema.errors import UsageError, did_you_mean

Kind = Literal["jpg", "zip", "png", "hdf5"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a tool puts the flow of a video, and its frames.

    The paths are prefixes below the output folder; a number and a suffix follow. In a zip layout
    they are archives, and `members` are the prefixes in them.
    """

    tool: str  # whose layout it is
    kind: Kind
    bound: float  # the tool's own, pixels; png and hdf5 keep every vector
    x: str
    y: str
    frames: str
    members: tuple[str, str, str] = ("", "", "")  # of x, y and frames in their archives
    digits: int = 5
    first: int = 1  # number of the first pair
    first_frame: int = 1  # number of the first image of a frame
    starts_with_second_frame: bool = False  # the first image is the second frame of the video
    has_strides: bool = False  # names tell the stride; else stride s takes every s-th frame

    def stride_mark(self, stride: int) -> str:
        """Return what stands before the number, such as ``p2_``; nothing at stride 1."""
        if stride == 1 or not self.has_strides:
            return ""
        return f"{'p' if stride > 0 else 'm'}{abs(stride)}_"

    def first_number(self, stride: int) -> int:
        """Return the number of the first pair: that of the frame which it starts from."""
        return self.first + max(0, -stride)

    def is_kept(self, index: int, stride: int) -> bool:
        """Return whether pair `index` is written: all, or every s-th."""
        return self.has_strides or index % stride == 0

    def num_stored(self, num_pairs: int, stride: int) -> int:
        """Return how many of the pairs of a video are written."""
        return num_pairs if self.has_strides else -(-num_pairs // stride)

    def num_frames(self, num_stored: int, stride: int) -> int:
        """Return how many frames are written beside so many pairs."""
        if self.has_strides:
            return num_stored + abs(stride)
        return num_stored + (not self.starts_with_second_frame)


# yjxiong/dense_flow extract_gpu as build_of.py of TSN calls it (bound 20; the tool alone has 15);
# open-mmlab/denseflow; feichtenhofer/gpu_flow, whose older version made the files that
# twostreamfusion offers for UCF101 and HMDB51. All write JPEG of quality 95, OpenCV's own.
LAYOUTS: Mapping[str, Layout] = {
    "dense-flow": Layout(
        tool="dense_flow",
        kind="jpg",
        bound=20,
        x="{video}/flow_x_",
        y="{video}/flow_y_",
        frames="{video}/img_",
        starts_with_second_frame=True,
    ),
    "dense-flow-zip": Layout(
        tool="dense_flow",
        kind="zip",
        bound=20,
        x="{video}/flow_x.zip",
        y="{video}/flow_y.zip",
        frames="{video}/img.zip",
        members=("x_", "y_", "img_"),
        starts_with_second_frame=True,
    ),
    "denseflow": Layout(
        tool="denseflow",
        kind="jpg",
        bound=32,
        x="{video}/flow_x_",
        y="{video}/flow_y_",
        frames="{video}/img_",
        first=0,
        first_frame=0,
        has_strides=True,
    ),
    "denseflow-png": Layout(
        tool="denseflow",
        kind="png",
        bound=32,
        x="{video}/flow_",
        y="{video}/flow_",
        frames="{video}/img_",
        first=0,
        first_frame=0,
        has_strides=True,
    ),
    "denseflow-h5": Layout(
        tool="denseflow",
        kind="hdf5",
        bound=32,
        x="{video}",
        y="{video}",
        frames="{video}/img_",
        members=("flow_x_", "flow_y_", ""),
        first=0,
        first_frame=0,
        has_strides=True,
    ),
    "gpu-flow": Layout(
        tool="gpu_flow",
        kind="jpg",
        bound=20,
        x="x/{video}/frame",
        y="y/{video}/frame",
        frames="rgb/{video}/frame",
        digits=6,
    ),
    "twostreamfusion": Layout(
        tool="gpu_flow",
        kind="jpg",
        bound=20,
        x="tvl1_flow/u/{video}/frame",
        y="tvl1_flow/v/{video}/frame",
        frames="jpegs_256/{video}/frame",
        digits=6,
    ),
}


def find_layout(name: str, *, stride: int = 1) -> Layout:
    """Return a layout by name.

    Raises:
        UsageError: there is no such layout, or it has no place for this stride.
    """
    if name not in LAYOUTS:
        raise UsageError(
            f"There is no flow format '{name}'.{did_you_mean(name, LAYOUTS)} "
            f"Known: {', '.join(LAYOUTS)}."
        )
    layout = LAYOUTS[name]
    if stride < 1 and not (layout.has_strides and stride):
        able = ", ".join(name for name, other in LAYOUTS.items() if other.has_strides)
        raise UsageError(
            f"The format '{name}' cannot hold stride {stride}, because {layout.tool} has none "
            f"below 1. Negative strides: {able}."
        )
    return layout
