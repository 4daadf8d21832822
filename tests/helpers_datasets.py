"""Tiny videos and folders of them, for the tests of kinema.datasets."""

from pathlib import Path

import av
import numpy as np

from kinema.datasets.index import Video
from kinema.datasets.listing import Listed


def make_video(path: Path, *, seed: int = 0, num_frames: int = 8, gop: int = 4) -> Path:
    """Write a 32x24 video whose content depends on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        stream.gop_size = gop
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(colour, i, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_audio(path: Path) -> Path:
    """Write an mp4 without a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = np.zeros((1, 4096), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_folder(root: Path, names: list[str]) -> Path:
    """Write one video with its own content for each relative name."""
    for seed, name in enumerate(names):
        make_video(root / name, seed=seed)
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def listed(id: str, label: str, group: str = "", split: str = "") -> Listed:
    return Listed(id=id, path=Path("/v") / id, label=label, group=group, split=split)


def video(id: str, label: str, split: str = "train", **changes) -> Video:
    values = {
        "id": id,
        "path": Path("/v") / f"{id}.mp4",
        "label": label,
        "split": split,
        "num_frames": 20,
        "fps": 25.0,
        "width": 32,
        "height": 24,
        "keyframe_interval": 10.0,
    }
    return Video(**{**values, **changes})
