"""Textures that move, and videos of them."""

import cv2
import numpy as np

from kinema.flow.job import FlowJob
from kinema.video.writer import VideoWriter


def texture(height, width, *, seed=0):
    """A smooth random gray picture that flow can hold on to."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def moving(num_frames, dx, dy, *, height=96, width=128, seed=0):
    """Gray frames (T, H, W) that move by (dx, dy) pixels per frame."""
    margin = 8 + num_frames * max(abs(dx), abs(dy))
    picture = texture(height + 2 * margin, width + 2 * margin, seed=seed)
    tops = [margin - i * dy for i in range(num_frames)]
    lefts = [margin - i * dx for i in range(num_frames)]
    return np.stack(
        [picture[t : t + height, x : x + width] for t, x in zip(tops, lefts, strict=True)]
    )


def colour(gray_THW):
    """Gray frames as RGB."""
    return np.repeat(gray_THW[..., None], 3, axis=3)


def write_video(path, gray_THW, *, fps=25.0):
    """Write gray frames as a video."""
    height, width = gray_THW.shape[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=fps, width=width, height=height) as writer:
        for frame_HWC in colour(gray_THW):
            writer.write(frame_HWC)
    return path


def make_jobs(folder, num, *, num_frames=20):
    """Videos of two classes, each longer than the one before by a frame, as jobs of extraction."""
    jobs = []
    for i in range(num):
        path = folder / f"class {i % 2}" / f"v{i}.mp4"
        write_video(path, moving(num_frames + i, 1 + i % 3, -1, seed=i))
        jobs.append(FlowJob(id=f"class {i % 2}/v{i}", path=path, num_frames=num_frames + i))
    return jobs


class ArraySource:
    """Frames in memory that count how often each is read."""

    def __init__(self, frames_THWC):
        self.frames = frames_THWC
        self.num_frames, self.height, self.width = frames_THWC.shape[:3]
        self.reads = []
        self.is_open = True

    def read(self, indices):
        self.reads += list(indices)
        return self.frames[list(indices)]

    def close(self):
        self.is_open = False


def noisy_flow(num_pairs, height, width, *, seed=0, sigma=4.0):
    """Encoded flow (T, H, W, 2): a smooth field that changes from pair to pair."""
    rng = np.random.default_rng(seed)
    field = rng.normal(0, 40, (num_pairs, 2, height, width)).astype(np.float32)
    smooth = [[cv2.GaussianBlur(plane, (0, 0), sigma) * 2 for plane in pair] for pair in field]
    levels = np.clip(np.rint(np.asarray(smooth)), -127, 127) + 128
    return np.moveaxis(levels.astype(np.uint8), 1, 3)
