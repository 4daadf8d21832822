"""TV-L1 in torch: steps against OpenCV, the whole against the CPU path, Triton against torch."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helpers_flow import moving, texture
from kinema.errors import UsageError
from kinema.flow import tvl1_torch
from kinema.flow.device import pairs_that_fit
from kinema.flow.tvl1 import Tvl1Settings, tvl1
from kinema.flow.tvl1_torch import tvl1_batched

VIDEOS = Path(__file__).parents[2] / "shared" / "data" / "ucf101" / "videos"
SHORT = Tvl1Settings(scales=2, warps=2, outer_iterations=3)
CLOSE = 0.02  # pixels in the mean; noise of 1e-4 gray levels changes OpenCV's own flow by as much


def batched(frames_THW, **options):
    return tvl1_batched(torch.from_numpy(frames_THW), **options).numpy()


@pytest.mark.parametrize("motion", [(2, -1), (-4, 3), (0, 0)])
def test_equals_the_cpu_path(motion):
    frames = moving(2, *motion, height=90, width=117)
    difference = np.abs(batched(frames) - tvl1(frames))
    assert difference.mean() < CLOSE
    assert difference[:, :, 12:-12, 12:-12].mean() < CLOSE / 2


@pytest.mark.skipif(not hasattr(cv2, "optflow"), reason="needs OpenCV with contrib")
def test_equals_opencvs_own():
    frames = moving(3, 2, -1, height=90, width=117)
    own = cv2.optflow.DualTVL1OpticalFlow_create()
    expected = [own.calc(*frames[i : i + 2], None).transpose(2, 0, 1) for i in range(2)]
    assert np.abs(batched(frames) - np.stack(expected)).mean() < CLOSE / 4


@pytest.mark.parametrize("motion", [(3, -2), (-5, 4), (1, 0)])
def test_translation_is_found(motion):
    flow = batched(moving(2, *motion, height=80, width=96))
    assert flow.shape == (1, 2, 80, 96)
    assert flow.dtype == np.float32
    inner = flow[0, :, 16:-16, 16:-16]
    error = np.hypot(inner[0] - motion[0], inner[1] - motion[1])
    assert error.mean() < 0.05


def test_no_motion_is_exactly_zero():
    assert not batched(moving(3, 0, 0, height=50, width=61)).any()


def test_one_frame_has_no_pairs():
    assert batched(moving(1, 0, 0)).shape == (0, 2, 96, 128)


def test_a_pair_is_the_same_in_every_batch():
    """Pairs that stop early and late, in batches of 1, 2 and 5; also in strided memory."""
    frames = np.concatenate([moving(3, *motion) for motion in ((1, 0), (0, 0))])[:, :40, :56]
    whole = batched(frames, settings=SHORT)
    assert np.abs(whole[2]).max() > 1  # the pair between the two motions
    for size in (1, 2, 5):
        assert np.array_equal(batched(frames, settings=SHORT, pairs_per_batch=size), whole)
    strided = torch.from_numpy(frames.transpose(2, 0, 1).copy()).permute(1, 2, 0)
    assert np.array_equal(tvl1_batched(strided, settings=SHORT).numpy(), whole)


def test_every_pair_stops_by_its_own_error():
    first, second = (torch.from_numpy(x).float() for x in moving(2, 1, 0, height=30, width=37))
    firsts, seconds = torch.stack((first, first, first)), torch.stack((second, first, second * 0.5))
    images = tvl1_torch._with_gradient(seconds)
    u, p = torch.zeros(3, 2, 30, 37), torch.zeros(3, 4, 30, 37)
    data = tvl1_torch.linearised(firsts, images, u)
    together = tvl1_torch.relax(data, u, p, settings=SHORT)
    taken = together[2].tolist()
    assert taken[1] == 1 and 1 < taken[0] < taken[2] <= 90
    for i in range(3):
        alone = tvl1_torch.relax(*(x[i : i + 1] for x in (data, u, p)), settings=SHORT)
        assert all(torch.equal(x[i : i + 1], y) for x, y in zip(together, alone, strict=True))


def test_pyramid_is_opencvs():
    levels = tvl1_torch._pyramid(torch.from_numpy(texture(83, 131))[None].float(), Tvl1Settings())
    expected = texture(83, 131).astype(np.float32)
    assert len(levels) == 5
    for level in levels:
        assert np.abs(level[0].numpy() - expected).max() < 1e-3
        expected = cv2.resize(expected, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_LINEAR)
    coarse = levels[-1][0].numpy()
    larger = tvl1_torch._resize(levels[-1], (70, 99))[0].numpy()
    assert np.abs(larger - cv2.resize(coarse, (99, 70))).max() < 1e-3


def test_pyramid_ends_where_a_side_has_16_pixels():
    assert len(tvl1_torch._pyramid(torch.zeros(1, 26, 90), Tvl1Settings())) == 3  # 26, 21, 17
    assert len(tvl1_torch._pyramid(torch.zeros(1, 90, 16), Tvl1Settings())) == 1


def test_warp_is_opencvs_cubic_with_zeros_outside():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (40, 52)).astype(np.float32) for _ in range(2))
    u = (rng.integers(-300, 300, (2, 40, 52)) / 32).astype(np.float32)  # exact in OpenCV 4 too
    images = tvl1_torch._with_gradient(torch.from_numpy(second)[None])
    data = tvl1_torch.linearised(torch.from_numpy(first)[None], images, torch.from_numpy(u)[None])
    x = np.arange(52, dtype=np.float32) + u[0]
    y = np.arange(40, dtype=np.float32)[:, None] + u[1]
    warped, along, down = (cv2.remap(i.numpy(), x, y, cv2.INTER_CUBIC) for i in images[0])
    rho_c = warped - along * u[0] - down * u[1] - first
    for plane, expected in zip(data[0].numpy(), (rho_c, along, down), strict=True):
        assert np.abs(plane - expected).max() < 0.01
    padded = np.pad(second, 1, "edge")
    assert np.allclose(images[0, 1], (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2)
    assert np.allclose(images[0, 2], (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2)


def test_median_is_opencvs():
    planes = np.random.default_rng(0).normal(size=(1, 2, 23, 31)).astype(np.float32)
    result = tvl1_torch._median(torch.from_numpy(planes))[0].numpy()
    for plane, expected in zip(result, planes[0], strict=True):
        assert np.array_equal(plane, cv2.medianBlur(expected, 5))


def test_wrong_frames_and_batches():
    with pytest.raises(UsageError, match=r"shape \(2, 30, 40\), torch.float32: .*torch.uint8"):
        tvl1_batched(torch.zeros(2, 30, 40))
    with pytest.raises(UsageError, match=r"shape \(2, 30, 40, 3\).* gray frames \(T, H, W\)"):
        tvl1_batched(torch.zeros(2, 30, 40, 3, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"40x12 pixels are too small for TV-L1.* at least 16"):
        tvl1_batched(torch.zeros(2, 12, 40, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"pairs_per_batch is 0: it must be at least 1, or None"):
        tvl1_batched(torch.zeros(2, 30, 40, dtype=torch.uint8), pairs_per_batch=0)


def test_pairs_that_fit_are_at_least_one_and_at_most_the_limit():
    cpu = torch.device("cpu")
    assert pairs_that_fit(cpu, bytes_per_pair=1, most=8) == 8
    assert pairs_that_fit(cpu, bytes_per_pair=2**29, most=8) == 4
    assert pairs_that_fit(cpu, bytes_per_pair=2**40, most=8) == 1


IN_INTERPRETER = """
import json, torch
from kinema.flow import tvl1_torch, tvl1_triton
from kinema.flow.tvl1 import Tvl1Settings

