"""The same video as mp4, as each of the ten layouts, zipped and as HDF5 gives the same clip."""

import zipfile

import cv2
import numpy as np
import pytest
import torch

from helpers_data import small_video
from kinema.config import AugmentConfig
from kinema.data.clips import ClipItem, ClipSpec, TestClips, TrainClips
from kinema.framing.job import FrameJob, write_video
from kinema.framing.layouts import LAYOUTS
from kinema.framing.options import FrameOptions
from kinema.video.probe import probe

SPEC = ClipSpec(stream="rgb", length=3, num_segments=2, sampling="any", resize="none", crop=32)
AUGMENT = AugmentConfig(crop="squash", mirror=False)
VIDEO = "v_HandStandPushups_g01_c01"
# Where the first image of the video lies, worked out by hand from the systems' own code.
FIRST = {
    "tsn": f"{VIDEO}/img_00001",
    "zhu-test": f"HandstandPushups/{VIDEO}/image_0001",
    "feichtenhofer": "jpegs_256/v_HandstandPushups_g01_c01/frame000001",
    "huang": f"HandstandPushups/separated_images/{VIDEO}/{VIDEO}_1",
    "hara": f"HandstandPushups/{VIDEO}/image_00001",
    "something-v1": f"{VIDEO}/image_00001",
    "slim": f"HandstandPushups/{VIDEO}/00001",
    "denseflow": f"HandstandPushups/{VIDEO}/img_00000",
    "dense-flow-zip": f"{VIDEO}/img.zip",
    "hara-hdf5": f"HandstandPushups/{VIDEO}.hdf5",
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return small_video(tmp_path_factory.mktemp("videos") / "clip.mp4")


def written(video, out, *, layout, image):
    """Return where the frames of the video lie in a layout."""
    if layout == "hara-hdf5":
        pytest.importorskip("h5py")
    job = FrameJob(id=f"HandstandPushups/{VIDEO}", path=video, label="HandstandPushups")
    options = FrameOptions(layout=layout, format=image)
    assert write_video(job, out, options) == 12
    return job.place(out, options)


def zipped(folder):
    """Return the images of a folder in an archive beside it, below a folder in the archive."""
    archive = folder.with_name("all.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.iterdir()):
            target.write(path, f"frames/{path.name}")
    return archive


def clips(path):
    item = ClipItem(id="v", path=path, label=0, num_frames=12)
    train = TrainClips([item], SPEC, AUGMENT, seed=3).clip(0, epoch=0)[0]
    test = TestClips([item], SPEC, rule="uniform", num_clips=3, clips_per_item=3)[0][2]
    assert train.shape == (2, 3, 3, 32, 32) and test.shape == (3, 3, 3, 48, 64)
    return train, test


def as_jpeg(x_NTCHW):
    """The same images through OpenCV's JPEG of quality 95."""
    images = x_NTCHW.flatten(0, 1).permute(0, 2, 3, 1).numpy()
    coded = [cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1]
             for image in images]  # fmt: skip
    decoded = np.stack([cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] for data in coded])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).reshape(x_NTCHW.shape)


ZIPPED = ("zip", "folder in a zip")


@pytest.mark.parametrize("image", ["png", "jpg"])
@pytest.mark.parametrize("place", [*LAYOUTS, *ZIPPED])
def test_the_same_clip_from_every_layout(video, tmp_path, place, image):
    path = written(video, tmp_path, layout="slim" if place in ZIPPED else place, image=image)
    if place in ZIPPED:
        path = zipped(path) if place == "zip" else zipped(path) / "frames"
    else:
        first = tmp_path / FIRST[place]
        assert (first if first.suffix else first.with_suffix(f".{image}")).is_file()
    (train, test), (known_train, known_test) = clips(path), clips(video)
    if image == "png":
        assert torch.equal(train, known_train) and torch.equal(test, known_test)
    else:
        assert torch.equal(test, as_jpeg(known_test))
        assert 0 < (train.float() - known_train.float()).abs().mean() < 4
    facts = probe(path)
    assert (facts.num_frames, facts.width, facts.height, facts.fps) == (12, 64, 48, 0.0)
    assert facts.keyframe_interval == 1.0 and len(facts.sha256) == 64
