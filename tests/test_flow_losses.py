"""Unsupervised losses of flow, against OpenCV, scikit-image's figures and numbers by hand."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from kinema.errors import KinemaError
from kinema.flow.backward_warp import inside, warp
from kinema.models.flow_losses import (
    PAPER_LOSS,
    TINY_LOSS,
    FlowLossSettings,
    charbonnier,
    flow_loss,
    known_flow_loss,
    reconstruction,
    smoothness,
    ssim,
)

PLAIN = FlowLossSettings(scales=(1.0,), smoothness=(0.0,), ssim=(0.0,))


def picture(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape, np.float32))


def constant_flow(x, y, height, width):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, height, width).clone().float()


def test_a_translation_by_hand():
    image = torch.arange(12.0).view(1, 1, 3, 4)  # rows 0 1 2 3, 4 5 6 7, 8 9 10 11
    right = warp(image, constant_flow(1, 0, 3, 4))
    assert right[0, 0].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]
    up_half = warp(image, constant_flow(0, -0.5, 3, 4))
    assert up_half[0, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]]


def test_warping_is_that_of_opencv_and_of_grid_sample():
    image, flow = picture(2, 3, 9, 13), 6 * (picture(2, 2, 9, 13, seed=1) - 0.5)
    found = warp(image, flow)
    rows, columns = np.mgrid[:9, :13].astype(np.float32)
    for one, field, seen in zip(image.numpy(), flow.numpy(), found.numpy(), strict=True):
        expected = cv2.remap(
            one.transpose(1, 2, 0),
            columns + field[0],
            rows + field[1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        # OpenCV rounds places to 1/32 of a pixel.
        np.testing.assert_allclose(seen.transpose(1, 2, 0), expected, atol=0.05)
    grid = torch.stack(
        [
            (torch.from_numpy(columns) + flow[:, 0]) / 12 * 2 - 1,
            (torch.from_numpy(rows) + flow[:, 1]) / 8 * 2 - 1,
        ],
        dim=3,
    )
    expected = grid_sample(image, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_true_flow_brings_a_moved_picture_back():
    wide = picture(1, 1, 20, 40)
    first, second = wide[..., 4:34], wide[..., 1:31]  # moves 3 to the right
    seen = warp(second, constant_flow(3, 0, 20, 30))
    torch.testing.assert_close(seen[..., :27], first[..., :27], atol=1e-5, rtol=0)


def test_points_outside_the_picture():
    mask = inside(constant_flow(1.5, 0, 2, 4))
    assert mask[0, 0].tolist() == [[1, 1, 0, 0]] * 2
    assert inside(constant_flow(0, -1, 2, 4))[0, 0].tolist() == [[0] * 4, [1] * 4]


def test_gradients_of_warping():
    image = picture(1, 2, 5, 6).double().requires_grad_()
    # Places that are no whole pixels: there, bilinear values have a kink.
    flow = (picture(1, 2, 5, 6, seed=2).double() * 0.8 + 0.1 - 1).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, flow))


def test_gradients_of_the_losses():
    one, other = (picture(1, 1, 8, 9, seed=s).double().requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: ssim(a, b, window=3), (one, other))
    mask = torch.ones(1, 1, 8, 9).double()
    assert torch.autograd.gradcheck(lambda a, b: reconstruction(a, b, mask), (one, other))
    flow = picture(1, 2, 8, 9, seed=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: smoothness(f, one.detach(), edges=5.0), (flow,))
    still = torch.zeros(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    smoothness(still, picture(1, 1, 3, 3).double()).sum().backward()
    assert torch.equal(still.grad, torch.zeros_like(still))  # finite where nothing changes


def test_charbonnier_by_hand():
    x = torch.tensor([0.0, 3.0])
    expected = [0.001**0.8, (9 + 1e-6) ** 0.4]
    np.testing.assert_allclose(charbonnier(x, alpha=0.4), expected, rtol=1e-6)
    root = charbonnier(torch.tensor(4.0), alpha=0.5, epsilon=3.0)
    assert float(root) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("window", "mean", "places"),
    # structural_similarity(a, b, win_size=window, data_range=1.0, full=True) of scikit-image 0.26
    [
        (7, 0.9455615880609735, (0.9249820598454308, 0.9536296923422855, 0.9383207598426165)),
        (3, 0.9342689264443147, (0.9069581602244785, 0.9565622785705971, 0.9266426472151224)),
    ],
)
def test_ssim_is_that_of_scikit_image(window, mean, places):
    rng = np.random.default_rng(0)
    one = rng.random((12, 14))
    other = np.clip(one + 0.4 * (rng.random((12, 14)) - 0.5), 0, 1)
    found = ssim(*(torch.from_numpy(x)[None, None] for x in (one, other)), window=window)[0, 0]
    assert found.shape == (13 - window, 15 - window)
    assert float(found.mean()) == pytest.approx(mean, abs=1e-9)
    np.testing.assert_allclose([found[0, 0], found[2, 3], found[-1, -1]], places, atol=1e-9)


def test_ssim_of_a_picture_with_itself_is_one():
    image = picture(1, 3, 9, 9)
    torch.testing.assert_close(ssim(image, image), torch.ones(1, 3, 3, 3))


def test_smoothness_by_hand():
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, 0, :, 1] = 3.0  # x-flow 0 3 / 0 3: 2 of 4 changes along x are 3, none along y
    still = 0.001**0.6
    expected = ((2 * (9 + 1e-6) ** 0.3 + 2 * still) / 4 + still) / 2
    image = torch.zeros(1, 1, 2, 2)
    assert float(smoothness(flow, image)) == pytest.approx(expected, rel=1e-6)
    image[..., 1] = 1.0  # an edge where the flow changes: counts exp(-2)
    weight = np.exp(-2)
    expected = (weight * (2 * (9 + 1e-6) ** 0.3 + 2 * still) / 4 + still) / 2
    assert float(smoothness(flow, image, edges=2.0)) == pytest.approx(expected, rel=1e-6)


def test_the_true_flow_has_the_least_loss():
    wide = picture(1, 1, 32, 64)
    frames = torch.stack([wide[..., 8:40], wide[..., 6:38]], dim=1)  # moves 2 to the right

    def loss(x):
        flow = constant_flow(x, 0, 32, 32)[:, None]
        settings = FlowLossSettings(scales=(1.0,), smoothness=(0.1,), ssim=(1.0,))
        return {k: float(v) for k, v in flow_loss([flow], frames, settings).items()}

    losses = [loss(x)["total"] for x in (-2.0, 0.0, 1.0, 2.0, 3.0)]
    assert int(np.argmin(losses)) == 3
    best = loss(2.0)
    assert best["photometric"] == pytest.approx(0.001**0.8, rel=0.05)
    assert best["ssim"] == pytest.approx(0.0, abs=1e-4)
    assert best["total"] == pytest.approx(
        best["photometric"] + best["ssim"] + 0.1 * best["smooth"], rel=1e-5
    )


def test_points_outside_do_not_count():
    frames = torch.zeros(1, 2, 1, 8, 8)
    frames[:, 0, :, :, -2:] = 1.0  # leaves the picture
    loss = flow_loss([constant_flow(2, 0, 8, 8)[:, None]], frames, PLAIN)
    assert float(loss["photometric"]) == pytest.approx(0.001**0.8, rel=1e-4)


def test_each_scale_sees_the_frames_at_its_own_size():
    wide = torch.nn.functional.interpolate(picture(1, 1, 8, 16), scale_factor=4)
    frames = torch.stack([wide[..., 8:40], wide[..., 4:36]], dim=1)  # moves 4 to the right
    settings = FlowLossSettings(scales=(1.0, 1.0), smoothness=(0.0, 0.0), ssim=(0.0, 0.0))
    flows = [constant_flow(4, 0, 32, 32)[:, None], constant_flow(1, 0, 8, 8)[:, None]]
    loss = float(flow_loss(flows, frames, settings)["total"])
    assert loss == pytest.approx(2 * 0.001**0.8, rel=0.01)


def test_the_error_to_a_known_flow_by_hand():
    true = torch.cat([constant_flow(4, 0, 8, 8), constant_flow(0, 2, 8, 8)])[:, None]
    flows = [
        constant_flow(0, 0, size, size)[:, None].expand(2, 1, 2, size, size) for size in (4, 2)
    ]
    loss = known_flow_loss(flows, true)  # 2 and 1 pixels at 1/2, 1 and 1/2 at 1/4
    np.testing.assert_allclose(loss, [2 + 0.5**0.5, 1 + 0.5**1.5], rtol=1e-3)
    right = [constant_flow(2, 0, 4, 4)[:, None], constant_flow(1, 0, 2, 2)[:, None]]
    found = float(known_flow_loss(right, true[:1]))
    assert found == pytest.approx(0.01 * (1 + 0.5**0.5), rel=1e-4)
    guess = picture(1, 1, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: known_flow_loss([f], true[:1].double()), (guess,))


def test_clips_have_losses_of_their_own():
    frames, flow = picture(3, 3, 1, 64, 64), picture(3, 2, 2, 32, 32, seed=1)
    flows = [flow, *(picture(3, 2, 2, 32 >> s, 32 >> s, seed=s) for s in range(1, 5))]
    for settings in (TINY_LOSS, PAPER_LOSS):
        together = flow_loss(flows, frames, settings)["total"]
        alone = [
            flow_loss([f[i : i + 1] for f in flows], frames[i : i + 1], settings)["total"]
            for i in range(3)
        ]
        torch.testing.assert_close(together, torch.cat(alone))


def test_as_many_scales_as_weights():
    with pytest.raises(KinemaError, match="for 1 scales of flow, and was given 2"):
        flow_loss([torch.zeros(1, 1, 2, 8, 8)] * 2, torch.zeros(1, 2, 1, 8, 8), PLAIN)
