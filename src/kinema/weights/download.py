"""Fetching one file over HTTP: resumed where it stopped, checked, and visible only when whole."""

import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urldefrag, urlparse

import torch

from kinema.console import progress
from kinema.errors import KinemaError
from kinema.files import sha256_of

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0


def is_url(text: str) -> bool:
    """Tell whether `text` is an http or https address."""
    return text.startswith(("http://", "https://"))


def cache_folder() -> Path:
    """Return the folder of torch's own downloads (below TORCH_HOME, if that is set)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def download(url: str, *, folder: Path | None = None, sha256: str = "") -> Path:
    """Fetch `url` into `folder` once, and return the file.

    The bytes so far lie in a file ``.part`` beside the target, so that the next call goes on where
    this one stopped. A file that is there already is taken (after its check, if there is one).

    Args:
        url: http or https; ``#sha256=…`` at its end is the same as `sha256`.
        folder: where to; by default a folder of this address's own in `cache_folder`.
        sha256: expected hash of the content in hexadecimal, whole or its first digits.

    Raises:
        KinemaError: not reachable, refused, cut off, or another content than the hash says.
    """
    address, fragment = urldefrag(url)
    sha256 = (sha256 or fragment.removeprefix("sha256=")).lower()
    if not re.fullmatch(r"[0-9a-f]{0,64}", sha256):
        raise KinemaError(
            f"{url}: '#{fragment}' is not '#sha256=' and up to 64 hexadecimal digits."
        )
    name = Path(urlparse(address).path).name
    if not name:
        raise KinemaError(f"{url} names no file: give the address of a weights file.")
    if folder is None:
        folder = cache_folder() / f"kinema-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    target = folder / name
    if target.is_file() and sha256_of(target).startswith(sha256):
        return target
    part = target.with_name(name + ".part")
    with _explained(address):
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(address, part)
    found = sha256_of(part)
    if not found.startswith(sha256):
        _forget(part)
        raise KinemaError(
            f"{address} is not the expected file: its sha256 is {found}, not {sha256}. "
            "Nothing was kept; check the address."
        )
    part.replace(target)
    _forget(part)
    return target


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise KinemaError(f"{address} was refused: {error.code} {error.reason}.") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise KinemaError(
            f"{address} could not be fetched ({reason}). Run the same command again to go on from "
            "here, or fetch the file by other means and give model.weights=FILE."
        ) from error


def _fetch(address: str, part: Path) -> None:
    """Append what is missing to `part`; a file that changed meanwhile starts anew."""
    have, headers = _resume_headers(part)
    request = urllib.request.Request(address, headers=headers)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: the part is as long as the file, or longer
            raise
        _forget(part)
        _fetch(address, part)
        return
    with response, part.open("ab") as handle:
        if response.status != 206:
            have = 0
            handle.truncate(0)
        left = response.headers.get("Content-Length")
        size = have + int(left) if left is not None else None
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        _note_of(part).write_text(json.dumps({"version": version}), encoding="utf-8")
        _copy(response, handle, size=size, have=have)
    if size is not None and part.stat().st_size != size:
        raise OSError(f"cut off after {part.stat().st_size} of {size} bytes")


def _copy(response: HTTPResponse, handle: BinaryIO, *, size: int | None, have: int) -> None:
    name = Path(urlparse(response.url).path).name
    blocks = -(-((size or have) - have) // _BLOCK_BYTES)
    with progress(blocks, f"Fetching {name} (MiB)") as advance:
        while block := response.read(_BLOCK_BYTES):
            handle.write(block)
            advance()


def _resume_headers(part: Path) -> tuple[int, dict[str, str]]:
    """Return the bytes that are there and the request for the rest of the same version."""
    headers = {"User-Agent": "kinema", "Accept-Encoding": "identity"}
    note = _note_of(part)
    if not (part.is_file() and note.is_file()):
        return 0, headers
    have, version = part.stat().st_size, json.loads(note.read_text(encoding="utf-8"))["version"]
    if not have or not version:
        return 0, headers
    return have, {**headers, "Range": f"bytes={have}-", "If-Range": version}


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)
