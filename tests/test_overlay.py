"""Flow colours against torchvision's and a formula; what the panel draws and where."""

import colorsys

import numpy as np
import pytest

from kinema.errors import UsageError
from kinema.overlay import colour_wheel, draw_panel, fit_text, flow_colour

PAPER = (20, 25, 32)
CLASSES = ["walk", "run", "jump", "wave", "sit", "stand", "fall"]


def _at(x, y, *, bound=1.0):
    flow = np.array([[[x]], [[y]]], np.float32)
    return flow_colour(flow, bound=bound)[0, 0].tolist()


def test_no_motion_is_white_and_the_axes_have_the_colours_of_the_wheel():
    assert _at(0, 0) == [255, 255, 255]
    assert colour_wheel().shape == (55, 3)
    # To the right is the first hue, red; to the left is halfway round the 54 steps.
    assert _at(1, 0) == [255, 0, 0]
    assert _at(-1, 0) == np.floor(255 * colour_wheel()[27]).astype(int).tolist()
    assert _at(1, 0, bound=2.0) == [255, 127, 127]  # half as long, half as deep
    assert _at(3, 0) == [191, 0, 0]  # beyond the bound: darker, still red


def test_hue_grows_with_the_angle_once_around():
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)[1:]
    hues = [colorsys.rgb_to_hsv(*_at(np.cos(a) * 0.99, np.sin(a) * 0.99))[0] for a in angles]
    assert hues[0] < 0.03
    assert hues[-1] > 0.9
    assert np.diff(hues).min() > -0.005  # 8-bit rounding
    # Down (y > 0) is a quarter of the wheel: 13.5 of 54 steps, between red and yellow.
    assert colorsys.rgb_to_hsv(*_at(0, 1))[0] == pytest.approx(13.5 / 15 / 6, abs=0.01)


def test_flow_colour_is_that_of_torchvision():
    import torch
    from torchvision.utils import flow_to_image

    flow = np.random.default_rng(0).normal(0, 4, (2, 40, 50)).astype(np.float32)
    longest = float(np.hypot(*flow).max()) * (1 + 1e-6)  # the longest is not beyond it
    ours = flow_colour(flow, bound=longest)
    theirs = flow_to_image(torch.from_numpy(flow)).permute(1, 2, 0).numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 2  # theirs has a wheel of whole numbers


def _history(num_steps=30, num_classes=7, seed=0):
    logits = np.random.default_rng(seed).normal(0, 1, (num_steps, num_classes)).cumsum(axis=0)
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shape", [(120, 160), (121, 161), (240, 90), (90, 240)])
@pytest.mark.parametrize("with_flow", [True, False])
@pytest.mark.parametrize("width", [640, 961])
def test_sides_are_even_and_the_same_for_every_moment(shape, with_flow, width):
    frame = np.full((*shape, 3), 90, np.uint8)
    flow = np.full((*shape, 3), 255, np.uint8) if with_flow else None
    sizes = {
        draw_panel(
            frame, history_SK=_history(), classes=CLASSES, step=step, flow_HWC=flow, width=width
        ).shape
        for step in (0, 13, 29, -1)
    }
    assert len(sizes) == 1
    height, drawn_width, channels = sizes.pop()
    assert (height % 2, drawn_width, channels) == (0, width - width % 2, 3)


def test_frame_and_flow_stand_side_by_side_undistorted():
    frame = np.full((100, 200, 3), (250, 10, 10), np.uint8)
    flow = np.full((100, 200, 3), (10, 250, 10), np.uint8)
    panel = draw_panel(frame, history_SK=_history(), classes=CLASSES, flow_HWC=flow)
    for picture, columns in ((frame, slice(0, 480)), (flow, slice(480, 960))):
        mask = (panel[:, columns] == picture[0, 0]).all(axis=2)
        rows, places = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert len(places) == 459  # (960 - 3 * 14) / 2
        assert len(rows) == pytest.approx(len(places) / 2, abs=1)
        assert mask.sum() == len(rows) * len(places)
    assert (panel[0] == PAPER).all()


def _filled(panel, colour):
    """Widest run of a colour in the left half: the filled part of a bar."""
    return int((panel[:, :473] == colour).all(axis=2).sum(axis=1).max())


def test_bars_are_as_long_as_the_probabilities():
    history = np.tile(np.array([0.6, 0.3, 0.1], np.float32), (4, 1))
    grey = np.full((90, 160, 3), 90, np.uint8)
    panel = draw_panel(grey, history_SK=history, classes=["a", "b", "c"], flow_HWC=grey)
    lengths = [_filled(panel, c) for c in ((86, 180, 233), (255, 158, 64), (66, 205, 162))]
    full = lengths[0] / 0.6
    assert 190 < full < 240
    assert lengths[1] == pytest.approx(0.3 * full, abs=2)
    assert lengths[2] == pytest.approx(0.1 * full, abs=2)


def test_classes_keep_their_colours_and_only_the_best_are_shown():
    history = np.array([[0.1, 0.8, 0.1, 0.0], [0.0, 0.1, 0.9, 0.0]], np.float32)
    grey = np.full((90, 160, 3), 90, np.uint8)
    first, second = (
        draw_panel(grey, history_SK=history, classes=CLASSES[:4], step=step, flow_HWC=grey, top_k=2)
        for step in (0, 1)
    )
    jump, run = (86, 180, 233), (255, 158, 64)  # mean 0.5 and 0.45
    assert _filled(first, run) > 7 * _filled(first, jump)
    assert _filled(second, jump) > 7 * _filled(second, run)
    assert not (first == (66, 205, 162)).all(axis=2).any()


def test_long_names_are_shortened_and_accents_survive_as_letters():
    assert fit_text("Café crème", pixels=400) == "Cafe creme"
    assert fit_text("Jump", pixels=400) == "Jump"
    assert fit_text("打", pixels=400) == "?"
    name = "PlayingAnInstrumentNobodyHasHeardOf"
    short = fit_text(name, pixels=150)
    head, tail = short.split("..")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert 12 < len(short) < len(name)


def test_history_that_does_not_fit_is_refused():
    grey = np.zeros((90, 160, 3), np.uint8)
    with pytest.raises(UsageError, match=r"\(30, 7\) does not fit step -1 and 2 classes"):
        draw_panel(grey, history_SK=_history(), classes=["a", "b"])
    with pytest.raises(UsageError, match="does not fit step 30"):
        draw_panel(grey, history_SK=_history(), classes=CLASSES, step=30)
