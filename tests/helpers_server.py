"""A server on this machine that misbehaves as it is told, and archives to fetch from it."""

import gzip
import io
import re
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one request is answered; the usual one is without fault."""

    status: int = 0  # an error instead of the file
    cut_after: int | None = None  # bytes, then the connection is closed
    claims: int = 0  # added to the true Content-Length
    ranges: bool = True
    shift: int = 0  # added to the start of the range
    content: bytes | None = None  # instead of the file
    version: str = '"one"'


@dataclass
class Files:
    """What a server has: contents by path, and the next answers for each (the last one stays)."""

    contents: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    url: str = ""

    def asked(self, path: str) -> list[str]:
        return [asked for method, p, asked in self.requests if p == path and method == "GET"]

    def next_answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [])
        if not answers:
            return Answer()
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    lock = threading.Lock()

    def do_HEAD(self) -> None:
        files = self.server.files
        files.requests.append(("HEAD", self.path, ""))
        if self.path not in files.contents:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(files.contents[self.path])))
        self.end_headers()

    def do_GET(self) -> None:
        files, asked = self.server.files, self.headers.get("Range", "")
        with self.lock:
            files.requests.append(("GET", self.path, asked))
            answer = files.next_answer(self.path)
        if answer.status or self.path not in files.contents:
            self.send_error(answer.status or 404)
            return
        whole = answer.content if answer.content is not None else files.contents[self.path]
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        partial = found and answer.ranges and self.headers.get("If-Range") == answer.version
        start = int(found[1]) + answer.shift if found and partial else 0
        if partial and start >= len(whole):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(whole)}")
            self.end_headers()
            return
        body = whole[start:]
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(body) + answer.claims))
        self.send_header("ETag", answer.version)
        self.end_headers()
        self.wfile.write(body[: answer.cut_after])

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    files: Files

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that leaves is what the tests are about."""


@contextmanager
def serving(**contents: bytes) -> Iterator[Files]:
    """Serve contents by name; yields what can be changed."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = Files(contents={f"/{name}": data for name, data in contents.items()})
    server.files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def zip_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def tgz_of(**files: bytes) -> bytes:
    return gzip.compress(tar_of(**files), mtime=0)


def rar_of(**files: bytes) -> bytes:
    """A RAR archive (version 4, stored), written by the public description of its blocks."""

    def block(kind: int, flags: int, rest: bytes) -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, data in files.items():
        rest = struct.pack("<LLBLLBBHL", len(data), len(data), 3, zlib.crc32(data), 0, 20, 0x30,
                           len(name), 0o100644)  # fmt: skip
        out += block(0x74, 0x8000, rest + name.encode()) + data
    return out + block(0x7B, 0x4000, b"")
