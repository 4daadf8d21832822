"""Folders of numbered images, in every naming of the older systems."""

import cv2
import numpy as np
import pytest

import helpers_video as hv
from kinema.errors import KinemaError
from kinema.video.frames import ImageFolder, open_frames
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
    assert isinstance(frames, ImageFolder)
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
        ImageFolder(tmp_path / "clip").read([2])[0], hv.picture(3, width=32, height=24)
    )


def test_flow_and_other_files_beside_the_images_are_left_alone(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", range(1, 6))
    write_images(tmp_path, "flow_x_%05d.jpg", range(1, 5))
    write_images(tmp_path, "flow_y_%05d.jpg", range(1, 5))
    (tmp_path / "n_frames").write_text("5")
    assert ImageFolder(tmp_path).num_frames == 5


def test_a_gap_is_named(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", [1, 2, 4, 5])
    with pytest.raises(KinemaError, match=r"img_00003\.jpg is missing"):
        ImageFolder(tmp_path)


def test_a_late_start_is_named(tmp_path):
    write_images(tmp_path, "frame%06d.jpg", [7, 8])
    with pytest.raises(KinemaError, match=r"frame000001\.jpg is missing"):
        ImageFolder(tmp_path)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(KinemaError, match="has no numbered images"):
        open_frames(tmp_path)
    with pytest.raises(KinemaError, match="is not a folder"):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(KinemaError, match="does not exist"):
        open_frames(tmp_path / "absent")
    write_images(tmp_path, "img_%05d.jpg", [1])
    write_images(tmp_path, "other%05d.jpg", [1])
    with pytest.raises(KinemaError, match=r"images of 2 kinds \(img_00001.jpg, other00001.jpg\)"):
        ImageFolder(tmp_path)


def test_two_images_of_one_number(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", [1])
    write_images(tmp_path, "img_%d.jpg", [1])
    with pytest.raises(KinemaError, match=r"two images 1: img_00001\.jpg and img_1\.jpg"):
        ImageFolder(tmp_path)


def test_images_that_are_bad_or_gone(tmp_path):
    write_images(tmp_path, "img_%05d.jpg", range(1, 5))
    frames = ImageFolder(tmp_path)
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
