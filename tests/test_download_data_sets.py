import json
import re
from collections import namedtuple

import pytest

from helpers_cli import kinema
from helpers_server import Answer, rar_of, serving, tar_of, tgz_of, zip_of
from kinema.datasets import download as module
from kinema.datasets.download import DownloadOptions, download
from kinema.datasets.download_sources import DATA_SETS, DataSet, RemoteFile, RemoteList
from kinema.errors import KinemaError, UsageError
from kinema.fetch import Patience

QUICK = Patience(retries=1, pause_seconds=0.01)
OPTIONS = DownloadOptions(connections=2, patience=QUICK)
PARTS = {
    "p0.tar.gz": tgz_of(**{"a.mp4": b"a" * 5_000, "b.mp4": b"broken"}),
    "p1 (x).tar.gz": tgz_of(**{"c.mp4": b"c" * 7_000}),
    "p2.tar.gz": tgz_of(**{"d.mp4": b"d" * 9_000}),
}
FIXED = tgz_of(**{"replacement/b.mp4": b"whole"})
SOMETHING = "20bn-something-something-v2"


def known(url, **changes):
    values = {
        "name": "toy",
        "title": "Toy",
        "page": "https://example.org",
        "terms": "free",
        "gigabytes": 0.0,
        "videos": "*/**/*.mp4",
        "count": 5,
        "files": (
            RemoteFile(addresses=(f"{url}/train.csv",), folder="annotations", unpack=False),
            RemoteFile(addresses=(f"{url}/fixed.tgz",), folder="train", flat=True, last=True),
        ),
        "lists": (
            RemoteList(part="train", addresses=(f"{url}/train.txt",)),
            RemoteList(part="val", addresses=(f"{url}/val.txt",)),
        ),
    }
    return DataSet(**{**values, **changes})


@pytest.fixture
def server():
    with serving(**{"train.csv": b"label,id\n", "fixed.tgz": FIXED}) as files:
        for name, data in PARTS.items():
            files.contents[f"/{name.replace(' ', '%20')}"] = data
        lines = [f"{files.url}/{name}\n" for name in PARTS]
        files.contents["/train.txt"] = "".join(lines[:2]).encode()
        files.contents["/val.txt"] = lines[2].encode()
        yield files


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "archives" not in p.parts and not p.name.startswith(".")
    }


WHOLE = {
    "annotations/train.csv": b"label,id\n",
    "train/a.mp4": b"a" * 5_000,
    "train/b.mp4": b"whole",
    "train/c.mp4": b"c" * 7_000,
    "val/d.mp4": b"d" * 9_000,
}


def test_everything_is_fetched_and_unpacked(server, tmp_path):
    out = tmp_path / "my data"
    report = download(known(server.url), out, options=OPTIONS)
    assert contents(out) == WHOLE
    assert report.messages == (
        f"4 of 5 videos are in {out}. Some are missing: compare with the data set's page.",
        f"Go on with: kinema index '{out}' -o '{tmp_path / 'my data-index'}'",
    )
    left = {p.name for p in (out / "archives").rglob("*") if p.is_file()}
    assert left == {"train.txt", "val.txt"}
    before = len(server.requests)
    download(known(server.url), out, options=OPTIONS)
    assert len(server.requests) == before


def test_parts_and_kept_archives(server, tmp_path):
    options = DownloadOptions(parts=("val",), keep_archives=True, patience=QUICK)
    download(known(server.url), tmp_path, options=options)
    assert set(contents(tmp_path)) == {"annotations/train.csv", "val/d.mp4"}
    assert (tmp_path / "archives/val/p2.tar.gz").read_bytes() == PARTS["p2.tar.gz"]
    with pytest.raises(UsageError, match=r"Toy has no part 'tset' .*: choose of train, val"):
        download(known(server.url), tmp_path, options=DownloadOptions(parts=("tset",)))


def test_what_failed_is_fetched_by_the_next_call(server, tmp_path):
    server.answers["/p0.tar.gz"] = [Answer(status=503)]
    server.answers["/p2.tar.gz"] = [Answer(cut_after=50), Answer(cut_after=0)]
    with pytest.raises(KinemaError, match=r"2 of 4 files failed, the first: .*(503|cut off)"):
        download(known(server.url), tmp_path, options=OPTIONS)
    assert set(contents(tmp_path)) == {"annotations/train.csv", "train/c.mp4"}
    server.answers.clear()
    server.requests.clear()
    download(known(server.url), tmp_path, options=OPTIONS)
    assert contents(tmp_path) == WHOLE
    assert server.asked("/p2.tar.gz") == ["bytes=50-"]
    assert server.asked("/p1%20(x).tar.gz") == []


