import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import sys
import tarfile
import zipfile
from collections import namedtuple

import pytest

from helpers_server import rar_of, tar_of, tgz_of, zip_of
from kinema.datasets.archives import DamagedArchiveError, kind_of
from kinema.datasets.unpack import unpack
from kinema.errors import KinemaError

FILES = {"set/walk/a.avi": bytes(range(256)) * 900, "set/run/b.avi": b"b" * 3_000, "c.txt": b""}
MAKERS = {
    "x.zip": zip_of,
    "x.tar": tar_of,
    "x.tar.gz": tgz_of,
    "x.tar.bz2": lambda **files: bz2.compress(tar_of(**files)),
    "x.tar.xz": lambda **files: lzma.compress(tar_of(**files)),
    "misnamed.zip": tgz_of,
    "misnamed.tar.gz": tar_of,  # one archive of Kinetics-400 was like this
}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def nothing_left(folder):
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("name", MAKERS)
def test_all_kinds(tmp_path, name):
    archive = write(tmp_path / name, MAKERS[name](**FILES))
    assert unpack(archive, tmp_path / "out") == 3
    assert contents(tmp_path / "out") == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["c.txt", "set"]
    assert archive.is_file()


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_archives_in_pieces(tmp_path, name):
    data = MAKERS[name](**FILES)
    step = len(data) // 3 + 1
    for i in range(3):
        write(tmp_path / f"{name}.{i + 1:03}", data[i * step : (i + 1) * step])
    assert unpack(tmp_path / f"{name}.001", tmp_path / "out") == 3
    assert contents(tmp_path / "out") == FILES
    (tmp_path / f"{name}.002").unlink()
    with pytest.raises(KinemaError, match=rf"{name}.002 is missing"):
        unpack(tmp_path / f"{name}.001", tmp_path / "again")
    assert nothing_left(tmp_path / "again")


