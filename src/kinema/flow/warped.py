"""Warped flow: what moves apart from the camera, TSN's third modality.

The camera's motion between two frames is a homography, found by RANSAC among corners that were
matched by their look (ORB) and corners that were taken along the flow. Method and numbers: Wang &
Schmid, Action Recognition with Improved Trajectories (ICCV 2013), whose SURF is not in OpenCV's
wheels; Wang et al., Temporal Segment Networks (ECCV 2016), use it for the flow of a network.

The camera is taken to stand still, and the pair keeps its flow, where there are too few matches,
and where the homography does not stand the test: it must be held by points all over the picture
and make the second frame, warped back, look clearly more like the first. (The published rule is
the number of points alone. It often takes a hand before a bare wall for the camera's motion.)

Shapes: T frames, H, W; flow has 2 channels, x (to the right) and y (down); N points.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError

Points: TypeAlias = NDArray[np.float32]  # (N, 2): x, y in pixels

_MOST_CORNERS = 1000  # per frame, taken along the flow
_CORNER_QUALITY = 0.001  # of the best corner's
_CORNER_DISTANCE = 3  # pixels
_MOST_KEYPOINTS = 500  # per frame, matched by their look
_KEYPOINT_CONTRAST = 5  # gray levels
_FEWEST_MATCHES = 50
_FEWEST_INLIERS = 25
_INLIER_DISTANCE = 1.0  # pixels
_LARGEST_SHIFT = 0.5  # of a corner of the picture, in proportion to the longer side
_SMALLEST_SPREAD = 0.3  # area that the points which agree lie around, in proportion to the picture
_LARGEST_DIFFERENCE = 0.9  # between the frames after warping, in proportion to that before
_MOST_DIFFERENT = 20  # gray levels: what moves by itself may differ by any more


def warped(
    frames_THW: NDArray[np.uint8],
    *,
    algorithm: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    recompute: bool = False,
) -> NDArray[np.float32]:
    """Return the flow (T-1, 2, H, W) of gray frames by an algorithm, free of the camera's motion.

    Args:
        frames_THW: gray frames.
        algorithm: takes frames (T, H, W) and returns their flow (T-1, 2, H, W).
        recompute: warp each second frame back by the camera's motion and compute the flow anew,
            as published, instead of subtracting the camera's motion. It takes twice the time.

    Raises:
        UsageError: see `warped_flow`.
    """
    flow_T2HW = algorithm(frames_THW)
    if not recompute:
        return warped_flow(frames_THW, flow_T2HW)
    again_T2HW: NDArray[np.float32] = flow_T2HW.copy()
    for pair, homography in enumerate(camera_motion(frames_THW, flow_T2HW)):
        if np.any(homography != np.eye(3)):
            first_HW, second_HW = frames_THW[pair : pair + 2]
            aligned_HW = _back(second_HW, homography, onto=first_HW)
            again_T2HW[pair] = algorithm(np.stack([first_HW, aligned_HW]))[0]
    return again_T2HW


def warped_flow(
    frames_THW: NDArray[np.uint8], flow_T2HW: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return flow less that of the camera: flow(x) - (Hx - x) at each pixel x, in new memory.

    H is the homography of the pair. Where nothing moves but the camera, the result is zero. The
    published way computes flow again on warped frames; it agrees up to H's own scale and turn
    (see `warped`), costs twice the time and leaves false motion at the borders.

    Raises:
        UsageError: the shapes do not fit.
    """
    result_T2HW: NDArray[np.float32] = flow_T2HW.copy()
    for flow_2HW, homography in zip(result_T2HW, camera_motion(frames_THW, flow_T2HW), strict=True):
        if np.any(homography != np.eye(3)):
            flow_2HW -= _motion_field(homography, *flow_2HW.shape[1:])
    return result_T2HW