def test_an_archive_with_too_small_a_length_is_removed(server, tmp_path):
    server.answers["/p0.tar.gz"] = [Answer(claims=-40)]
    with pytest.raises(KinemaError, match=r"p0.tar.gz is cut short .* It was removed: run the sa"):
        download(known(server.url), tmp_path, options=OPTIONS)
    assert not list(tmp_path.rglob("p0*"))
    assert not list(tmp_path.rglob(".unpacking*"))
    server.answers.clear()
    download(known(server.url), tmp_path, options=OPTIONS)
    assert contents(tmp_path) == WHOLE


def test_mirrors_come_first(server, tmp_path):
    with serving(**{f"m/{path}": data for path, data in (
        ("train/train.txt", server.contents["/train.txt"]),
        ("val/val.txt", server.contents["/val.txt"]),
        ("train/p0.tar.gz", PARTS["p0.tar.gz"]),
        ("train/p1%20(x).tar.gz", PARTS["p1 (x).tar.gz"]),
        ("train/fixed.tgz", FIXED),
    )}) as mirror:  # fmt: skip
        options = DownloadOptions(mirrors=(f"{mirror.url}/m/",), patience=QUICK)
        download(known(server.url), tmp_path, options=options)
    assert contents(tmp_path) == WHOLE
    fetched = {path for method, path, _ in server.requests if method == "GET"}
    assert fetched == {"/train.csv", "/p2.tar.gz"}


def test_a_page_instead_of_a_list(server, tmp_path):
    server.contents["/val.txt"] = b"<html>moved</html>"
    with pytest.raises(KinemaError, match=r"val.txt is not a list of addresses .*<html>moved"):
        download(known(server.url), tmp_path, options=OPTIONS)
    assert not list(tmp_path.rglob("val.txt"))


def test_a_disk_that_is_too_small_is_seen_first(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 300)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    one = known(server.url, gigabytes=6.5, lists=(), files=(
        RemoteFile(addresses=(f"{server.url}/absent.zip",)),
    ))  # fmt: skip
    with pytest.raises(KinemaError, match=r"Toy needs about 6.5 GB more in .*0.0 GB are free"):
        download(one, tmp_path, options=OPTIONS)
    assert server.asked("/absent.zip") == []


def test_another_kind_of_archive_at_another_mirror(server, tmp_path):
    server.contents["/v.zip"] = zip_of(**{"v/a.avi": b"1"})
    server.answers["/v.rar"] = [Answer(status=404)]
    one = known(server.url, lists=(), count=1, videos="videos/**/*.avi", files=(
        RemoteFile(
            addresses=(f"{server.url}/v.rar", f"{server.url}/v.zip"), folder="videos"
        ),
    ))  # fmt: skip
    report = download(one, tmp_path, options=OPTIONS)
    assert report.messages[0] == f"1 of 1 videos are in {tmp_path}."


def test_a_program_for_rar_is_asked_for_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    server.contents["/v.rar"] = rar_of(**{"a.avi": b"1"})
    one = known(server.url, lists=(), files=(RemoteFile(addresses=(f"{server.url}/v.rar",)),))
    with pytest.raises(KinemaError, match="no program that unpacks these is installed"):
        download(one, tmp_path / "out", options=OPTIONS)
    assert server.requests == []


def test_one_folder_holds_one_data_set(server, tmp_path):
    download(known(server.url), tmp_path, options=OPTIONS)
    with pytest.raises(UsageError, match="holds 'toy': choose another folder for 'other'"):
        download(known(server.url, name="other"), tmp_path, options=OPTIONS)
    (tmp_path / ".kinema-download.json").write_text("damaged")
    download(known(server.url), tmp_path, options=OPTIONS)
    assert contents(tmp_path) == WHOLE


