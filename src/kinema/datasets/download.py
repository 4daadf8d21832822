"""Fetching a public data set: lists, archives from mirrors, unpacking, and what to do next."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from urllib.parse import quote, urldefrag, urlsplit, urlunsplit

from kinema.console import progress, say
from kinema.datasets.archives import DamagedArchiveError
from kinema.datasets.download_by_hand import unpack_by_hand
from kinema.datasets.download_sources import (
    DataSet,
    RemoteFile,
    data_set,
    other_s3_address,
)
from kinema.datasets.download_state import DownloadState
from kinema.datasets.unpack import unpack
from kinema.datasets.unpack_rar import check_rar_program
from kinema.errors import KinemaError, UsageError
from kinema.fetch import Patience, fetch, is_url, name_of, size_of

ARCHIVES_FOLDER = "archives"
_PATIENCE = Patience(retries=5, pause_seconds=2.0)
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """How a data set is fetched.

    Raises:
        UsageError: fewer than one connection, or a mirror that is no address.
    """

    parts: tuple[str, ...] = ()  # of a data set in parts: train, val, test; empty: all
    mirrors: tuple[str, ...] = ()  # addresses of folders with the same files, tried first
    connections: int = 4  # files fetched at the same time
    keep_archives: bool = False
    patience: Patience = _PATIENCE

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise UsageError(f"connections is {self.connections}: at least one is needed.")
        for mirror in self.mirrors:
            if not is_url(mirror):
                raise UsageError(f"The mirror '{mirror}' is no address: it begins with https://.")


@dataclass(frozen=True, kw_only=True)
class DownloadReport:
    """What a download did; `steps` is what a person must do first, in lines, where that is so."""

    messages: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def download(
    name: str | DataSet, out: Path, *, options: DownloadOptions | None = None
) -> DownloadReport:
    """Fetch a public data set into `out`, unpack it, and say how to go on.

    Archives lie in ``OUT/archives`` until they are unpacked. It can be stopped at any moment: the
    next call goes on from there.

    Args:
        name: a key of `DATA_SETS`, or a data set of your own.
        out: folder of this data set.
        options: how.

    Raises:
        UsageError: no such data set or part, or `out` holds another one.
        KinemaError: a file cannot be fetched from any mirror, is damaged, or cannot be unpacked;
            or the disk is too small.
    """
    options = options or DownloadOptions()
    known = data_set(name) if isinstance(name, str) else name
    _check_parts(known, options.parts)
    state = DownloadState(out, known.name)
    if known.by_hand:
        by_hand = unpack_by_hand(known, known.by_hand, out, state)
        if by_hand.steps:
            return DownloadReport(steps=by_hand.steps)
        return DownloadReport(messages=(*by_hand.messages, *_next_steps(known, out)))
    say(f"{known.title}: {known.page} ({known.terms}).")
    files = [file for file in _all_files(known, out, options) if not state.is_done(_key(file))]
    for file in files:
        if file.unpack and all(urldefrag(a)[0].endswith(".rar") for a in file.addresses):
            check_rar_program(name_of(file.addresses[0]))
    sizes = _check_room(known, files, out, options) if files else []
    for last in (False, True):
        chosen = [(f, size) for f, size in zip(files, sizes, strict=True) if f.last == last]
        _get_all(known, chosen, out, state=state, options=options)
    return DownloadReport(messages=_next_steps(known, out))


def _check_parts(known: DataSet, parts: Sequence[str]) -> None:
    allowed = [entry.part for entry in known.lists]
    advice = f"choose of {', '.join(allowed)}" if allowed else "leave --parts out"
    for part in parts:
        if part not in allowed:
            raise UsageError(
                f"{known.title} has no part '{part}' that can be fetched alone: {advice}."
            )


def _all_files(known: DataSet, out: Path, options: DownloadOptions) -> list[RemoteFile]:
    """Return the files of a data set, those in its lists too, with all mirrors."""
    files = [
        file
        for file in known.files
        if not (file.last and options.parts and file.folder not in options.parts)
    ]
    for entry in known.lists:
        if options.parts and entry.part not in options.parts:
            continue
        source = RemoteFile(addresses=entry.addresses, folder=entry.part)
        path = fetch(
            _with_mirrors(source, options).addresses,
            out / ARCHIVES_FOLDER,
            patience=options.patience,
            report=lambda _: None,
        )
        files += [
            RemoteFile(addresses=(address, other_s3_address(address)), folder=entry.part)
            for address in _addresses(path)
        ]
    return [_with_mirrors(file, options) for file in files]


def _addresses(path: Path) -> list[str]:
    lines = [
        line.strip() for line in path.read_text(encoding="utf-8", errors="replace").split("\n")
    ]
    lines = [line for line in lines if line]
    wrong = next((line for line in lines if not is_url(line)), "" if lines else "nothing")
    if wrong:
        path.unlink()
        raise KinemaError(
            f"{path.name} is not a list of addresses (it holds '{wrong[:80]}'): it was removed. "
            "Try again later, or give another --mirror."
        )
    return [_quoted(line) for line in lines]


def _quoted(address: str) -> str:
    """Return an address with its spaces and other signs written as servers expect them."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=quote(parts.path, safe="/%,:()~")))


