"""Every setting of flow that decides what is stored or computed."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, get_args

from kinema.errors import UsageError, did_you_mean
from kinema.flow.algorithms import parameters
from kinema.flow.encoding import DEFAULT_BOUND
from kinema.flow.formats.names import LAYOUTS, find_layout
from kinema.flow.motion_file import describe_motion
from kinema.flow.motionnet import MOTIONNET, check_weights, window_of
from kinema.flow.store import Quality, check_quality
from kinema.video.sizes import parse_size

STORE_FORMAT = 1
STORE = "store"  # the layout that is Kinema's own
MOTION_VECTORS = "motion-vectors"  # read from the video file, not computed from its frames
Gray = Literal["after", "before"]
_KEPT = ("algorithm", "weights", "bound", "adaptive", "size", "quality", "stride", "gray", "warp")
_ON_GPU = ("raft", "tvl1", "motionnet")  # beginnings of the names of algorithms that use a GPU


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How flow is computed and stored."""

    algorithm: str = "dis"  # a name of `kinema.flow.algorithms`
    weights: str = ""  # the file of motionnet
    bound: float = DEFAULT_BOUND  # pixels per stride at the ends of the uint8 scale
    adaptive: bool = False  # every video gets its own bound, which its store tells
    size: str = "none"  # frames are resized to this before: "WxH", "short:S" or "none"
    quality: Quality = "standard"  # or "lossless"
    stride: int = 1  # s: from frame t to frame t + s; negative: from a frame to an earlier one
    gray: Gray = "after"  # frames become gray after they are resized, or before
    warp: bool = False  # the camera's motion is taken out
    format: str = STORE  # or an older tool's layout, a name of `kinema.flow.formats.names`

    def identity(self) -> dict[str, Any]:
        """Return what decides the content of a store, as stores and manifests record it.

        The bound is "adaptive" where every store has its own.
        """
        return {
            "format": STORE_FORMAT,
            "algorithm": self.algorithm,
            "parameters": parameters_of(self.algorithm, self.weights),
            **({"weights": self.weights} if self.weights else {}),
            "bound": "adaptive" if self.adaptive else self.bound,
            "adaptive": self.adaptive,
            "size": self.size,
            "quality": self.quality,
            "stride": self.stride,
            "gray": self.gray,
            "warp": self.warp,
            "layout": self.format,
        }

    @staticmethod
    def from_identity(settings: dict[str, Any]) -> "FlowOptions":
        """Return the options that `identity` describes; what an old one lacks has its default."""
        known = {name: settings[name] for name in _KEPT if name in settings}
        if known.get("adaptive"):
            known["bound"] = DEFAULT_BOUND
        return FlowOptions(format=settings.get("layout", STORE), **known)

    @property
    def uses_gpu(self) -> bool:
        """Whether the algorithm runs on a GPU where there is one, in large batches."""
        return self.algorithm.startswith(_ON_GPU)

    @property
    def window(self) -> int:
        """How many pairs are computed together, from the first on; 1: each by itself."""
        return window_of(self.weights) if self.algorithm == MOTIONNET else 1

    def describe(self) -> str:
        """Return the settings in short, those that differ from the usual."""
        usual = FlowOptions()
        texts = [
            self.algorithm,
            "bound of each video" if self.adaptive else f"bound {self.bound:g}",
            f"size {self.size}",
        ]
        for name in ("stride", "gray", "quality", "format"):
            if getattr(self, name) != getattr(usual, name):
                texts.append(f"{name} {getattr(self, name)}")
        return ", ".join([*texts, *(["warped"] if self.warp else [])])

    def num_pairs(self, num_frames: int) -> int:
        """Return how many pairs a video of `num_frames` frames has."""
        return max(0, num_frames - abs(self.stride))

    def check(self) -> None:
        """Refuse values that do not exist or do not go together.

        Raises:
            UsageError: says which value, and what is allowed.
        """
        check_weights(self.algorithm, self.weights)
        parameters_of(self.algorithm, self.weights)
        parse_size(self.size)
        check_quality(self.quality)
        if not (isfinite(self.bound) and self.bound > 0):
            raise UsageError(f"The bound must be positive (pixels), not {self.bound:g}.")
        if self.stride == 0:
            raise UsageError("The stride is a number of frames, such as 1, 2 or -1, and not 0.")
        if self.gray not in get_args(Gray):
            raise UsageError(
                f"There is no gray '{self.gray}': frames become gray 'after' or 'before' they are "
                "resized."
            )
        if self.format not in (STORE, *LAYOUTS):
            raise UsageError(
                f"There is no flow format '{self.format}'."
                f"{did_you_mean(self.format, (STORE, *LAYOUTS))} "
                f"Known: {', '.join((STORE, *LAYOUTS))}."
            )
        self._check_together()

    def _check_together(self) -> None:
        if self.algorithm == MOTION_VECTORS and self.stride != 1:
            raise UsageError(
                f"Motion vectors lead from a frame to the next: stride {self.stride} needs another "
                "algorithm, such as dis or tvl1."
            )
        if self.algorithm == MOTION_VECTORS and self.warp:
            raise UsageError(
                "Motion vectors cannot be freed of the camera's motion: choose another algorithm, "
                "such as dis or tvl1, or leave the warp out."
            )
        if self.window > 1 and self.stride != 1:
            raise UsageError(
                f"This MotionNet estimates {self.window} pairs of neighbours together: stride "
                f"{self.stride} needs motionnet-tiny or another algorithm, such as dis or tvl1."
            )
        if self.format == STORE:
            return
        find_layout(self.format, stride=self.stride)
        if self.adaptive:
            raise UsageError(
                f"The layout '{self.format}' has one bound for all videos: give a number, or "
                "leave the format out."
            )


def parameters_of(algorithm: str, weights: str = "") -> dict[str, Any]:
    """Return the parameters of an algorithm, of motion vectors, or of a MotionNet's file.

    Raises:
        UsageError: there is no such algorithm.
        KinemaError: there is no such file.
    """
    if algorithm == MOTIONNET:
        return describe_motion(weights)
    if algorithm == MOTION_VECTORS:
        return {"intra": "repeat"}
    return parameters(algorithm)
