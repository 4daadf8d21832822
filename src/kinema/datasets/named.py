"""Which of the videos that lists name are present, and where they lie."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kinema.datasets.listing import VIDEO_SUFFIXES, Listed, Listing, stem_of, video_files
from kinema.datasets.span import Span
from kinema.errors import KinemaError

_PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A video, or a part of one, as lists name it."""

    id: str
    label: str  # "" where the lists give none: such videos are left out
    splits: tuple[str, ...]  # part in each split; "" where a split leaves it out
    # Paths without suffix that it may have, the best first. The last part must be the file's (or
    # its folder of images') name, those before tell apart videos of the same name.
    keys: tuple[str, ...]
    group: str = ""
    span: Span | None = None
    claimed_frames: int = 0


@dataclass(frozen=True, kw_only=True)
class Lists:
    """What the lists of a data set say."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    messages: tuple[str, ...] = ()


def key_of(path: str) -> str:
    """Return the path of a video in a list as a key: ``/`` between folders, no video suffix."""
    plain = PurePosixPath(path.replace("\\", "/"))
    return str(plain.with_suffix("") if plain.suffix.lower() in VIDEO_SUFFIXES else plain)


def id_part(name: str) -> str:
    """Return a name as one part of an id, which becomes a folder's or file's name."""
    return name.strip().replace(" ", "_").replace("/", "-").replace("\\", "-")


def unique(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries without repeats.

    Raises:
        KinemaError: one id is there with two labels or in two parts.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        known = first.setdefault(entry.id, entry)
        if (known.label, known.splits) != (entry.label, entry.splits):
            raise KinemaError(
                f"The lists name '{entry.id}' twice: {_told(known)} and {_told(entry)}. Keep one."
            )
    return tuple(first.values())


def _told(entry: Entry) -> str:
    return f"as '{entry.label}' in {', '.join(part or 'no part' for part in entry.splits)}"


def present(data: Path, lists: Lists, *, skip: Path) -> Listing:
    """Find the listed videos anywhere below `data` by their names.

    Suffixes do not matter, nor letter case where the exact name is not there.

    Args:
        data: absolute path of the folder with the videos, or with folders of images.
        lists: what the lists say.
        skip: a folder that is left out.

    Raises:
        KinemaError: no video has a label, or none of them is there.
    """
    labelled = [entry for entry in lists.entries if entry.label]
    if not labelled:
        raise KinemaError("The lists give no video a label: a training list is needed.")
    places = _Places(video_files(data, skip=skip), labelled)
    videos: list[Listed] = []
    here: list[Entry] = []
    for entry in labelled:
        path = places.find(entry)
        if path is not None:
            here.append(entry)
            videos.append(_listed(entry, path))
    if not videos:
        raise KinemaError(
            f"The lists name {len(labelled)} videos, the first is {labelled[0].keys[0]}, but none "
            f"of them is below {data} ({places.count} other videos are). Give the folder that "
            "holds them (a list may lie elsewhere: --splits FOLDER)."
        )
    messages = [
        f"The lists name {_spell(labelled)}.",
        f"{len(here)} of the {len(labelled)} listed videos are present ({_spell(here)}), "
        f"{len(labelled) - len(here)} are absent.",
    ]
    if len(labelled) < len(lists.entries):
        without = [entry for entry in lists.entries if not entry.label]
        messages.append(f"Left out because the lists give no labels: {_spell(without)}.")
    if places.unused:
        messages.append(
            f"{len(places.unused)} videos are in none of the lists and are left out, the first is "
            f"{min(places.unused)}."
        )
    return Listing(
        videos=tuple(videos),
        classes=lists.classes,
        absent=len(labelled) - len(here),
        messages=(*lists.messages, *messages),
        official_counts=_train_and_test(labelled),
    )


class _Places:
    """The videos of a folder by their names."""

    def __init__(self, paths: Sequence[Path], entries: Sequence[Entry]) -> None:
        self.count = len(paths)
        self.unused = set(paths)
        self._by_name: dict[str, list[Path]] = {}
        self._by_folded: dict[str, list[Path]] = {}
        for path in paths:
            name = stem_of(path)
            self._by_name.setdefault(name, []).append(path)
            self._by_folded.setdefault(name.casefold(), []).append(path)
        parents = (PurePosixPath(key).parent.name for entry in entries for key in entry.keys)
        self._folders = {_folded(name) for name in parents}

    def find(self, entry: Entry) -> Path | None:
        """Return where an entry lies, or None."""
        for key in entry.keys:
            name = PurePosixPath(key).name
            found = self._by_name.get(name) or self._by_folded.get(name.casefold(), [])
            path = self._best(found, PurePosixPath(key))
            if path is not None:
                self.unused.discard(path)
                return path
        return None

    def _best(self, found: Sequence[Path], key: PurePosixPath) -> Path | None:
        """Return the path that agrees with the key in most folders, if it can be the one at all."""
        folders = [_folded(part) for part in reversed(key.parent.parts)]
        best, most = None, -1
        for path in found:
            above = [_folded(part) for part in reversed(path.parent.parts)]
            agree = next(
                (i for i, pair in enumerate(zip(folders, above, strict=False)) if len({*pair}) > 1),
                min(len(folders), len(above)),
            )
            is_of_another = not agree and bool(folders) and above[0] in self._folders
            if agree > most and not is_of_another:
                best, most = path, agree
        return best


def _folded(name: str) -> str:
    return name.replace(" ", "_").casefold()


def _listed(entry: Entry, path: Path) -> Listed:
    return Listed(
        id=entry.id,
        path=path,
        label=entry.label,
        split=entry.splits[0],
        group=entry.group,
        splits=entry.splits if len(entry.splits) > 1 else (),
        span=entry.span,
        claimed_frames=entry.claimed_frames,
    )


def _columns(entries: Sequence[Entry]) -> list[Mapping[str, int]]:
    return [Counter(column) for column in zip(*(entry.splits for entry in entries), strict=True)]


def _spell(entries: Sequence[Entry]) -> str:
    columns = _columns(entries)
    told = [", ".join(f"{counts[p]} {p}" for p in _PARTS if counts[p]) for counts in columns]
    if len(told) == 1:
        return f"{told[0] or 'none'}"
    return "; ".join(f"split {k}: {text}" for k, text in enumerate(told, start=1))


def _train_and_test(entries: Sequence[Entry]) -> tuple[tuple[int, int], ...]:
    return tuple((counts["train"], counts["test"]) for counts in _columns(entries))
