"""Roots of frames in the layouts of older tools, listed and checked by `kinema index`."""

import shutil
import zipfile

import cv2
import numpy as np
import pytest

from helpers_data import small_video
from helpers_datasets import write
from kinema.data.clips import ClipItem, ClipSpec, TestClips
from kinema.datasets.build import build_index
from kinema.datasets.index import check_files, read_index
from kinema.datasets.layouts import frames_root
from kinema.errors import KinemaError
from kinema.framing.job import FrameJob, write_video
from kinema.framing.layouts import LAYOUTS
from kinema.framing.options import FrameOptions
from kinema.packing.job import PackOptions, pack_video
from kinema.video.rgb_store import RgbStore

NAMES = ("Biking/v_Biking_g01_c01", "HandstandPushups/v_HandStandPushups_g01_c01",
         "Biking/v_Biking_g02_c01", "HandstandPushups/v_HandStandPushups_g02_c01")  # fmt: skip
FLAT = ("tsn", "feichtenhofer", "something-v1", "dense-flow-zip")
NESTED = tuple(name for name in LAYOUTS if name not in FLAT)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        small_video(root / f"{name}.avi", seed=seed, num_frames=6)
    return root


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Official lists of UCF101: group 1 is tested on."""
    folder = tmp_path_factory.mktemp("lists")
    write(folder / "classInd.txt", "1 Biking\r\n2 HandstandPushups\r\n")
    test, train = ([f"{name}.avi" for name in names] for names in (NAMES[:2], NAMES[2:]))
    write(folder / "testlist01.txt", "\r\n".join(test))
    write(folder / "trainlist01.txt", "\r\n".join(f"{n} {i}" for i, n in enumerate(train, 1)))
    return folder


def framed(videos, out, layout, image="jpg"):
    """Write the videos in a layout."""
    if layout == "hara-hdf5":
        pytest.importorskip("h5py")
    for name in NAMES:
        job = FrameJob(id=name, path=videos / f"{name}.avi", label=name.split("/")[0])
        write_video(job, out, FrameOptions(layout=layout, format=image))
    return out


def rejected(out):
    text = (out / "rejected.csv").read_text()
    return [line.split(",", 1) for line in text.splitlines()[1:]]


@pytest.mark.parametrize("layout", NESTED)
def test_folders_of_classes(videos, tmp_path, layout):
    root = framed(videos, tmp_path / "frames", layout)
    report = build_index(root, tmp_path / "index", fps=10.0)
    assert report.rejected == () and report.index.classes == ("Biking", "HandstandPushups")
    assert sorted(video.id for video in report.index.videos) == sorted(NAMES)
    for video in read_index(tmp_path / "index").videos:
        assert (video.num_frames, video.width, video.height, video.fps) == (6, 64, 48, 10.0)
        assert video.label == video.id.split("/")[0] and video.group == ""
    check_files(report.index)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_lists_find_their_videos(videos, lists, tmp_path, layout):
    root = framed(videos, tmp_path / "frames", layout)
    report = build_index(root, tmp_path / "index", splits_folder=lists)
    assert sorted(video.id for video in report.index.part("test")) == sorted(NAMES[:2])
    assert report.absent == 0 and len(report.index.videos) == 4
    found = f"4 of the 4 videos are images, the first, {report.index.videos[0].path.name}, in the "
    assert f"{found}layout {layout}." in report.messages
    assert {video.fps for video in report.index.videos} == {0.0}


@pytest.mark.parametrize("layout", FLAT)
def test_flat_layouts_need_labels(videos, tmp_path, layout):
    root = framed(videos, tmp_path / "frames", layout)
    message = (
        r"holds the frames of 4 videos, the first is v_Biking_g01_c01, in no folders of classes"
    )
    with pytest.raises(KinemaError, match=message + r".*--splits FOLDER.*CSV"):
        build_index(root, tmp_path / "index")
    place = frames_root(root).relative_to(root)
    rows = "".join(
        f"{(place / folder.name).as_posix()},{folder.name[2:6]}\n"
        for folder in sorted((root / place).iterdir())
    )
    table = write(root / "videos.csv", f"path,label\n{rows}")
    index = build_index(table, tmp_path / "index").index
    assert len(index.videos) == 4 and index.classes == ("Biki", "Hand")
    assert {video.num_frames for video in index.videos} == {6}


def test_flat_hdf5_files_need_labels(videos, tmp_path):
    pytest.importorskip("h5py")
    root = framed(videos, tmp_path / "frames", "hara-hdf5")
    for path in list(root.rglob("*.hdf5")):
        path.rename(root / path.name)
    for folder in ("Biking", "HandstandPushups"):
        (root / folder).rmdir()
    with pytest.raises(
        KinemaError, match=r"frames of 4 videos, the first is v_Biking_g01_c01.hdf5"
    ):
        build_index(root, tmp_path / "index")


def test_parts_above_the_classes_and_groups_below(videos, tmp_path):
    for part, names in (("training", NAMES[:2]), ("validation", NAMES[2:])):
        for name in names:
            label, stem = name.split("/")
            job = FrameJob(id=f"{part}/{label}/p1{part}/{stem}", path=videos / f"{name}.avi",
                           label=label)  # fmt: skip
            write_video(job, tmp_path / "frames", FrameOptions(layout="hara"))
    index = build_index(tmp_path / "frames", tmp_path / "index").index
    assert [video.split for video in index.videos].count("val") == 2
    assert {video.group for video in index.videos} == {"p1training", "p1validation"}


@pytest.mark.parametrize(("root", "flow"), [("rgb", ("x", "y")), ("jpegs_256", ("u", "v"))])
def test_flow_beside_the_frames_is_no_video(videos, lists, tmp_path, root, flow):
    """The folders of gpu_flow, and of the downloads of twostreamfusion."""
    data = tmp_path / "data"
    framed(videos, data / root, "slim")
    for part in flow:
        place = data / part if root == "rgb" else data / "tvl1_flow" / part
        shutil.copytree(data / root, place)
    assert frames_root(data) == data / root
    for splits in (None, lists):
        report = build_index(data, tmp_path / "index", splits_folder=splits)
        assert len(report.index.videos) == 4 and report.rejected == ()
        assert {video.path.relative_to(data).parts[0] for video in report.index.videos} == {root}
    flow_alone = data / "x" if root == "rgb" else data / "tvl1_flow"
    with pytest.raises(KinemaError, match="No video was found"):
        build_index(flow_alone, tmp_path / "index")


def test_an_archive_of_all_videos(videos, lists, tmp_path):
    """ucf101_jpegs_256.zip, also cut in pieces: read without unpacking it."""
    root = framed(videos, tmp_path / "frames", "feichtenhofer", image="png")
    archive = tmp_path / "ucf101_jpegs_256.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(root.rglob("*.png")):
            target.write(path, path.relative_to(root))
    data = archive.read_bytes()
    pieces = [archive.with_name(f"{archive.name}.00{i}") for i in (1, 2)]
    for piece, part in zip(pieces, (data[:40_000], data[40_000:]), strict=True):
        piece.write_bytes(part)
    for place in (archive, pieces[0]):
        index = build_index(place, tmp_path / "index", splits_folder=lists).index
        check_files(index)
        assert len(index.videos) == 4
        video = next(video for video in index.videos if video.id == NAMES[1])
        assert video.path == place / "jpegs_256/v_HandstandPushups_g01_c01"
        spec = ClipSpec(stream="rgb", length=2, num_segments=1, resize="none", crop=32)
        clips = [
            TestClips([ClipItem(id="v", path=path, label=0, num_frames=6)], spec,
                      rule="uniform", num_clips=2, clips_per_item=2)[0][2]
            for path in (video.path, videos / f"{NAMES[1]}.avi")
        ]  # fmt: skip
        assert np.array_equal(*clips)
        store = tmp_path / f"{place.name}-packed.mp4"
        assert pack_video(video.path, store, options=PackOptions()) == 6
        assert RgbStore(store).metadata["source_bytes"] == place.stat().st_size
    archive.unlink()
    pieces[1].unlink()
    with pytest.raises(KinemaError, match=r"zip.001 and the pieces beside it are no whole zip"):
        build_index(pieces[0], tmp_path / "index", splits_folder=lists)


def spoil_gap(folder):
    (folder / "img_00003.jpg").unlink()


def spoil_start(folder):
    (folder / "img_00000.jpg").unlink()
    (folder / "img_00001.jpg").unlink()


def spoil_size(folder):
    cv2.imwrite(str(folder / "img_00004.jpg"), np.zeros((20, 30, 3), np.uint8))


def spoil_image(folder):
    path = folder / "img_00002.jpg"
    path.write_bytes(path.read_bytes()[:100])


def spoil_flow(folder):
    for i in range(3):
        shutil.copy(folder / "img_00000.jpg", folder / f"flow_x_{i:05d}.jpg")


def spoil_count(folder):
    (folder / "n_frames").write_text("9\n")


FAULTS = {
    spoil_gap: r"img_00003.jpg is missing: images must be numbered from 0 or 1 to 5 without a gap",
    spoil_start: r"img_00001.jpg is missing",
    spoil_size: r"img_00004.jpg is 30x20 pixels, the first image 64x48: all must have one size",
    spoil_image: r"img_00002.jpg is cut off (100 bytes)",
    spoil_flow: r"has 6 frames (img_00000.jpg to img_00005.jpg) and 3 flow images "
    r"(flow_x_00000.jpg to flow_x_00002.jpg): expected are 5 or",
    spoil_count: r"n_frames says '9' images, but there are 6 (img_00000.jpg to img_00005.jpg)",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda function: function.__name__)
def test_faults_are_listed_with_their_reason(videos, tmp_path, spoil):
    root, out = framed(videos, tmp_path / "frames", "denseflow"), tmp_path / "index"
    spoil(root / NAMES[0])
    report = build_index(root, out)
    assert len(report.index.videos) == 3
    ((path, reason),) = rejected(out)
    assert path == str(root / NAMES[0]) and FAULTS[spoil] in reason.replace('""', '"')
    with pytest.raises(KinemaError, match="1 files cannot be used"):
        build_index(root, out, strict=True)


def test_flow_that_goes_with_the_frames(videos, tmp_path):
    """N - 1 pairs, N where the first frame was left out, N - 2 at stride 2."""
    root = framed(videos, tmp_path / "frames", "denseflow")
    for name, mark, count in ((NAMES[0], "", 5), (NAMES[1], "", 6), (NAMES[2], "p2_", 4)):
        for part in ("x", "y"):
            for i in range(count):
                image = root / name / f"flow_{part}_{mark}{i:05d}.jpg"
                shutil.copy(root / name / "img_00000.jpg", image)
    assert build_index(root, tmp_path / "index").rejected == ()


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("layout", ["dense-flow-zip", "hara-hdf5", "zip"])
def test_archives_that_were_cut_short(videos, lists, tmp_path, layout, share):
    root = framed(videos, tmp_path / "frames", "slim" if layout == "zip" else layout)
    if layout == "zip":
        for name in NAMES:
            shutil.make_archive(str(root / name), "zip", root / name)
            shutil.rmtree(root / name)
    place = {"dense-flow-zip": f"{NAMES[0][7:]}/img.zip", "zip": f"{NAMES[0]}.zip"}
    cut(root / place.get(layout, f"{NAMES[0]}.hdf5"), share)
    report = build_index(root, tmp_path / "index", splits_folder=lists)
    assert len(report.index.videos) == 3
    ((_, reason),) = rejected(tmp_path / "index")
    wanted = "cannot be read as an HDF5 file" if "hdf5" in layout else "is not a whole zip archive"
    assert wanted in reason


def test_a_second_run_reads_only_what_has_changed(videos, tmp_path, monkeypatch):
    root, out = framed(videos, tmp_path / "frames", "hara"), tmp_path / "index"
    build_index(root, out)
    seen = []

    def attempt(probe_file, path):
        seen.append(path)
        return probe_file(path)

    monkeypatch.setattr("kinema.datasets.scan._attempt", attempt)
    build_index(root, out)
    assert seen == []
    image = root / NAMES[2] / "image_00002.jpg"
    image.write_bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    build_index(root, out)
    assert seen == [root / NAMES[2]]


def test_hdf5_without_h5py_names_the_extra(videos, tmp_path, monkeypatch):
    root = framed(videos, tmp_path / "frames", "hara-hdf5")

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("kinema.video.hdf5_file.importlib.import_module", absent)
    with pytest.raises(KinemaError, match=r"HDF5 files need h5py.*pip install 'kinema\[hdf5\]'"):
        build_index(root, tmp_path / "index")


def test_videos_with_thumbnails_beside_them_are_videos(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    for name in NAMES:
        cv2.imwrite(str(root / f"{name}.jpg"), np.zeros((9, 9, 3), np.uint8))
    assert len(build_index(root, tmp_path / "index").index.videos) == 4
