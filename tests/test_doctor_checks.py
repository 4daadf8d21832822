"""Findings on indexes made by hand, whose faults are known."""

import dataclasses

import pytest

from helpers_datasets import video, write
from kinema.datasets import doctor_checks as checks
from kinema.datasets.doctor_facts import facts_of
from kinema.datasets.doctor_finding import many, some
from kinema.datasets.doctor_leaks import leaks
from kinema.datasets.index import Index


def balanced(per_part=20, **changes):
    """Two classes, three parts, groups that stay together, all contents different."""
    return [
        video(f"{label}/{part}{i}", label, part, group=f"{part}{i}", sha256=f"{label}{part}{i}",
              **changes)
        for label in ("run", "walk")
        for part in ("train", "val", "test")
        for i in range(per_part)
    ]  # fmt: skip


def index(videos, classes=None):
    return Index(videos=tuple(videos), classes=tuple(classes or sorted({v.label for v in videos})))


def changed(videos, number, **changes):
    return [dataclasses.replace(v, **changes) if i == number else v for i, v in enumerate(videos)]


def one(findings, topic):
    [found] = [finding for finding in findings if finding.topic == topic]
    return found


ALL = (
    leaks, checks.classes, checks.labels, checks.lengths, checks.sizes, checks.rates,
    checks.keyframes,
)  # fmt: skip


def test_good_data_has_no_findings():
    good = index(balanced(60, num_frames=60, width=320, height=240))
    assert [finding for check in ALL for finding in check(good)] == []


def test_same_content_in_two_parts():
    videos = balanced()
    twin = videos[0].sha256
    found = one(leaks(index(changed(videos, 45, sha256=twin))), "duplicates")
    assert found.level == "problem"
    assert found.text.startswith("1 video has the same content as a video of another part")
    assert found.examples == ("run/train0", "run/test5")


def test_same_content_under_two_labels_or_in_one_part():
    videos = balanced()
    found = leaks(index(changed(videos, 60, sha256=videos[0].sha256)))
    assert one(found, "labels").level == "problem"
    assert "'run/train0' ('run') and 'walk/train0' ('walk')" in one(found, "labels").text
    found = one(leaks(index(changed(videos, 1, sha256=videos[0].sha256))), "duplicates")
    assert found.level == "warning"
    assert found.examples == ("run/train0", "run/train1")


def test_segments_of_one_file():
    def cut(first, second, part="train"):
        videos = balanced()
        path, sha = videos[0].path, "same"
        rows = [
            dataclasses.replace(videos[0], sha256=sha, segment_start=first[0],
                                segment_end=first[1]),
            dataclasses.replace(videos[40 if part == "test" else 1], sha256=sha, path=path,
                                segment_start=second[0], segment_end=second[1]),
        ]  # fmt: skip
        return leaks(index([*rows, *videos[2:40], *videos[41:]]))

    assert cut((0, 20), (20, 40)) == []
    assert one(cut((0, 20), (19, 40)), "duplicates").level == "warning"
    apart = cut((0, 20), (20, 40), part="test")
    assert one(apart, "groups").text.startswith("Segments of 1 file lie in several parts")
    overlapping = cut((0, 20), (10, 40), part="test")
    assert one(overlapping, "duplicates").level == "problem"


def test_divided_groups():
    videos = balanced()
    found = one(leaks(index(changed(videos, 45, group="train3"))), "groups")
    assert found.level == "problem"
    assert "1 group lies on both sides of the split, such as 'train3'" in found.text
    assert "'run/train3' is in train, 'run/test5' in test" in found.text
    assert set(found.examples) == {"run/train3", "walk/train3", "run/test5"}


def test_sources_of_ucf101_are_known_by_the_names():
    videos = [
        video(f"Run/v_Run_g{g:02}_c{c:02}", "Run", "test" if g == 2 else "train", sha256=f"{g}{c}")
        for g in range(1, 4)
        for c in range(1, 3)
    ]
    assert leaks(index(videos)) == []
    found = one(leaks(index(changed(videos, 0, split="test"))), "groups")
    assert (found.level, "'Run/v_Run_g01'" in found.text) == ("problem", True)
    plain = [video("Run/a", "Run"), video("Run/b", "Run", sha256="b")]
    assert one(leaks(index(plain)), "groups").text.startswith("No groups are known")


def test_official_splits_are_looked_at_one_by_one():
    videos = [dataclasses.replace(v, splits=(v.split, "train")) for v in balanced()]
    videos[45] = dataclasses.replace(videos[45], group="train3")
    found = one(leaks(index(videos)), "groups")
    assert "on both sides of split 1" in found.text


def test_classes_and_balance():
    videos = [v for v in balanced() if not (v.label == "walk" and v.split == "train")]
    found = checks.classes(index(videos, ["run", "sit", "walk"]))
    assert [(f.level, f.text) for f in found if f.topic == "classes"] == [
        ("warning", "1 class has no video at all: 'sit'."),
        ("problem", "1 class of the other parts have no training video in the split: 'walk'."),
    ]
    few = [v for v in balanced() if not (v.label == "walk" and v.id[-1] in "123456789")]
    found = [f for f in checks.classes(index(few)) if f.topic == "balance"]
    assert "'run' has 20 videos, 'walk' 2" in found[0].text
    assert "optim.class_weights=balanced" in found[0].advice
    assert found[1].text == "1 class has fewer than 10 training videos in the split: 'walk'."
    untested = [v for v in balanced() if not (v.label == "walk" and v.split == "test")]
    found = one(checks.classes(index(untested)), "classes")
    assert found.text == "1 class has no test video in the split: 'walk'."


