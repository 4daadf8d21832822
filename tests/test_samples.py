"""The sample videos: neither a single frame nor the gray frames can tell the six classes apart."""

import cv2
import numpy as np
import pytest

from kinema import samples
from kinema.errors import UsageError

SIZE = (160, 120)
LUMA = np.array([0.299, 0.587, 0.114])


def _draw(class_name, *, seed=0, num_frames=8):
    rng = np.random.default_rng(seed)
    return samples.draw_disc(class_name, num_frames=num_frames, size=SIZE, rng=rng)


def _frames(class_name, *, seed=0, num_frames=8):
    background = samples.draw_background(SIZE, rng=np.random.default_rng(seed))
    disc = _draw(class_name, seed=seed, num_frames=num_frames)
    rng = np.random.default_rng(seed + 1)
    return np.stack(list(samples.render(disc, background=background, rng=rng)))


@pytest.mark.parametrize("motion", samples.MOTIONS)
def test_gray_frames_and_silhouettes_do_not_show_the_appearance(motion):
    striped, checkered = (_frames(f"{name}-{motion}", seed=3) for name in samples.APPEARANCES)
    assert np.abs(striped.astype(int) - checkered).max() > 100  # in colour they differ
    for one, other in zip(striped, checkered, strict=True):
        gray_one, gray_other = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (one, other))
        # Rounding three channels to whole levels moves the luma by at most one level.
        assert np.abs(gray_one.astype(int) - gray_other).max() <= 1


def test_silhouettes_have_the_area_of_the_same_disc():
    for seed in range(5):
        areas = []
        for name in samples.APPEARANCES:
            disc = _draw(f"{name}-circle", seed=seed)
            blank = np.zeros((120, 160, 3), np.float32)
            samples._paint(blank, disc, centre=np.array([80.0, 60.0]))
            areas.append(np.count_nonzero(np.abs(blank).sum(axis=2)))
        assert areas[0] == areas[1]
        assert areas[0] == pytest.approx(np.pi * (disc.radius + 0.5) ** 2, rel=0.03)


def test_the_two_colours_have_the_same_luma():
    for seed in range(20):
        chroma = _draw("striped-circle", seed=seed).chroma_3
        assert chroma @ LUMA == pytest.approx(0, abs=1e-3)
        assert np.linalg.norm(chroma) > 60


@pytest.mark.parametrize("axis", [0, 1])
def test_place_in_a_single_frame_is_uniform_for_every_motion(axis):
    """Kolmogorov-Smirnov distance to the uniform distribution, at the start and later."""
    for motion in samples.MOTIONS:
        name, first = f"striped-{motion}", 50_000
        discs = [_draw(name, seed=seed, num_frames=20) for seed in range(first, first + 1000)]
        side = SIZE[axis]
        for moment in (0, 7, 19):
            margins = np.array([0.8 * disc.radius for disc in discs])
            places = np.array([disc.centres[moment, axis] for disc in discs])
            share = np.sort((places - margins) / (side - 2 * margins))
            assert share.min() >= -1e-9
            assert share.max() <= 1 + 1e-9
            distance = np.abs(share - (np.arange(1000) + 0.5) / 1000).max()
            assert distance < 1.36 / np.sqrt(1000)  # 5 % level


def test_each_motion_moves_along_its_own_axes():
    for seed in range(20):
        spread = {
            motion: np.ptp(_draw(f"striped-{motion}", seed=seed, num_frames=32).centres, axis=0)
            for motion in samples.MOTIONS
        }
        assert spread["shuttle"][0] > 9
        assert spread["shuttle"][1] == 0
        assert spread["bounce"][1] > 9
        assert spread["bounce"][0] == 0
        assert spread["circle"].min() > 9


def test_fold_reflects_like_a_mirror():
    box = np.array([10.0, 4.0])
    points = np.array([[2.0, 2.0], [13.0, 1.0], [-1.0, 7.0], [25.0, -9.0]])
    folded = samples.fold(points, low=2.0, box=box)
    assert folded.tolist() == [[2, 2], [11, 3], [5, 5], [5, 5]]


