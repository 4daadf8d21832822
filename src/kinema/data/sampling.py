"""Which frames a snippet is made of: pure index arithmetic, no decoding.

Legend: `n` is the number of images of the stream that is read (frames for RGB, pairs for flow,
one fewer), `L` the images per snippet (`length`), `K` the number of segments or clips. A start is
the 0-based index of a snippet's first image; all starts lie in 0 .. max(n - L, 0).

The published systems count from 1 and mostly counted files made by `dense_flow`, which writes
n - 1 RGB images for n frames, the first being the second frame. Here n is what the video holds and
image 0 is its first frame; a published 1-based start s is our s - 1.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinema.config import Sampling
from kinema.errors import UsageError, did_you_mean

Starts = NDArray[np.int64]
TestRule = Literal[
    "tsn-25",
    "tsn-val",
    "zhu",
    "huang-19",
    "elkomy-19",
    "slim-5",
    "centre",
    "uniform",
    "uniform-floor",
    "cao",
    "sliding",
    "dense",
    "phases",
]

_WINDOW = 64  # images that a dense clip of TSM spreads over

Rule = TypeVar("Rule", bound=str)
Function = TypeVar("Function")


def frames(starts: Starts, *, length: int, num_frames: int, interval: int = 1) -> NDArray[np.int64]:
    """Return the indices (N, length) of N snippets, clamped to the first and the last image."""
    indices: NDArray[np.int64] = starts[:, None] + np.arange(length) * interval
    return indices.clip(0, max(num_frames - 1, 0))


def fitting_interval(interval: int, *, length: int, num_frames: int) -> int:
    """Return the largest interval up to `interval` with which a snippet fits into the video."""
    room = (num_frames - 1) // max(length - 1, 1)
    return max(min(interval, room), 1)


def span(length: int, interval: int) -> int:
    """Return how many images a snippet reaches over, from its first to its last one."""
    return (length - 1) * interval + 1


def sample_train(
    rule: Sampling, *, num_frames: int, length: int, num_segments: int, rng: np.random.Generator
) -> Starts:
    """Draw the starts (num_segments,) of one training clip.

    Args:
        rule: "tsn" (tsn-pytorch), "zhu" (two-stream-pytorch), "thirds" (Huang), "any" (Elkomy) or
            "slim" (TF-slim two-stream, which draws nothing).
        num_frames: images of the stream, n.
        length: images per snippet, L.
        num_segments: snippets, K.
        rng: where the randomness comes from.

    Raises:
        UsageError: an unknown rule.
    """
    return _clamped(
        _lookup(_TRAIN, rule)(num_frames, length, num_segments, rng), num_frames, length
    )


def sample_test(
    rule: TestRule, *, num_frames: int, length: int, num_clips: int, parts: int = 1
) -> Starts:
    """Return the starts (num_clips * parts,) of a test or validation protocol.

    A clip of several parts (snippets that a network sees together) takes them in the order of
    time: those of clip 0 come first. Rules without a word on parts give num_clips * parts starts,
    of which clip c takes number c, c + num_clips, …

    Args:
        rule: the rule; each is described at its function below.
        num_frames: images of the stream, n.
        length: images per snippet, L.
        num_clips: clips, K; the number in a rule's name is the published one.
        parts: starts per clip.

    Raises:
        UsageError: an unknown rule.
    """
    _lookup(_ALL_TEST, rule)
    if rule in _GROUPED:
        starts = _GROUPED[rule](num_frames, length, num_clips, parts)
    else:
        free = _PAST_THE_END.get(rule) or TEST_RULES[rule]
        starts = free(num_frames, length, num_clips * parts).reshape(parts, num_clips).T.ravel()
    return starts if rule in _PAST_THE_END else _clamped(starts, num_frames, length)


def _tsn(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """tsn-pytorch: one random start in each of K equal parts of the n - L + 1 possible ones."""
    possible = max(n - length + 1, 1)
    part = possible // num
    if part > 0:
        return np.arange(num) * part + rng.integers(part, size=num)
    if n > num:
        return np.sort(rng.integers(possible, size=num))
    return np.zeros(num, dtype=np.int64)


def _zhu(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """two-stream-pytorch: a random stack that lies wholly inside each of K parts of n // K."""
    part = n // num
    if part < length:
        return np.zeros(num, dtype=np.int64)
    return np.arange(num) * part + rng.integers(part - length + 1, size=num)


