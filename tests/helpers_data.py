"""Stand-ins for videos, whose images say where they come from."""

from pathlib import Path

import av
import cv2
import numpy as np

from kinema.data.items import ClipItem


class NoiseSource:
    """Random images, each from (video, index) alone; counts what is read."""

    height, width = 48, 64

    def __init__(self, seed, *, num_frames=30, channels=3):
        self.seed, self.num_frames, self.channels = seed, num_frames, channels
        self.is_open = True

    def image(self, index):
        shape = (self.height, self.width, self.channels)
        return np.random.default_rng((self.seed, index)).integers(1, 256, shape, np.uint8)

    def read(self, indices):
        assert self.is_open
        assert all(0 <= index < self.num_frames for index in indices)
        return np.stack([self.image(index) for index in indices])

    def close(self):
        self.is_open = False


class PlaceSource(NoiseSource):
    """Channel 0 holds the column, channel 1 the row, channel 2 the index of the image."""

    def image(self, index):
        rows, columns = np.mgrid[: self.height, : self.width]
        planes = [columns, rows, np.full_like(rows, index)]
        return np.stack(planes[: self.channels], axis=-1).astype(np.uint8)


def make_items(num, *, num_frames=30, labels=2):
    """Items of videos that exist nowhere, for stand-ins."""
    return [
        ClipItem(
            id=f"v{i}", path=Path(f"/nowhere/v{i}.mp4"), label=i % labels, num_frames=num_frames
        )
        for i in range(num)
    ]


def stand_in(monkeypatch, make):
    """Let clips open ``make(position in the name, spec)`` instead of files."""
    monkeypatch.setattr(
        "kinema.data.reading.open_source", lambda item, spec: make(int(item.id[1:]), spec)
    )


def noise_video(number, spec):
    """The stand-in that most tests use: videos of 20 to 39 images."""
    return NoiseSource(
        number, num_frames=20 + number % 20, channels=3 if spec.stream == "rgb" else 2
    )


def place_video(number, spec):
    """The stand-in whose images hold their coordinates."""
    return PlaceSource(number, channels=3 if spec.stream == "rgb" else 2)


def small_video(path, *, num_frames=12, width=64, height=48, rate=10, seed=0):
    """A smooth picture that moves, as a video file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * i, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
