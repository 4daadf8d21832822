"""Fetching one file over HTTP: resumed where it stopped, checked, and visible only when whole.

The bytes so far lie in a file ``.part`` beside the target, what is known of them in a note
``.part.json``. A part is continued only while the server still has the same version of the file.
"""

import errno
import hashlib
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urldefrag, urlparse

from kinema.console import progress
from kinema.errors import KinemaError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 60.0
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHECKSUM = re.compile(r"(?:sha256=([0-9a-fA-F]{1,64})|md5=([0-9a-fA-F]{32}))?")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_HEADERS = {"User-Agent": "kinema", "Accept-Encoding": "identity"}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one address is tried; attempts that brought something do not count."""

    retries: int = 0
    pause_seconds: float = 1.0  # before the first one, doubled for each further one


def is_url(text: str) -> bool:
    """Tell whether `text` is an http or https address."""
    return text.startswith(("http://", "https://"))


def fetch(
    addresses: Sequence[str],
    folder: Path,
    *,
    patience: Patience = Patience(),
    advice: str = "",
    report: Callable[[int], None] | None = None,
) -> Path:
    """Fetch a file into `folder` from the first of its addresses that gives it, and return it.

    A file that is there already is taken (after its check, if there is one).

    Args:
        addresses: mirrors in turn; ``#sha256=…`` or ``#md5=…`` at an end is the expected hash of
            the content in hexadecimal (of SHA-256 the first digits are enough).
        folder: where to; the name is the address's last part.
        patience: how often an address is tried again.
        advice: what else can be done where no address gives the file, for the message.
        report: is told each change of the number of bytes that are there, also of a part from
            before; else a bar is shown.

    Raises:
        KinemaError: not reachable, refused, cut off, or another content than the hash says, at
            every address; or the disk is full.
    """
    sources = [_Source(address, folder) for address in addresses]
    for source in sources:
        if source.is_there():
            if report:
                report(source.target.stat().st_size)
            return source.target
    reasons: list[str] = []
    for source in sources:
        reason = _fetch_from(source, patience, report)
        if not reason:
            return source.target
        reasons.append(reason)
    if len(reasons) > 1:
        raise KinemaError(
            f"None of {len(reasons)} addresses gives {sources[0].target.name}: "
            f"{' '.join(reasons)}{_what_to_do(advice)}"
        )
    raise KinemaError(f"{reasons[0]}{_what_to_do(advice) if 'could not be' in reasons[0] else ''}")


def name_of(address: str) -> str:
    """Return the name of the file at an address.

    Raises:
        KinemaError: it names none.
    """
    name = Path(unquote(urlparse(address).path)).name
    if not name:
        raise KinemaError(f"{address} names no file: give the address of a file.")
    return name


def size_of(address: str) -> int | None:
    """Ask for the size of a file in bytes; None where the server does not say."""
    request = urllib.request.Request(urldefrag(address)[0], headers=_HEADERS, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            size = response.headers.get("Content-Length", "")
    except (OSError, HTTPException):
        return None
    return int(size) if size.isdecimal() else None


class _Source:
    """One address, where its file goes, and the hash that its content must have."""

    def __init__(self, url: str, folder: Path) -> None:
        self.address, fragment = urldefrag(url)
        match = _CHECKSUM.fullmatch(fragment)
        if match is None:
            raise KinemaError(
                f"{url}: '#{fragment}' is not '#sha256=' and up to 64 hexadecimal digits, nor "
                "'#md5=' and 32."
            )
        self._kind = "md5" if match[2] else "sha256"
        self._digits = (match[1] or match[2] or "").lower()
        self.target = folder / name_of(self.address)
        self.part = self.target.with_name(self.target.name + ".part")

    def is_there(self) -> bool:
        """Tell whether the whole file is there."""
        return self.target.is_file() and not self.fault(self.target)

    def fault(self, path: Path) -> str:
        """Return what is wrong with the content of a file, or an empty string."""
        if not self._digits:
            return ""
        digest = hashlib.new(self._kind, usedforsecurity=False)
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK_BYTES):
                digest.update(block)
        found = digest.hexdigest()
        if found.startswith(self._digits):
            return ""
        return f"its {self._kind} is {found}, not {self._digits}"


def _fetch_from(source: _Source, patience: Patience, report: Callable[[int], None] | None) -> str:
    """Fetch from one address; return why it did not work, or an empty string."""
    meter = _Meter(report)
    try:
        _make_folder(source.target.parent)
        _patiently(source, patience, meter)
    except urllib.error.HTTPError as error:
        meter.at(0)
        return f"{source.address} was refused: {error.code} {error.reason}."
    except (OSError, HTTPException) as error:
        meter.at(0)
        reason = getattr(error, "reason", None) or error
        return f"{source.address} could not be fetched ({reason})."
    fault = source.fault(source.part)
    if fault:
        meter.at(0)
        _forget(source.part)
        return (
            f"{source.address} is not the expected file: {fault}. Nothing was kept; check the "
            "address."
        )
    source.part.replace(source.target)
    _forget(source.part)
    return ""


def _patiently(source: _Source, patience: Patience, meter: "_Meter") -> None:
    """Try until the part is whole, or for too long nothing came.

    Raises:
        OSError: the last reason.
        HTTPException: the last reason.
    """
    most, fruitless = _size(source.part), 0
    while True:
        try:
            _attempt(source, meter)
            return
        except (OSError, HTTPException) as error:
            have = _size(source.part)
            fruitless = 0 if patience.retries and have > most else fruitless + 1
            most = max(most, have)
            if fruitless > patience.retries or not _may_pass(error):
                raise
        pause_seconds = patience.pause_seconds * 2 ** max(0, fruitless - 1)
        time.sleep(min(pause_seconds, _LONGEST_PAUSE_SECONDS))


def _may_pass(error: Exception) -> bool:
    """Tell whether a fault may be gone a little later."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING_STATUS
    return not isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)


