"""MotionNet: the published network's sizes, the small one, its file, and it as a flow algorithm."""

from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import torch

from helpers_flow import ArraySource, colour, moving, write_video
from kinema.errors import KinemaError, UsageError
from kinema.flow.algorithms import compute
from kinema.flow.encoding import encode
from kinema.flow.extract import extract_flow
from kinema.flow.job import FlowJob, FlowOptions
from kinema.flow.live import LiveFlow
from kinema.flow.manifest import stored_options
from kinema.flow.motion_file import load_motion, read_motion, save_motion
from kinema.flow.motion_network import (
    MotionNet,
    build_motion_network,
    full_flow,
    motion_input,
    widened,
)
from kinema.flow.motion_tiny import TinyMotionNet, _Products, correlation
from kinema.flow.motionnet import motionnet, window_of
from kinema.flow.store import FlowStore
from kinema.video.frames import open_frames


def lively(make, seed=0):
    """A network that gives motion of some pixels (a new one gives almost none)."""
    torch.manual_seed(seed)
    network = make()
    with torch.no_grad():
        for decoder in network.decoder:
            decoder[-1].weight.normal_(std=0.1)
    return network


class Windowed(torch.nn.Module):
    """A stand-in for the large network: all pairs depend on all 11 frames."""

    channels, frames = 3, 11

    def forward(self, x_BTCHW):
        mean = x_BTCHW.mean((1, 2, 3, 4))
        half = x_BTCHW[:, :-1, :2, ::2, ::2]
        return [half + mean.view(-1, 1, 1, 1, 1)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("motion") / "last.safetensors"
    save_motion(path, lively(TinyMotionNet), name="motionnet-tiny", provenance={"epoch": 3})
    return path


@pytest.fixture
def windowed(tmp_path, monkeypatch):
    """A file whose network estimates 10 pairs together."""
    path = tmp_path / "windowed.safetensors"
    save_motion(path, Windowed(), name="motionnet", provenance={})
    monkeypatch.setattr("kinema.flow.motionnet._network", lambda *_: _with_device(Windowed()))
    return str(path)


def _with_device(network):
    network.register_parameter("nothing", torch.nn.Parameter(torch.zeros(1)))
    return network


def test_the_published_network_by_hand():
    with torch.device("meta"):
        network = MotionNet()

    def conv(inputs, outputs, kernel=3):
        return inputs * outputs * kernel**2 + outputs

    encoder = [33, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512, 1024, 1024]
    expected = sum(conv(*pair) for pair in pairwise(encoder))
    expected += conv(1024, 20)
    previous = 1024
    for skip, width in ((512, 512), (512, 256), (256, 128), (128, 64)):
        expected += conv(previous, width, 4) + conv(20, 20, 4)
        expected += conv(skip + width + 20, width) + conv(width, 20)
        previous = width
    assert sum(p.numel() for p in network.parameters()) == expected
    flows = network(torch.zeros(2, 11, 3, 224, 224, device="meta"))
    assert [tuple(flow.shape) for flow in flows] == [
        (2, 10, 2, side, side) for side in (112, 56, 28, 14, 7)
    ]


def test_the_published_network_runs_and_begins_with_little_motion():
    torch.manual_seed(0)
    network = MotionNet()
    frames = torch.rand(1, 11, 3, 32, 32)
    flow = full_flow(network, frames)
    assert flow.shape == (1, 10, 2, 32, 32)
    assert 0 < flow.abs().max().item() < 3
    with pytest.raises(KinemaError, match=r"takes 11 RGB frames.* but was given"):
        network(frames[:, :5])


def test_the_small_network_has_five_scales_and_judges_pairs_alone():
    network = lively(TinyMotionNet).eval()
    assert sum(p.numel() for p in network.parameters()) < 500_000
    frames = torch.rand(2, 4, 1, 64, 96)
    flows = network(frames)
    assert [tuple(flow.shape[3:]) for flow in flows] == [
        (32, 48), (16, 24), (8, 12), (4, 6), (2, 3),
    ]  # fmt: skip
    alone = network(frames[1:, 2:4])[0]
    assert alone.abs().max().item() > 0.01
    torch.testing.assert_close(flows[0][1:, 2:3], alone, atol=1e-4, rtol=0)
    with pytest.raises(KinemaError, match="two gray frames at least"):
        network(frames[:, :1])


def test_correlation_by_hand():
    first = torch.zeros(1, 2, 3, 3)
    second = torch.zeros(1, 2, 3, 3)
    first[0, :, 1, 1] = torch.tensor([3.0, 4.0])
    second[0, :, 1, 2] = torch.tensor([6.0, 8.0])  # the same direction, one to the right
    second[0, :, 0, 1] = torch.tensor([4.0, -3.0])  # across
    found = correlation(first, second, reach=1)[0, :, 1, 1].view(3, 3)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]))


