"""Testing: any protocol on any network, in bounded memory, the same scores at any batch size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.config import Config, DataConfig
from kinema.console import progress
from kinema.data.clips import ClipItem, ClipSpec, TestClips
from kinema.data.loader import WholeClips, test_loader
from kinema.data.paired import PairedTestClips
from kinema.engine.protocols import Protocol, cut_crops, image_size
from kinema.engine.runtime import Runtime
from kinema.errors import KinemaError, UsageError
from kinema.models.modality import MODALITIES
from kinema.models.video_network import VideoNetwork
from kinema.scores import Scores, listed
from kinema.streams import has_second, second_stream

_CLIPS_PER_ITEM = 5  # clips that a loading process holds at a time
_IMAGE_VIEWS, _CLIP_VIEWS = 32, 8  # in one forward pass: of 2D networks, of 3D ones on a GPU


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """What a test needs beside the network and the videos."""

    __test__ = False  # its name is no test for pytest

    config: Config  # what the network was trained with
    protocol: Protocol
    classes: tuple[str, ...]
    checkpoint_hash: str = ""
    views_per_pass: int = 0  # 0: what suits the network and the device
    show_progress: bool = True

    def __post_init__(self) -> None:
        if self.views_per_pass < 0:
            raise UsageError(
                f"views_per_pass={self.views_per_pass} is not possible: a pass has at least 1 view."
            )


def clip_spec(data: DataConfig, *, joined: int = 1) -> ClipSpec:
    """Return what is read from each video for a network of this configuration.

    Args:
        data: the section `data`.
        joined: snippets that the network sees together.

    Raises:
        UsageError: settings that do not go together.
    """
    modality = MODALITIES[data.modality]
    if data.spread and joined > 1:
        raise UsageError(
            "data.spread=true is for networks that see one clip at a time; this one sees "
            f"{joined} snippets together, which are spread over the video anyway."
        )
    return ClipSpec(
        stream=modality.stream,
        length=data.stack + modality.extra_frames,
        interval=data.interval,
        short=data.short,
        spread=data.spread,
        fps=data.fps,
        joined=joined,
        num_segments=data.num_segments,
        sampling=data.sampling,
        resize=data.resize,
        crop=data.crop,
        flow_algorithm=data.flow_algorithm,
        flow_weights=data.flow_weights,
        flow_bound=data.flow_bound,
        flow_size=data.flow_size,
        flow_stride=data.flow_stride,
        flow_gray=data.flow_gray,
        flow_warp=data.flow_warp,
    )


def evaluate(
    network: VideoNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    *,
    runtime: Runtime,
) -> Scores:
    """Score every video by the protocol; every process returns the scores of all videos.

    Videos are shared out over the processes, each scored by one of them as a whole, so the
    result does not depend on their number.
    """
    was_training = network.training
    network.eval()
    mine = list(range(runtime.rank, len(items), runtime.world))
    scored = _score_videos(network, [items[i] for i in mine], settings, runtime)
    if was_training:
        network.train()
    values = np.zeros((len(items), len(settings.classes)), np.float32)
    clips_right = clips = 0
    for part in runtime.gather((mine, scored)):
        for position, (row, right, count) in zip(*part, strict=True):
            values[position] = row
            clips_right, clips = clips_right + right, clips + count
    rows = zip(items, values, strict=True)
    broken = [item.id for item, row in rows if not np.isfinite(row).all()]
    if broken:
        raise KinemaError(
            f"The network's scores are not finite numbers for {listed(broken)}: its training went "
            "wrong (lower optim.lr or set optim.clip_norm), or fp32 precision is needed."
        )
    protocol = settings.protocol
    return Scores(
        ids=tuple(item.id for item in items),
        values=values,
        kind="probabilities" if protocol.average == "probabilities" else "logits",
        labels=np.array([item.label for item in items], np.int64),
        classes=settings.classes,
        protocol=protocol.name,
        checkpoint=settings.checkpoint_hash,
        clip_top1=clips_right / clips if clips else None,
    )


_Scored = tuple[NDArray[np.float32], int, int]  # scores, right clips, clips


@torch.inference_mode()
def _score_videos(
    network: VideoNetwork, items: Sequence[ClipItem], settings: TestSettings, runtime: Runtime
) -> list[_Scored]:
    """Collect the logits of all views of each video and aggregate them."""
    dataset = protocol_clips(network, items, settings)
    num_crops = settings.protocol.num_crops
    logits: dict[int, dict[int, list[torch.Tensor]]] = {}
    done: dict[int, _Scored] = {}
    with progress(len(items), "test", show=settings.show_progress) as advance:
        for video, clip, view_logits in view_outputs(network, dataset, settings, runtime):
            clips, num_clips = logits.setdefault(video, {}), dataset.num_clips[video]
            clips.setdefault(clip, []).append(view_logits)
            if sum(map(len, clips.values())) == num_clips * num_crops:
                x_NVK = torch.stack([torch.stack(clips[i]) for i in range(num_clips)])
                label = items[video].label
                done[video] = _aggregate(network, x_NVK.to(runtime.device), label, settings)
                del logits[video]
                advance()
    return [done[i] for i in range(len(items))]


def protocol_clips(
    network: VideoNetwork, items: Sequence[ClipItem], settings: TestSettings
) -> WholeClips:
    """Return the protocol's clips of the videos.

    Raises:
        UsageError: the protocol's clips are not those that a network of two streams takes.
    """
    config, protocol = settings.config, settings.protocol
    first = _stream_clips(network, items, config.data, protocol)
    if not has_second(config):
        return first
    other = second_stream(config).data
    if protocol.stack and {protocol.stack} != {config.data.stack, other.stack}:
        raise UsageError(
            f"The protocol '{protocol.name}' has clips of {protocol.stack} images, but this "
            f"network of two streams takes {config.data.stack} and {other.stack}: choose another."
        )
    others = [item.second or item for item in items]
    return PairedTestClips(first, _stream_clips(network, others, other, protocol))


def _stream_clips(
    network: VideoNetwork, items: Sequence[ClipItem], data: DataConfig, protocol: Protocol
) -> TestClips:
    spec = clip_spec(data, joined=network.joined)
    if protocol.stack:
        spec = replace(spec, length=protocol.stack + MODALITIES[data.modality].extra_frames)
    return TestClips(
        items,
        replace(
            spec,
            resize=image_size(protocol, train_resize=data.resize, crop=data.crop),
            interval=protocol.interval or spec.interval,
            fps=protocol.fps or spec.fps,
            short=protocol.short or spec.short,
        ),
        rule=protocol.rule,
        num_clips=protocol.num_clips,
        clips_per_item=_CLIPS_PER_ITEM,
    )


def view_outputs(
    network: VideoNetwork, dataset: WholeClips, settings: TestSettings, runtime: Runtime
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (video, clip, output) view by view, a bounded number in one forward pass.

    The output is what `SnippetNetwork.snippet_logits` gives for a snippet, or the logits of a
    network that joins snippets. The crops of a clip come in their order.
    """
    data, protocol = settings.config.data, settings.protocol
    together = settings.views_per_pass or views_together(network, runtime)
    waiting: list[torch.Tensor] = []
    owners: list[tuple[int, int]] = []
    for video, first_clip, x_NTCHW in test_loader(dataset, workers=data.workers):
        x_VNTCHW = cut_crops(
            x_NTCHW,
            crops=protocol.crops,
            crop=protocol.side(data.crop),
            negated_channels=network.negated_channels,
        )
        x_VCSTCHW = x_VNTCHW.reshape(x_VNTCHW.shape[0], -1, network.joined, *x_VNTCHW.shape[2:])
        for clip in range(x_VCSTCHW.shape[1]):
            for x_CSTCHW in x_VCSTCHW:
                waiting.append(x_CSTCHW[clip])
                owners.append((video, first_clip + clip))
                if len(waiting) == together:
                    yield from _forward(network, waiting, owners, runtime)
                    waiting, owners = [], []
    if waiting:
        yield from _forward(network, waiting, owners, runtime)