def differences(pairs, others):
    return [(a - b).abs().amax(tuple(range(1, a.ndim))).tolist() for a, b in zip(pairs, others)]

torch.manual_seed(0)
tile = tvl1_triton.Tile(height=16, width=16)
firsts = torch.nn.functional.interpolate(torch.rand(3, 1, 6, 7) * 255, (18, 22))[:, 0]
seconds = torch.stack((firsts[0].roll(1, 1), firsts[1], firsts[2] * 0.3))
images = tvl1_torch._with_gradient(seconds)
u = torch.randn(3, 2, 18, 22) * torch.tensor([0.1, 0, 4]).view(3, 1, 1, 1)
data = tvl1_torch.linearised(firsts, images, u)
warped = tvl1_triton.linearised(firsts, images, u, tile=tile)
settings = Tvl1Settings(inner_iterations=7, outer_iterations=2, epsilon=0.1)
p = torch.zeros(3, 4, 18, 22)
expected = tvl1_torch.relax(data, u, p, settings=settings)
result = tvl1_triton.relax(data, u.clone(), p.clone(), settings=settings, tile=tile)
print(json.dumps({
    "warp": differences([warped], [data])[0],
    "relax": differences(result[:2], expected[:2]),
    "iterations": [result[2].tolist(), expected[2].tolist()],
    "motion": expected[0].abs().amax((1, 2, 3)).tolist(),
}))
"""


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="Triton is not installed")
def test_triton_kernels_in_its_interpreter_equal_torch():
    """Of the three pairs one stops before a median, one (no motion) at once, one never."""
    answer = json.loads(python(IN_INTERPRETER, TRITON_INTERPRET="1"))
    assert max(answer["warp"]) < 2e-3
    assert np.max(answer["relax"]) < 1e-3
    taken, expected = answer["iterations"]
    assert taken == expected == [7, 1, 14]
    assert answer["motion"][0] > 0.5 and answer["motion"][1] == 0


WITHOUT_AV = """
import sys

class NoAv:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("av", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, NoAv())
import kinema.flow.tvl1, kinema.flow.tvl1_torch, kinema.flow.raft
print("fine")
"""


def test_flow_on_a_gpu_needs_no_video_library():
    assert python(WITHOUT_AV).strip() == "fine"


def python(script, **environment):
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_the_cpu():
    frames = torch.from_numpy(moving(9, 3, -2, height=120, width=163))
    on_gpu = tvl1_batched(frames.cuda())
    assert on_gpu.is_cuda
    assert (on_gpu.cpu() - tvl1_batched(frames)).abs().mean() < CLOSE
    assert torch.equal(tvl1_batched(frames.cuda(), pairs_per_batch=3), on_gpu)


@pytest.mark.real
def test_a_pair_of_ucf101_equals_the_cpu_path():
    path = VIDEOS / "v_BenchPress_g01_c03.avi"
    if not path.is_file():
        pytest.skip("needs ../shared/data")
    video = cv2.VideoCapture(str(path))
    gray = [cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(2)]
    frames = np.stack(gray)
    difference = np.abs(batched(frames) - tvl1(frames))
    assert frames.shape == (2, 240, 320)
    assert difference.mean() < CLOSE
