"""Folders of numbered images, in every naming of the older systems."""

import struct
import zipfile

import cv2
import numpy as np
import pytest

import helpers_video as hv
from kinema.errors import KinemaError
from kinema.video.frames import open_frames
from kinema.video.image_bytes import image_size
from kinema.video.images import ImageFrames
from kinema.video.reader import VideoReader


def write_images(folder, template, numbers, *, width=32, height=24):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        image = hv.picture(number, width=width, height=height)
        assert cv2.imwrite(str(folder / (template % number)), image[..., ::-1])


TEMPLATES = ("img_%05d.jpg", "image_%04d.jpg", "image_%05d.JPG", "frame%06d.jpg", "%05d.jpg",
             "v_2_x-%d.png")  # fmt: skip


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("template", TEMPLATES)
def test_names_are_found_by_listing(tmp_path, template, first):
    folder = tmp_path / "clip"
    write_images(folder, template, range(first, first + 12))
    frames = open_frames(folder)
    assert isinstance(frames, ImageFrames)
    assert (frames.num_frames, frames.height, frames.width) == (12, 24, 32)
    read = frames.read([11, 0, 3, 3])
    assert read.dtype == np.uint8
    for image, i in zip(read, (11, 0, 3, 3), strict=True):
        expected = cv2.imread(str(folder / (template % (first + i))))[..., ::-1]
        np.testing.assert_array_equal(image, expected)
    frames.close()


def test_png_gives_back_what_was_written(tmp_path):
    write_images(tmp_path / "clip", "%05d.png", range(1, 4))
    np.testing.assert_array_equal(
        ImageFrames(tmp_path / "clip").read([2])[0], hv.picture(3, width=32, height=24)
    )


