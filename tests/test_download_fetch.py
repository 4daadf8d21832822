import hashlib
import shutil
from collections import namedtuple

import pytest

from helpers_server import Answer, serving
from kinema.errors import KinemaError
from kinema.fetch import Patience, fetch, name_of, size_of

CONTENT = bytes(range(256)) * 4_000
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
QUICK = Patience(retries=2, pause_seconds=0.01)


@pytest.fixture
def server():
    with serving(a=CONTENT, b=CONTENT) as files:
        yield files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_dropped_connections_are_continued(server, tmp_path):
    server.answers["/a"] = [Answer(cut_after=300_000)] * 3 + [Answer()]
    path = fetch([f"{server.url}/a#sha256={SHA256}"], tmp_path, patience=QUICK)
    assert path.read_bytes() == CONTENT
    assert server.asked("/a") == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert names(tmp_path) == ["a"]


def test_attempts_that_bring_nothing_are_counted(server, tmp_path):
    server.answers["/a"] = [Answer(cut_after=5_000), Answer(cut_after=0)]
    with pytest.raises(KinemaError, match=r"cut off after 5000 of 1024000 bytes.*same command"):
        fetch([f"{server.url}/a"], tmp_path, patience=QUICK)
    assert len(server.asked("/a")) == 4  # the first, and three that brought nothing
    assert names(tmp_path) == ["a.part", "a.part.json"]


@pytest.mark.parametrize("status", [403, 404, 410, 500, 503])
def test_mirrors_in_turn(server, tmp_path, status):
    server.answers["/a"] = [Answer(status=status)]
    path = fetch([f"{server.url}/a", f"{server.url}/b"], tmp_path, patience=QUICK)
    assert path == tmp_path / "b"
    assert path.read_bytes() == CONTENT
    assert len(server.asked("/a")) == (3 if status >= 500 else 1)


def test_all_mirrors_are_named_when_none_gives_the_file(server, tmp_path):
    server.answers = {"/a": [Answer(status=404)], "/b": [Answer(status=503)]}
    with pytest.raises(KinemaError) as caught:
        fetch([f"{server.url}/a", f"{server.url}/b"], tmp_path, patience=QUICK, advice="do this")
    text = str(caught.value)
    assert text.startswith("None of 2 addresses gives a: ")
    assert "/a was refused: 404" in text
    assert "/b was refused: 503" in text
    assert text.endswith("or do this.")


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.answers["/a"] = [Answer(status=503), Answer(status=503), Answer()]
    assert fetch([f"{server.url}/a"], tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_length_that_is_too_large(server, tmp_path):
    server.answers["/a"] = [Answer(claims=1_000)]
    with pytest.raises(KinemaError, match="cut off after 1024000 of 1025000 bytes"):
        fetch([f"{server.url}/a"], tmp_path)
    assert not (tmp_path / "a").exists()
    # The second time the server says by 416 that the file has no more bytes than are there.
    assert fetch([f"{server.url}/a"], tmp_path).read_bytes() == CONTENT
    assert server.asked("/a") == ["", "bytes=1024000-"]


def test_length_that_is_too_small(server, tmp_path):
    server.answers["/a"] = [Answer(claims=-1_000)]
    with pytest.raises(KinemaError, match=f"its sha256 is .*, not {SHA256}. Nothing was kept"):
        fetch([f"{server.url}/a#sha256={SHA256}"], tmp_path)
    assert names(tmp_path) == []


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.answers["/a"] = [Answer(cut_after=9_000, ranges=False), Answer(ranges=False)]
    told = []
    path = fetch([f"{server.url}/a"], tmp_path, patience=QUICK, report=told.append)
    assert path.read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert min(told) == -9_000


def test_a_changed_file_begins_anew(server, tmp_path):
    new = b"new" * 100_000
    server.answers["/a"] = [Answer(cut_after=9_000), Answer(version='"two"', content=new)]
    assert fetch([f"{server.url}/a"], tmp_path, patience=QUICK).read_bytes() == new


def test_a_weak_version_is_not_continued(server, tmp_path):
    server.answers["/a"] = [Answer(cut_after=9_000, version='W/"x"'), Answer(version='W/"x"')]
    assert fetch([f"{server.url}/a"], tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.asked("/a") == ["", ""]


def test_another_range_than_asked_for(server, tmp_path):
    server.answers["/a"] = [Answer(cut_after=9_000), Answer(shift=77), Answer()]
    assert fetch([f"{server.url}/a"], tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.asked("/a") == ["", "bytes=9000-", ""]


def test_wrong_bytes_go_to_the_next_mirror(server, tmp_path):
    server.answers["/a"] = [Answer(content=CONTENT[:-1] + b"x")]
    urls = [f"{server.url}/a#sha256={SHA256}", f"{server.url}/b#md5={MD5}"]
    told = []
    assert fetch(urls, tmp_path, report=told.append) == tmp_path / "b"
    assert names(tmp_path) == ["b"]
    assert sum(told) == len(CONTENT)
    with pytest.raises(KinemaError, match=r"its md5 is \w{32}, not 0000"):
        fetch([f"{server.url}/a#md5={'0' * 32}"], tmp_path)


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.json").write_text('{"version": "\\"one\\""}')
    assert fetch([f"{server.url}/a#md5={MD5}"], tmp_path).read_bytes() == CONTENT
    assert server.asked("/a") == ["bytes=1024000-"]


@pytest.mark.parametrize("note", ["", "[]", "{}", "no json"])
def test_a_part_of_unknown_version_begins_anew(server, tmp_path, note):
    (tmp_path / "a.part").write_bytes(b"something else")
    (tmp_path / "a.part.json").write_text(note)
    assert fetch([f"{server.url}/a"], tmp_path).read_bytes() == CONTENT


def test_a_disk_that_is_too_small(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(KinemaError, match=r"No space left .* for a in .*: 0.0 GB more are needed"):
        fetch([f"{server.url}/a", f"{server.url}/b"], tmp_path, patience=QUICK)
    assert len(server.requests) == 1  # no retry and no mirror helps


def test_nobody_listens(tmp_path):
    with serving() as files:
        url = files.url
    with pytest.raises(KinemaError, match=r"could not be fetched .*refused.* Run the same command"):
        fetch([f"{url}/a"], tmp_path)


def test_names_and_sizes(server):
    assert size_of(f"{server.url}/a#md5={MD5}") == len(CONTENT)
    assert size_of(f"{server.url}/absent") is None
    assert name_of("https://x.org/k/train/hugging%20(not%20baby).tar.gz?v=1") == (
        "hugging (not baby).tar.gz"
    )
