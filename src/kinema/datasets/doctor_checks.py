"""What an index itself tells of the data: classes, labels, lengths, sizes, rates, keyframes."""

import csv
import math
import re
import statistics
from collections import Counter
from pathlib import Path

from kinema.datasets.doctor_finding import Finding, ids, many, some, splits_of
from kinema.datasets.index import Index
from kinema.datasets.summary import keyframe_cost, packing_pays

_UNEVEN = 3.0  # from this ratio of the largest to the smallest class on
_FEW_VIDEOS = 10  # of a class in training
_FEW_TESTS = 100
_SHORT_FRAMES = 16  # what one snippet of the usual 3D networks takes
_LONG = 20.0  # times the median
_LONG_FRAMES = 3000
_SMALL_PIXELS = 112
_UNEVEN_RATE = 1.5
_RATES = (5.0, 120.0)  # frames per second; others are mostly wrong in the file
_BROKEN_TEXT = re.compile(r"\ufffd|[\x00-\x1f\x7f-\x9f]|Ã[\x80-\xbf©¤¶¼±³¡ª]|â€")


def classes(index: Index) -> list[Finding]:
    """Return what is to be said of the number of videos per class and part."""
    found = _empty_classes(index)
    for name, parts in splits_of(index):
        counts = {
            part: Counter(
                video.label for video, p in zip(index.videos, parts, strict=True) if p == part
            )
            for part in ("train", "val", "test")
        }
        found += _missing_classes(name, counts)
        found += _uneven_classes(name, counts["train"])
        found += _small_parts(name, counts)
    return found


def _empty_classes(index: Index) -> list[Finding]:
    present = {video.label for video in index.videos}
    empty = [name for name in index.classes if name not in present]
    if not empty:
        return []
    return [
        Finding(
            level="warning",
            topic="classes",
            text=f"{many(len(empty), 'classes', 'have')} no video at all: {some(empty)}.",
            advice="Networks get an output for each of them all the same: fetch the missing "
            "videos, or remove the names from classes.txt.",
        )
    ]


def _missing_classes(name: str, counts: dict[str, Counter[str]]) -> list[Finding]:
    found = []
    train, test = counts["train"], counts["test"]
    unknown = sorted((set(test) | set(counts["val"])) - set(train)) if train else []
    if unknown:
        found.append(
            Finding(
                level="problem",
                topic="classes",
                text=f"{many(len(unknown), 'classes')} of the other parts have no training video "
                f"in {name}: {some(unknown)}.",
                advice="Add training videos, or remove these classes from the other parts.",
            )
        )
    untested = sorted(set(train) - set(test)) if test else []
    if untested:
        found.append(
            Finding(
                level="warning",
                topic="classes",
                text=f"{many(len(untested), 'classes', 'have')} no test video in {name}: "
                f"{some(untested)}.",
                advice="The mean of the classes leaves them out; hold out more groups.",
            )
        )
    return found


def _uneven_classes(name: str, train: Counter[str]) -> list[Finding]:
    if len(train) < 2:
        return []
    found = []
    (most, largest), (fewest, smallest) = train.most_common(1)[0], train.most_common()[-1]
    if largest >= _UNEVEN * smallest:
        found.append(
            Finding(
                level="warning",
                topic="balance",
                text=f"The classes are uneven in the training part of {name}: '{most}' has "
                f"{largest} videos, '{fewest}' {smallest}.",
                advice="Set optim.class_weights=balanced, and look at the mean of the classes.",
            )
        )
    few = sorted(label for label, count in train.items() if count < _FEW_VIDEOS)
    if few:
        found.append(
            Finding(
                level="warning",
                topic="balance",
                text=f"{many(len(few), 'classes', 'have')} fewer than {_FEW_VIDEOS} training "
                f"videos in {name}: {some(few)}.",
                advice="Start from pretrained weights, or collect more.",
            )
        )
    return found


def _small_parts(name: str, counts: dict[str, Counter[str]]) -> list[Finding]:
    tests = counts["test"].total()
    if not tests:
        return [
            Finding(
                level="warning",
                topic="parts",
                text=f"There is no test part in {name}: no result can be measured.",
                advice="Index again with --test-fraction or --test-groups, or test on the "
                "validation part, as is usual for Kinetics (`kinema test --part val`).",
            )
        ]
    found = []
    if tests < _FEW_TESTS:
        points = 100 * 1.96 * math.sqrt(0.8 * 0.2 / tests)
        found.append(
            Finding(
                level="note",
                topic="parts",
                text=f"The test part of {name} has {many(tests, 'videos')}: an accuracy of 80 % "
                f"is uncertain by {points:.0f} points either way.",
                advice="Look at the intervals, or test every group in turn.",
            )
        )
    if not counts["val"]:
        found.append(
            Finding(
                level="note",
                topic="parts",
                text=f"There is no validation part in {name}: the last epoch is taken.",
                advice="Index again with --val-fraction .15 to choose the epoch by it.",
            )
        )
    return found


