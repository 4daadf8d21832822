"""Features of many videos from one network, streamed to a file in bounded memory.

Shapes: T clips, V views, D features, P positions of a map, C channels.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from kinema.config import ModelConfig
from kinema.console import progress
from kinema.data.clips import ClipItem, TrainClips
from kinema.data.loader import train_loader
from kinema.data.mirrored import mirror_rule
from kinema.engine.evaluate import (
    TestSettings,
    clip_spec,
    protocol_clips,
    view_outputs,
    views_together,
)
from kinema.engine.runtime import Runtime
from kinema.errors import KinemaError, UsageError
from kinema.features import (
    FeatureLayout,
    Features,
    FeatureWriter,
    load_features,
    writing_features,
)
from kinema.models.snippet_network import SnippetNetwork

Advance = Callable[..., None]

_VIDEOS_PER_MARK = 16  # an interrupted extraction repeats at most so many


@dataclass(frozen=True, kw_only=True)
class FeatureKind:
    """Which features.

    `passes` of `snippets` random clips each, with the training's augmentation, all drawn from
    `seed`; without passes, the views of a protocol.
    """

    maps: bool = False  # the feature map, position by position; else pooled
    passes: int = 0
    snippets: int = 0
    seed: int = 0


def read_inside(network: SnippetNetwork, model: ModelConfig, *, maps: bool) -> None:
    """Make `network` give what is before its classifier, of every snippet alone.

    Raises:
        KinemaError: snippets change each other inside the backbone, or there is no such place.
    """
    if model.shift != "none":
        raise KinemaError(
            "This network shifts channels between the snippets of a video (TSM), so a snippet has "
            "no features of its own: take a checkpoint with model.shift=none."
        )
    if network.reads == "maps" and not maps:
        raise KinemaError(
            "This network reads feature maps (Temporal Linear Encoding) and has no pooled "
            "features: give --maps."
        )
    network.join(1)
    network.reads = "maps" if maps else "features"
    network.eval()


def extract(
    network: SnippetNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    *,
    path: Path,
    kind: FeatureKind,
    runtime: Runtime,
) -> None:
    """Write the features of all items to `path`; an interrupted extraction goes on.

    Args:
        network: as `read_inside` leaves it.
        items: the videos.
        settings: protocol, data, and how many views are in a forward pass.
        path: of the file.
        kind: which features.
        runtime: where it runs, in one process.
    """
    if not kind.passes and not settings.protocol.num_clips:
        raise UsageError(
            f"The protocol '{settings.protocol.name}' has as many clips as cover a video, but a "
            "feature file has the same number of every video: choose another protocol."
        )
    layout = _layout(network, items, settings, kind, runtime)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_features(path, layout) as writer:
        left = [i for i in range(len(items)) if not writer.is_done(i, layout.views - 1)]
        total = len(items) * max(kind.passes, 1)
        with progress(total, "features", show=settings.show_progress) as advance:
            sink = (writer, runtime, advance)
            if kind.passes:
                _random_passes(network, items, settings, kind, sink)
            elif left:
                advance(len(items) - len(left))
                _protocol_views(network, items, settings, left, sink)


def features_of(
    network: SnippetNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    *,
    maps: bool,
    runtime: Runtime,
) -> Features:
    """Return the features of all items by a protocol, as `extract` would write them.

    The network is left as `read_inside` leaves it.
    """
    read_inside(network, settings.config.model, maps=maps)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "features.safetensors"
        extract(network, items, settings, path=path, kind=FeatureKind(maps=maps), runtime=runtime)
        found = load_features(path)
        return replace(found, values=np.array(found.values))


@torch.inference_mode()
def _layout(
    network: SnippetNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    kind: FeatureKind,
    runtime: Runtime,
) -> FeatureLayout:
    """Find the width by an empty image, and note all that the features depend on."""
    protocol, data = settings.protocol, settings.config.data
    side = data.crop if kind.passes else protocol.side(data.crop)
    images, channels = network.snippet_shape
    if protocol.stack and not kind.passes:
        images += protocol.stack - network.stack
    x = torch.zeros((1, 1, images, channels, side, side), dtype=torch.uint8, device=runtime.device)
    with runtime.autocast():
        width, shape = _probe(network, x, kind)
    shown = f"{kind.passes} random passes, seed {kind.seed}" if kind.passes else protocol.name
    flow = {name: value for name, value in vars(data).items() if name.startswith("flow_")}
    flow.pop("flow_store")
    depends = {"flow": flow if data.modality == "flow" else {}, "crop": side}
    depends |= {"precision": str(runtime.dtype), "split": data.official_split}
    depends |= {"augment": vars(settings.config.augment)} if kind.passes else vars(protocol)
    return FeatureLayout(
        ids=tuple(item.id for item in items),
        labels=tuple(item.label for item in items),
        classes=settings.classes,
        views=kind.passes or protocol.num_crops,
        clips=kind.snippets if kind.passes else protocol.num_clips,
        width=width,
        map_shape=shape,
        augmented=bool(kind.passes),
        facts={
            "stream": data.modality,
            "protocol": shown,
            "checkpoint": settings.checkpoint_hash,
            "settings": repr(sorted(depends.items())),
        },
    )


def _probe(
    network: SnippetNetwork, x_BSTCHW: torch.Tensor, kind: FeatureKind
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the width of the features, and the sides of the map where maps are asked for."""
    shapes: list[tuple[int, ...]] = []
    inside = network.backbone.forward_features

    def noted(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = inside(x)  # type: ignore[operator]
        shapes.append(tuple(found.shape))
        return found

    network.backbone.forward_features = noted  # type: ignore[assignment]
    try:
        width = tuple(network.snippet_logits(x_BSTCHW).shape[2:])
    finally:
        del network.backbone.forward_features
    return width, _sides(shapes[0], width) if kind.maps else ()


def _sides(shape: tuple[int, ...], width: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a map (B, C, sides) or (B, sides, C): their product is the positions."""
    positions, channels = width
    for sides, depth in ((shape[2:], shape[1]), (shape[1:-1], shape[-1])):
        if math.prod(sides) == positions and depth == channels:
            return sides
    return (positions,)


def _protocol_views(
    network: SnippetNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    left: list[int],
    sink: tuple[FeatureWriter, Runtime, Advance],
) -> None:
    """Write the protocol's views of the videos `left`."""
    writer, runtime, advance = sink
    views = settings.protocol.num_crops
    dataset = protocol_clips(network, [items[i] for i in left], settings)
    seen: dict[int, Counter[int]] = {}  # of every video: crops of each clip
    done = 0
    with torch.inference_mode():
        for row, clip, found in view_outputs(network, dataset, settings, runtime):
            video, crops = left[row], seen.setdefault(row, Counter())
            writer.put((video, crops[clip], clip), found[None].numpy())
            crops[clip] += 1
            if crops.total() == settings.protocol.num_views:
                for view in range(views):
                    writer.finish(video, view, items[video].label)
                del seen[row]
                done += 1
                advance()
            if done == _VIDEOS_PER_MARK:
                writer.mark()
                done = 0


def _random_passes(
    network: SnippetNetwork,
    items: Sequence[ClipItem],
    settings: TestSettings,
    kind: FeatureKind,
    sink: tuple[FeatureWriter, Runtime, Advance],
) -> None:
    """Write random passes; clip i of pass p is drawn from (seed, p, i), whatever came before."""
    writer, runtime, advance = sink
    clips = _random_clips(items, settings, kind)
    together = settings.views_per_pass or views_together(network, runtime)
    for view in range(kind.passes):
        done = sum(writer.is_done(video, view) for video in range(len(items)))
        advance(done)
        batches = train_loader(
            clips,
            batch_size=1,
            seed=kind.seed,
            epoch=view,
            start_batch=done,  # the order of a pass is always the same
            workers=settings.config.data.workers,
        )
        for count, (x_1STCHW, labels, numbers) in enumerate(batches, start=1):
            video = int(numbers[0])
            for first in range(0, kind.snippets, together):
                with torch.inference_mode(), runtime.autocast():
                    x = x_1STCHW[:, first : first + together].to(runtime.device)
                    found = network.snippet_logits(x)[0]
                writer.put((video, view, first), found.float().cpu().numpy())
            writer.finish(video, view, int(labels[0]))
            if count % _VIDEOS_PER_MARK == 0:
                writer.mark()
            advance()
        writer.mark()


def _random_clips(
    items: Sequence[ClipItem], settings: TestSettings, kind: FeatureKind
) -> TrainClips:
    augment, data = settings.config.augment, settings.config.data
    mirror, label_map, _ = mirror_rule(augment, settings.classes)
    return TrainClips(
        items,
        replace(clip_spec(data), num_segments=kind.snippets),
        replace(augment, mirror=mirror, repeats=1),
        seed=kind.seed,
        cache_bytes=data.cache_mb * 2**20,
        label_map=label_map,
    )
