"""Clips from real files: videos, stored flow, flow on the fly."""

import dataclasses
import pickle

import av
import cv2
import numpy as np
import pytest
import torch

from kinema.config import AugmentConfig
from kinema.data.clips import TrainClips
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.sources import open_source
from kinema.data.transforms import resize
from kinema.errors import KinemaError
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import encode
from kinema.flow.store import FlowWriter
from kinema.video.reader import VideoReader

RGB = ClipSpec(stream="rgb", length=2, num_segments=3, sampling="any", resize="56x40", crop=32)
FLOW = ClipSpec(stream="flow", length=4, num_segments=2, resize="none", crop=32)
SQUASH = AugmentConfig(crop="squash", mirror=False)


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A moving texture of 16 frames with its flow in a lossless store."""
    folder = tmp_path_factory.mktemp("clips")
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    texture = cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC)
    path = folder / "moving.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(16):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * i, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    flow_path = folder / "moving.flow.mp4"
    with VideoReader(path) as reader:
        pairs = encode(compute(gray_from_rgb(reader.read(range(16)))))
    options = {"metadata": {"bound": 20.0, "algorithm": "dis"}, "quality": "lossless"}
    with FlowWriter(flow_path, width=96, height=64, **options) as writer:
        for pair in pairs:
            writer.write(pair)
    return ClipItem(id="moving", path=path, label=1, num_frames=16, flow_path=flow_path)


def one_clip(item, spec, augment=SQUASH, **options):
    return TrainClips([item], spec, augment, seed=0, **options).clip(0, epoch=0)[0]


def test_rgb_clips_hold_frames_of_the_video(item):
    x_NTCHW = one_clip(item, RGB)
    with VideoReader(item.path) as reader:
        frames = resize(resize(reader.read(range(16)), "56x40"), "32x32")
    known = [frame.tobytes() for frame in frames]
    for snippet in x_NTCHW.permute(0, 1, 3, 4, 2).numpy():
        first, second = (known.index(image.tobytes()) for image in snippet)
        assert second == first + 1


def test_stored_and_live_flow_give_the_same_clips(item):
    live = dataclasses.replace(item, flow_path=None)
    for augment in (SQUASH, AugmentConfig()):
        stored_x, live_x = one_clip(item, FLOW, augment), one_clip(live, FLOW, augment)
        assert stored_x.shape == (2, 4, 2, 32, 32)
        assert torch.equal(stored_x, live_x)
    motion = (stored_x[:, :, 0].float() - 128).mean() * 20 / 127
    assert abs(motion) == pytest.approx(2, abs=0.6)


def test_the_cache_keeps_the_clips_of_real_files(item):
    for spec in (RGB, FLOW):
        augment = AugmentConfig(photometric="heavy")
        kept = TrainClips([item], spec, augment, seed=0, cache_bytes=1 << 22)
        for epoch in range(3):
            plain = TrainClips([item], spec, augment, seed=0).clip(0, epoch=epoch)[0]
            assert torch.equal(kept.clip(0, epoch=epoch)[0], plain)


def test_a_data_set_can_be_sent_to_another_process(item):
    data = TrainClips([item], FLOW, AugmentConfig(), seed=0, cache_bytes=1 << 22)
    first = data[0][0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0][0], first)


def test_flow_of_another_kind_than_asked_for_is_an_error(item):
    with pytest.raises(KinemaError, match=r"bound 20.0, but 15.0 is asked.*data.flow_bound=20.0"):
        open_source(item, dataclasses.replace(FLOW, flow_bound=15.0))
    with pytest.raises(KinemaError, match=r"algorithm dis, but farneback.*data.flow_algorithm=dis"):
        open_source(item, dataclasses.replace(FLOW, flow_algorithm="farneback"))


def test_missing_and_broken_files_are_named(item, tmp_path):
    gone = dataclasses.replace(item, flow_path=tmp_path / "gone.mp4")
    with pytest.raises(KinemaError, match=r"'moving'.*gone.mp4 has vanished.*kinema flow"):
        one_clip(gone, FLOW)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(item.path.read_bytes()[:700])
    for spec in (RGB, FLOW):
        with pytest.raises(KinemaError, match=r"The video 'moving'.*broken.mp4"):
            one_clip(dataclasses.replace(item, path=broken, flow_path=None), spec)
