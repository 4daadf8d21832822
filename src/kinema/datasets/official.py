"""What UCF101 and HMDB51 have in common: official lists name videos, of which some are present."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.listing import Listed, Listing, stem_of, subfolders, video_files
from kinema.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Named:
    """A video that the official lists name."""

    label: str
    stem: str  # file name without suffix, as the lists spell it
    group: str
    splits: tuple[str, ...]  # part in each split, "" where a split leaves it out


def lists_folder(data: Path, marker: str) -> Path | None:
    """Return `data` or the folder directly in it that holds a file like `marker`, or None."""
    if not data.is_dir():
        return None
    for folder in (data, *subfolders(data)):
        if any(folder.glob(marker)):
            return folder
    return None


def match(data: Path, named: Sequence[Named], classes: Sequence[str], *, skip: Path) -> Listing:
    """Find the named videos anywhere below `data` by their file name.

    Letter case and suffix are ignored, so ``HandStandPushups`` and ``HandstandPushups`` are the
    same and converted files are found. The id of a video is ``CLASS/stem`` as the lists spell it.

    Args:
        data: absolute path of the folder with videos.
        named: what the lists name.
        classes: all classes in their official order, kept also where no video is present.
        skip: a folder that is left out.

    Raises:
        KinemaError: none of the named videos is there.
    """
    files = video_files(data, skip=skip)
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(stem_of(path).casefold(), []).append(path)
    videos: list[Listed] = []
    rejected: list[tuple[Path, str]] = []
    for entry in named:
        found = by_stem.pop(entry.stem.casefold(), [])
        rejected.extend((path, f"same name as {found[0]}") for path in found[1:])
        if found:
            videos.append(
                Listed(
                    id=f"{entry.label}/{entry.stem}",
                    path=found[0],
                    label=entry.label,
                    split=entry.splits[0],
                    group=entry.group,
                    splits=entry.splits,
                )
            )
    if not videos:
        raise KinemaError(
            f"The official lists name {len(named)} videos, but none of them is below {data} "
            f"({len(files)} other videos are). Put the videos there, flat or in class folders."
        )
    unlisted = sorted(path for paths in by_stem.values() for path in paths)
    counts = _counts([entry.splits for entry in named])
    present = _counts([video.splits for video in videos])
    absent = len(named) - len(videos)
    messages = [
        f"Official lists, train/test: {_spell(counts)}.",
        f"{len(videos)} of the {len(named)} listed videos are present ({_spell(present)}), "
        f"{absent} are absent.",
    ]
    if unlisted:
        messages.append(
            f"{len(unlisted)} videos are in none of the official lists and are left out, "
            f"the first is {unlisted[0]}."
        )
    return Listing(
        videos=tuple(videos),
        classes=tuple(classes),
        rejected=tuple(rejected),
        absent=absent,
        official_counts=counts,
        messages=tuple(messages),
    )


def merge_splits(
    parts: Sequence[Mapping[tuple[str, str], str]],
) -> dict[tuple[str, str], list[str]]:
    """Turn one mapping (label, stem) -> part per split into the parts of each video."""
    merged: dict[tuple[str, str], list[str]] = {}
    for k, mapping in enumerate(parts):
        for key, part in mapping.items():
            merged.setdefault(key, [""] * len(parts))[k] = part
    return dict(sorted(merged.items()))


def _counts(splits: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (column.count("train"), column.count("test")) for column in zip(*splits, strict=True)
    )


def _spell(counts: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"split {k} {train}/{test}" for k, (train, test) in enumerate(counts, start=1))
