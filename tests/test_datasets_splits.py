import re
import time
from collections import Counter

import numpy as np
import pytest

from helpers_datasets import listed
from kinema.datasets.part_checks import check_groups, check_labels
from kinema.datasets.splits import (
    SplitRule,
    groups_by_pattern,
    hold_out,
    make_splits,
)
from kinema.errors import KinemaError, UsageError

CLASSES = tuple("abcdefghij")


def grouped(num_groups: int, classes=CLASSES, per_class: int = 1):
    return [
        listed(f"{label}/{group}/{k}", label, f"g{group:03}")
        for group in range(num_groups)
        for label in classes
        for k in range(per_class)
    ]


def parts_of_groups(videos, parts):
    where = {}
    for video, part in zip(videos, parts, strict=True):
        where.setdefault(video.group, set()).add(part)
    return where


def test_a_fifth_of_equal_groups_is_held_out_whole():
    videos = grouped(40)
    parts = make_splits(videos, test_fraction=0.2, val_fraction=0.15, seed=3)
    where = parts_of_groups(videos, parts)
    assert all(len(parts) == 1 for parts in where.values())
    count = Counter(next(iter(part)) for part in where.values())
    assert count == {"test": 8, "val": 5, "train": 27}  # 0.2 * 40, 0.15 * 32 = 4.8


def test_the_same_seed_gives_the_same_parts_in_any_order_and_another_seed_others():
    videos = grouped(30)
    first = dict(zip((v.id for v in videos), make_splits(videos, seed=1), strict=True))
    turned = videos[::-1]
    second = dict(zip((v.id for v in turned), make_splits(turned, seed=1), strict=True))
    other = dict(zip((v.id for v in videos), make_splits(videos, seed=2), strict=True))
    assert first == second
    assert first != other


def test_uneven_groups_keep_every_class_near_its_share():
    rng = np.random.default_rng(0)
    videos = []
    for group in range(60):
        for label in rng.choice(CLASSES, size=rng.integers(1, 9), replace=False):
            for k in range(rng.integers(1, 4)):
                videos.append(listed(f"{label}/{group}/{k}", str(label), f"g{group}"))
    parts = make_splits(videos, test_fraction=0.2, seed=0)
    total = Counter(v.label for v in videos)
    test = Counter(v.label for v, part in zip(videos, parts, strict=True) if part == "test")
    shares = np.array([test[label] / total[label] for label in CLASSES])
    assert np.abs(shares - 0.2).max() < 0.08
    assert len({v.group for v, p in zip(videos, parts, strict=True) if p == "test"}) == 12


def test_every_class_is_in_every_part_where_possible():
    # Ten classes with groups of their own: two of twenty groups would cover two classes only.
    videos = [
        listed(f"{c}/{g}/{k}", c, f"{c}{g}") for c in CLASSES for g in range(3) for k in range(2)
    ]
    parts = make_splits(videos, test_fraction=0.1, val_fraction=0.1)
    for part in ("train", "val", "test"):
        assert {v.label for v, p in zip(videos, parts, strict=True) if p == part} == set(CLASSES)


def test_a_class_in_a_single_group_stays_in_training():
    videos = [*grouped(10), listed("rare/1", "rare", "g000"), listed("rare/2", "rare", "g000")]
    parts = make_splits(videos, test_fraction=0.3)
    assert {p for v, p in zip(videos, parts, strict=True) if v.group == "g000"} == {"train"}


def test_without_groups_each_class_is_divided():
    videos = [listed(f"{c}/{i}", c) for c in "ab" for i in range(20)]
    parts = make_splits(videos, test_fraction=0.2, val_fraction=0.25)
    for label in "ab":
        count = Counter(p for v, p in zip(videos, parts, strict=True) if v.label == label)
        assert count == {"test": 4, "val": 4, "train": 12}


@pytest.mark.parametrize(("number", "expected"), [(1, 0), (2, 1), (3, 1), (10, 2)])
def test_a_class_keeps_a_training_video(number, expected):
    videos = [listed(f"a/{i}", "a") for i in range(number)]
    assert len(hold_out(videos, fraction=0.2, seed=0)) == expected


def test_videos_without_a_group_count_as_one_each():
    videos = [*grouped(5, "ab"), *(listed(f"a/alone{i}", "a") for i in range(5))]
    parts = make_splits(videos, test_fraction=0.4)
    assert all(len(p) == 1 for g, p in parts_of_groups(videos, parts).items() if g)


def test_named_test_groups():
    videos = grouped(9, "abcd")
    parts = make_splits(videos, test_groups=("g003",), val_fraction=0.15)
    where = parts_of_groups(videos, parts)
    assert [g for g, p in where.items() if p == {"test"}] == ["g003"]
    assert sum(p == {"val"} for p in where.values()) == 1


def test_an_unknown_test_group_is_named():
    with pytest.raises(KinemaError, match=r"no group 'g0030' among the 9 groups.*Did you mean"):
        make_splits(grouped(9), test_groups=("g0030",))


def test_one_group_cannot_be_divided():
    with pytest.raises(KinemaError, match=r"1 groups and every class lies in one.*--group"):
        make_splits(grouped(1))


def test_one_video_per_class_cannot_be_divided():
    with pytest.raises(KinemaError, match="every class has a single video"):
        make_splits([listed("a/1", "a"), listed("b/1", "b")])


def test_no_fraction_no_test_part():
    assert set(make_splits(grouped(5), test_fraction=0)) == {"train"}


def test_many_groups_are_quick():
    videos = [
        listed(f"{c}/{g}/{k}", f"c{c}", f"{c}_{g}")
        for c in range(101)
        for g in range(25)
        for k in range(5)
    ]
    start = time.perf_counter()
    parts = make_splits(videos, test_fraction=0.2)
    assert time.perf_counter() - start < 10
    assert Counter(parts)["test"] == 101 * 5 * 5


@pytest.mark.parametrize("name", ["test_fraction", "val_fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 20])
def test_fractions_are_checked(name, value):
    with pytest.raises(UsageError, match=f"{name.replace('_', '-')} is {value}"):
        SplitRule(**{name: value})


def test_groups_by_pattern():
    ids = ["walk/v_s01_a", "run/v_s02_b"]
    assert groups_by_pattern(ids, r"s\d+") == ["s01", "s02"]
    assert groups_by_pattern(ids, r"s(\d+)_") == ["01", "02"]


def test_a_pattern_that_misses_an_id_is_an_error():
    with pytest.raises(UsageError, match=r"not found in 1 of 2 video ids, for example 'b/x'"):
        groups_by_pattern(["a/s1", "b/x"], r"s\d")
    with pytest.raises(UsageError, match="not a regular expression"):
        groups_by_pattern(["a"], "(")


def test_a_group_on_both_sides_is_named_with_its_videos():
    videos = [listed("a/1", "a", "s0"), listed("a/2", "a", "s0"), listed("a/3", "a", "s1")]
    message = re.escape(
        "'s0' is on both sides of the given split: 'a/1' is in train, 'a/2' in test"
    )
    with pytest.raises(KinemaError, match=message):
        check_groups(videos, ["train", "test", "test"])
    check_groups(videos, ["train", "train", "test"])
    check_groups(videos, ["train", "", "test"])


def test_a_test_class_without_training_is_named():
    videos = [listed("a/1", "a"), listed("b/1", "b")]
    with pytest.raises(KinemaError, match=r"class 'b' is in test .video 'b/1'. but has no"):
        check_labels(videos, ["train", "test"])