def _with_mirrors(file: RemoteFile, options: DownloadOptions) -> RemoteFile:
    """Return the file with the address that each given mirror has it at before its own ones.

    The hash of the official file holds for a mirror's file of the same name too.
    """
    folder = f"{file.folder}/" if file.folder else ""
    own = dict.fromkeys(address.rpartition("/")[2] for address in file.addresses)
    added = [f"{mirror.rstrip('/')}/{folder}{name}" for mirror in options.mirrors for name in own]
    return replace(file, addresses=tuple(dict.fromkeys((*added, *file.addresses))))


def _key(file: RemoteFile) -> str:
    return f"{file.folder}/{name_of(urldefrag(file.addresses[-1])[0])}"


def _check_room(
    known: DataSet, files: Sequence[RemoteFile], out: Path, options: DownloadOptions
) -> list[int]:
    """Return the size of each file in bytes, 0 where no server tells.

    Videos are hardly smaller in an archive: what is unpacked needs as much again. Archives are
    removed one by one as they are unpacked, unless they are kept.

    Raises:
        KinemaError: the disk is too small.
    """
    with ThreadPoolExecutor(max_workers=4 * options.connections) as pool:
        sizes = list(pool.map(_first_size, files))
    total = sum(sizes) if all(sizes) else max(sum(sizes), round(known.gigabytes * 1e9))
    largest = sum(sorted(sizes)[-options.connections :])
    needed = 2 * total if options.keep_archives else total + largest
    folder = out / ARCHIVES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(out).free
    if needed - here > free:
        raise KinemaError(
            f"{known.title} needs about {(needed - here) / 1e9:.1f} GB more in {out}, but "
            f"{free / 1e9:.1f} GB are free. Choose a folder on a larger disk"
            f"{', or fewer --parts' if known.lists else ''}."
        )
    return sizes


def _first_size(file: RemoteFile) -> int:
    return next((size for size in map(size_of, file.addresses) if size), 0)


def _get_all(
    known: DataSet,
    files: Sequence[tuple[RemoteFile, int]],
    out: Path,
    *,
    state: DownloadState,
    options: DownloadOptions,
) -> None:
    """Fetch and unpack all files, some at the same time; what failed is said at the end."""
    if not files:
        return
    failures: list[str] = []
    stop = Event()
    pool = ThreadPoolExecutor(max_workers=options.connections)
    total = sum(size for _, size in files)
    try:
        with _byte_bar(total, f"Fetching {known.name} (MiB)", stop) as report:
            jobs = [
                pool.submit(_get, file, out, state=state, options=options, report=report)
                for file, _ in files
            ]
            for job in as_completed(jobs):
                try:
                    job.result()
                except KinemaError as error:
                    failures.append(str(error))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    if failures:
        raise KinemaError(
            failures[0]
            if len(failures) == 1
            else f"{len(failures)} of {len(files)} files failed, the first: {failures[0]}"
        )


def _get(
    file: RemoteFile,
    out: Path,
    *,
    state: DownloadState,
    options: DownloadOptions,
    report: Callable[[int], None],
) -> None:
    """Fetch one file and put it or its content in place."""
    target = out / file.folder
    if not file.unpack:
        fetch(file.addresses, target, patience=options.patience, report=report)
        state.add(_key(file), 1)
        return
    store = out / ARCHIVES_FOLDER / file.folder
    archive = fetch(file.addresses, store, patience=options.patience, report=report)
    try:
        count = unpack(archive, target, flat=file.flat, nested=file.nested)
    except DamagedArchiveError as error:
        archive.unlink()
        raise KinemaError(
            f"{error} It was removed: run the same command again to fetch it anew."
        ) from error
    state.add(_key(file), count)
    if not options.keep_archives:
        archive.unlink()


class _StoppedError(Exception):
    """Ends the threads when the command is stopped."""


@contextmanager
def _byte_bar(total: int, what: str, stop: Event) -> Iterator[Callable[[int], None]]:
    """Show a bar in MiB that several threads may move; a thread that does is ended by `stop`."""
    lock, moved, shown = Lock(), 0, 0
    with progress(-(-total // _MEBIBYTE), what) as advance:

        def report(num_bytes: int) -> None:
            nonlocal moved, shown
            if stop.is_set():
                raise _StoppedError
            with lock:
                moved += num_bytes
                steps = moved // _MEBIBYTE - shown
                if steps and shown + steps > 0:
                    shown += steps
                    advance(steps)

        yield report


def _next_steps(known: DataSet, out: Path) -> tuple[str, ...]:
    found = sum(1 for _ in out.glob(known.videos))
    what = "folders of frames" if known.videos.endswith("/*/") else "videos"
    counted = f"{found} of {known.count}" if known.count else f"{found}"
    line = f"{counted} {what} are in {out}."
    if known.count and found < known.count:
        line += " Some are missing: compare with the data set's page."
    index = out.with_name(f"{out.name or 'data'}-index")
    command = " ".join(map(shlex.quote, ("kinema", "index", os.fspath(out), "-o", str(index))))
    return line, f"Go on with: {command}"