def test_small_and_missing_parts():
    found = one(checks.classes(index(balanced(20))), "parts")
    # 1.96 * sqrt(.8 * .2 / 40) = .124
    assert "has 40 videos: an accuracy of 80 % is uncertain by 12 points" in found.text
    only = [v for v in balanced() if v.split == "train"]
    assert "There is no test part" in one(checks.classes(index(only)), "parts").text
    no_val = [v for v in balanced(60) if v.split != "val"]
    assert "There is no validation part" in one(checks.classes(index(no_val)), "parts").text


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ma\ufffdana", "b"], r"1 class has names with broken letters: 'ma\\ufffdana'"),
        (["CafÃ©", "b"], "1 class has names with broken letters"),
        (["0", "1"], r"The class names are numbers \('0', '1'\)"),
        (["Hand_Stand", "hand stand", "c"], "1 class is there in two spellings: 'Hand_Stand', "),
    ],
)
def test_labels(names, expected):
    import re

    [found] = checks.labels(index([video(name, name) for name in names]))
    assert re.search(expected, found.text)


def test_labels_of_other_scripts_are_fine():
    names = ["café", "走る", "جری", "été chaud", "C++", "½"]
    assert checks.labels(index([video(str(i), name) for i, name in enumerate(names)])) == []


def test_lengths_sizes_and_rates():
    videos = balanced(num_frames=60, width=320, height=240)
    found = one(checks.lengths(index(changed(videos, 3, num_frames=5))), "length")
    assert found.text == "1 video has fewer than 16 frames (5 at least)."
    assert found.examples == ("run/train3",)
    found = one(checks.lengths(index(changed(videos, 3, num_frames=9_000))), "length")
    assert "up to 9000 frames; the median is 60" in found.text
    found = one(checks.sizes(index(changed(videos, 3, height=100))), "size")
    assert found.text.startswith("1 video is smaller than 112 pixels")
    upright = changed(videos, 3, width=240, height=320)
    assert one(checks.sizes(index(upright)), "size").text.startswith("1 video is upright")
    slow = [dataclasses.replace(v, fps=15.0 if i % 3 else 30.0) for i, v in enumerate(videos)]
    found = one(checks.rates(index(slow)), "rate")
    assert "from 15 to 30 frames per second" in found.text
    assert found.advice == "Set data.fps=15 to take frames by time."
    assert (
        "odd rate, such as 90000"
        in one(checks.rates(index(changed(videos, 3, fps=90000.0))), "rate").text
    )
    assert (
        "The rate of 1 video is not known"
        in one(checks.rates(index(changed(videos, 3, fps=0.0))), "rate").text
    )


def test_keyframes():
    dear = index(balanced(num_frames=60, keyframe_interval=60.0))
    found = one(checks.keyframes(dear), "keyframes")
    assert found.text.startswith("A random frame costs 30 decoded frames on average")  # 61 / 2
    assert "packing pays" in found.advice


def test_rejected_files_are_counted_by_reason(tmp_path):
    rows = ["path,reason", "/a.mp4,is empty (0 bytes)", "/b.mp4,is empty (0 bytes)",
            "/c.mp4,has 1 frame"]  # fmt: skip
    path = write(tmp_path / "rejected.csv", "\n".join(rows))
    [found] = checks.rejected(path)
    assert found.text.startswith("3 files were left out of the index: 2 of them because of")
    assert "and 1 other reason." in found.text
    assert checks.rejected(write(tmp_path / "none.csv", "path,reason\n")) == []
    assert checks.rejected(tmp_path / "absent.csv") == []


def test_facts():
    videos = [
        video(f"a{i}", "a" if i % 2 else "b", "train", num_frames=10 * (i + 1), sha256=str(i))
        for i in range(10)
    ]
    facts = facts_of(index(videos, ["a", "b", "c"]))
    assert facts.frames == (10, 55.0, 100)
    assert facts.hours * 3600 == pytest.approx(sum(range(10, 101, 10)) / 25)
    assert facts.classes == {
        "a": {"train": 5, "val": 0, "test": 0},
        "b": {"train": 5, "val": 0, "test": 0},
        "c": {"train": 0, "val": 0, "test": 0},
    }
    assert facts.parts == {"the split": {"train": 10, "val": 0, "test": 0}}
    assert sum(bar.count for bar in facts.lengths) == 10
    assert [(bar.name, bar.count) for bar in facts.sizes] == [("32x24", 10)]
    assert [(bar.name, bar.count) for bar in facts.rates] == [("25", 10)]


def test_words():
    assert (many(1, "classes"), many(2, "classes", "have")) == ("1 class", "2 classes have")
    assert some(["a", "b", "c", "d"]) == "'a', 'b', 'c' and 1 more"
