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
from kinema.data.reading import ClipReader
from kinema.data.sampling import (
    TestRule,
    fitting_interval,
    frames,
    sample_test,
    sample_train,
    span,
)
from kinema.data.transforms import Images

__all__ = ["ClipItem", "ClipSpec", "TestClips", "TrainClips"]


class TrainClips(Dataset[tuple[torch.Tensor, int, int]]):
    """Augmented training clips: [i] is (x_NTCHW uint8, label, i).

    All that is random about clip i of an epoch comes from (seed, epoch, i): it does not depend on
    the process that loads it. The spatial draw comes first, so RGB and flow clips of the same
    seed have the same one.

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
        """Return (x_NTCHW uint8, label, index) of a video as it is drawn in this epoch.

        Raises:
            KinemaError: the video has vanished or cannot be read.
        """
        spec, rng = self.spec, np.random.default_rng((self.seed, epoch, index))
        video = self._reader.open(index)
        drawn = augmentation.draw(
            self.augment, height=video.height, width=video.width, crop=spec.crop, rng=rng
        )
        interval = fitting_interval(spec.interval, length=spec.length, num_frames=video.num_frames)
        starts = sample_train(
            spec.sampling,
            num_frames=video.num_frames,
            length=span(spec.length, interval),
            num_segments=spec.num_segments,
            rng=rng,
        )
        indices = frames(starts, length=spec.length, num_frames=video.num_frames, interval=interval)
        unique, places = np.unique(indices, return_inverse=True)
        images = augmentation.apply(
            drawn,
            video.read(unique.tolist()),
            crop=spec.crop,
            negated_channels=self._negated_channels,
        )
        self._reader.close()
        label = self.items[index].label
        if drawn.mirror:
            label = self.label_map.get(label, label)
        return _clip_tensor(images, places.reshape(indices.shape)), label, index


class TestClips(Dataset[tuple[int, int, torch.Tensor]]):
    """Whole images of test clips, a few clips at a time: [k] is (video, first clip, x_NTCHW).

    The images are resized but not cropped: crops are cut from them on the network's device.

    Args:
        items: the videos.
        spec: what is read from them.
        rule: which clips, a name of `kinema.data.sampling.TEST_RULES`.
        num_clips: clips per video.
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
        self.items, self.spec, self.rule, self.num_clips = tuple(items), spec, rule, num_clips
        self.clips_per_item = min(clips_per_item, num_clips)
        self._reader = ClipReader(self.items, spec, cache_bytes=cache_bytes)

    @property
    def items_per_video(self) -> int:
        """How many items hold the clips of one video."""
        return -(-self.num_clips // self.clips_per_item)

    def __len__(self) -> int:
        return len(self.items) * self.items_per_video

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        row, part = divmod(index, self.items_per_video)
        first = part * self.clips_per_item
        video = self._reader.open(row)
        length = self.spec.length
        interval = fitting_interval(self.spec.interval, length=length, num_frames=video.num_frames)
        starts = sample_test(
            self.rule,
            num_frames=video.num_frames,
            length=span(length, interval),
            num_clips=self.num_clips,
        )[first : first + self.clips_per_item]
        indices = frames(starts, length=length, num_frames=video.num_frames, interval=interval)
        unique, places = np.unique(indices, return_inverse=True)
        images = video.read(unique.tolist())
        if part == self.items_per_video - 1:
            self._reader.close()
        return row, first, _clip_tensor(images, places.reshape(indices.shape))


def _clip_tensor(images_UHWC: Images, places_NT: NDArray[np.intp]) -> torch.Tensor:
    """Arrange different images into snippets: (N, T, C, H, W)."""
    x_UCHW = torch.from_numpy(images_UHWC).permute(0, 3, 1, 2).contiguous()
    if np.array_equal(places_NT.ravel(), np.arange(len(images_UHWC))):
        return x_UCHW.view(*places_NT.shape, *x_UCHW.shape[1:])
    return x_UCHW[torch.from_numpy(places_NT)]
