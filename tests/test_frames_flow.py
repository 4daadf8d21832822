"""Flow in the layouts of older tools, read as the flow stream of clips."""

import pickle
import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from helpers_data import small_video
from helpers_datasets import video as row
from kinema.config import AugmentConfig, DataConfig
from kinema.data.clips import ClipItem, ClipSpec, TestClips, TrainClips
from kinema.data.sources import open_source
from kinema.engine.items import clip_items, with_stored_flow
from kinema.errors import KinemaError
from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import decode, encode
from kinema.flow.formats.names import LAYOUTS
from kinema.flow.formats.root import is_old_flow
from kinema.flow.formats.sinks import open_sink
from kinema.video.reader import VideoReader

SPEC = ClipSpec(stream="flow", length=4, num_segments=2, sampling="any", resize="none", crop=32)
AUGMENT = AugmentConfig(crop="squash", mirror=False)
VIDEO = "v_HandStandPushups_g01_c01"
ID = f"HandstandPushups/{VIDEO}"
HDF5 = ("denseflow-h5", "hara-hdf5")
OTHERS = ("zhu-test", "hara-hdf5", "slim", "zipped", "capitals")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A video of 12 frames and its flow in pixels (11, 2, H, W)."""
    path = small_video(tmp_path_factory.mktemp("videos") / "clip.mp4")
    with VideoReader(path) as reader:
        return path, np.asarray(compute(gray_from_rgb(reader.read(range(12)))))


def gray_levels(plane):
    """The tools' 8 bits at the bound 20: round(255 (v + b) / 2b), cut."""
    return np.clip(np.rint((plane + 20.0) * 255 / 40), 0, 255).astype(np.uint8)


def write_images(root, x_name, y_name, flow, *, first=1):
    for number, (x, y) in enumerate(flow, start=first):
        for name, plane in ((x_name, x), (y_name, y)):
            path = root / (name % number)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), gray_levels(plane), [cv2.IMWRITE_JPEG_QUALITY, 100])
    return root


def written(out, name, flow, video_id=ID):
    """Write flow in a layout and return its root: by the package, or by OpenCV alone."""
    if name in HDF5:
        h5py = pytest.importorskip("h5py")
    if name == "zhu-test":
        return write_images(out, f"{video_id}/flow_x_%04d.jpg", f"{video_id}/flow_y_%04d.jpg", flow)
    if name in ("slim", "capitals"):
        x, y = ("x", "y") if name == "slim" else ("X", "Y")
        return write_images(
            out, f"{x}/{video_id}/frame%06d.jpg", f"{y}/{video_id}/frame%06d.jpg", flow
        )
    if name == "zipped":
        folder = written(out / "files", "twostreamfusion", flow, video_id)
        with zipfile.ZipFile(out / "ucf101_tvl1_flow.zip", "w") as archive:
            for path in sorted(folder.rglob("*.jpg")):
                archive.write(path, path.relative_to(folder))
        shutil.rmtree(folder)
        return out / "ucf101_tvl1_flow.zip"
    if name == "hara-hdf5":
        path = out / f"{video_id}.hdf5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            for part, planes in (("video_u", flow[:, 0]), ("video_v", flow[:, 1])):
                dtype = h5py.special_dtype(vlen=np.uint8)
                images = file.create_dataset(part, (len(flow),), dtype=dtype)
                for i, plane in enumerate(planes):
                    images[i] = cv2.imencode(".png", gray_levels(plane))[1]
        return out
    with open_sink(out, video_id, name=name, bound=20.0, frames=False) as sink:
        for pair in flow:
            sink.write_pair(pair)
    return out


def items(path, root, **changes):
    videos = [row(ID, "HandstandPushups", path=path, **{"num_frames": 12, **changes})]
    return clip_items(videos, classes=["HandstandPushups"], flow_store=str(root))


def clips(item):
    train = TrainClips([item], SPEC, AUGMENT, seed=3).clip(0, epoch=0)[0]
    test = TestClips([item], SPEC, rule="uniform", num_clips=2, clips_per_item=2)[0][2]
    assert train.shape == (2, 4, 2, 32, 32) and test.shape == (2, 4, 2, 48, 64)
    return train, test


@pytest.mark.parametrize("name", [*LAYOUTS, *OTHERS])
def test_the_same_flow_clip_from_every_layout(source, tmp_path, name):
    path, flow = source
    live = ClipItem(id=ID, path=path, label=0, num_frames=12)
    root = written(tmp_path / "old", name, flow, ID.replace("HandStand", "Handstand"))
    assert is_old_flow(root)
    (item,) = items(path, root)
    for read, known in zip(clips(item), clips(live), strict=True):
        difference = (read.float() - known.float()).abs()
        # JPEG of quality 95, and half a level from scale to scale; HDF5 holds floats or png.
        limit = 1 if name in (*HDF5, "denseflow-png") else 6
        assert difference.max() <= limit and difference.mean() < 1
    with_zero = open_source(item, SPEC).read([0])
    assert np.abs(decode(with_zero)[0] - decode(encode(flow[:1]))[0]).mean() < 0.16  # a grey level


