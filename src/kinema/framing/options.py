"""Every setting of image folders: layout, picture size, which frames, kind of image."""

from dataclasses import asdict, dataclass
from math import ceil, isfinite
from typing import Any, Literal, get_args

from kinema.errors import KinemaError, UsageError
from kinema.framing.layouts import FrameLayout, find_layout
from kinema.video.image_bytes import JPEG_QUALITY
from kinema.video.sizes import parse_size, target_size

ImageFormat = Literal["jpg", "png"]
_HEIGHT = "height:"


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """How videos become images."""

    layout: str = "hara"  # a name of `kinema.framing.layouts`
    size: str = "none"  # "WxH", "short:S", "height:H" (the width follows), or "none": native
    fps: float = 0.0  # frames per second that are taken; 0: all
    every: int = 1  # each k-th frame is taken, the first among them
    format: ImageFormat = "jpg"
    quality: int = JPEG_QUALITY  # of JPEG, 1 to 100

    @property
    def where(self) -> FrameLayout:
        """The layout itself."""
        return find_layout(self.layout)

    @property
    def suffix(self) -> str:
        """Of the images."""
        return f".{self.format}"

    def check(self) -> None:
        """Refuse values that do not exist or do not go together.

        Raises:
            UsageError: says which value, and what is allowed.
        """
        find_layout(self.layout)
        if self.format not in get_args(ImageFormat):
            raise UsageError(f"There is no image format '{self.format}': choose jpg or png.")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"The quality of JPEG is 1 to 100, not {self.quality}.")
        if self.every < 1:
            raise UsageError(f"Every k-th frame: k is 1 or more, not {self.every}.")
        if not (isfinite(self.fps) and self.fps >= 0):
            raise UsageError(f"The frames per second must be positive, not {self.fps:g}.")
        if self.fps and self.every > 1:
            raise UsageError("Take frames by their rate (fps) or every k-th, not both.")
        if not self._height():
            try:
                parse_size(self.size)
            except UsageError as error:
                raise UsageError(f"{error} Images can also have height:H (height:240).") from error

    def identity(self) -> dict[str, Any]:
        """Return what decides the images, as a folder of them records it."""
        return asdict(self)

    def target_size(self, *, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of the images of a video.

        With "height:H" the width is rounded to the nearest pixel, as FFmpeg's scale=-1:H does.
        """
        side = self._height()
        if side:
            return side, max(1, (width * side + height // 2) // height)
        return target_size(self.size, height=height, width=width)

    def _height(self) -> int:
        side = self.size.removeprefix(_HEIGHT)
        if side == self.size:
            return 0
        if not (side.isdecimal() and int(side) > 0):
            raise UsageError(f"'{self.size}' is not a size: write height:240, for example.")
        return int(side)

    def chosen(self, num_frames: int, fps: float) -> list[int]:
        """Return which frames of a video are taken, in order.

        A rate is brought about as FFmpeg's filter ``fps`` does: the frame shown at the nearest
        time; frames are repeated where the rate is higher than the video's.

        Args:
            num_frames: of the video.
            fps: of the video; 0: not known.

        Raises:
            KinemaError: the rate of the video is needed and not known.
        """
        if not self.fps:
            return list(range(0, num_frames, self.every))
        if fps <= 0:
            raise KinemaError(
                f"its frames per second are not known, so {self.fps:g} of them cannot be taken: "
                "take every k-th frame instead."
            )
        step = fps / self.fps
        count = max(1, int(num_frames / step + 0.5))
        last = num_frames - 1
        return [min(last, max(0, ceil((k + 0.5) * step - 1e-9) - 1)) for k in range(count)]
