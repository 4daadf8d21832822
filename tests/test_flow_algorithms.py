"""Flow algorithms against known motion and ground truth."""

from urllib.error import URLError

import cv2
import numpy as np
import pytest

from helpers_flow import colour, moving, texture
from helpers_ground_truth import ground_truth
from kinema.errors import KinemaError, UsageError
from kinema.flow import raft
from kinema.flow.algorithms import ALGORITHMS, compute, gray_from_rgb, parameters
from kinema.flow.encoding import encode

CLASSIC = ("dis", "dis-fast", "dis-ultrafast", "farneback")
MEAN_BOUND = {"dis": 0.05, "dis-fast": 0.2, "dis-ultrafast": 0.2, "farneback": 0.05}


@pytest.mark.parametrize("algorithm", CLASSIC)
@pytest.mark.parametrize("motion", [(3, -2), (-6, 5), (1, 0)])
def test_translation_is_found(algorithm, motion):
    flow = compute(moving(3, *motion, height=160, width=200), algorithm=algorithm)
    assert flow.shape == (2, 2, 160, 200)
    assert flow.dtype == np.float32
    inner = flow[:, :, 16:-16, 16:-16]
    error = np.hypot(inner[:, 0] - motion[0], inner[:, 1] - motion[1])
    assert error.mean() < MEAN_BOUND[algorithm]


@pytest.mark.parametrize("algorithm", CLASSIC)
def test_no_motion_is_exactly_zero(algorithm):
    flow = compute(moving(3, 0, 0), algorithm=algorithm)
    if algorithm == "farneback":  # not exact at the border
        assert (encode(flow) == 128).mean() > 0.999
    else:
        assert not flow.any()


@pytest.mark.real
@pytest.mark.parametrize("algorithm", CLASSIC)
@pytest.mark.parametrize(
    ("name", "bounds"),  # end-point error in pixels, in the order of CLASSIC
    [
        ("RubberWhale", (0.25, 0.48, 0.6, 0.38)),
        ("Grove2", (0.36, 0.44, 0.55, 0.54)),
        ("Urban2", (0.72, 1.1, 1.35, 1.35)),
        ("Venus", (0.43, 0.64, 0.8, 1.5)),
    ],
)
def test_middlebury_ground_truth(algorithm, name, bounds):
    truth = ground_truth(name)
    flow = compute(truth.pair, algorithm=algorithm)[0]
    assert truth.mean_error(flow) < bounds[CLASSIC.index(algorithm)]


@pytest.mark.parametrize("algorithm", CLASSIC)
def test_pairs_are_independent_of_neighbours_and_threads(algorithm):
    frames = moving(5, 2, 1, height=120, width=160)
    whole = compute(frames, algorithm=algorithm)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        single = compute(frames[2:4], algorithm=algorithm)
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(whole[2:3], single)


def test_one_frame_has_no_pairs():
    assert compute(moving(1, 0, 0)).shape == (0, 2, 96, 128)


def test_unknown_algorithm_names_the_closest():
    with pytest.raises(UsageError, match=r"no flow algorithm 'farnback'.*Did you mean 'farneback'"):
        compute(moving(2, 0, 0), algorithm="farnback")


def test_frames_that_are_too_small():
    with pytest.raises(UsageError, match=r"40x12 pixels are too small.* at least 16"):
        compute(moving(2, 0, 0, height=12, width=40))


def test_parameters_are_plain_values():
    assert parameters("dis") == {"preset": "medium"}
    assert parameters("farneback")["window"] == 15
    assert all(parameters(name) for name in ALGORITHMS)


def test_gray_is_opencvs_and_comes_after_the_resize():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 40, 60, 3), np.uint8)
    assert np.array_equal(gray_from_rgb(frames)[1], cv2.cvtColor(frames[1], cv2.COLOR_RGB2GRAY))
    smaller = cv2.resize(frames[0], (30, 20), interpolation=cv2.INTER_AREA)
    larger = cv2.resize(frames[0], (90, 20), interpolation=cv2.INTER_LINEAR)
    for size, resized in (((20, 30), smaller), ((20, 90), larger)):
        expected = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
        assert np.array_equal(gray_from_rgb(frames, size=size)[0], expected)
    gray = texture(40, 60)
    assert np.array_equal(gray_from_rgb(gray[None, :, :, None])[0], gray)
    assert np.array_equal(gray_from_rgb(colour(gray[None]))[0], gray)


def test_raft_without_weights_says_how_to_go_on(monkeypatch):
    def offline(*_, **__):
        raise URLError("no network")

    raft.load_network.cache_clear()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        KinemaError, match=r"weights of raft-small .*\.pth.* put it at .* another algorithm \(dis"
    ):
        compute(moving(2, 1, 0), algorithm="raft-small")


def test_raft_batches_pads_and_crops(monkeypatch):
    import torch

    class MeanDifference(torch.nn.Module):
        """Not RAFT: says how the brightness changes, so that the way there can be checked."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(127.5))

        def forward(self, first, second):
            assert first.shape[2] % 8 == 0 and first.shape[3] % 8 == 0
            assert min(first.shape[2:]) >= 128 and len(first) <= 8
            return [torch.zeros(1), ((second - first) * self.scale)[:, :2]]

    monkeypatch.setattr(raft, "load_network", lambda variant: MeanDifference())
    frames = np.random.default_rng(0).integers(0, 256, (20, 50, 131), np.uint8)
    flow = compute(frames, algorithm="raft-large")
    expected = np.diff(frames.astype(np.float32), axis=0)
    assert flow.shape == (19, 2, 50, 131)
    assert np.abs(flow - expected[:, None]).max() < 1e-3


def test_raft_of_torchvision_runs_with_untrained_weights(monkeypatch):
    import torch
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = optical_flow.raft_small(weights=None).eval()
    monkeypatch.setattr(raft, "load_network", lambda variant: network)
    flow = compute(moving(3, 1, 1, height=100, width=130), algorithm="raft-small")
    assert flow.shape == (2, 2, 100, 130)
    assert np.isfinite(flow).all()