def test_correlation_outside_the_map_is_zero():
    maps = torch.ones(1, 1, 2, 3)
    found = correlation(maps, maps, reach=1)[0]
    assert found[4].tolist() == [[1, 1, 1]] * 2  # the same place
    assert found[0].tolist() == [[0, 0, 0], [0, 1, 1]]  # up, to the left
    assert found[7].tolist() == [[1, 1, 1], [0, 0, 0]]  # down


def test_gradients_of_correlation():
    rng = np.random.default_rng(0)
    one, other = (torch.from_numpy(rng.normal(size=(2, 3, 4, 5))).requires_grad_() for _ in "ab")
    assert torch.autograd.gradcheck(lambda a, b: _Products.apply(a, b, 2), (one, other))


@pytest.mark.parametrize("make", [TinyMotionNet, MotionNet])
def test_flow_is_what_the_decoder_makes_of_the_encoders_features(make):
    network = build_motion_network("motionnet") if make is MotionNet else lively(make)
    frames = torch.rand(1, network.frames, network.channels, 32, 64)
    with torch.inference_mode():
        maps = network.encode(frames)
        flows = network.decode(maps)
        for found, expected in zip(flows, network(frames), strict=True):
            assert torch.equal(found, expected)
    assert [tuple(item.shape[-2:]) for item in maps[-5:]] == [
        (32 >> scale, 64 >> scale) for scale in range(1, 6)
    ]


def test_sides_are_widened_by_their_border():
    frames = torch.arange(6.0).view(1, 1, 1, 2, 3)
    wide = widened(frames)
    assert wide.shape == (1, 1, 1, 32, 32)
    assert wide[0, 0, 0, 0, :5].tolist() == [0, 1, 2, 2, 2]
    assert wide[0, 0, 0, -1, :4].tolist() == [3, 4, 5, 5]
    assert widened(wide) is wide


def test_colour_and_gray_frames():
    rgb = torch.rand(1, 2, 3, 32, 32)
    gray = motion_input(TinyMotionNet(), rgb)
    expected = 0.299 * rgb[:, :, 0] + 0.587 * rgb[:, :, 1] + 0.114 * rgb[:, :, 2]
    torch.testing.assert_close(gray[:, :, 0], expected)
    assert motion_input(Windowed(), gray).shape == (1, 2, 3, 32, 32)


def test_any_size_of_frames():
    network = lively(TinyMotionNet).eval()
    frames = torch.rand(1, 2, 1, 64, 64)
    assert full_flow(network, frames[..., :50, :39]).shape == (1, 1, 2, 50, 39)