def camera_motion(
    frames_THW: NDArray[np.uint8], flow_T2HW: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the homography (T-1, 3, 3) of each pair: where (x, y, 1) of its first frame goes.

    Each depends on nothing but its own pair, and is the same every time. It is exactly the
    identity where the camera stands still or its motion is not found.

    Raises:
        UsageError: the shapes do not fit.
    """
    num_pairs = max(len(frames_THW) - 1, 0)
    wanted = num_pairs, 2, *frames_THW.shape[1:]
    if flow_T2HW.shape != wanted:
        raise UsageError(
            f"Flow of shape {flow_T2HW.shape} does not belong to frames of shape "
            f"{frames_THW.shape}: it must be {wanted}."
        )
    motion_T33 = np.tile(np.eye(3), (num_pairs, 1, 1))
    for pair, (before, after) in enumerate(_matched_points(frames_THW)):
        first_HW, second_HW = frames_THW[pair : pair + 2]
        corners = _corners(first_HW)
        column, row = np.rint(corners).astype(np.int64).T
        followed = corners + flow_T2HW[pair][:, row, column].T
        homography = _homography(
            np.concatenate([before, corners]), np.concatenate([after, followed]), first_HW.shape
        )
        if homography is not None and _aligns(first_HW, second_HW, homography):
            motion_T33[pair] = homography
    return motion_T33


def _matched_points(frames_THW: NDArray[np.uint8]) -> Iterator[tuple[Points, Points]]:
    """Yield for each pair the places (N, 2) of the same keypoints, each other's best match."""
    orb = cv2.ORB.create(nfeatures=_MOST_KEYPOINTS, fastThreshold=_KEYPOINT_CONTRAST)
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    no_mask: Any = None  # OpenCV's annotations forget that there may be none
    earlier: tuple[Points, Any] | None = None
    for frame_HW in frames_THW:
        keypoints, looks = orb.detectAndCompute(frame_HW, no_mask)
        places = np.asarray([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
        later = places, looks
        if earlier is not None:
            matches = []
            if earlier[1] is not None and looks is not None:
                matches = list(matcher.match(earlier[1], looks))
            before = earlier[0][[match.queryIdx for match in matches]]
            yield before, later[0][[match.trainIdx for match in matches]]
        earlier = later


def _corners(frame_HW: NDArray[np.uint8]) -> Points:
    corners: Any = cv2.goodFeaturesToTrack(
        frame_HW, _MOST_CORNERS, _CORNER_QUALITY, _CORNER_DISTANCE
    )
    return np.empty((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)


def _homography(before: Points, after: Points, size: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return the homography that most points agree on, if it can be a camera's motion."""
    if len(before) <= _FEWEST_MATCHES:
        return None
    # OpenCV's RANSAC draws from a generator of its own that always starts with the same seed.
    found, agree = cv2.findHomography(before, after, cv2.RANSAC, _INLIER_DISTANCE)
    if found is None or np.count_nonzero(agree) <= _FEWEST_INLIERS:
        return None
    homography = np.asarray(found, np.float64)
    if _largest_shift(homography, size[0], size[1]) > _LARGEST_SHIFT * max(size):
        return None
    around = cv2.convexHull(before[agree.ravel() > 0])
    return homography if cv2.contourArea(around) >= _SMALLEST_SPREAD * size[0] * size[1] else None


def _largest_shift(homography: NDArray[np.float64], height: int, width: int) -> float:
    """Return how far a corner of the picture goes, pixels; infinity if it is folded or mirrored."""
    corners_43 = np.asarray([(x, y, 1) for x in (0, width - 1) for y in (0, height - 1)], float)
    moved_43 = corners_43 @ homography.T
    if moved_43[:, 2].min() <= 0 or np.linalg.det(homography) <= 0:
        return float("inf")
    shifts_42 = moved_43[:, :2] / moved_43[:, 2:] - corners_43[:, :2]
    return float(np.linalg.norm(shifts_42, axis=1).max())


def _aligns(
    first_HW: NDArray[np.uint8], second_HW: NDArray[np.uint8], homography: NDArray[np.float64]
) -> bool:
    """Whether the second frame, warped back, is clearly more like the first, where both see."""
    seen_HW = _back(np.full_like(second_HW, 255), homography, onto=np.zeros_like(second_HW)) == 255

    def difference(frame_HW: NDArray[np.uint8]) -> float:
        levels = np.minimum(cv2.absdiff(first_HW, frame_HW), _MOST_DIFFERENT)
        return float(levels.sum(where=seen_HW, dtype=np.int64))

    aligned_HW = _back(second_HW, homography, onto=first_HW)
    return difference(aligned_HW) < _LARGEST_DIFFERENCE * difference(second_HW)


def _back(
    second_HW: NDArray[np.uint8], homography: NDArray[np.float64], *, onto: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the second frame as seen from the first; `onto` where it does not reach."""
    warped_HW: NDArray[np.uint8] = onto.copy()
    cv2.warpPerspective(
        second_HW,
        homography,
        (onto.shape[1], onto.shape[0]),
        dst=warped_HW,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    return warped_HW


def _motion_field(homography: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Return Hx - x at each pixel (2, H, W)."""
    x_1W = np.arange(width, dtype=np.float64)[None, :]
    y_H1 = np.arange(height, dtype=np.float64)[:, None]
    x_HW, y_HW, scale_HW = (row[0] * x_1W + (row[1] * y_H1 + row[2]) for row in homography)
    return np.stack([x_HW / scale_HW - x_1W, y_HW / scale_HW - y_H1]).astype(np.float32)