def pieces(folder, number=4):
    whole = tgz_of(**{f"{SOMETHING}/{i}.webm": bytes([i]) * 700 for i in range(200)})
    step = -(-len(whole) // number)
    for i in range(number):
        (folder / f"{SOMETHING}-{i:02}").write_bytes(whole[i * step : (i + 1) * step])
    labels = zip_of(**{"labels/train.json": b"[]", "labels/validation.json": b"[]"})
    (folder / "20bn-something-something-download-package-labels.zip").write_bytes(labels)


def test_by_hand_says_what_to_fetch(tmp_path):
    found = kinema("download", "something-v2", "-o", tmp_path / "s")
    assert found.code == 1
    assert "https://www.qualcomm.com/developer/software/something-something-v-2" in found.out
    assert f"{SOMETHING}-00" in found.out
    assert "download-package-labels.zip" in found.out
    assert f"kinema download something-v2 -o {tmp_path / 's'}" in found.out
    pieces(tmp_path)
    next(tmp_path.glob("*labels.zip")).unlink()
    steps = download("something-v2", tmp_path).steps
    assert any("labels.zip" in line for line in steps)
    assert not any(f"{SOMETHING}-00" in line for line in steps)


def test_by_hand_is_joined_and_unpacked(tmp_path):
    pieces(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    report = download("something-v2", tmp_path)
    assert (tmp_path / SOMETHING / "7.webm").read_bytes() == b"\x07" * 700
    assert len(list((tmp_path / SOMETHING).iterdir())) == 200
    assert (tmp_path / "labels/train.json").is_file()
    assert before <= {p.name for p in tmp_path.iterdir()}  # what was fetched by hand stays
    assert report.messages[1] == "Unpacked 200 files from 4 pieces."
    assert report.messages[2].startswith("200 of 220847 videos")
    assert json.loads((tmp_path / ".kinema-download.json").read_text())["done"]["videos"] == 200
    for piece in tmp_path.glob(f"{SOMETHING}-*"):
        piece.unlink()
    assert download("something-v2", tmp_path).messages[0].startswith("200 of 220847")


def test_by_hand_pieces_in_zips(tmp_path):
    pieces(tmp_path)
    for name, numbers in (("00", (0, 1)), ("01.zip", (2, 3))):
        inner = {f"{SOMETHING}-{i:02}": tmp_path / f"{SOMETHING}-{i:02}" for i in numbers}
        data = zip_of(**{n: p.read_bytes() for n, p in inner.items()})
        for path in inner.values():
            path.unlink()
        (tmp_path / f"{SOMETHING}-{name}").write_bytes(data)
    assert download("something-v2", tmp_path).messages[1].endswith("200 files from 4 pieces.")
    assert (tmp_path / SOMETHING / "199.webm").read_bytes() == bytes([199]) * 700


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        (1, r"the numbers 01 are missing \(0 to 3 are needed at least\)"),
        (3, r"4 pieces\) is cut short|3 pieces\) is cut short.*Number 02 is the last piece"),
    ],
)
def test_by_hand_with_a_piece_missing(tmp_path, gone, expected):
    pieces(tmp_path)
    (tmp_path / f"{SOMETHING}-{gone:02}").unlink()
    with pytest.raises(KinemaError, match=expected):
        download("something-v2", tmp_path)
    assert not (tmp_path / SOMETHING).exists()
    assert not list(tmp_path.glob(".unpacking*"))


def test_frames_of_something_v1(tmp_path):
    name = "20bn-something-something-v1"
    whole = tar_of(**{f"{name}/{i}/00001.jpg": b"j" for i in range(3)})
    (tmp_path / f"{name}-00").write_bytes(whole)
    (tmp_path / "something-something-v1-train.csv").write_text("1;a\n")
    report = download("something-v1", tmp_path)
    assert report.messages[1].startswith("3 of 108499 folders of frames are in")


def test_known_addresses():
    assert list(DATA_SETS) == [
        "ucf101", "hmdb51", "something-v1", "something-v2",
        "kinetics400", "kinetics600", "kinetics700",
    ]  # fmt: skip
    lists = [entry.addresses[0] for entry in DATA_SETS["kinetics700"].lists]
    assert lists == [
        f"https://s3.amazonaws.com/kinetics/700_2020/{part}/k700_2020_{part}_path.txt"
        for part in ("train", "val", "test")
    ]
    assert DATA_SETS["kinetics400"].lists[0].addresses == (
        "https://s3.amazonaws.com/kinetics/400/train/k400_train_path.txt",
        "https://kinetics.s3.amazonaws.com/400/train/k400_train_path.txt",
    )
    assert all(d.files or d.by_hand for d in DATA_SETS.values())


def test_torchvision_knows_the_same_addresses():
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.datasets.HMDB51
    lists, videos = (file.addresses[0] for file in DATA_SETS["hmdb51"].files)
    assert lists == f"{theirs.splits['url']}#md5={theirs.splits['md5']}"
    assert videos == theirs.data_url
    for number in ("400", "600", "700"):
        pattern = torchvision.datasets.Kinetics._TAR_URLS[number]
        ours = [entry.addresses[0] for entry in DATA_SETS[f"kinetics{number}"].lists]
        assert ours == [pattern.format(split=part) for part in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ufc101", "-o", "x"), "There is no data set 'ufc101'.*Did you mean 'ucf101'"),
        (("ucf101", "-o", "x", "--parts", "train"), "UCF101 has no part 'train'.*leave --parts"),
        (("ucf101", "-o", "x", "--mirror", "ftp://a"), "The mirror 'ftp://a' is no address"),
    ],
)
def test_wrong_requests(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = kinema("download", *words)
    assert found.code == 2
    assert re.search(expected, found.error)
    assert list(tmp_path.iterdir()) == []