def labels(index: Index) -> list[Finding]:
    """Return class names that people cannot read, or that are probably one class."""
    found = []
    broken = [name for name in index.classes if _BROKEN_TEXT.search(name)]
    if broken:
        found.append(
            Finding(
                level="warning",
                topic="labels",
                text=f"{many(len(broken), 'classes', 'have')} names with broken letters: "
                f"{some([ascii(name)[1:-1] for name in broken])}.",
                advice="They were read in another code than they were written in: rename them.",
            )
        )
    if index.classes and all(name.strip().isdigit() for name in index.classes):
        found.append(
            Finding(
                level="note",
                topic="labels",
                text=f"The class names are numbers ({some(index.classes)}).",
                advice="Give names in classes.txt, one per line, for readable results.",
            )
        )
    alike: dict[str, list[str]] = {}
    for name in index.classes:
        alike.setdefault(re.sub(r"[\W_]+", "", name.casefold()), []).append(name)
    doubled = [names for key, names in alike.items() if key and len(names) > 1]
    if doubled:
        found.append(
            Finding(
                level="warning",
                topic="labels",
                text=f"{many(len(doubled), 'classes', 'are')} there in two spellings: "
                f"{some(doubled[0])}.",
                advice="If they mean the same, give them one name.",
            )
        )
    return found


def lengths(index: Index) -> list[Finding]:
    """Return what is to be said of very short and very long videos."""
    found = []
    short = [video for video in index.videos if video.num_frames < _SHORT_FRAMES]
    if short:
        found.append(
            Finding(
                level="note",
                topic="length",
                text=f"{many(len(short), 'videos', 'have')} fewer than {_SHORT_FRAMES} frames "
                f"({min(video.num_frames for video in short)} at least).",
                advice="Networks over many frames see some of them twice; leave them out with "
                f"--min-frames {_SHORT_FRAMES} if that is not wanted.",
                examples=ids(sorted(short, key=lambda video: video.num_frames)),
            )
        )
    median = statistics.median(video.num_frames for video in index.videos)
    long = [v for v in index.videos if v.num_frames > max(_LONG * median, _LONG_FRAMES)]
    if long:
        found.append(
            Finding(
                level="warning",
                topic="length",
                text=f"{many(len(long), 'videos', 'are')} far longer than the others (up to "
                f"{max(video.num_frames for video in long)} frames; the median is {median:.0f}).",
                advice="If the action fills only a part of them, give segments in a table.",
                examples=ids(sorted(long, key=lambda video: -video.num_frames)),
            )
        )
    return found


def sizes(index: Index) -> list[Finding]:
    """Return what is to be said of small pictures, and of upright ones among wide ones."""
    found = []
    small = [v for v in index.videos if 0 < min(v.width, v.height) < _SMALL_PIXELS]
    if small:
        found.append(
            Finding(
                level="note",
                topic="size",
                text=f"{many(len(small), 'videos', 'are')} smaller than {_SMALL_PIXELS} pixels on "
                "their shorter side.",
                advice="They are enlarged; a recipe with small crops wastes less.",
                examples=ids(small),
            )
        )
    upright = [video for video in index.videos if video.height > video.width]
    if upright and any(video.width > video.height for video in index.videos):
        found.append(
            Finding(
                level="note",
                topic="size",
                text=f"{many(len(upright), 'videos', 'are')} upright, the others wide: crops show "
                "different parts of the scene.",
                advice="Test with three crops, or see that both are in every class.",
                examples=ids(upright),
            )
        )
    return found


def rates(index: Index) -> list[Finding]:
    """Return what is to be said of the frames per second."""
    found = []
    known = [video for video in index.videos if video.fps > 0]
    odd = [video for video in known if not _RATES[0] <= video.fps <= _RATES[1]]
    if odd:
        found.append(
            Finding(
                level="warning",
                topic="rate",
                text=f"{many(len(odd), 'videos', 'claim')} an odd rate, such as {odd[0].fps:g} "
                f"frames per second of '{odd[0].id}'.",
                advice="The file's times are probably wrong: encode it again.",
                examples=ids(odd),
            )
        )
    usual = sorted(video.fps for video in known if video not in odd)
    if usual and usual[-1] >= _UNEVEN_RATE * usual[0]:
        slow = statistics.quantiles(usual, n=20)[0] if len(usual) > 1 else usual[0]
        found.append(
            Finding(
                level="warning",
                topic="rate",
                text=f"The rates differ, from {usual[0]:.3g} to {usual[-1]:.3g} frames per second: "
                "the same motion is larger from frame to frame in the slower ones.",
                advice=f"Set data.fps={slow:.0f} to take frames by time.",
            )
        )
    if len(known) < len(index.videos):
        found.append(
            Finding(
                level="note",
                topic="rate",
                text=f"The rate of {many(len(index.videos) - len(known), 'videos')} is not known.",
                advice="For images, give it when they are indexed (--fps).",
            )
        )
    return found


def keyframes(index: Index) -> list[Finding]:
    """Return what reading single frames costs."""
    if not packing_pays(index):
        return []
    text = keyframe_cost(index).split(" For training on RGB")[0].removeprefix("Keyframe spacing: ")
    return [
        Finding(
            level="note",
            topic="keyframes",
            text=f"{text[0].upper()}{text[1:]}",
            advice="For training on RGB packing pays: `kinema pack INDEX -o FRAMES`.",
        )
    ]


def rejected(path: Path) -> list[Finding]:
    """Return how many files `rejected.csv` lists, and the most frequent reason."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reasons = [row.get("reason") or "" for row in csv.DictReader(handle)]
    if not reasons:
        return []
    kinds = Counter(re.sub(r"'[^']*'|\d+", "…", reason) for reason in reasons)
    (kind, number), *others = kinds.most_common()
    rest = f" and {many(len(others), 'other reasons')}" if others else ""
    return [
        Finding(
            level="warning",
            topic="rejected",
            text=f"{many(len(reasons), 'files', 'were')} left out of the index: {number} of them "
            f"because of “{kind}”{rest}.",
            advice=f"See {path.name} in the index for each.",
        )
    ]
