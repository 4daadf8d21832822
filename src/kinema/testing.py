"""Scores of a checkpoint on a part of an index, by a named protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from kinema.config import DataConfig
from kinema.data.items import ClipItem
from kinema.datasets.index import check_files, read_index
from kinema.engine.checkpoint import Checkpoint, load_checkpoint
from kinema.engine.evaluate import TestSettings, evaluate
from kinema.engine.extract_features import features_of
from kinema.engine.items import part_items
from kinema.engine.protocols import Protocol, find_protocol
from kinema.engine.runtime import Precision, Runtime, runtime
from kinema.errors import KinemaError
from kinema.fused_checkpoint import is_fused, load_fused
from kinema.fusion_tables import Stream
from kinema.models.snippet_network import SnippetNetwork
from kinema.scores import Scores, save_scores
from kinema.trained_fusion import StreamKind

Part = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """How a test is run; empty fields take what the checkpoint says."""

    __test__ = False  # its name is no test for pytest

    index: str = ""  # folder with index.csv
    protocol: str = ""  # name or JSON file
    flow_store: str | None = None  # folder of stored flow; "" computes it on the fly
    official_split: int = 0  # 1 to 3 where the data set has several
    device: str = "auto"
    precision: Precision = "fp32"
    threads: int = 0
    views_per_pass: int = 0  # bounds the memory; 0: what suits the network and the device


def score_checkpoint(
    path: Path, out: Path, *, part: Part = "test", options: TestOptions | None = None
) -> Scores:
    """Score every video of a part and write the score file `out`.

    A fused checkpoint's streams are scored one after the other, and their scores are fused (or
    their features, where it was learned on these). Under `torchrun`, the videos are shared out and
    the first process writes.

    Raises:
        KinemaError: no such part, labels that the network does not know, missing files, or a
            fusion of features under `torchrun`.
    """
    options = options or TestOptions()
    with runtime(
        device=options.device, precision=options.precision, threads=options.threads
    ) as place:
        if is_fused(path):
            fused = load_fused(path, device=place.device)
            takes, streams = fused.fusion.takes, list(fused.streams.values())
            if place.world > 1 and set(takes) != {"scores"}:
                raise KinemaError(
                    f"{path} fuses features, which are extracted by one process: leave torchrun "
                    "out."
                )
            protocols = [_protocol(stream, options) for stream in streams]
            fused.fusion.check_kinds([protocol.average for protocol in protocols])
            scores = fused.fusion.fuse(
                [
                    _stream(checkpoint, kind, part, options, place)
                    for checkpoint, kind in zip(streams, takes, strict=True)
                ]
            )
        else:
            checkpoint = load_checkpoint(path, device=place.device)
            scores = cast(Scores, _stream(checkpoint, "scores", part, options, place))
        if place.is_main:
            save_scores(scores, out)
        place.barrier()
    return scores


def _stream(
    checkpoint: Checkpoint, kind: StreamKind, part: Part, options: TestOptions, place: Runtime
) -> Stream:
    data = data_config(checkpoint, options)
    index = read_index(Path(data.index))
    check_files(index)
    config = replace(checkpoint.config, data=data)
    items = part_items(index, part, classes=checkpoint.classes, config=config)
    if not items:
        raise KinemaError(f"{data.index} has no video in the part '{part}'.")
    settings = TestSettings(
        config=config,
        protocol=_protocol(checkpoint, options),
        classes=checkpoint.classes,
        checkpoint_hash=checkpoint.hash,
        views_per_pass=options.views_per_pass,
        show_progress=place.is_main,
    )
    return outputs_of(checkpoint, items, settings, kind=kind, runtime=place)


def outputs_of(
    checkpoint: Checkpoint,
    items: Sequence[ClipItem],
    settings: TestSettings,
    *,
    kind: StreamKind,
    runtime: Runtime,
) -> Stream:
    """Return the scores of the items, or the features of the network."""
    if kind == "scores":
        return evaluate(checkpoint.network, items, settings, runtime=runtime)
    network = cast(SnippetNetwork, checkpoint.network)
    return features_of(network, items, settings, maps=kind == "maps", runtime=runtime)


def _protocol(checkpoint: Checkpoint, options: TestOptions) -> Protocol:
    return find_protocol(options.protocol) if options.protocol else checkpoint.protocol


def data_config(checkpoint: Checkpoint, options: TestOptions) -> DataConfig:
    """Return the checkpoint's section `data` with what `options` ask for instead."""
    data = checkpoint.config.data
    if options.index:
        if Path(options.index).resolve() != Path(data.index).resolve():
            # Stores that were made for another index cannot be assumed to hold these videos.
            data = replace(data, flow_store="", frame_store="")
        data = replace(data, index=options.index)
    if options.flow_store is not None:
        data = replace(data, flow_store=options.flow_store)
    if options.official_split:
        data = replace(data, official_split=options.official_split)
    return data
