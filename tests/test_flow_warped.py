"""Flow without the camera's motion, against scenes whose motion is known."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers_flow import moving, texture
from kinema.errors import UsageError
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.warped import camera_motion, warped, warped_flow
from kinema.video.reader import VideoReader

DATA = Path(__file__).parents[2] / "shared" / "data"
HEIGHT, WIDTH, MARGIN = 160, 208, 60
SQUARE = slice(60, 108), slice(72, 120)  # rows and columns in the first frame
DIS = partial(compute, algorithm="dis")


def about_the_centre(matrix_22):
    """The homography that turns or scales about the centre of the picture."""
    centre = np.asarray([WIDTH / 2, HEIGHT / 2])
    homography = np.eye(3)
    homography[:2, :2] = matrix_22
    homography[:2, 2] = centre - np.asarray(matrix_22) @ centre
    return homography


def rotation(degrees):
    turn = np.deg2rad(degrees)
    return about_the_centre([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


CAMERAS = {
    "translation": np.asarray([[1, 0, 5.0], [0, 1, -3.0], [0, 0, 1]]),
    "half-pixels": np.asarray([[1, 0, -2.5], [0, 1, 1.5], [0, 0, 1]]),
    "rotation": rotation(2.5),
    "zoom": about_the_centre([[1.04, 0], [0, 1.04]]),
    "perspective": np.asarray([[1.01, 0.005, 1], [-0.005, 0.99, 2], [6e-5, -4e-5, 1]]),
}


def field_of(homography):
    """Where the camera takes each pixel, (2, H, W)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    places = homography @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (places[:2] / places[2]).reshape(2, HEIGHT, WIDTH) - np.stack([x, y])


