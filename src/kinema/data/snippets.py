"""The image numbers of whole snippets: starts, spacing, and what videos too short for them get.

Legend: N snippets, T images per snippet; `n` is the number of images of the stream.
"""

import numpy as np
from numpy.typing import NDArray

from kinema.data.items import ClipSpec
from kinema.data.sampling import (
    Starts,
    TestRule,
    fitting_interval,
    sample_test,
    sample_train,
    span,
)

Indices = NDArray[np.int64]


def train_indices(spec: ClipSpec, *, num_frames: int, rng: np.random.Generator) -> Indices:
    """Draw the images (N, T) of one training clip with N = `spec.num_segments` snippets."""
    if spec.spread:
        drawn = [
            sample_train(
                spec.sampling, num_frames=num_frames, length=1, num_segments=spec.length, rng=rng
            )
            for _ in range(spec.num_segments)
        ]
        return np.stack(drawn)
    interval = _interval(spec, num_frames)
    starts = sample_train(
        spec.sampling,
        num_frames=num_frames,
        length=span(spec.length, interval),
        num_segments=spec.num_segments,
        rng=rng,
    )
    return _arrange(starts, spec, num_frames, interval)


def test_indices(spec: ClipSpec, rule: TestRule, *, num_frames: int, num_clips: int) -> Indices:
    """Return the images of a protocol's clips, (num_clips * `spec.joined`, T), clip by clip."""
    if spec.spread:
        starts = sample_test(
            rule, num_frames=num_frames, length=1, num_clips=num_clips, parts=spec.length
        )
        return starts.reshape(num_clips, spec.length).clip(0, max(num_frames - 1, 0))
    interval = _interval(spec, num_frames)
    sliding = rule == "sliding"
    starts = sample_test(
        rule,
        num_frames=num_frames,
        length=spec.length * spec.interval if sliding else span(spec.length, interval),
        num_clips=num_clips,
        parts=spec.joined,
    )
    return _arrange(starts, spec, num_frames, spec.interval if sliding else interval)


test_indices.__test__ = False  # type: ignore[attr-defined]  # its name is no test for pytest


def num_windows(spec: ClipSpec, *, num_frames: int) -> int:
    """Return how many windows the rule "sliding" puts over a video."""
    return max(-(-num_frames // (spec.length * spec.interval)), 1)


def _interval(spec: ClipSpec, num_frames: int) -> int:
    if spec.short != "shrink":
        return spec.interval
    return fitting_interval(spec.interval, length=spec.length, num_frames=num_frames)


def _arrange(starts: Starts, spec: ClipSpec, num_frames: int, interval: int) -> Indices:
    """Return (N, T) images; those past the end follow `spec.short`.

    - ``shrink`` has made them rare with a smaller interval: the last image is repeated.
    - ``clamp``: the last image is repeated.
    - ``loop``: the snippet's own images are repeated from its first one (3D-ResNets of Hara).
    - ``wrap``: the video begins again (Cao).
    """
    offsets = np.arange(spec.length)
    if spec.short == "wrap":
        wrapped: Indices = (starts[:, None] + offsets * interval) % max(num_frames, 1)
        return wrapped
    if spec.short == "loop":
        fitting = np.maximum((num_frames - 1 - starts) // interval + 1, 1)
        offsets = offsets % fitting[:, None]
    indices: Indices = starts[:, None] + offsets * interval
    return indices.clip(0, max(num_frames - 1, 0))
