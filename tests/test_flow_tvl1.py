"""TV-L1 against its equations in plain numpy, OpenCV, known motion and ground truth."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numba import njit

from helpers_flow import moving, texture
from helpers_ground_truth import ground_truth
from kinema.errors import UsageError
from kinema.flow import tvl1 as tvl1_module
from kinema.flow import tvl1_numba
from kinema.flow.tvl1 import FAST, STANDARD, Tvl1Settings, tvl1

PRESETS = {"standard": STANDARD, "fast": FAST}
EPSILON = np.finfo(np.float32).eps

# Flow of `turned_pair` by cv2.optflow.DualTVL1OpticalFlow_create().calc (OpenCV 5.0.0), x and y,
# at rows 20, 36, 52 and columns 25, 45, 65.
OPENCV_X = ((1.022, 1.818, 2.615), (0.684, 1.486, 2.295), (0.364, 1.184, 1.989))
OPENCV_Y = ((-1.878, -1.470, -1.081), (-1.406, -1.015, -0.605), (-0.929, -0.508, -0.118))


def turned_pair():
    """Two frames (2, 72, 90) between which the picture turns and grows, and the flow."""
    second = texture(72, 90, seed=3)
    y, x = np.mgrid[:72, :90].astype(np.float32)
    flow = np.stack(
        (
            1.5 + 0.04 * (x - 45) - 0.02 * (y - 36),
            -1 + 0.02 * (x - 45) + 0.03 * (y - 36),
        )
    )
    first = cv2.remap(
        second, *(flow + np.stack((x, y))), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.stack((first, second)), flow


def plain_tvl1(first, second, settings):
    """The algorithm as it is written down, slowly."""
    levels = [(first.astype(np.float32), second.astype(np.float32))]
    scale = settings.scale_step
    while len(levels) < settings.scales:
        smaller = [cv2.resize(image, None, fx=scale, fy=scale) for image in levels[-1]]
        if min(smaller[0].shape) < 16:
            break
        levels.append(smaller)
    u = np.zeros((2, *levels[-1][0].shape), np.float32)
    for first_HW, second_HW in reversed(levels):
        if u.shape[1:] != first_HW.shape:
            u = np.stack([cv2.resize(plane, first_HW.shape[::-1]) for plane in u]) / scale
        p = np.zeros((2, 2, *first_HW.shape), np.float32)
        for _ in range(settings.warps):
            plain_warp(first_HW, second_HW, u, p, settings)
    return u


def plain_warp(first_HW, second_HW, u, p, settings):
    """All iterations of one warp; u and p are changed."""
    padded = np.pad(second_HW, 1, "edge")
    along = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    warped, *grad = (plain_cubic(image, u) for image in (second_HW, along, down))
    grad = np.stack(grad)
    norm = (grad**2).sum(0)
    rho_c = warped - (grad * u).sum(0) - first_HW
    weight, tau_theta = settings.lambda_ * settings.theta, settings.tau / settings.theta
    for _ in range(settings.outer_iterations):
        if settings.median:
            u[...] = [cv2.medianBlur(plane, settings.median) for plane in u]
        for _ in range(settings.inner_iterations):
            rho = rho_c + (grad * u).sum(0)
            step = np.where(norm > EPSILON, -rho / np.maximum(norm, EPSILON), 0)
            step = np.where(rho < -weight * norm, weight, step)
            step = np.where(rho > weight * norm, -weight, step)
            divergence = np.diff(p[:, 0], axis=2, prepend=0) + np.diff(p[:, 1], axis=1, prepend=0)
            old = u.copy()
            u += step * grad + settings.theta * divergence
            across = np.diff(u, axis=2, append=u[:, :, -1:])
            below = np.diff(u, axis=1, append=u[:, -1:])
            slope = np.stack((across, below), axis=1)
            size = np.sqrt((slope**2).sum(1, keepdims=True))
            p[...] = (p + tau_theta * slope) / (1 + tau_theta * size)
            if ((u - old) ** 2).sum() <= settings.threshold(*first_HW.shape):
                return


def plain_cubic(image_HW, u):
    """The image at each pixel plus u, cubic with a = -0.75, 0 outside."""
    height, width = image_HW.shape
    y, x = np.mgrid[:height, :width] + u[::-1].astype(np.float64)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    result = np.zeros((height, width))
    for row in range(-1, 3):
        for column in range(-1, 3):
            taps_y, taps_x = top + row, left + column
            is_in = (taps_y >= 0) & (taps_y < height) & (taps_x >= 0) & (taps_x < width)
            values = image_HW[taps_y.clip(0, height - 1), taps_x.clip(0, width - 1)]
            weight = cubic_weight(x - taps_x) * cubic_weight(y - taps_y)
            result += np.where(is_in, values, 0) * weight
    return result.astype(np.float32)


def cubic_weight(distance):
    d, a = np.abs(distance), -0.75
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@pytest.mark.parametrize(
    "settings",
    [
        Tvl1Settings(scales=1, warps=1, outer_iterations=1, inner_iterations=1),
        Tvl1Settings(scales=1, warps=1, outer_iterations=1, inner_iterations=9),
        Tvl1Settings(scales=2, warps=2, outer_iterations=2, inner_iterations=3),
        Tvl1Settings(scales=2, warps=2, outer_iterations=1, inner_iterations=4, median=0),
        Tvl1Settings(scales=2, scale_step=0.5, warps=1, inner_iterations=4, tau=0.2, lambda_=0.3),
    ],
    ids=["one iteration", "nine", "two levels", "no median", "other numbers"],
)
@pytest.mark.parametrize("size", [(40, 48), (33, 37), (18, 65)])
def test_equals_the_equations(settings, size):
    pair, _ = turned_pair()
    pair = pair[:, 10 : 10 + size[0], 12 : 12 + size[1]]
    settings = replace(settings, epsilon=0)
    found = tvl1(pair, settings=settings)[0]
    assert np.abs(found - plain_tvl1(*pair, settings)).max() < 1e-3


def test_stops_when_the_flow_hardly_changes():
    pair, _ = turned_pair()
    one = replace(STANDARD, outer_iterations=1, inner_iterations=1)
    coarse = replace(STANDARD, epsilon=100)
    assert np.array_equal(tvl1(pair, settings=coarse), tvl1(pair, settings=one))
    right = plain_tvl1(*pair, STANDARD)  # looks after every iteration, tvl1 after a few
    assert np.linalg.norm(tvl1(pair)[0] - right, axis=0).mean() < 0.03


def test_agrees_with_opencv():
    flow = tvl1(turned_pair()[0])[0, :, 20:60:16, 25:70:20]
    assert np.abs(flow - (OPENCV_X, OPENCV_Y)).max() < 0.03


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (31, 64), (40, 33)])
def test_median_is_opencvs(size):
    @njit
    def run(planes, scratch, size):
        median5(planes, 0, scratch, size)

    from kinema.flow.tvl1_median import median5

    height, width = size
    columns = (width // 16 + 1) * 16
    picture = np.random.default_rng(0).normal(size=size).astype(np.float32)
    planes = np.zeros((1, height + 2, columns), np.float32)
    planes[0, 1:-1, :width] = picture
    run(planes, np.zeros((1, 8, columns + 16), np.float32), size)
    assert np.array_equal(planes[0, 1:-1, :width], cv2.medianBlur(picture, 5))
    planes[0, 1:-1, :width] = 0
    assert not planes.any()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_motion_is_exactly_zero(preset):
    assert not tvl1(moving(3, 0, 0), settings=PRESETS[preset]).any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("motion", [(3, -2), (-4, 3), (1, 0)])
def test_translation_is_found(preset, motion):
    frames = moving(3, *motion, height=120, width=160)
    flow = tvl1(frames, settings=PRESETS[preset])
    assert flow.shape == (2, 2, 120, 160)
    assert flow.dtype == np.float32
    inner = flow[:, :, 16:-16, 16:-16]
    assert np.hypot(inner[:, 0] - motion[0], inner[:, 1] - motion[1]).mean() < 0.05


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("motion", [(0.5, -0.25), (0.1, 0.7)])
def test_motion_below_a_pixel_is_found(preset, motion):
    picture = texture(100, 130)
    shift = np.array([[1, 0, motion[0]], [0, 1, motion[1]]])
    moved = cv2.warpAffine(picture, shift, (130, 100), flags=cv2.INTER_CUBIC)
    flow = tvl1(np.stack((picture, moved)), settings=PRESETS[preset])[0, :, 12:-12, 12:-12]
    assert np.hypot(flow[0] - motion[0], flow[1] - motion[1]).mean() < 0.03


@pytest.mark.parametrize("preset", PRESETS)
def test_turning_and_growing_is_found(preset):
    pair, truth = turned_pair()
    error = np.linalg.norm(tvl1(pair, settings=PRESETS[preset])[0] - truth, axis=0)
    assert error[8:-8, 8:-8].mean() < 0.03


@pytest.mark.parametrize("preset", PRESETS)
def test_pairs_are_independent_of_neighbours_and_threads(preset):
    settings = PRESETS[preset]
    frames = np.concatenate([moving(4, 2, 1, seed=1), moving(3, -3, 2, seed=2)])
    whole = tvl1(frames, settings=settings, threads=1)
    assert np.array_equal(whole, tvl1(frames, settings=settings, threads=3))
    for first in (0, 3, 5):  # pair 3 is a cut
        alone = tvl1(frames[first : first + 2], settings=settings)
        assert np.array_equal(whole[first], alone[0])


@pytest.mark.parametrize("size", [(16, 16), (16, 47), (33, 17), (61, 95)])
def test_small_and_odd_sizes(size):
    flow = tvl1(moving(2, 1, -1, height=size[0], width=size[1]))
    assert flow.shape == (1, 2, *size)
    inner = flow[0, :, 4:-4, 4:-4]
    assert np.hypot(inner[0] - 1, inner[1] + 1).mean() < 0.2


def test_one_frame_has_no_pairs():
    assert tvl1(moving(1, 0, 0)).shape == (0, 2, 96, 128)
    assert tvl1(moving(1, 0, 0)[:0]).shape == (0, 2, 96, 128)


def test_frames_need_not_be_contiguous():
    frames = moving(2, 1, 1, height=40, width=120)
    assert np.array_equal(tvl1(frames[:, :, ::2]), tvl1(frames[:, :, ::2].copy()))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 40, 12), np.uint8), r"12x40 pixels are too small for TV-L1.* at least 16"),
        (np.zeros((2, 40, 40), np.float32), r"shape \(2, 40, 40\), float32: it needs gray frames"),
        (np.zeros((2, 40, 40, 3), np.uint8), r"shape \(2, 40, 40, 3\), uint8: .* \(T, H, W\)"),
    ],
)
def test_wrong_frames_are_refused(frames, message):
    with pytest.raises(UsageError, match=message):
        tvl1(frames)


def test_wrong_number_of_threads_is_refused():
    with pytest.raises(UsageError, match=r"threads is 0: it must be at least 1"):
        tvl1(moving(2, 0, 0), threads=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau": 0}, r"tau of TV-L1 is 0: it must be above 0"),
        ({"warps": -1}, r"warps of TV-L1 is -1: it must be above 0"),
        ({"lambda_": float("nan")}, r"lambda_ of TV-L1 is nan"),
        ({"scale_step": 1.0}, r"scale_step of TV-L1 is 1.0: allowed is above 0, below 1"),
        ({"epsilon": -0.1}, r"epsilon of TV-L1 is -0.1: it must not be negative"),
        ({"median": 3}, r"median of TV-L1 is 3: allowed are 5 and 0"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Tvl1Settings(**values)


def test_threads_follow_the_environment(monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    everything = tvl1_module._usable_threads()
    assert everything >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert tvl1_module._usable_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "what?")
    assert tvl1_module._usable_threads() == everything


def test_an_error_in_a_thread_is_raised(monkeypatch):
    from kinema.flow import tvl1_pair

    def fail(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(tvl1_pair.PairFlow, "compute", fail)
    with pytest.raises(MemoryError, match="no memory"):
        tvl1(moving(5, 0, 0), threads=2)


def test_kernels_are_compiled_where_no_folder_can_be_written(monkeypatch):
    def njit_without_folder(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(tvl1_numba, "njit", njit_without_folder)
    assert tvl1_numba.kernel(lambda number: number + 1)(2) == 3


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "standard", "fast"),  # end-point error; OpenCV's: 0.156, 0.157, 3.572, 0.306
    [
        ("RubberWhale", 0.159, 0.171),
        ("Grove2", 0.159, 0.184),
        ("Urban2", 3.64, 0.44),
        ("Venus", 0.311, 0.33),
    ],
)
def test_middlebury_ground_truth(name, standard, fast):
    truth = ground_truth(name)
    for settings, bound in ((STANDARD, standard), (FAST, fast)):
        assert truth.mean_error(tvl1(truth.pair, settings=settings)[0]) < bound