def _thirds(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """Huang: one frame per third of the first m; the bounds of the thirds belong to both sides.

    m leaves room for a stack of ten flow pairs behind every start, for RGB too: n - 10 frames, or
    n - L + 1 pairs. Part i of K is drawn from i*m//K .. (i+1)*m//K, 1-based and both ends
    included; the first begins at 1 and the last reaches to m + 1.
    """
    room = _huang_room(n, length)
    low = np.maximum(np.arange(num) * room // num, 1)
    high = np.arange(1, num + 1) * room // num
    high[-1] += 1
    return rng.integers(low - 1, np.maximum(low, high))


def _any(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """Elkomy: any start with equal probability; several are put in the order of time."""
    return np.sort(rng.integers(max(n - length + 1, 1), size=num))


def _slim(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """TF-slim two-stream: always the same K centres."""
    return _slim_centres(n, length, num)


def _dense(n: int, length: int, num: int, rng: np.random.Generator) -> Starts:
    """TSM, dense: K starts, evenly spaced within a random window of 64 images, modulo n."""
    return _in_windows(n, rng.integers(max(n - _WINDOW, 1), size=1), num).ravel()


def _in_windows(n: int, first: Starts, num: int) -> Starts:
    """Return (windows, K) starts, spaced by 64 // K from the first image of each window."""
    return (first[:, None] + np.arange(num) * max(_WINDOW // num, 1)) % max(n, 1)


def _caffe_tsn(n: int, length: int, num: int) -> Starts:
    """TSN (Caffe): integer step (n - L) // (K - 1) from the first image; 0 for a step of 0."""
    return np.arange(num) * max((n - length) // max(num - 1, 1), 0)


def _tsn_val(n: int, length: int, num: int) -> Starts:
    """tsn-pytorch test and validation: the middles of K equal parts, rounded down.

    (Its validation takes the first image K times where n < K + L.)
    """
    tick = max(n - length + 1, 0) / num
    return (tick / 2 + tick * np.arange(num)).astype(np.int64)


def _zhu_test(n: int, length: int, num: int) -> Starts:
    """two-stream-pytorch test: step (n - 1) // (K - 1) for RGB, (n - L + 1) // K for flow stacks.

    A snippet of one image counts as RGB.
    """
    step = (n - 1) // max(num - 1, 1) if length == 1 else (n - length + 1) // num
    return np.arange(num) * max(step, 0)


def _huang(n: int, length: int, num: int) -> Starts:
    """Huang: step m // K, where m leaves room for a stack of ten for RGB too (see `_thirds`)."""
    return np.arange(num) * (_huang_room(n, length) // num)


def _elkomy(n: int, length: int, num: int) -> Starts:
    """Elkomy: step max(1, m // K), m = n - 1 frames for RGB or n - L + 1 stacks for flow.

    The system takes fewer than K samples of a video with m < K; here the last one is repeated.
    """
    room = max(n - 1 if length == 1 else n - length + 1, 1)
    return np.minimum(np.arange(num) * max(room // num, 1), room - 1)


def _slim_centres(n: int, length: int, num: int) -> Starts:
    """TF-slim two-stream: centres step//2, then every step = n // K; stacks reach L//2 before.

    A stack that would leave the video is moved inside, and the following centres move with it.
    """
    step, half = n // num, length // 2
    starts, centre = [], step // 2
    for _ in range(num):
        centre = min(max(centre, half), n - (length - half))
        starts.append(centre - half)
        centre += step
    return np.array(starts, dtype=np.int64)


def _centre(n: int, length: int, num: int) -> Starts:
    """two-stream-pytorch validation: the middle stack of each of K parts of n // K."""
    part = n // num
    if part < length:
        return np.zeros(num, dtype=np.int64)
    return (np.arange(num) * part + (part - length + 1) / 2).astype(np.int64)


def _uniform(n: int, length: int, num: int) -> Starts:
    """K starts equally spaced from the first to the last possible one; a single one is central."""
    last = max(n - length, 0)
    if num == 1:
        return np.array([last // 2], dtype=np.int64)
    return np.rint(np.linspace(0, last, num)).astype(np.int64)


def _uniform_floor(n: int, length: int, num: int) -> Starts:
    """UniformClipSampler of torchvision: as `_uniform`, rounded down; one alone is the first."""
    return np.floor(np.linspace(0, max(n - length, 0), num)).astype(np.int64)


def _cao(n: int, length: int, num: int) -> Starts:
    """Cao: int(i * n / K), so the last clips run past the end (that system wraps around)."""
    return (np.arange(num) * n / num).astype(np.int64)


def _sliding(n: int, length: int, num: int) -> Starts:
    """3D-ResNets (Hara): window after window from the first image; the last may be incomplete.

    `length` is the step here.
    """
    return np.arange(num) * length


def _dense_test(n: int, length: int, num: int, parts: int) -> Starts:
    """TSM, dense test: K windows of 64 images from the first to the last possible one."""
    first = np.linspace(0, max(n - _WINDOW, 0), num).astype(np.int64)
    return _in_windows(n, first, parts).ravel()


def _phases(n: int, length: int, num: int, parts: int) -> Starts:
    """TSM and VideoMAE on Something-Something: clip c starts c / K into each of the equal parts."""
    tick = max(n - length + 1, 0) / parts
    phase = np.arange(num)[:, None] / num
    return (tick * (np.arange(parts) + phase)).astype(np.int64).ravel()


def _huang_room(n: int, length: int) -> int:
    return max(n - 10 if length == 1 else n - length + 1, 0)


def _clamped(starts: Starts, n: int, length: int) -> Starts:
    return np.clip(starts, 0, max(n - length, 0)).astype(np.int64)


def _lookup(table: Mapping[Rule, Function], rule: Rule) -> Function:
    if rule not in table:
        names = [str(name) for name in table]
        raise UsageError(
            f"Unknown sampling rule '{rule}'.{did_you_mean(str(rule), names)} "
            f"Known: {', '.join(names)}."
        )
    return table[rule]


_TrainFunction = Callable[[int, int, int, np.random.Generator], Starts]
_TestFunction = Callable[[int, int, int], Starts]

_TRAIN: dict[Sampling, _TrainFunction] = {
    "tsn": _tsn,
    "zhu": _zhu,
    "thirds": _thirds,
    "any": _any,
    "slim": _slim,
    "dense": _dense,
}
TEST_RULES: dict[TestRule, _TestFunction] = {
    "tsn-25": _caffe_tsn,
    "tsn-val": _tsn_val,
    "zhu": _zhu_test,
    "huang-19": _huang,
    "elkomy-19": _elkomy,
    "slim-5": _slim_centres,
    "centre": _centre,
    "uniform": _uniform,
    "uniform-floor": _uniform_floor,
}
_PAST_THE_END: dict[TestRule, _TestFunction] = {"cao": _cao, "sliding": _sliding}
_GROUPED: dict[TestRule, Callable[[int, int, int, int], Starts]] = {
    "dense": _dense_test,
    "phases": _phases,
}
_ALL_TEST: dict[TestRule, object] = {**TEST_RULES, **_PAST_THE_END, **_GROUPED}