def _attempt(source: _Source, meter: "_Meter") -> None:
    """Append what is missing to the part; a file that changed meanwhile starts anew."""
    part = source.part
    have, headers = _resume_headers(part)
    request = urllib.request.Request(source.address, headers=headers)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if _range_of(error.headers) == (None, have):  # nothing is missing
            meter.at(have)
            return
        _forget(part)
        _attempt(source, meter)
        return
    with response, part.open("ab") as handle:
        if response.status != 206:
            have = 0
        elif _range_of(response.headers)[0] not in (None, have):
            have = 0
            _forget(part)
            raise OSError("the server sent another part than asked for")
        handle.truncate(have)
        left = response.headers.get("Content-Length")
        size = have + int(left) if left is not None else None
        _check_room(part, size - have if size is not None else 0)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        _note_of(part).write_text(json.dumps({"version": version}), encoding="utf-8")
        meter.at(have)
        _copy(response, handle, size=size, meter=meter)
    if size is not None and part.stat().st_size != size:
        raise OSError(f"cut off after {part.stat().st_size} of {size} bytes")


def _copy(response: HTTPResponse, handle: BinaryIO, *, size: int | None, meter: "_Meter") -> None:
    name = name_of(response.url)
    blocks = -(-((size or meter.bytes) - meter.bytes) // _BLOCK_BYTES)
    with progress(blocks, f"Fetching {name} (MiB)", show=meter.is_silent) as advance:
        while block := response.read(_BLOCK_BYTES):
            try:
                handle.write(block)
                handle.flush()
            except OSError as error:
                raise _full(Path(handle.name)) if error.errno == errno.ENOSPC else error from error
            meter.at(meter.bytes + len(block))
            advance()


def _resume_headers(part: Path) -> tuple[int, dict[str, str]]:
    """Return the bytes that are there and the request for the rest of the same version."""
    note = _note_of(part)
    if not (part.is_file() and note.is_file()):
        return 0, _HEADERS
    try:
        version = str(json.loads(note.read_text(encoding="utf-8"))["version"])
    except (ValueError, KeyError, TypeError):
        version = ""
    have = part.stat().st_size
    if not have or not version or version.startswith("W/"):  # weak: the bytes may differ
        return 0, _HEADERS
    return have, {**_HEADERS, "Range": f"bytes={have}-", "If-Range": version}


def _range_of(headers: Message) -> tuple[int | None, int | None]:
    """Return first byte and whole size as the answer states them."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None:
        return None, None
    start, size = match.groups()
    return (int(start) if start else None), (int(size) if size != "*" else None)


def _check_room(part: Path, needed: int) -> None:
    if needed > shutil.disk_usage(part.parent).free:
        raise _full(part, needed)


def _full(part: Path, needed: int = 0) -> KinemaError:
    more = f": {needed / 1e9:.1f} GB more are needed" if needed else ""
    return KinemaError(
        f"No space left on the disk for {part.name.removesuffix('.part')} in {part.parent}{more}. "
        "Free some space and run the same command again: it goes on from here."
    )


def _what_to_do(advice: str) -> str:
    return f" Run the same command again to go on from here{f', or {advice}' if advice else ''}."


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KinemaError(f"Cannot write to {folder}: {error.strerror}.") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


class _Meter:
    """Tells a caller by how much the number of bytes changed."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report = report
        self.bytes = 0

    @property
    def is_silent(self) -> bool:
        """Whether nobody is told, so that a bar of its own is needed."""
        return self._report is None

    def at(self, position: int) -> None:
        """Take note of how many bytes are there."""
        if self._report and position != self.bytes:
            self._report(position - self.bytes)
        self.bytes = position
