"""What only the files tell: whether they are there, unchanged and whole, and look alike."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.console import progress
from kinema.datasets.doctor_finding import Finding, ids, many, parts_of
from kinema.datasets.index import Index, Video
from kinema.datasets.scan import CACHE_FILE, changed_files
from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.video.images import is_there
from kinema.video.probe import Probe, probe
from kinema.video.segment import open_segment

Item = TypeVar("Item")
Result = TypeVar("Result")
_PLACES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the length: where the pictures are compared
_SIDE, _WAVES = 32, 8
# Of 252. Copies at 0.6 of the size and x264's crf 33 differ in up to 20 bits (hand gestures) and 12
# (UCF101), different videos in at least 34 (the same scene) and 72.
_MOST_DIFFERENT_BITS = 24
_PLAIN = 4.0  # a picture with a smaller standard deviation has nothing to compare
_BLOCK_VIDEOS = 4096


def vanished(index: Index) -> list[Finding]:
    """Return the videos that are not there any more."""
    gone = [video for video in index.videos if not is_there(video.path)]
    if not gone:
        return []
    return [
        Finding(
            level="problem",
            topic="files",
            text=f"Of {len(index.videos)} videos {many(len(gone), '', 'are')} no longer there, "
            f"such as {gone[0].path}.",
            advice="Put them back, or run `kinema index` again without them.",
            examples=ids(gone),
        )
    ]


def changed(index: Index, folder: Path) -> list[Finding]:
    """Return the videos with another content than when the index was made.

    Only files with another size or time are read again.
    """
    by_path = {video.path: video for video in index.videos if video.sha256}
    touched = changed_files(by_path, cache=folder / CACHE_FILE)
    new = [by_path[path] for path in touched if _content(path) != by_path[path].sha256]
    if not new:
        return []
    return [
        Finding(
            level="problem",
            topic="files",
            text=f"{many(len(new), 'videos', 'were')} changed since the index was made, such as "
            f"{new[0].path}: lengths and parts may be wrong.",
            advice="Run `kinema index` again, and everything that was made from it.",
            examples=ids(new),
        )
    ]


def _content(path: Path) -> str:
    """Return the hash of a video as the index has it; empty where it cannot be read."""
    try:
        return sha256_of(path) if path.is_file() else probe(path).sha256
    except (KinemaError, OSError):
        return ""


def undecodable(index: Index, *, workers: int | None = None) -> list[Finding]:
    """Decode every video to its end; return those with damaged or missing frames."""
    first = {video.path: video for video in reversed(index.videos) if is_there(video.path)}

    def examined(path: Path) -> Probe | str:
        try:
            return probe(path, decode_all=True)
        except (KinemaError, OSError) as error:
            return str(error)

    found: list[Finding] = []
    results = _in_threads(examined, list(first), "Decoding videos", workers)
    bad = [(first[path], result) for path, result in results if isinstance(result, str)]
    if bad:
        found.append(
            Finding(
                level="problem",
                topic="decoding",
                text=f"{many(len(bad), 'videos')} cannot be decoded to the end: {bad[0][1]}",
                advice="Copy or encode them again, or leave them out.",
                examples=ids([video for video, _ in bad]),
            )
        )
    other = [
        first[path]
        for path, result in results
        if isinstance(result, Probe)
        and first[path].segment_start is None
        and result.num_frames != first[path].num_frames
    ]
    if other:
        found.append(
            Finding(
                level="problem",
                topic="decoding",
                text=f"{many(len(other), 'videos', 'have')} another number of frames than the "
                f"index says, such as '{other[0].id}'.",
                advice="Run `kinema index` again.",
                examples=ids(other),
            )
        )
    return found


def look_alikes(index: Index, *, workers: int | None = None) -> list[Finding]:
    """Return videos of different parts or labels that show the same pictures.

    Four pictures of each video are shrunk to 32x32 gray values; each becomes 63 bits that say which
    of its lowest frequencies are above their median ("pHash"). Two videos look alike if few of
    their bits differ. Copies that were encoded or scaled again are found.
    """
    videos = [video for video in index.videos if is_there(video.path)]
    signed = _in_threads(signature, videos, "Comparing pictures", workers)
    known = [(video, bits) for video, bits in signed if bits is not None]
    parts = parts_of(index)
    pairs = [
        (a, b)
        for a, b in _close_pairs(known)
        if not (a.sha256 and a.sha256 == b.sha256)
        and (a.label != b.label or _differ(parts[a.id], parts[b.id]))
    ]
    if not pairs:
        return []
    a, b = pairs[0]
    return [
        Finding(
            level="warning",
            topic="look-alikes",
            text=f"In {many(len(pairs), 'pairs')} of videos of different parts or labels both show "
            f"nearly the same pictures, such as '{a.id}' and '{b.id}'.",
            advice="Look at them: if one is a copy of the other, remove one; if they are of one "
            "scene, give it as their group.",
            examples=ids([video for pair in pairs for video in pair]),
        )
    ]


def signature(video: Video) -> NDArray[np.uint8] | None:
    """Return four pictures of a video as 32 bytes; None: it cannot be read, or is plain."""
    try:
        frames = open_segment(video.path, video.segment)
        try:
            images_THWC = frames.read([int(place * frames.num_frames) for place in _PLACES])
        finally:
            frames.close()
    except (KinemaError, OSError):
        return None
    rows = []
    for image_HWC in images_THWC:
        gray_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
        small_HW = cv2.resize(gray_HW, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        if float(np.std(small_HW)) < _PLAIN:
            return None
        waves = cv2.dct(small_HW.astype(np.float32))[:_WAVES, :_WAVES].ravel()[1:]
        rows.append(np.packbits(waves > np.median(waves)))
    return np.concatenate(rows)


def _close_pairs(
    signed: Sequence[tuple[Video, NDArray[np.uint8]]],
) -> list[tuple[Video, Video]]:
    if len(signed) < 2:
        return []
    bits = np.stack([row for _, row in signed])  # (N, 32)
    ones = np.array([bin(i).count("1") for i in range(256)], dtype=np.uint8)
    pairs = []
    for i in range(len(signed)):
        for start in range(i + 1, len(signed), _BLOCK_VIDEOS):
            different = ones[bits[start : start + _BLOCK_VIDEOS] ^ bits[i]].sum(axis=1)
            for j in np.flatnonzero(different <= _MOST_DIFFERENT_BITS):
                pairs.append((signed[i][0], signed[start + int(j)][0]))
    return pairs


def _differ(a: Sequence[str], b: Sequence[str]) -> bool:
    return any(x and y and x != y for x, y in zip(a, b, strict=True))


def _in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, workers: int | None
) -> list[tuple[Item, Result]]:
    with (
        ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool,
        progress(len(items), what) as advance,
    ):
        found = []
        for item, result in zip(items, pool.map(work, items), strict=True):
            found.append((item, result))
            advance()
    return found