def _histogram(frame):
    codes = (frame // 64).astype(int) @ np.array([16, 4, 1])
    return np.bincount(codes.ravel(), minlength=64) / codes.size


def test_colour_histograms_do_not_tell_the_motion():
    """Nearest centroid over single frames of other scenes stays near chance (1/3)."""
    features, motions, scenes = [], [], []
    for class_name in samples.CLASSES:
        for number in range(24):
            seed = 100 * samples.CLASSES.index(class_name) + number
            background = samples.draw_background(SIZE, rng=np.random.default_rng(number % 8))
            disc = _draw(class_name, seed=seed, num_frames=2)
            rng = np.random.default_rng(seed)
            features.append(_histogram(next(samples.render(disc, background=background, rng=rng))))
            motions.append(samples.MOTIONS.index(class_name.split("-")[1]))
            scenes.append(number % 8)
    features, motions, scenes = map(np.array, (features, motions, scenes))
    right = []
    for scene in range(8):
        train, test = scenes != scene, scenes == scene
        centroids = np.stack([features[train & (motions == m)].mean(axis=0) for m in range(3)])
        distances = np.linalg.norm(features[test][:, None] - centroids, axis=2)
        right.extend(distances.argmin(axis=1) == motions[test])
    assert len(right) == 144
    assert np.mean(right) < 1 / 3 + 3 * np.sqrt(2 / 9 / 144)  # three standard errors


def test_flow_shows_the_motion():
    """DIS flow inside the disc: horizontal for shuttle, vertical for bounce."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for motion, axis in (("shuttle", 0), ("bounce", 1)):
        for seed in (1, 2):
            frames = _frames(f"checkered-{motion}", seed=seed, num_frames=24)
            disc = _draw(f"checkered-{motion}", seed=seed, num_frames=24)
            start = int(np.abs(np.diff(disc.centres[:, axis])).argmax())
            one, two = (cv2.cvtColor(frames[start + k], cv2.COLOR_RGB2GRAY) for k in (0, 1))
            motion_HW2 = flow.calc(one, two, None)
            fast = np.linalg.norm(motion_HW2, axis=2) > 2
            energy = np.square(motion_HW2[fast]).sum(axis=0)
            assert np.count_nonzero(fast) > 300
            assert energy[axis] > 8 * energy[1 - axis]


def test_files_have_the_layout_and_are_resumed(tmp_path, capsys):
    video = pytest.importorskip("kinema.video.reader")
    options = {"videos_per_class": 3, "num_scenes": 2, "num_frames": 5, "size": (96, 64)}
    samples.make_samples(tmp_path, **options)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert len(found) == 18
    assert [name for name in found if name.startswith("striped-circle/")] == [
        "striped-circle/scene-01/001.mp4",
        "striped-circle/scene-01/003.mp4",
        "striped-circle/scene-02/002.mp4",
    ]
    path = tmp_path / found[0]
    with video.VideoReader(path) as reader:
        assert (reader.num_frames, reader.width, reader.height) == (5, 96, 64)
        stored = reader.read([0, 4])
    drawn = list(samples.sample_video(path, num_frames=5, size=(96, 64), seed=0))
    luma_error = np.abs((stored[1].astype(float) - drawn[4]) @ LUMA)
    assert luma_error.mean() < 3
    before, kept = path.read_bytes(), path.stat().st_mtime_ns
    other = tmp_path / found[5]
    other.unlink()
    samples.make_samples(tmp_path, **options)
    assert other.exists()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, kept)
    assert "1 sample videos of 6 classes made" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(161, 120), (60, 120), (160, 119)])
def test_impossible_sizes_are_refused(tmp_path, size):
    with pytest.raises(UsageError, match="even and at least 64"):
        samples.make_samples(tmp_path, size=size)


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="at least one video per class"):
        samples.make_samples(tmp_path, num_frames=1)