def views_together(network: VideoNetwork, runtime: Runtime) -> int:
    """Return how many views go through the network at once, where nobody says it.

    Clips of 3D networks fill a CPU one by one; more of them would only take memory.
    """
    if network.is_clip:
        return 1 if runtime.device.type == "cpu" else _CLIP_VIEWS
    return max(_IMAGE_VIEWS // network.joined, 1)


def _forward(
    network: VideoNetwork,
    views: list[torch.Tensor],
    owners: list[tuple[int, int]],
    runtime: Runtime,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    x_BSTCHW = torch.stack(views).to(runtime.device, non_blocking=True)
    with runtime.autocast():
        if network.joined > 1:
            logits_BK = network(x_BSTCHW)
        else:
            logits_BK = network.snippet_logits(x_BSTCHW)[:, 0]
    for (video, clip), row in zip(owners, logits_BK.float().cpu(), strict=True):
        yield video, clip, row


def _aggregate(
    network: VideoNetwork, x_NVK: torch.Tensor, label: int, settings: TestSettings
) -> _Scored:
    """Turn the logits of N clips and V crops into one row and count the clips that are right.

    Networks with a consensus other than the average or the sum apply it over the clips, unless
    it has joined the snippets of each clip already.
    """
    protocol = settings.protocol
    if protocol.average == "probabilities":
        x_NVK = x_NVK.softmax(-1)
    x_NK = x_NVK.mean(1)
    right = int((x_NK.argmax(1) == label).sum())
    own_consensus = settings.config.model.consensus not in ("average", "sum")
    if own_consensus and network.joined == 1 and protocol.average == "logits":
        row = network.consensus(x_NK[None])[0]
    else:
        row = x_NVK.sum((0, 1)) if protocol.aggregate == "sum" else x_NK.mean(0)
    return row.cpu().numpy().astype(np.float32), right, x_NK.shape[0]


@torch.inference_mode()
def clip_probabilities(
    network: VideoNetwork, item: ClipItem, settings: TestSettings, *, runtime: Runtime
) -> NDArray[np.float32]:
    """Return the probabilities of each of the protocol's clips of one video, (clips, classes)."""
    network.eval()
    dataset = protocol_clips(network, [item], settings)
    total_NK = np.zeros((dataset.num_clips[0], len(settings.classes)), np.float32)
    for _, clip, logits in view_outputs(network, dataset, settings, runtime):
        total_NK[clip] += logits.softmax(0).numpy()
    total_NK /= settings.protocol.num_crops
    return total_NK
