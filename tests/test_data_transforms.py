"""Geometry against OpenCV, torchvision and formulas, for RGB and for planar flow."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from kinema.data.transforms import Box, crop, crop_boxes, mirror, resize, resize_to
from kinema.errors import UsageError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def planar(images_THWC):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(images_THWC, 3, 1)), 1, 3)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("arrange", [np.ascontiguousarray, planar])
@pytest.mark.parametrize(("height", "width"), [(256, 340), (61, 44), (224, 224)])
def test_resize_is_opencv_bilinear(channels, arrange, height, width):
    images = noise(3, 120, 160, channels)
    resized = resize_to(arrange(images), height, width)
    expected = [cv2.resize(image, (width, height)).reshape(height, width, -1) for image in images]
    assert np.array_equal(resized, np.stack(expected))


def test_resize_reads_sizes():
    images = noise(1, 120, 160, 3)
    assert resize(images, "340x256").shape == (1, 256, 340, 3)
    assert resize(images, "short:90").shape == (1, 90, 120, 3)
    assert resize(images.transpose(0, 2, 1, 3), "short:64").shape == (1, 85, 64, 3)
    assert resize(images, "none") is images


def test_flow_stays_planar_so_that_the_tensor_needs_no_copy():
    flow = planar(noise(4, 60, 80, 2))
    for changed in (
        resize_to(flow, 48, 64),
        mirror(flow),
        crop(flow, Box(top=-1, left=0, height=9, width=9)),
    ):
        assert np.moveaxis(changed, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("arrange", [np.ascontiguousarray, planar])
def test_crop_inside_and_outside(arrange):
    images = noise(2, 10, 12, 3)
    inside = crop(arrange(images), Box(top=2, left=3, height=5, width=6))
    assert np.array_equal(inside, images[:, 2:7, 3:9])
    outside = crop(arrange(images), Box(top=-2, left=4, height=14, width=10))
    padded = np.pad(images, ((0, 0), (2, 2), (0, 2), (0, 0)), mode="edge")[:, :, 4:]
    assert np.array_equal(outside, padded)


@pytest.mark.parametrize("arrange", [np.ascontiguousarray, planar])
def test_mirror_negates_encoded_x(arrange):
    flow = noise(3, 7, 9, 2)
    flow[0, 0, :4, 0] = [1, 128, 255, 0]
    mirrored = mirror(arrange(flow), negated_channels=(0,))
    back = flow[:, :, ::-1].astype(int)
    assert np.array_equal(mirrored[..., 1], back[..., 1])
    assert np.array_equal(mirrored[..., 0], np.minimum(256 - back[..., 0], 255))
    assert mirrored[0, 0, ::-1, 0][:4].tolist() == [255, 128, 1, 255]
    vectors = (flow[:, :, ::-1, 0].astype(float) - 128) * 20 / 127
    known = flow[:, :, ::-1, 0] > 0
    decoded = (mirrored[..., 0].astype(float) - 128) * 20 / 127
    assert np.allclose(decoded[known], -vectors[known])


def test_mirror_without_channels_is_fliplr():
    images = noise(2, 6, 5, 3)
    assert np.array_equal(mirror(images), np.flip(images, 2))
    assert np.array_equal(mirror(mirror(images)), images)


def corners(boxes):
    return [(box.top, box.left) for box in boxes]


def test_crops_of_340x256_by_hand():
    five = crop_boxes("five", height=256, width=340, crop=224)
    assert corners(five) == [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    zhu = crop_boxes("zhu-five", height=256, width=340, crop=224)
    assert corners(zhu) == [*corners(five)[:4], (16, 60)]
    assert corners(crop_boxes("centre", height=256, width=340, crop=224)) == [(16, 58)]
    three = crop_boxes("three", height=256, width=340, crop=256)
    assert corners(three) == [(0, 0), (0, 42), (0, 84)]
    upright = crop_boxes("three", height=340, width=256, crop=256)
    assert corners(upright) == [(0, 0), (42, 0), (84, 0)]
    assert {(box.height, box.width) for box in five} == {(224, 224)}


def test_five_crops_are_torchvision_s():
    images = noise(1, 64, 96, 3)
    x_CHW = torch.from_numpy(images[0]).permute(2, 0, 1)
    boxes = crop_boxes("five", height=64, width=96, crop=48)
    for box, expected in zip(boxes, tv.five_crop(x_CHW, 48), strict=True):
        cut = torch.from_numpy(crop(images, box)[0]).permute(2, 0, 1)
        assert torch.equal(cut, expected)


def test_a_crop_that_does_not_fit_is_an_error():
    with pytest.raises(UsageError, match=r"crop of 224x224 does not fit into images of 320x200"):
        crop_boxes("five", height=200, width=320, crop=224)