def test_full_flow_is_in_pixels_of_the_frames():
    class Constant(torch.nn.Module):
        channels = 1

        def forward(self, x_BTCHW):
            batch, frames, _, height, width = x_BTCHW.shape
            return [torch.full((batch, frames - 1, 2, height // 2, width // 2), 1.5)]

    flow = full_flow(Constant(), torch.rand(1, 3, 1, 40, 40))
    assert flow.shape == (1, 2, 2, 40, 40)
    assert torch.equal(flow, torch.full_like(flow, 3.0))


def test_unknown_names():
    with pytest.raises(UsageError, match="Did you mean 'motionnet-tiny'"):
        build_motion_network("motionnet-tyni")


def test_file_round_trip(weights):
    network, name = load_motion(weights)
    assert name == "motionnet-tiny"
    assert read_motion(weights)["provenance"] == {"epoch": 3}
    frames = torch.rand(1, 2, 1, 32, 32)
    assert torch.equal(network(frames)[0], lively(TinyMotionNet)(frames)[0])
    assert window_of(str(weights)) == 1


def test_files_that_are_none(tmp_path, weights):
    with pytest.raises(KinemaError, match=r"There is no file .*nothing"):
        read_motion(tmp_path / "nothing")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(KinemaError, match="is not a whole safetensors file"):
        load_motion(broken)
    broken.write_bytes(b"short")
    with pytest.raises(KinemaError, match="is not a whole safetensors file"):
        read_motion(broken)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, broken)
    with pytest.raises(KinemaError, match="holds no MotionNet"):
        read_motion(broken)


def test_the_algorithm_is_the_network(weights):
    frames = moving(6, 2, 1, height=48, width=64)
    found = compute(frames, algorithm="motionnet", weights=str(weights))
    x = torch.from_numpy(frames)[None, :, None].float() / 255
    with torch.inference_mode():
        expected = full_flow(load_motion(weights)[0], x)[0].numpy()
    assert found.shape == (5, 2, 48, 64)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found).max() > 0.05


def test_store_live_flow_and_manifest_agree(tmp_path, weights):
    frames = moving(23, 2, 1, height=48, width=64)
    video = write_video(tmp_path / "v.mp4", frames)
    options = FlowOptions(
        algorithm="motionnet", weights=str(weights), quality="lossless", bound=2.0
    )
    out = tmp_path / "flow"
    summary = extract_flow([FlowJob(id="v", path=video)], out, options=options, workers=1)
    assert not summary.failures
    stored = FlowStore(out / "v.mp4").read(range(22))
    with closing(LiveFlow.of(open_frames(video), options)) as live:
        found = live.read([21, *range(21)])
    difference = np.abs(found[[*range(1, 22), 0]].astype(int) - stored)
    assert difference.max() <= 1  # rounding of batched arithmetic
    assert np.ptp(stored) > 5
    options = stored_options(out)
    assert (options.algorithm, options.weights) == ("motionnet", str(weights))
    other = tmp_path / "other.safetensors"
    save_motion(other, lively(TinyMotionNet, 1), name="motionnet-tiny", provenance={})
    again = FlowOptions(algorithm="motionnet", weights=str(other), quality="lossless", bound=2.0)
    with pytest.raises(KinemaError, match="was made with parameters="):
        extract_flow([FlowJob(id="v", path=video)], out, options=again, workers=1)


def test_windows_begin_where_the_video_begins(windowed):
    gray = moving(27, 2, 1, height=32, width=64)
    network = Windowed()
    expected = []
    for first in (0, 10, 20):
        places = [min(first + i, 26) for i in range(11)]
        x = torch.from_numpy(gray[places])[None, :, None].float() / 255
        expected.append(full_flow(network, x)[0])
    expected = torch.cat(expected)[:26].numpy()
    np.testing.assert_allclose(motionnet(gray, weights=windowed), expected, atol=1e-5)
    options = FlowOptions(algorithm="motionnet", weights=windowed, bound=1.0)
    with closing(LiveFlow.of(ArraySource(colour(gray)), options)) as live:
        for asked in ([7], [8, 9, 10, 11], [25], [3, 19, 24]):
            found = live.read(asked)
            assert np.abs(found - encode(expected[asked], bound=1.0).astype(int)).max() <= 1


def test_what_is_refused(weights, windowed):
    with pytest.raises(UsageError, match="needs the weights of a MotionNet"):
        FlowOptions(algorithm="motionnet").check()
    with pytest.raises(UsageError, match="'dis' takes no weights"):
        FlowOptions(weights=str(weights)).check()
    with pytest.raises(UsageError, match="estimates 10 pairs of neighbours together: stride 2"):
        FlowOptions(algorithm="motionnet", weights=windowed, stride=2).check()
    FlowOptions(algorithm="motionnet", weights=str(weights), stride=2).check()