@pytest.mark.parametrize("name", [name for name in MAKERS if "misnamed" not in name])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.999])
def test_cut_short(tmp_path, name, keep):
    whole = MAKERS[name](**FILES)
    keep_bytes = round(len(whole) * keep) - (12_000 if name == "x.tar" and keep > 0.9 else 0)
    archive = write(tmp_path / name, whole[:keep_bytes])
    with pytest.raises(DamagedArchiveError, match=rf"{name} is cut short or damaged"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


def test_tar_that_ends_between_two_files(tmp_path):
    whole = tar_of(**FILES)
    first = 512 + -(-len(FILES["set/walk/a.avi"]) // 512) * 512
    archive = write(tmp_path / "x.tar", whole[:first])
    with pytest.raises(DamagedArchiveError, match="closing mark is missing"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


def test_tar_with_a_damaged_header(tmp_path):
    whole = bytearray(tar_of(**FILES))
    place = whole.index(b"set/run/b.avi")
    whole[place : place + 4] = b"junk"
    archive = write(tmp_path / "x.tar", bytes(whole))
    with pytest.raises(DamagedArchiveError, match=r"x.tar is cut short or damaged"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_changed_bytes(tmp_path, name):
    whole = bytearray(MAKERS[name](**FILES))
    whole[len(whole) // 3] ^= 0x55
    archive = write(tmp_path / name, bytes(whole))
    with pytest.raises(DamagedArchiveError, match="cut short or damaged"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("name", ["../evil.avi", "a/../../evil.avi", "/tmp/evil.avi", "C:/e.avi",
                                  "..\\evil.avi"])  # fmt: skip
@pytest.mark.parametrize("maker", [zip_of, tar_of, tgz_of])
def test_names_that_leave_the_folder(tmp_path, maker, name):
    archive = write(tmp_path / "in" / "x", maker(**{"good.avi": b"1", name: b"2"}))
    with pytest.raises(KinemaError, match=r"x holds the file .* lies outside the folder"):
        unpack(archive, tmp_path / "in" / "out")
    assert nothing_left(tmp_path / "in" / "out")
    assert [p.name for p in tmp_path.rglob("*.avi")] == []


def test_links_are_refused(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(entry)
    linked_zip = tmp_path / "x.zip"
    with zipfile.ZipFile(linked_zip, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    for path in (write(tmp_path / "x.tar", out.getvalue()), linked_zip):
        with pytest.raises(KinemaError, match="holds 'link', which is a link"):
            unpack(path, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


def test_what_is_no_archive(tmp_path):
    page = write(tmp_path / "x.zip", b"<html>Sorry</html>")
    with pytest.raises(KinemaError, match=r"x.zip is not an archive .*'<html>So'.* a page"):
        unpack(page, tmp_path / "out")
    with pytest.raises(KinemaError, match="cannot be read: No such file"):
        kind_of(tmp_path / "absent.zip")


def test_zip_larger_than_the_disk(tmp_path, monkeypatch):
    archive = write(tmp_path / "x.zip", zip_of(**{"a.avi": bytes(10**7)}))
    usage = namedtuple("usage", "total used free")(10, 9, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(KinemaError, match=r"x.zip needs 0.0 GB unpacked, but .* has 0.0 GB left"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


def test_flat_and_nested(tmp_path):
    inner = {"one.zip": zip_of(**{"walk/a.avi": b"1"}), "sub/two.tar": tar_of(**{"b.avi": b"2"})}
    archive = write(tmp_path / "x.tgz", tgz_of(**inner))
    assert unpack(archive, tmp_path / "nested", nested=True) == 2
    assert contents(tmp_path / "nested") == {"walk/a.avi": b"1", "sub/b.avi": b"2"}
    write(tmp_path / "flat" / "a.avi", b"old")
    assert unpack(write(tmp_path / "y", zip_of(**FILES)), tmp_path / "flat", flat=True) == 3
    assert set(contents(tmp_path / "flat")) == {"a.avi", "b.avi", "c.txt"}
    assert (tmp_path / "flat" / "a.avi").read_bytes() == FILES["set/walk/a.avi"]


def test_what_a_killed_run_left_is_replaced(tmp_path):
    archive = write(tmp_path / "x.zip", zip_of(**FILES))
    write(tmp_path / "out" / ".unpacking-x.zip" / "half.avi", b"half")
    assert unpack(archive, tmp_path / "out") == 3
    assert contents(tmp_path / "out") == FILES


def test_rar_without_a_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = write(tmp_path / "x.rar", rar_of(**FILES))
    with pytest.raises(KinemaError, match=r"x.rar is a RAR archive, .*libarchive-tools.*unrar"):
        unpack(archive, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


@pytest.mark.skipif(not shutil.which("bsdtar"), reason="needs bsdtar")
def test_rar_with_bsdtar(tmp_path):
    files = {name: data for name, data in FILES.items() if data}
    assert unpack(write(tmp_path / "x.rar", rar_of(**files)), tmp_path / "out") == 2
    assert contents(tmp_path / "out") == files
    evil = write(tmp_path / "evil.rar", rar_of(**{"../evil.avi": b"1"}))
    with pytest.raises(KinemaError, match="lies outside the folder"):
        unpack(evil, tmp_path / "out2")
    cut = write(tmp_path / "cut.rar", rar_of(**files)[:2_000])
    with pytest.raises(DamagedArchiveError, match=r"cut.rar is cut short or damaged.*bsdtar:"):
        unpack(cut, tmp_path / "out2")
    assert nothing_left(tmp_path / "out2")


FAKE_UNRAR = """#!{python}
import sys, pathlib
names = pathlib.Path({names!r}).read_text().split()
if sys.argv[1] == "lb":
    print("\\n".join(names))
elif {fails}:
    sys.exit("CRC failed in a.avi")
else:
    folder = pathlib.Path(sys.argv[-1])
    assert sys.argv[-1].endswith("/") and pathlib.Path(sys.argv[-2]).is_file()
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
"""


def fake_unrar(folder, *names, fails=False):
    listed = write(folder / "names.txt", "\n".join(names).encode())
    script = FAKE_UNRAR.format(python=sys.executable, names=str(listed), fails=fails)
    write(folder / "unrar", script.encode()).chmod(0o755)
    return str(folder)


@pytest.mark.skipif(os.name == "nt", reason="needs scripts with an interpreter line")
def test_rar_by_another_program(tmp_path, monkeypatch):
    archive = write(tmp_path / "x.rar", rar_of(**FILES))
    monkeypatch.setenv("PATH", fake_unrar(tmp_path / "good", "set/a.avi", "set/b.avi"))
    assert unpack(archive, tmp_path / "out") == 2
    assert set(contents(tmp_path / "out")) == {"set/a.avi", "set/b.avi"}
    monkeypatch.setenv("PATH", fake_unrar(tmp_path / "evil", "../a.avi"))
    with pytest.raises(KinemaError, match="lies outside the folder"):
        unpack(archive, tmp_path / "out2")
    monkeypatch.setenv("PATH", fake_unrar(tmp_path / "bad", "a.avi", fails=True))
    with pytest.raises(DamagedArchiveError, match=r"unrar: CRC failed in a.avi"):
        unpack(archive, tmp_path / "out2")
    assert nothing_left(tmp_path / "out2")


def test_gzip_with_bytes_after_its_end(tmp_path):
    archive = write(tmp_path / "x.tar.gz", tgz_of(**FILES) + gzip.compress(b"junk"))
    with pytest.raises(DamagedArchiveError, match="cut short or damaged"):
        unpack(archive, tmp_path / "out")
