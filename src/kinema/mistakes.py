"""What a tested classifier gets wrong most: pairs of classes, each with a video as example."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kinema.datasets.index import read_index
from kinema.errors import KinemaError
from kinema.scores import Scores
from kinema.video.frames import open_frames

_THUMBNAIL_PIXELS = 240  # longest side


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Videos of class `true` that were taken for `predicted`."""

    true: str
    predicted: str
    count: int
    total: int  # videos of class `true`
    example: str = ""  # id of the video that was most surely mistaken
    thumbnail: str = ""  # JPEG as a data URI, or empty


def most_confused(
    counts: Sequence[Sequence[int]], *, classes: Sequence[str], most: int = 8
) -> list[Mistake]:
    """Return the pairs of the confusion matrix with the most mistakes, the worst first."""
    matrix = np.array(counts, dtype=np.int64)
    totals = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    shares = matrix / np.maximum(totals, 1)[:, None]
    rows, columns = np.nonzero(matrix)
    order = np.lexsort((-shares[rows, columns], -matrix[rows, columns]))[:most]
    return [
        Mistake(
            true=classes[row],
            predicted=classes[column],
            count=int(matrix[row, column]),
            total=int(totals[row]),
        )
        for row, column in zip(rows[order], columns[order], strict=True)
    ]


def example_of(mistake: Mistake, scores: Scores) -> str:
    """Return the id of the video with the highest wrong score, or an empty string."""
    if not {mistake.true, mistake.predicted} <= set(scores.classes):
        return ""
    true = scores.classes.index(mistake.true)
    predicted = scores.classes.index(mistake.predicted)
    found = np.flatnonzero((scores.labels == true) & (scores.values.argmax(axis=1) == predicted))
    if not len(found):
        return ""
    lead = scores.values[found, predicted] - scores.values[found, true]
    return str(scores.ids[found[lead.argmax()]])


def video_paths(index_folder: Path) -> dict[str, Path]:
    """Return where the video of each id is; empty where the index cannot be read."""
    try:
        return {video.id: video.path for video in read_index(index_folder).videos}
    except KinemaError:
        return {}


def thumbnail(path: Path) -> str:
    """Return the middle frame as a small JPEG in a data URI, empty where it cannot be read."""
    try:
        frames = open_frames(path)
    except (KinemaError, OSError):
        return ""
    try:
        frame_HWC = frames.read([frames.num_frames // 2])[0]
    except (KinemaError, OSError):
        return ""
    finally:
        frames.close()
    height, width = frame_HWC.shape[:2]
    scale = min(1.0, _THUMBNAIL_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
