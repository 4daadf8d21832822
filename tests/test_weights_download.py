import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from kinema.config import ModelConfig
from kinema.errors import KinemaError
from kinema.models.network import build_network
from kinema.weights.download import download
from kinema.weights.pretrained import initialise

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; can cut answers short, ignore ranges and change its version."""

    content = CONTENT
    version = '"one"'
    cut_after: int | None = None
    with_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []

    def url(self, name: str = "net.pth") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.requests.append(asked)
        if "absent" in self.path:
            self.send_error(404)
            return
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        use = found and server.with_ranges and self.headers.get("If-Range") == server.version
        start = int(found[1]) if found and use else 0
        if use and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if use else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.version)
        self.end_headers()
        self.wfile.write(body[: server.cut_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_once(server: Server, tmp_path: Path):
    path = download(server.url(), folder=tmp_path)
    assert path == tmp_path / "net.pth"
    assert path.read_bytes() == CONTENT
    assert download(server.url(), folder=tmp_path) == path
    assert server.requests == [""]
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


def test_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path):
    server.cut_after = 1_000_000
    with pytest.raises(KinemaError, match=r"cut off after 1000000 of 2560000 bytes.*same command"):
        download(server.url(), folder=tmp_path, sha256=SHA256)
    assert not (tmp_path / "net.pth").exists()
    with pytest.raises(KinemaError, match="cut off after 2000000 of 2560000"):
        download(server.url(), folder=tmp_path, sha256=SHA256)
    server.cut_after = None
    assert download(server.url(), folder=tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=1000000-", "bytes=2000000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


def test_starts_anew_when_the_file_changed_meanwhile(server: Server, tmp_path: Path):
    server.cut_after = 1_000_000
    with pytest.raises(KinemaError, match="cut off"):
        download(server.url(), folder=tmp_path)
    server.cut_after, server.version, server.content = None, '"two"', b"new" * 500_000
    assert download(server.url(), folder=tmp_path).read_bytes() == b"new" * 500_000


def test_starts_anew_when_the_server_knows_no_ranges(server: Server, tmp_path: Path):
    server.with_ranges, server.cut_after = False, 5_000
    with pytest.raises(KinemaError, match="cut off"):
        download(server.url(), folder=tmp_path)
    server.cut_after = None
    assert download(server.url(), folder=tmp_path, sha256=SHA256[:8]).read_bytes() == CONTENT


def test_complete_part_of_a_killed_run(server: Server, tmp_path: Path):
    (tmp_path / "net.pth.part").write_bytes(CONTENT)
    (tmp_path / "net.pth.part.json").write_text('{"version": "\\"one\\""}')
    assert download(server.url(), folder=tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_wrong_content_is_not_kept(server: Server, tmp_path: Path):
    with pytest.raises(KinemaError, match=f"sha256 is {SHA256}, not abcdef"):
        download(server.url() + "#sha256=ABCDEF", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "net.pth").write_bytes(b"damaged")
    path = download(f"{server.url()}#sha256={SHA256}", folder=tmp_path)
    assert path.read_bytes() == CONTENT


def test_errors_name_the_address(server: Server, tmp_path: Path):
    with pytest.raises(KinemaError, match=r"absent.pth was refused: 404"):
        download(server.url("absent.pth"), folder=tmp_path)
    with pytest.raises(KinemaError, match="names no file"):
        download(server.url(""), folder=tmp_path)
    with pytest.raises(KinemaError, match="is not '#sha256='"):
        download(server.url() + "#md5=xyz", folder=tmp_path)
    url = server.url()
    server.shutdown()
    server.server_close()
    with pytest.raises(KinemaError, match=r"could not be fetched .*refused.* model.weights=FILE"):
        download(url, folder=tmp_path)


def test_weights_from_an_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    config = ModelConfig(backbone="tiny", dropout=(), weights=server.url("tiny.pth"))
    donor = build_network(config, modality="rgb", stack=1, num_classes=3)
    torch.save(donor.state_dict(), tmp_path / "tiny.pth")
    server.content = (tmp_path / "tiny.pth").read_bytes()
    network = build_network(config, modality="rgb", stack=1, num_classes=3)
    for _ in range(2):
        report = initialise(network, config)
        assert report is not None and not report.missing
    for name, value in donor.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert len(server.requests) == 1
    assert len(list((tmp_path / "home" / "hub" / "checkpoints").glob("kinema-*/tiny.pth"))) == 1