def test_the_bound_is_that_of_the_settings(source, tmp_path):
    path, flow = source
    root = written(tmp_path / "old", "denseflow-png", flow)
    (item,) = items(path, root)
    for bound in (20.0, 40.0):
        read = open_source(item, replace(SPEC, flow_bound=bound)).read(range(11))
        assert np.abs(decode(read, bound=bound) - flow).max() <= bound / 127 * 0.75


def test_images_of_several_streams_in_one_folder(source, tmp_path):
    """The folder of dense_flow: img_, flow_x_ and flow_y_; its first image is the second frame."""
    path, flow = source
    with VideoReader(path) as reader, open_sink(tmp_path, ID, name="dense-flow") as sink:
        for frame in reader.stream():
            sink.write_frame(frame)
        for pair in flow:
            sink.write_pair(pair)
    (item,) = items(tmp_path / ID, tmp_path, num_frames=11)
    assert open_source(item, SPEC).num_frames == 11
    frames = open_source(item, replace(SPEC, stream="rgb"))
    with VideoReader(path) as reader:
        differences = np.abs(frames.read([0]).astype(int) - reader.read(range(12)))
    assert differences.mean(axis=(1, 2, 3)).argmin() == 1
    assert frames.num_frames == 11


@pytest.mark.parametrize(("num_frames", "wanted"), [(20, 19), (10, 9)])
def test_flow_that_does_not_go_with_the_frames(source, tmp_path, num_frames, wanted):
    path, flow = source
    root = written(tmp_path / "old", "dense-flow", flow)
    (item,) = items(path, root, num_frames=num_frames)
    message = (
        rf"clip.mp4 has {num_frames} frames and 11 flow pairs \(.*flow_x_00001.jpg to "
        rf"flow_x_00011.jpg\): expected are {wanted}\. Extract"
    )
    with pytest.raises(KinemaError, match=message):
        open_source(item, SPEC)
    (item,) = items(path, root, num_frames=11)  # as many as pairs: not from a video
    with pytest.raises(KinemaError, match=r"expected are 10\."):
        open_source(item, SPEC)


def test_a_segment_has_the_pairs_within_it(source, tmp_path):
    path, flow = source
    root = written(tmp_path / "old", "denseflow-png", flow)
    (item,) = items(path, root)
    part = replace(item, segment=(3, 9), num_frames=6)
    whole, read = open_source(item, SPEC), open_source(part, SPEC)
    assert read.num_frames == 5
    assert np.array_equal(read.read(range(5)), whole.read(range(3, 8)))


def test_missing_flow_is_named(source, tmp_path):
    path, flow = source
    root = written(tmp_path / "old", "dense-flow", flow)
    videos = [row(name, "a", path=path) for name in (ID, "a/other", "a/third")]
    with pytest.raises(KinemaError, match=r"2 of 3 videos have no flow in .*old \(first: a/other"):
        clip_items(videos, classes=["a"], flow_store=str(root))
    with pytest.raises(KinemaError, match=r"strides 1, but data.flow_stride=2"):
        clip_items(videos[:1], classes=["a"], flow_store=str(root), flow_stride=2)
    (root / ID / "flow_y_00004.jpg").unlink()
    (item,) = items(path, root)
    with pytest.raises(KinemaError, match=r"flow_y_00004.jpg is missing: the pairs are numbered"):
        open_source(item, SPEC)


def test_an_archive_that_was_cut_short(source, tmp_path):
    path, flow = source
    root = written(tmp_path, "zipped", flow)
    root.write_bytes(root.read_bytes()[:-100])
    with pytest.raises(KinemaError, match=r"tvl1_flow.zip is not a whole zip archive"):
        items(path, root)


def test_old_flow_tells_nothing_of_its_algorithm(source, tmp_path):
    data = DataConfig(modality="flow", flow_bound=32.0)
    root = written(tmp_path / "old", "dense-flow", source[1])
    assert with_stored_flow(data, root) == replace(data, flow_algorithm="unknown")
    with pytest.raises(KinemaError, match="There is no stored flow in"):
        with_stored_flow(data, tmp_path / "empty")


def test_clips_of_old_flow_are_the_same_in_another_process(source, tmp_path):
    path, flow = source
    (item,) = items(path, written(tmp_path, "zipped", flow))
    data = TrainClips([item], SPEC, AUGMENT, seed=0)
    first = data[0][0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0][0], first)
