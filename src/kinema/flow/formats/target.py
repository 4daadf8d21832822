"""Names of all files of one video in a layout."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinema.flow.formats.names import Layout
from kinema.flow.formats.staging import Group

Part = Literal["x", "y", "frames"]
_PLACES: dict[Part, int] = {"x": 0, "y": 1, "frames": 2}


@dataclass(frozen=True, kw_only=True)
class Target:
    """One video in one layout at one stride."""

    out: Path
    video_id: str
    layout: Layout
    stride: int = 1
    frames: bool = True  # whether frames are written beside the flow

    def group(self, part: Part) -> Group:
        """Return the folder of a part, and the names of its files in it."""
        path = self._path(part)
        if self.layout.kind == "zip":
            return Group(folder=path.parent, pattern=re.compile(re.escape(path.name)))
        prefix = re.escape(path.name + self._mark(part))
        pattern = re.compile(rf"{prefix}\d+\.{self._suffix(part)}")
        return Group(folder=path.parent, pattern=pattern)

    def archive(self, part: Part) -> str:
        """Return the name of the archive of a part, in a layout of archives."""
        return self._path(part).name

    def hdf5_path(self) -> Path:
        """Return the HDF5 file, in a layout of such files."""
        mark = self.layout.stride_mark(self.stride)
        return self.out / f"{self.video_id}{f'_{mark[:-1]}' if mark else ''}.h5"

    def pair_name(self, part: Part, index: int) -> str | None:
        """Return the name of image, member or data set of pair `index`; None where it is left."""
        if not self.layout.is_kept(index, self.stride):
            return None
        if not self.layout.has_strides:
            index //= self.stride
        number = self.layout.first_number(self.stride) + index
        return self._name(part, number)

    def frame_name(self, index: int) -> str | None:
        """Return the name of the image of frame `index`; None where it is left."""
        if not self.layout.is_kept(index, self.stride):
            return None
        if not self.layout.has_strides:
            index //= self.stride
        number = self.layout.first_frame + index - self.layout.starts_with_second_frame
        return self._name("frames", number) if number >= self.layout.first_frame else None

    def _name(self, part: Part, number: int) -> str:
        prefix = self._path(part).name
        if self.layout.kind == "zip" or (self.layout.kind == "hdf5" and part != "frames"):
            prefix = self.layout.members[_PLACES[part]]
        stem = f"{prefix}{self._mark(part)}{number:0{self.layout.digits}d}"
        return f"{stem}.{self._suffix(part)}".removesuffix(".")

    def _mark(self, part: Part) -> str:
        return "" if part == "frames" else self.layout.stride_mark(self.stride)

    def _suffix(self, part: Part) -> str:
        if part == "frames" or self.layout.kind in ("jpg", "zip"):
            return "jpg"
        return "png" if self.layout.kind == "png" else ""

    def _path(self, part: Part) -> Path:
        template: str = getattr(self.layout, part)
        return self.out / template.format(video=self.video_id)
