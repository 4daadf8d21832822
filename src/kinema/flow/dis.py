"""DIS flow: Kroeger et al., Fast Optical Flow using Dense Inverse Search (ECCV 2016), in OpenCV."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Preset = Literal["medium", "fast", "ultrafast"]
# medium and fast: patches of 8 pixels every 3 (medium) or 4, 25 or 16 gradient steps, 5 steps of
# variational refinement; medium computes down to half, the others down to a quarter resolution.
_PRESETS: dict[Preset, int] = {
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}


def dis(frames_THW: NDArray[np.uint8], *, preset: Preset = "medium") -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames, pixels per frame; one pair at a time."""
    no_start: Any = None  # OpenCV's annotations forget that there may be no first guess
    engine = cv2.DISOpticalFlow.create(_PRESETS[preset])
    flow_T2HW = np.empty((len(frames_THW) - 1, 2, *frames_THW.shape[1:]), np.float32)
    for pair, flow_2HW in enumerate(flow_T2HW):
        flow_HW2 = engine.calc(frames_THW[pair], frames_THW[pair + 1], no_start)
        flow_2HW[...] = np.moveaxis(flow_HW2, 2, 0)
    return flow_T2HW
