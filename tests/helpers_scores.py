"""Small score files for the tests."""

import numpy as np

from kinema.scores import Scores

CLASSES = ("run", "jump", "wave")


def make_scores(
    values,
    *,
    labels=None,
    kind="logits",
    ids=None,
    classes=CLASSES,
    protocol="",
    checkpoint="",
    clip_top1=None,
):
    values = np.asarray(values, np.float32)
    count = len(values)
    return Scores(
        ids=tuple(ids) if ids is not None else tuple(f"v{i}" for i in range(count)),
        values=values,
        kind=kind,
        labels=np.asarray([-1] * count if labels is None else labels, np.int64),
        classes=tuple(classes),
        protocol=protocol,
        checkpoint=checkpoint,
        clip_top1=clip_top1,
    )


def random_scores(*, videos, classes, seed, kind="logits", strength=1.5):
    """Scores that are right for a good part of the videos, all distinct."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, videos)
    values = rng.normal(size=(videos, classes))
    values[np.arange(videos), labels] += strength
    if kind == "probabilities":
        values = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    names = tuple(f"class{i:03d}" for i in range(classes))
    return make_scores(values, labels=labels, kind=kind, classes=names)
