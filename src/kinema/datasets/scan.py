"""Open every video once, on all cores, and remember what was found for the next time."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.console import progress
from kinema.errors import KinemaError
from kinema.files import read_json, write_json
from kinema.video.probe import Probe, probe

CACHE_FILE = "probe-cache.json"
_CACHE_VERSION = 1
_SAVE_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What was found in each file: a probe, or the reason why there is none."""

    probes: dict[Path, Probe]
    failures: dict[Path, str]
    num_cached: int  # how many probes were known from an earlier scan


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
    wanted = list(dict.fromkeys(paths))
    known = _Cache(cache)
    probes: dict[Path, Probe] = {}
    failures: dict[Path, str] = {}
    todo: list[Path] = []
    for path in wanted:
        found = known.get(path)
        if found is None:
            todo.append(path)
        else:
            probes[path] = found
    num_cached = len(probes)
    pool = ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1)
    try:
        with progress(len(todo), "Reading videos") as advance:
            futures = {pool.submit(_attempt, probe_file, path): path for path in todo}
            for future in as_completed(futures):
                _sort_in(future, futures[future], probes=probes, failures=failures, cache=known)
                advance()
    finally:
        pool.shutdown(cancel_futures=True)
        known.save()
    return Scan(probes=probes, failures=failures, num_cached=num_cached)


def _attempt(probe_file: Callable[[Path], Probe], path: Path) -> Probe | str:
    try:
        return probe_file(path)
    except KinemaError as error:
        return str(error).removeprefix(f"{path} ").removesuffix(".")
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _sort_in(
    future: "Future[Probe | str]",
    path: Path,
    *,
    probes: dict[Path, Probe],
    failures: dict[Path, str],
    cache: "_Cache",
) -> None:
    result = future.result()
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

    def get(self, path: Path) -> Probe | None:
        entry = self._files.get(str(path))
        if entry is None or entry.get("state") != _state(path):
            return None
        try:
            return Probe(**entry["probe"])
        except (KeyError, TypeError):
            return None

    def put(self, path: Path, found: Probe) -> None:
        self._files[str(path)] = {"state": _state(path), "probe": dataclasses.asdict(found)}
        self._changed = True
        if time.monotonic() - self._saved > _SAVE_INTERVAL_SECONDS:
            self.save()

    def save(self) -> None:
        if self._changed:
            write_json(self._path, {"version": _CACHE_VERSION, "files": self._files})
        self._saved, self._changed = time.monotonic(), False


def _state(path: Path) -> list[int] | None:
    """Return size and time of change, or None where the file is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