def test_flow_and_other_files_beside_the_images_are_left_alone(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", range(1, 6))
    write_images(tmp_path, "flow_x_%05d.jpg", range(1, 5))
    write_images(tmp_path, "flow_y_%05d.jpg", range(1, 5))
    (tmp_path / "n_frames").write_text("5")
    assert ImageFrames(tmp_path).num_frames == 5


def test_a_gap_is_named(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", [1, 2, 4, 5])
    with pytest.raises(KinemaError, match=r"img_00003\.jpg is missing"):
        ImageFrames(tmp_path)


def test_a_late_start_is_named(tmp_path):
    write_images(tmp_path, "frame%06d.jpg", [7, 8])
    with pytest.raises(KinemaError, match=r"frame000001\.jpg is missing"):
        ImageFrames(tmp_path)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(KinemaError, match="has no numbered images"):
        open_frames(tmp_path)
    with pytest.raises(KinemaError, match="is not a folder"):
        ImageFrames(tmp_path / "absent")
    with pytest.raises(KinemaError, match="does not exist"):
        open_frames(tmp_path / "absent")
    write_images(tmp_path, "img_%05d.jpg", [1])
    write_images(tmp_path, "other%05d.jpg", [1])
    with pytest.raises(KinemaError, match=r"images of 2 kinds \(img_00001.jpg, other00001.jpg\)"):
        ImageFrames(tmp_path)


def test_two_images_of_one_number(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", [1])
    write_images(tmp_path, "img_%d.jpg", [1])
    with pytest.raises(KinemaError, match=r"two images 1: img_00001\.jpg and img_1\.jpg"):
        ImageFrames(tmp_path)


def test_images_that_are_bad_or_gone(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", range(1, 5))
    frames = ImageFrames(tmp_path)
    with pytest.raises(KinemaError, match="has no frame 4: its 4 frames are numbered 0 to 3"):
        frames.read([4])
    with pytest.raises(KinemaError, match="has no frame -1"):
        frames.read([-1])
    (tmp_path / "img_00002.jpg").write_bytes(b"no image")
    with pytest.raises(KinemaError, match=r"img_00002\.jpg cannot be read"):
        frames.read([1])
    (tmp_path / "img_00003.jpg").unlink()
    with pytest.raises(KinemaError, match=r"img_00003\.jpg cannot be read"):
        frames.read([2])
    write_images(tmp_path, "img_%05d.jpg", [4], width=16)
    with pytest.raises(KinemaError, match=r"img_00004\.jpg is 16x24 pixels, another image 32x24"):
        frames.read([0, 3])


def test_a_video_is_opened_as_a_video(tmp_path):
    path = hv.make_video(tmp_path / "v.mp4", hv.SPECS["h264"])
    frames = open_frames(path)
    assert isinstance(frames, VideoReader)
    assert frames.read([5]).shape == (1, 48, 64, 3)
    frames.close()


CODED = {
    "a.jpg": (),
    "progressive.jpg": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts.jpg": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "a.png": (),
    "a.bmp": (),
    "a.webp": (cv2.IMWRITE_WEBP_QUALITY, 90),
}


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("is_gray", [False, True])
def test_the_size_of_an_image_is_that_of_opencv(name, is_gray):
    image = hv.picture(1, width=35, height=27)
    image = image[..., 0] if is_gray else image
    data = cv2.imencode(name[name.index(".") :], image, CODED[name])[1].tobytes()
    assert image_size(data, what=name) == (27, 35)
    if name.endswith(("jpg", "png")):
        with pytest.raises(KinemaError, match=rf"{name} is cut off"):
            image_size(data[: len(data) // 2], what=name)


def test_a_jpeg_turned_by_exif_has_the_size_of_its_pixels():
    data = cv2.imencode(".jpg", hv.picture(1, width=35, height=27))[1].tobytes()
    entry = struct.pack(">2s2H", b"MM", 42, 0) + struct.pack(">HH", 8, 1)
    exif = b"Exif\0\0" + entry + struct.pack(">HHIHHI", 0x0112, 3, 1, 6, 0, 0)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    image = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert image_size(turned, what="turned") == image.shape[:2] == (35, 27)


def zip_of(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, cv2.imencode(".png", hv.picture(1, width=32, height=24))[1])
    return path


def test_archives_of_images(tmp_path):
    frames = open_frames(zip_of(tmp_path / "clip.zip", ["a/1.png", "a/2.png", "flow_x/x.txt"]))
    assert (frames.num_frames, frames.height, frames.width) == (2, 24, 32)
    frames.close()
    wrong = {
        "two.zip": (["a/1.png", "b/1.png"], r"images in 2 folders \(a, b …\): it is no single"),
        "none.zip": (["a.txt"], "has no numbered images, such as"),
        "gap.zip": (["v_1.png", "v_3.png"], r"gap.zip/v_2.png is missing: .*, and 2 are there"),
        "kinds.zip": (["b_1.png", "w_1.png"], r"images of 2 kinds \(b_1.png, w_1.png\)"),
    }
    for name, (members, message) in wrong.items():
        with pytest.raises(KinemaError, match=message):
            open_frames(zip_of(tmp_path / name, members))
    with pytest.raises(KinemaError, match=r"two.zip has no folder c with numbered images"):
        open_frames(tmp_path / "two.zip" / "c")
    assert open_frames(tmp_path / "two.zip" / "b").num_frames == 1
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(KinemaError, match=r"text.zip is not a whole zip archive"):
        open_frames(tmp_path / "text.zip")
    with pytest.raises(KinemaError, match=r"gone.zip does not exist"):
        open_frames(tmp_path / "gone.zip")


def test_hdf5_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "flow.hdf5", "w") as file:
        file["video_u"] = [1]
    with pytest.raises(KinemaError, match=r"flow.hdf5 has no list 'video' .* but video_u"):
        open_frames(tmp_path / "flow.hdf5")
    with pytest.raises(KinemaError, match=r"gone.hdf5 does not exist"):
        open_frames(tmp_path / "gone.hdf5")
    (tmp_path / "text.h5").write_text("no file of this kind")
    with pytest.raises(KinemaError, match=r"text.h5 cannot be read as an HDF5 file"):
        open_frames(tmp_path / "text.h5")
    with h5py.File(tmp_path / "clip.hdf5", "w") as file:
        images = file.create_dataset("video", (2,), dtype=h5py.special_dtype(vlen=np.uint8))
        data = cv2.imencode(".jpg", hv.picture(1, width=32, height=24))[1].ravel()
        images[0], images[1] = data, data[:50]
    frames = open_frames(tmp_path / "clip.hdf5")
    assert frames.read([0]).shape == (1, 24, 32, 3)
    with pytest.raises(KinemaError, match=r"clip.hdf5:video/1 is cut off"):
        frames.read([1])
    frames.close()


def test_a_count_that_is_not_that_of_the_images(tmp_path):
    write_images(tmp_path, "image_%05d.jpg", range(1, 6))
    (tmp_path / "n_frames").write_text("7\n")
    message = r"n_frames says '7' images, but there are 5 \(image_00001.jpg to image_00005.jpg\)"
    with pytest.raises(KinemaError, match=message):
        open_frames(tmp_path)
