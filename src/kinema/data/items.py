"""What is read: one video with its label, and which images of it make a clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinema.config import Sampling


@dataclass(frozen=True, kw_only=True)
class ClipItem:
    """One video with its label.

    `flow_path` is its stored flow (None computes it on the fly), `frame_path` the store of its RGB
    frames (None reads the video).
    """

    id: str
    path: Path
    label: int
    num_frames: int
    flow_path: Path | None = None
    frame_path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What is read from each video."""

    stream: Literal["rgb", "flow"]
    length: int = 1  # images per snippet: flow pairs, or frames (differences need one more)
    interval: int = 1  # from one image of a snippet to the next; smaller in videos too short for it
    num_segments: int = 3
    sampling: Sampling = "tsn"
    resize: str = "340x256"  # before cropping, see `kinema.data.transforms.parse_size`
    crop: int = 224  # side of the square that the network sees, pixels
    flow_algorithm: str = "dis"  # where there is no stored flow
    flow_bound: float = 20.0  # pixels per stride at the ends of the uint8 scale
    flow_size: str = "none"  # of the images that it is computed from, where there is no store
    flow_stride: int = 1
    flow_gray: Literal["after", "before"] = "after"  # frames become gray after they are resized
    flow_warp: bool = False  # the camera's motion is taken out
