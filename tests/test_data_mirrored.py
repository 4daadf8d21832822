"""Mirrored clips: classes that tell left from right are found by their names."""

import pytest

from kinema.config import AugmentConfig
from kinema.data.mirrored import mirror_rule
from kinema.errors import UsageError


def rule(classes, **values):
    return mirror_rule(AugmentConfig(**values), classes)


@pytest.mark.parametrize("classes", [("jump", "run"), ("upright bike", "leftovers", "Brightness")])
def test_classes_without_sides_are_mirrored(classes):
    assert rule(classes) == (True, {}, "")


@pytest.mark.parametrize(
    "classes",
    [
        ("up", "left", "right"),
        ("stop", "SwipeLeft", "SwipeRight"),
        ("still", "Pushing [x] from left to right", "Pushing [x] from right to left"),
        ("a", "TURN_LEFT", "TURN_RIGHT"),
    ],
)
def test_sides_in_the_names(classes):
    mirror, labels, line = rule(classes)
    assert (mirror, labels) == (False, {})
    assert (
        f"classes such as '{classes[1]}' tell left from right: augment.mirror_labels=auto" in line
    )
    assert rule(classes, mirror_labels="auto") == (
        True,
        {1: 2, 2: 1},
        "Mirrored clips exchange 2 left/right classes.",
    )
    assert rule(classes, mirror_labels="keep") == (True, {}, "")
    assert rule(classes, mirror=False) == (False, {}, "")


def test_a_class_without_its_counterpart_forbids_the_mirror():
    mirror, labels, line = rule(("left", "right", "turn left"), mirror_labels="auto")
    assert (mirror, labels) == (False, {})
    assert "'turn left' has no counterpart" in line


def test_pairs_by_hand():
    assert rule(("tick", "star"), mirror_labels="tick=star,star=tick") == (True, {0: 1, 1: 0}, "")
    with pytest.raises(UsageError, match=r"there is no class 'tik'\. Did you mean 'tick'"):
        rule(("tick", "star"), mirror_labels="tik=star,star=tik")
