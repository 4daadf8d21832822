"""Open every video once, on all cores, and remember what was found for the next time."""

import dataclasses
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.console import progress
from kinema.datasets.no_gc import no_gc
from kinema.errors import KinemaError
from kinema.files import read_json, write_text
from kinema.video.images import archive_above
from kinema.video.probe import Probe, probe

CACHE_FILE = "probe-cache.json"
_CACHE_VERSION = 1
_SAVE_INTERVAL_SECONDS = 10.0
_LARGEST_BATCH, _BATCHES_PER_WORKER = 32, 16  # passing single files on costs as much as reading


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What was found in each file: a probe, or the reason why there is none."""

    probes: dict[Path, Probe]
    failures: dict[Path, str]
    num_cached: int  # how many probes were known from an earlier scan


def with_fps(found: Scan, fps: float) -> Scan:
    """Return the same, with this rate where none is known: images have none."""
    if not fps:
        return found
    probes = {
        path: probe if probe.fps else dataclasses.replace(probe, fps=fps)
        for path, probe in found.probes.items()
    }
    return dataclasses.replace(found, probes=probes)


def scan(
    paths: Iterable[Path],
    *,
    cache: Path,
    workers: int | None = None,
    probe_file: Callable[[Path], Probe] = probe,
) -> Scan:
    """Probe all files in parallel threads (decoding and hashing run outside the interpreter lock).

    Good results are kept in `cache` by path, size and time of change, and written there every few
    seconds: a scan that was killed goes on where it stopped. Failures are tried again.

    Args:
        paths: absolute paths of videos.
        cache: JSON file, made where it is missing.
        workers: number of threads; None for one per core.
        probe_file: opens one file, raises KinemaError with the reason if it is bad.
    """
    failures: dict[Path, str] = {}
    with no_gc():
        wanted = list(dict.fromkeys(paths))
        known = _Cache(cache)
        probes = {path: found for path in wanted if (found := known.get(path))}
        todo = [path for path in wanted if path not in probes]
    num_cached = len(probes)
    workers = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(max_workers=workers)
    step = min(_LARGEST_BATCH, 1 + len(todo) // (_BATCHES_PER_WORKER * workers))
    batches = [todo[i : i + step] for i in range(0, len(todo), step)]
    try:
        with progress(len(todo), "Reading videos") as advance:
            futures = {pool.submit(_attempt_all, probe_file, batch): batch for batch in batches}
            for future in as_completed(futures):
                results = zip(futures[future], future.result(), strict=True)
                _sort_in(results, probes=probes, failures=failures, cache=known)
                advance(len(futures[future]))
    finally:
        pool.shutdown(cancel_futures=True)
        known.save()
    return Scan(probes=probes, failures=failures, num_cached=num_cached)


def changed_files(paths: Iterable[Path], *, cache: Path) -> list[Path]:
    """Return the files that are there but have another size or time than an earlier scan saw."""
    known = _Cache(cache)
    return [path for path in paths if known.has(path) and _state(path) and not known.get(path)]


def _attempt(probe_file: Callable[[Path], Probe], path: Path) -> Probe | str:
    try:
        return probe_file(path)
    except KinemaError as error:
        return str(error).removeprefix(f"{path} ").removesuffix(".")
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _attempt_all(probe_file: Callable[[Path], Probe], paths: Sequence[Path]) -> list[Probe | str]:
    return [_attempt(probe_file, path) for path in paths]


def _sort_in(
    results: Iterable[tuple[Path, Probe | str]],
    *,
    probes: dict[Path, Probe],
    failures: dict[Path, str],
    cache: "_Cache",
) -> None:
    for path, result in results:
        if isinstance(result, str):
            failures[path] = result
        else:
            probes[path] = result
            cache.put(path, result)


class _Cache:
    """Probes of earlier scans; anything unreadable in the file counts as not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()
        self._changed = False
        if path.is_file():
            try:
                content = read_json(path)
                if content["version"] == _CACHE_VERSION:
                    self._files = dict(content["files"])
            except (KinemaError, KeyError, TypeError, ValueError):
                self._files = {}

    def has(self, path: Path) -> bool:
        return str(path) in self._files

    def get(self, path: Path) -> Probe | None:
        entry = self._files.get(str(path))
        if entry is None or entry.get("state") != _state(path):
            return None
        try:
            return Probe(**entry["probe"])
        except (KeyError, TypeError):
            return None

    def put(self, path: Path, found: Probe) -> None:
        self._files[str(path)] = {"state": _state(path), "probe": dict(vars(found))}
        self._changed = True
        if time.monotonic() - self._saved > _SAVE_INTERVAL_SECONDS:
            self.save()

    def save(self) -> None:
        if self._changed:
            content = {"version": _CACHE_VERSION, "files": self._files}
            write_text(self._path, json.dumps(content, ensure_ascii=False))  # indenting is slow
        self._saved, self._changed = time.monotonic(), False


def _state(path: Path) -> list[int] | None:
    """Return size and time of change, or None where the file is gone.

    Those of a folder of images, or of a place in an archive, are those of all files in it.
    """
    try:
        try:
            status = os.stat(path)  # noqa: PTH116  many files: half the time
        except (FileNotFoundError, NotADirectoryError):
            status = (archive_above(path) or path).stat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                states = [entry.stat() for entry in entries]
            newest = max((state.st_mtime_ns for state in states), default=0)
            return [sum(state.st_size for state in states), newest, len(states)]
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
