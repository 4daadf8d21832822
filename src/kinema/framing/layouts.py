"""The ten layouts of frames by name: where the images of a video lie, and how they are numbered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinema.errors import UsageError, did_you_mean

Kind = Literal["folder", "zip", "hdf5"]
# UCF101 spells its files in the first way, the downloads of twostreamfusion in the second.
_SPELLINGS = ("v_HandStandPushups_", "v_HandstandPushups_")


@dataclass(frozen=True, kw_only=True)
class FrameLayout:
    """Where a system keeps the frames of a video.

    ``{video}`` in a name stands for the name of the video.
    """

    system: str  # whose layout it is
    prefix: str  # of the images
    digits: int  # of their numbers, filled with zeros; 0: as many as needed
    first: int = 1  # number of the first image
    nested: bool = False  # in a folder of the class
    root: str = ""  # folder above all
    inner: str = ""  # folder between class and video
    kind: Kind = "folder"  # or an archive in the folder, or an HDF5 file in its place
    has_count: bool = False  # a text file n_frames lies beside the images
    spelling: str = ""  # how the names of HandStandPushups begin; empty: as they are

    def place(self, out: Path, *, folder: str, video: str) -> Path:
        """Return the folder of a video, or its HDF5 file.

        Args:
            out: folder of all videos.
            folder: that of the class, perhaps with others around it; empty: none.
            video: name of the video.
        """
        name = self.video_name(video)
        parts = (self.root, folder if self.nested else "", self.inner if folder else "", name)
        place = out.joinpath(*(part for part in parts if part))
        return place.with_name(f"{name}.hdf5") if self.kind == "hdf5" else place

    def video_name(self, video: str) -> str:
        """Return the name of a video as this system spells it."""
        for spelling in _SPELLINGS if self.spelling else ():
            if video.startswith(spelling):
                return self.spelling + video.removeprefix(spelling)
        return video

    def image_prefix(self, video: str) -> str:
        """Return what stands before the number of an image."""
        return self.prefix.format(video=self.video_name(video))

    def image_name(self, index: int, *, video: str, suffix: str) -> str:
        """Return the name of the image of frame `index`, counted from 0."""
        return f"{self.image_prefix(video)}{self.first + index:0{self.digits}d}{suffix}"


LAYOUTS: Mapping[str, FrameLayout] = {
    "tsn": FrameLayout(system="TSN, two-stream-pytorch", prefix="img_", digits=5),
    "zhu-test": FrameLayout(
        system="two-stream-pytorch of 2017", prefix="image_", digits=4, nested=True
    ),
    "feichtenhofer": FrameLayout(
        system="downloads of twostreamfusion",
        prefix="frame",
        digits=6,
        root="jpegs_256",
        spelling=_SPELLINGS[1],
    ),
    "huang": FrameLayout(
        system="two-stream-action-recognition of Huang",
        prefix="{video}_",
        digits=0,
        nested=True,
        inner="separated_images",
        spelling=_SPELLINGS[0],
    ),
    "hara": FrameLayout(
        system="3D-ResNets", prefix="image_", digits=5, nested=True, has_count=True
    ),
    "something-v1": FrameLayout(
        system="Something-Something V1 for 3D-ResNets", prefix="image_", digits=5
    ),
    "slim": FrameLayout(system="two-stream of TF-slim", prefix="", digits=5, nested=True),
    "denseflow": FrameLayout(
        system="denseflow of OpenMMLab", prefix="img_", digits=5, first=0, nested=True
    ),
    "dense-flow-zip": FrameLayout(system="dense_flow -o zip", prefix="img_", digits=5, kind="zip"),
    "hara-hdf5": FrameLayout(
        system="3D-ResNets with HDF5", prefix="", digits=0, first=0, nested=True, kind="hdf5"
    ),
}


def find_layout(name: str) -> FrameLayout:
    """Return a layout by name.

    Raises:
        UsageError: there is no such layout.
    """
    if name not in LAYOUTS:
        raise UsageError(
            f"There is no layout of frames '{name}'.{did_you_mean(name, LAYOUTS)} "
            f"Known: {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]
