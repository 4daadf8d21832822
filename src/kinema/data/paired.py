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
        self._first_leads = leads(first.spec, second.spec)

    def __len__(self) -> int:
        return len(self.first)

    def clips(self, index: int, *, epoch: int) -> list[tuple[torch.Tensor, int, int]]:
        """Return all clips of a video in an epoch.

        Raises:
            KinemaError: the video has vanished or cannot be read.
        """
        first, second = self.first, self.second
        videos = first.open(index), second.open(index)
        draws: list[Draw] = []
        places: tuple[list[Indices], list[Indices]] = ([], [])
        for repeat in range(first.augment.repeats):
            seed = (first.seed, epoch, index, *((repeat,) if repeat else ()))
            drawn, lead_NT = self._draw(videos, seed)
            other = aligned(
                lead_NT,
                (first if self._first_leads else second).spec,
                (second if self._first_leads else first).spec,
                num_frames=videos[int(self._first_leads)].num_frames,
            )
            draws.append(drawn)
            both = (lead_NT, other) if self._first_leads else (other, lead_NT)
            for found, images_NT in zip(places, both, strict=True):
                found.append(images_NT)
        halves = (
            stream.cut(video, [_for_stream(drawn, stream.spec) for drawn in draws], indices)
            for stream, video, indices in zip(
                (first, second), (videos[0], _SameSize(videos[1], videos[0])), places, strict=True
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
        if self._first_leads:
            return drawn, indices
        size = _SameSize(videos[1], videos[0])
        return drawn, self.second.draw(size, seed)[1]


class PairedTestClips(Dataset[tuple[int, int, torch.Tensor]]):
    """Whole images of test clips of two streams: (video, first clip, x_N1XHW).

    Args:
        first: clips of the first stream.
        second: clips of the same videos in the second stream.
    """

    def __init__(self, first: TestClips, second: TestClips) -> None:
        self._first_leads = leads(first.spec, second.spec)
        self._lead, self._other = (first, second) if self._first_leads else (second, first)
        self.items: Sequence[ClipItem] = first.items
        self.num_clips = self._lead.num_clips

    @property
    def parts(self) -> list[int]:
        """How many items hold the clips of each video."""
        return self._lead.parts

    def __len__(self) -> int:
        return len(self._lead)

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        lead, other = self._lead, self._other
        row, first, last = lead.place(index)
        lead_NT = lead.indices(row)[first:last].reshape(-1, lead.spec.length)
        other_NT = aligned(lead_NT, lead.spec, other.spec, num_frames=other.length(row))
        is_last = last == lead.num_clips[row]
        x, y = (
            stream.read(row, images_NT, is_last=is_last)
            for stream, images_NT in ((lead, lead_NT), (other, other_NT))
        )
        x, y = (x, y) if self._first_leads else (y, x)
        if y.shape[-2:] != x.shape[-2:]:
            y = _resized(y, height=x.shape[-2], width=x.shape[-1])
        return row, first, side_by_side(x, y)


class _SameSize:
    """A video whose images are brought to the size of another's."""

    def __init__(self, video: ResizedVideo, like: ResizedVideo) -> None:
        self._video, self.num_frames = video, video.num_frames
        self.height, self.width = like.height, like.width

    def read(self, indices: Sequence[int]) -> Images:
        return resize_to(self._video.read(indices), self.height, self.width)


def _for_stream(drawn: Draw, spec: ClipSpec) -> Draw:
    return replace(drawn, noise=None) if spec.stream == "flow" else drawn


def _resized(x_NTCHW: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    images = x_NTCHW.flatten(0, 1).permute(0, 2, 3, 1).numpy()
    resized = torch.from_numpy(resize_to(images, height, width)).permute(0, 3, 1, 2)
    return resized.reshape(*x_NTCHW.shape[:2], *resized.shape[1:])
