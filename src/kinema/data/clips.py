"""From an item of an index to the clips that a network is trained and tested on.

Shapes: N snippets, T images per snippet, C channels (3 for RGB, 2 for encoded flow), H, W.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from kinema.config import AugmentConfig
from kinema.data import augment as augmentation
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.reading import ClipReader, ResizedVideo, stream_length
from kinema.data.sampling import TestRule
from kinema.data.snippets import Indices, num_windows, test_indices, train_indices
from kinema.data.transforms import Images

__all__ = ["ClipItem", "ClipSpec", "TestClips", "TrainClips"]


class TrainClips(Dataset[tuple[torch.Tensor, int, int]]):
    """Augmented training clips: [i] is (x_NTCHW uint8, label, i).

    All that is random about clip i of an epoch comes from (seed, epoch, i): it does not depend on
    the process that loads it. The spatial draw comes first, so RGB and flow clips of the same
    seed have the same one. Further clips of the same video (`augment.repeats`) have draws of
    their own.

    Args:
        items: the videos.
        spec: what is read from them.
        augment: how they are augmented.
        seed: of all randomness.
        label_map: labels that change when a clip is mirrored.
        cache_bytes: memory for decoded images, shared by forked loading processes; videos are
            read as a whole the first time, until it is full.
    """

    def __init__(
        self,
        items: Sequence[ClipItem],
        spec: ClipSpec,
        augment: AugmentConfig,
        *,
        seed: int,
        label_map: dict[int, int] | None = None,
        cache_bytes: int = 0,
    ) -> None:
        augmentation.check(augment, crop=spec.crop)
        self.items, self.spec, self.augment, self.seed = tuple(items), spec, augment, seed
        self.label_map = label_map or {}
        self.epoch = 0
        self._reader = ClipReader(self.items, spec, cache_bytes=cache_bytes)
        negates = spec.stream == "flow" and augment.mirror_flow_sign
        self._negated_channels = (0,) if negates else ()

    def __len__(self) -> int:
        return len(self.items)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that indexing draws for (loaders say it with every index instead)."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        return self.clip(index, epoch=self.epoch)

    def clip(self, index: int, *, epoch: int) -> tuple[torch.Tensor, int, int]:
        """Return (x_NTCHW uint8, label, index) of a video as it is first drawn in this epoch.

        Raises:
            KinemaError: the video has vanished or cannot be read.
        """
        return self.clips(index, epoch=epoch)[0]

    def clips(self, index: int, *, epoch: int) -> list[tuple[torch.Tensor, int, int]]:
        """Return all `augment.repeats` clips of a video in this epoch; it is read once for them.

        Raises:
            KinemaError: the video has vanished or cannot be read.
        """
        video = self.open(index)
        draws, indices = zip(
            *(
                self.draw(video, (self.seed, epoch, index, *((repeat,) if repeat else ())))
                for repeat in range(self.augment.repeats)
            ),
            strict=True,
        )
        clips = self.cut(video, draws, indices)
        return [
            (x_NTCHW, self.label(index, drawn), index)
            for x_NTCHW, drawn in zip(clips, draws, strict=True)
        ]

    def open(self, index: int) -> ResizedVideo:
        """Return the images of a video, at the size that crops are drawn from.

        Raises:
            KinemaError: it has vanished or cannot be read.
        """
        return self._reader.open(index)

    def draw(self, video: ResizedVideo, seed: tuple[int, ...]) -> tuple[augmentation.Draw, Indices]:
        """Draw a clip: how it is augmented, and which images it has, (N, T)."""
        rng = np.random.default_rng(seed)
        drawn = augmentation.draw(
            self.augment, height=video.height, width=video.width, crop=self.spec.crop, rng=rng
        )
        return drawn, train_indices(self.spec, num_frames=video.num_frames, rng=rng)

    def cut(
        self,
        video: ResizedVideo,
        draws: Sequence[augmentation.Draw],
        indices: Sequence[Indices],
    ) -> list[torch.Tensor]:
        """Read a video once and make its clips, (N, T, C, H, W) uint8 each; then it is closed."""
        read = np.unique(np.concatenate([images_NT.ravel() for images_NT in indices]))
        images = video.read(read.tolist())
        self._reader.close()
        return [
            self._clip(drawn, images_NT, read, images)
            for drawn, images_NT in zip(draws, indices, strict=True)
        ]

    def label(self, index: int, drawn: augmentation.Draw) -> int:
        """Return the class of a clip: mirrored ones may have another."""
        label = self.items[index].label
        return self.label_map.get(label, label) if drawn.mirror else label

    def _clip(
        self, drawn: augmentation.Draw, indices: Indices, read: Indices, images_UHWC: Images
    ) -> torch.Tensor:
        """Make one clip from the images that were read, of which `read` has the numbers."""
        unique, places = np.unique(indices, return_inverse=True)
        if len(unique) < len(read):
            images_UHWC = images_UHWC[np.searchsorted(read, unique)]
        images = augmentation.apply(
            drawn, images_UHWC, crop=self.spec.crop, negated_channels=self._negated_channels
        )
        return _clip_tensor(images, places.reshape(indices.shape))


class TestClips(Dataset[tuple[int, int, torch.Tensor]]):
    """Whole images of test clips, a few clips at a time: [k] is (video, first clip, x_NTCHW).

    The images are resized but not cropped: crops are cut from them on the network's device. A
    clip has `spec.joined` snippets, so N is that many times the clips of the item.

    Args:
        items: the videos.
        spec: what is read from them.
        rule: which clips, see `kinema.data.sampling.sample_test`.
        num_clips: clips per video; 0: as many windows as cover it (the rule "sliding").
        clips_per_item: the most that one item holds.
        cache_bytes: memory for decoded images, as for `TrainClips`.
    """

    __test__ = False  # its name is no test for pytest

    def __init__(
        self,
        items: Sequence[ClipItem],
        spec: ClipSpec,
        *,
        rule: TestRule,
        num_clips: int,
        clips_per_item: int,
        cache_bytes: int = 0,
    ) -> None:
        self.items, self.spec, self.rule = tuple(items), spec, rule
        self.num_clips = tuple(num_clips or self._windows(item) for item in self.items)
        self.clips_per_item = clips_per_item
        self._places = [
            (row, first)
            for row, clips in enumerate(self.num_clips)
            for first in range(0, clips, clips_per_item)
        ]
        self._reader = ClipReader(self.items, spec, cache_bytes=cache_bytes)

    def _windows(self, item: ClipItem) -> int:
        return num_windows(self.spec, num_frames=stream_length(item, self.spec))

    @property
    def parts(self) -> list[int]:
        """How many items hold the clips of each video."""
        return [-(-clips // self.clips_per_item) for clips in self.num_clips]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        row, first, last = self.place(index)
        video = self.open(row)
        x_NTCHW = self.cut(
            video, self.indices(row, video)[first:last].reshape(-1, self.spec.length)
        )
        if last == self.num_clips[row]:
            self.close()
        return row, first, x_NTCHW

    def place(self, index: int) -> tuple[int, int, int]:
        """Return (video, first clip, the clip after the last) of an item."""
        row, first = self._places[index]
        return row, first, min(first + self.clips_per_item, self.num_clips[row])

    def open(self, row: int) -> ResizedVideo:
        """Return the images of a video, at the size that they are tested in.

        Raises:
            KinemaError: it has vanished or cannot be read.
        """
        return self._reader.open(row)

    def close(self) -> None:
        """Close the video that is open."""
        self._reader.close()

    def indices(self, row: int, video: ResizedVideo) -> Indices:
        """Return the images of all clips of a video, (clips, `spec.joined`, T)."""
        clips = self.num_clips[row]
        found = test_indices(self.spec, self.rule, num_frames=video.num_frames, num_clips=clips)
        return found.reshape(clips, -1, self.spec.length)

    def cut(self, video: ResizedVideo, indices: Indices) -> torch.Tensor:
        """Return whole images (N, T, C, H, W) of a video."""
        unique, places = np.unique(indices, return_inverse=True)
        return _clip_tensor(video.read(unique.tolist()), places.reshape(indices.shape))


def _clip_tensor(images_UHWC: Images, places_NT: NDArray[np.intp]) -> torch.Tensor:
    """Arrange different images into snippets: (N, T, C, H, W)."""
    x_UCHW = torch.from_numpy(images_UHWC).permute(0, 3, 1, 2).contiguous()
    if np.array_equal(places_NT.ravel(), np.arange(len(images_UHWC))):
        return x_UCHW.view(*places_NT.shape, *x_UCHW.shape[1:])
    return x_UCHW[torch.from_numpy(places_NT)]
