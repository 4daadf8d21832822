"""Clips of two streams from the same places of a video, as one image of all their channels.

The stream whose snippets are longer leads: its images are drawn as if it were alone, and the
other's snippets lie in their middle. Crop and mirror are the same for both.

Shapes: N snippets, T images per snippet, C channels of a stream, X those of both streams, H, W.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from kinema.data.augment import Draw
from kinema.data.clips import TestClips, TrainClips
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.reading import ResizedVideo
from kinema.data.snippets import Indices
from kinema.data.transforms import Images, resize_to


def leads(first: ClipSpec, second: ClipSpec) -> bool:
    """Tell whether the first stream leads: the longer one, of equals the flow, which is shorter."""

    def rank(spec: ClipSpec) -> tuple[int, bool]:
        reach = spec.length if spec.spread else spec.length * spec.interval
        return reach, spec.stream == "flow"

    return rank(first) >= rank(second)


def aligned(lead_NT: Indices, lead: ClipSpec, spec: ClipSpec, *, num_frames: int) -> Indices:
    """Return the images (N, T) of a stream at the places of the leading one's.

    Args:
        lead_NT: the images of the leading stream.
        lead: how they were drawn.
        spec: of the stream that follows.
        num_frames: images that it has.
    """
    last = max(num_frames - 1, 0)
    if spec.length == lead.length and (spec.spread or spec.interval == lead.interval):
        return lead_NT.clip(0, last)
    if spec.spread:
        columns = np.linspace(0, lead_NT.shape[1] - 1, spec.length).round().astype(int)
        return lead_NT[:, columns].clip(0, last)
    reach = (spec.length - 1) * spec.interval
    starts = np.rint((lead_NT[:, 0] + lead_NT[:, -1] - reach) / 2).astype(np.int64)
    starts = starts.clip(0, max(last - reach, 0))
    indices: Indices = (starts[:, None] + np.arange(spec.length) * spec.interval).clip(0, last)
    return indices


def side_by_side(first_NTCHW: torch.Tensor, second_NTCHW: torch.Tensor) -> torch.Tensor:
    """Return the snippets of both streams as images of all channels, (N, 1, X, H, W)."""
    return torch.cat([first_NTCHW.flatten(1, 2), second_NTCHW.flatten(1, 2)], dim=1)[:, None]


class PairedTrainClips(Dataset[tuple[torch.Tensor, int, int]]):
    """Augmented training clips of two streams: (x_N1XHW uint8, label, index) each.

    Colours of flow are not changed: what `augment.photometric` draws is for images.

    Args:
        first: clips of the first stream.
        second: clips of the same videos in the second stream.
    """

    def __init__(self, first: TrainClips, second: TrainClips) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first)

    def clips(self, index: int, *, epoch: int) -> list[tuple[torch.Tensor, int, int]]:
        """Return all clips of a video in an epoch.

        Raises:
            KinemaError: the video has vanished or cannot be read.
        """
        first, second = self.first, self.second
        videos = _one_size(first.open(index), second.open(index))
        draws: list[Draw] = []
        places: list[tuple[Indices, Indices]] = []
        for repeat in range(first.augment.repeats):
            seed = (first.seed, epoch, index, *((repeat,) if repeat else ()))
            drawn, lead_NT = self._draw(videos, seed)
            draws.append(drawn)
            places.append(_places(lead_NT, (first.spec, second.spec), videos))
        halves = (
            stream.cut(video, [_for_stream(drawn, stream.spec) for drawn in draws], indices)
            for stream, video, indices in zip(
                (first, second), videos, zip(*places, strict=True), strict=True
            )
        )
        return [
            (side_by_side(one, other), first.label(index, drawn), index)
            for one, other, drawn in zip(*halves, draws, strict=True)
        ]

    def _draw(
        self, videos: tuple[ResizedVideo, ResizedVideo], seed: tuple[int, ...]
    ) -> tuple[Draw, Indices]:
        """Draw where the crop of the first stream's images is, and the leading one's images."""
        drawn, indices = self.first.draw(videos[0], seed)
        if not leads(self.first.spec, self.second.spec):
            _, indices = self.second.draw(videos[1], seed)
        return drawn, indices


class PairedTestClips(Dataset[tuple[int, int, torch.Tensor]]):
    """Whole images of test clips of two streams: (video, first clip, x_N1XHW).

    Args:
        first: clips of the first stream.
        second: clips of the same videos in the second stream.
    """

    def __init__(self, first: TestClips, second: TestClips) -> None:
        self.first, self.second = first, second
        self._lead = first if leads(first.spec, second.spec) else second
        self.items: Sequence[ClipItem] = first.items
        self.num_clips = self._lead.num_clips

    @property
    def parts(self) -> list[int]:
        """How many items hold the clips of each video."""
        return self._lead.parts

    def __len__(self) -> int:
        return len(self._lead)

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        lead, streams = self._lead, (self.first, self.second)
        row, first, last = lead.place(index)
        videos = _one_size(self.first.open(row), self.second.open(row))
        leading = videos[streams.index(lead)]
        lead_NT = lead.indices(row, leading)[first:last].reshape(-1, lead.spec.length)
        places = _places(lead_NT, (self.first.spec, self.second.spec), videos)
        halves = (
            stream.cut(video, images_NT)
            for stream, video, images_NT in zip(streams, videos, places, strict=True)
        )
        clips = side_by_side(*halves)
        if last == lead.num_clips[row]:
            for stream in streams:
                stream.close()
        return row, first, clips


def _places(
    lead_NT: Indices, specs: tuple[ClipSpec, ClipSpec], videos: tuple[ResizedVideo, ResizedVideo]
) -> tuple[Indices, Indices]:
    """Return the images of both streams from those of the leading one, in the streams' order."""
    first, second = specs
    if leads(first, second):
        return lead_NT, aligned(lead_NT, first, second, num_frames=videos[1].num_frames)
    return aligned(lead_NT, second, first, num_frames=videos[0].num_frames), lead_NT


def _one_size(first: ResizedVideo, second: ResizedVideo) -> tuple[ResizedVideo, ResizedVideo]:
    """Return both, the images of the second brought to the size of the first's."""
    return first, _SameSize(second, first)


class _SameSize:
    """A video whose images are brought to the size of another's."""

    def __init__(self, video: ResizedVideo, like: ResizedVideo) -> None:
        self._video, self.num_frames = video, video.num_frames
        self.height, self.width = like.height, like.width

    def read(self, indices: Sequence[int]) -> Images:
        return resize_to(self._video.read(indices), self.height, self.width)


def _for_stream(drawn: Draw, spec: ClipSpec) -> Draw:
    return replace(drawn, noise=None) if spec.stream == "flow" else drawn