def scene(homography, *, square_motion=(0, 0)):
    """Two frames: a background that the camera moves, a square with another motion of its own."""
    wide = texture(HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, seed=1)
    first = wide[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
    shift = np.asarray([[1, 0, -MARGIN], [0, 1, -MARGIN], [0, 0, 1]])
    second = cv2.warpPerspective(wide, homography @ shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    dx, dy = square_motion
    if square_motion != (0, 0):
        rows, columns = SQUARE
        square = texture(48, 48, seed=2)
        first[rows, columns] = square
        second[rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx] = square
    return np.stack([first, second])


def split(flow_2HW):
    """Flow well inside the square, and of the background well away from it and the border."""
    rows, columns = SQUARE
    inside = flow_2HW[:, rows.start + 12 : rows.stop - 12, columns.start + 12 : columns.stop - 12]
    is_background = np.zeros((HEIGHT, WIDTH), bool)
    is_background[12:-12, 12:-12] = True
    is_background[rows.start - 16 : rows.stop + 16, columns.start - 16 : columns.stop + 16] = False
    return inside, flow_2HW[:, is_background]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CAMERAS)
def test_the_background_stands_still_and_the_square_moves(name, recompute):
    motion = (-3, 4)
    frames = scene(CAMERAS[name], square_motion=motion)
    plain_inside, plain_background = split(DIS(frames)[0])
    inside, background = split(warped(frames, algorithm=DIS, recompute=recompute)[0])
    assert np.linalg.norm(plain_background, axis=0).mean() > 1
    assert np.linalg.norm(background, axis=0).mean() < 0.2
    camera_inside, _ = split(field_of(CAMERAS[name]))
    own = np.asarray(motion) - camera_inside.mean(axis=(1, 2))
    assert np.abs(np.median(plain_inside, axis=(1, 2)) - motion).max() < 0.3
    assert np.abs(np.median(inside, axis=(1, 2)) - own).max() < 0.3


@pytest.mark.parametrize("name", CAMERAS)
def test_the_cameras_motion_is_found(name):
    frames = scene(CAMERAS[name], square_motion=(5, 5))
    found = camera_motion(frames, DIS(frames))
    assert found.shape == (1, 3, 3)
    assert np.abs(field_of(found[0]) - field_of(CAMERAS[name])).mean() < 0.15


def test_the_matches_find_it_without_any_flow():
    frames = scene(CAMERAS["translation"])
    none = np.zeros((1, 2, HEIGHT, WIDTH), np.float32)
    none[:] = np.random.default_rng(0).uniform(-30, 30, none.shape)
    found = camera_motion(frames, none)
    assert np.abs(field_of(found[0]) - field_of(CAMERAS["translation"])).mean() < 0.3


def test_what_is_subtracted_is_the_homographys_motion():
    frames = scene(CAMERAS["zoom"])
    flow = DIS(frames)
    kept = flow.copy()
    result = warped_flow(frames, flow)
    field = field_of(camera_motion(frames, flow)[0])
    assert np.abs(flow[0] - result[0] - field).max() < 1e-4
    assert np.array_equal(flow, kept)
    assert result.dtype == np.float32


def test_a_still_camera_leaves_the_flow_as_it_is():
    frames = np.repeat(texture(HEIGHT, WIDTH)[None], 3, axis=0)
    frames[1:, 60:100, 80:120] = texture(40, 40, seed=5)  # a cut on a part
    frames[2, 64:104, 83:123] = frames[1, 60:100, 80:120]
    noise = np.random.default_rng(0).integers(-3, 4, frames.shape)
    for clip in (frames, np.clip(frames + noise, 0, 255).astype(np.uint8)):
        flow = DIS(clip)
        assert flow.any()
        assert np.array_equal(warped(clip, algorithm=DIS), flow)
        assert np.array_equal(warped(clip, algorithm=DIS, recompute=True), flow)


def textureless():
    return np.full((3, HEIGHT, WIDTH), 90, np.uint8)


def hand_before_a_wall():
    frames = textureless()
    for index, frame in enumerate(frames):
        frame[60:124, 40 + 9 * index : 104 + 9 * index] = texture(64, 64)
    return frames


def unrelated():
    return np.stack([texture(HEIGHT, WIDTH, seed=seed) for seed in range(3)])


@pytest.mark.parametrize("make", [textureless, hand_before_a_wall, unrelated])
def test_no_camera_is_found_where_there_is_none(make):
    frames = make()
    flow = DIS(frames)
    assert np.array_equal(camera_motion(frames, flow), np.tile(np.eye(3), (2, 1, 1)))
    assert np.array_equal(warped_flow(frames, flow), flow)


def test_the_same_bits_every_time_and_in_every_company():
    frames = np.concatenate([scene(CAMERAS["rotation"]), scene(CAMERAS["zoom"])])
    result = warped(frames, algorithm=DIS)
    assert np.array_equal(warped(frames, algorithm=DIS), result)
    assert np.array_equal(warped(frames[2:], algorithm=DIS), result[2:])
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        cv2.setRNGSeed(12345)
        assert np.array_equal(warped(frames, algorithm=DIS), result)
    finally:
        cv2.setNumThreads(threads)


def test_any_algorithm_will_do():
    frames = moving(3, 4, 2, height=HEIGHT, width=WIDTH)
    result = warped(frames, algorithm=partial(compute, algorithm="farneback"))
    assert result.shape == (2, 2, HEIGHT, WIDTH)
    inner = result[:, :, 20:-20, 20:-20]
    assert np.linalg.norm(inner, axis=1).mean() < 0.1


@pytest.mark.parametrize("num_frames", [0, 1])
def test_few_frames_have_no_pairs(num_frames):
    frames = np.zeros((num_frames, 40, 60), np.uint8)
    assert warped(frames, algorithm=DIS).shape == (0, 2, 40, 60)


def test_flow_of_another_clip_is_refused():
    frames = moving(3, 1, 1)
    with pytest.raises(UsageError, match=r"\(2, 2, 96, 100\) .* must be \(2, 2, 96, 128\)"):
        warped_flow(frames, np.zeros((2, 2, 96, 100), np.float32))


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the development videos")
@pytest.mark.parametrize(
    ("name", "least", "most"),  # motion left in the median pixel, of that before
    [
        ("BasketballDunk_g22_c04", 0, 0.1),
        ("RopeClimbing_g04_c01", 0, 0.3),
        ("Diving_g02_c02", 1, 1),
    ],
)
def test_moving_cameras_of_real_videos(name, least, most):
    with VideoReader(DATA / "ucf101" / "videos" / f"v_{name}.avi") as reader:
        frames = gray_from_rgb(reader.read(range(20)))
    flow = DIS(frames)
    sizes = [np.median(np.linalg.norm(f, axis=1)) for f in (flow, warped_flow(frames, flow))]
    assert least * sizes[0] <= sizes[1] <= most * sizes[0]
