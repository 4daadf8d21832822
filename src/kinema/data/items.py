"""What is read: one video with its label, and which images of it make a clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinema.config import Sampling, Short
from kinema.flow.formats.videos import OldVideo


@dataclass(frozen=True, kw_only=True)
class ClipItem:
    """One video with its label.

    `flow_path` is its stored flow, `old_flow` that in the layout of an older tool (both None:
    computed on the fly), `frame_path` the store of its RGB frames (None reads the video).
    """

    id: str
    path: Path
    label: int
    num_frames: int
    fps: float = 0.0  # 0: not known
    flow_path: Path | None = None
    frame_path: Path | None = None
    old_flow: OldVideo | None = None
    segment: tuple[int, int] | None = None  # first frame and the one after the last; None: all
    second: "ClipItem | None" = None  # the same video for a second stream, where it is stored apart


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What is read from each video."""

    stream: Literal["rgb", "flow"]
    length: int = 1  # images per snippet: flow pairs, or frames (differences need one more)
    interval: int = 1  # from one image of a snippet to the next
    short: Short = "shrink"  # how a snippet fits into a video that is too short for it
    spread: bool = False  # a snippet's images come from equal parts of the video, one from each
    fps: float = 0.0  # images are taken at this rate; 0: all of the video's
    num_segments: int = 3
    joined: int = 1  # snippets that the network sees together, so a test clip has so many
    sampling: Sampling = "tsn"
    resize: str = "340x256"  # before cropping, see `kinema.data.transforms.parse_size`
    crop: int = 224  # side of the square that the network sees, pixels
    flow_algorithm: str = "dis"  # where there is no stored flow
    flow_weights: str = ""  # the file of the algorithm motionnet
    flow_bound: float = 20.0  # pixels per stride at the ends of the uint8 scale
    flow_size: str = "none"  # of the images that it is computed from, where there is no store
    flow_stride: int = 1
    flow_gray: Literal["after", "before"] = "after"  # frames become gray after they are resized
    flow_warp: bool = False  # the camera's motion is taken out
