"""Old flow in zip archives, whole or cut in pieces, read without unpacking."""

import io
import zipfile

import cv2
import numpy as np
import pytest

from helpers_formats import kinema_levels, tsn, write_pairs
from kinema.errors import KinemaError
from kinema.flow.formats.find import find_videos
from kinema.flow.formats.old_flow import open_old_flow
from kinema.video.split_zip import open_split_zip, split_parts
from kinema.video.zip_index import list_members, read_member


def zip_of(root, archive, *, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(archive, "w", method) as opened:
        for path in sorted(root.rglob("*")):
            opened.write(path, path.relative_to(root))
    return archive


def cut(archive, num_parts):
    data = archive.read_bytes()
    size = -(-len(data) // num_parts)
    parts = [archive.with_name(f"{archive.name}.{i + 1:03d}") for i in range(num_parts)]
    for i, part in enumerate(parts):
        part.write_bytes(data[i * size : (i + 1) * size])
    archive.unlink()
    return parts


def downloads(root, names=("v_A_g01_c01", "v_A_g01_c02")):
    for name in names:
        base = root / "tvl1_flow"
        write_pairs(base / "u" / name, base / "v" / name, "frame%06d.jpg", "frame%06d.jpg", (1, 2))
    return root


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flow_is_read_from_an_archive_without_unpacking(tmp_path, num_parts, method):
    root = downloads(tmp_path / "files")
    archive = zip_of(root, tmp_path / "ucf101_tvl1_flow.zip", method=method)
    if num_parts > 1:
        archive = cut(archive, num_parts)[0]
    assert sorted(video.id for video in find_videos(archive)) == ["v_A_g01_c01", "v_A_g01_c02"]
    old = open_old_flow(archive, video="v_A_g01_c02")
    assert (old.layout, old.num_frames) == ("twostreamfusion", 2)
    image = cv2.imread(str(root / "tvl1_flow/v/v_A_g01_c02/frame000002.jpg"), 0)
    assert np.array_equal(old.read([1])[0, ..., 1], kinema_levels(image))
    old.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["files"]


def test_cut_archives_work_with_zipfile(tmp_path):
    root = downloads(tmp_path / "files")
    archive = zip_of(root, tmp_path / "flow.zip")
    whole = archive.read_bytes()
    parts = cut(archive, 5)
    with open_split_zip(parts[0]) as file:
        assert file.read() == whole
        file.seek(-100, io.SEEK_END)
        assert file.read(50) == whole[-100:-50]
        file.seek(len(whole) // 5 - 3)  # across a cut
        assert file.read(2000) == whole[len(whole) // 5 - 3 :][:2000]
        with zipfile.ZipFile(file) as opened:
            assert opened.testzip() is None
            assert len(opened.namelist()) == len(list(root.rglob("*")))


def test_missing_pieces_are_named(tmp_path):
    parts = cut(zip_of(downloads(tmp_path / "files"), tmp_path / "flow.zip"), 4)
    with pytest.raises(KinemaError, match=r"flow.zip.002 is not the first piece"):
        split_parts(parts[1])
    parts[3].rename(tmp_path / "away")
    with pytest.raises(KinemaError, match="the last piece is missing"):
        open_old_flow(parts[0])
    (tmp_path / "away").rename(parts[3])
    parts[1].unlink()
    with pytest.raises(KinemaError, match=r"flow.zip.002 is missing: .* up to number 4"):
        open_old_flow(parts[0])


def test_damage_in_an_archive_is_found_by_its_checksum(tmp_path):
    archive = zip_of(tsn(tmp_path / "files").parent / "files", tmp_path / "flow.zip")
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("flow_x_00002.jpg")
        place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    data = bytearray(archive.read_bytes())
    data[place] ^= 0xFF
    archive.write_bytes(data)
    old = open_old_flow(archive)
    with pytest.raises(KinemaError, match=r"flow_x_00002.jpg is damaged: its checksum is wrong"):
        old.read([1])
    old.close()
    archive.write_bytes(data[:-200])
    with pytest.raises(KinemaError, match="not a whole zip archive"):
        open_old_flow(archive)


def test_the_table_of_contents_is_that_of_zipfile(tmp_path, monkeypatch):
    """Over 65535 members, and places over 4 GB, as archives of whole data sets have."""
    path = tmp_path / "many.zip"
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)  # places above are written as 64 bits
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"ü/{number}"), b"%d" % number)
    with path.open("rb") as file, zipfile.ZipFile(path) as archive:
        members = list(list_members(file, path))
        infos = archive.infolist()
        assert len(members) == len(infos) == 66_000
        for (name, member), info in zip(members[::997], infos[::997], strict=True):
            assert (name, member.offset) == (info.filename, info.header_offset)
            number = name.removeprefix("ü/")
            assert read_member(file, member, what=name) == number.encode()
