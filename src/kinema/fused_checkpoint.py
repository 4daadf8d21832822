"""Fused checkpoints: one file with the networks of several streams and their fusion.

A safetensors file: weights under ``streams/NAME/``, what a fusion learned under ``fusion/``, and
one JSON entry with the entry of every stream's own checkpoint and the fusion's settings.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kinema.engine.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    entry_of,
    info_of,
    network_of,
    read_info,
    read_tensors,
    weights_hash,
)
from kinema.engine.protocols import PROTOCOLS, Protocol
from kinema.errors import KinemaError, UsageError
from kinema.features import Features
from kinema.files import replacing
from kinema.fusion_tables import Stream
from kinema.stored_fusion import Fusion, fusion_of
from kinema.stream_files import read_stream
from kinema.streams import stream_name
from kinema.weights.files import FUSED_ENTRY

_FORMAT = 1
_STREAMS, _FUSION = "streams/", "fusion/"


@dataclass(frozen=True, kw_only=True)
class FusedCheckpoint:
    """Networks that are used together, by stream name, and how their scores become one."""

    streams: dict[str, Checkpoint]
    fusion: Fusion
    hash: str  # of all weights and of what the fusion learned

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs, the same for every stream."""
        return next(iter(self.streams.values())).classes


def is_fused(path: Path) -> bool:
    """Tell whether a file is a fused checkpoint; a damaged one is none."""
    try:
        with safe_open(path, framework="pt") as handle:
            return FUSED_ENTRY in (handle.metadata() or {})
    except (SafetensorError, OSError):
        return False


def stream_names(modalities: Sequence[str]) -> list[str]:
    """Return a name for each stream: its modality, and for a second one of it its place."""
    names: list[str] = []
    for place, name in enumerate(modalities, start=1):
        names.append(name if name not in names else f"{name}-{place}")
    return names


def save_fused(
    path: Path,
    checkpoints: Sequence[Path],
    *,
    scores: Sequence[Path],
    fusion: Fusion,
    train_on: Sequence[Path] = (),
) -> None:
    """Write several checkpoints and the fusion of their scores to one file, whole or not at all.

    Args:
        path: the file, .safetensors.
        checkpoints: of one stream each.
        scores: the score (or feature) file of each checkpoint that was fused, in the same order.
            Its protocol becomes the stream's.
        fusion: found on these.
        train_on: the files that weights were searched on, or that it was learned on.

    Raises:
        KinemaError: a score file of another network or protocol, or other classes.
        UsageError: numbers of files that differ.
    """
    checked = _checked_streams(checkpoints, scores=scores, train_on=train_on)
    if len(fusion.takes) != len(checked):
        raise UsageError(
            f"The fusion joins {len(fusion.takes)} streams, but there are {len(checked)} "
            "checkpoints: give one for each."
        )
    names = stream_names([stream_name(info.config) for info, _ in checked])
    tensors = {f"{_FUSION}{name}": torch.tensor(v) for name, v in fusion.parameters.items()}
    streams = {}
    for name, file, (info, digest) in zip(names, checkpoints, checked, strict=True):
        streams[name] = {**entry_of(info), "hash": digest}
        weights = read_tensors(file)
        tensors |= {f"{_STREAMS}{name}/{key}": value for key, value in weights.items()}
    entry = {
        "format": _FORMAT,
        "hash": _hash(tensors),
        "streams": streams,
        "fusion": fusion.entry(),
    }
    content = save(tensors, metadata={FUSED_ENTRY: json.dumps(entry)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # safetensors' own writer hides why it failed


def _checked_streams(
    checkpoints: Sequence[Path], *, scores: Sequence[Path], train_on: Sequence[Path]
) -> list[tuple[CheckpointInfo, str]]:
    """Return what each checkpoint says of itself, with its score file's protocol, and its hash.

    Every score file was made by the checkpoint at its place, or the error says which was not.
    """
    if len(checkpoints) != len(scores) or len(train_on) not in (0, len(scores)):
        raise UsageError(
            f"{len(checkpoints)} checkpoints, {len(scores)} score files and {len(train_on)} of "
            "validation are given: a fused checkpoint needs the checkpoint of every score file, "
            "in the same order."
        )
    checked: list[tuple[CheckpointInfo, str]] = []
    for checkpoint, path, other in zip_longest(checkpoints, scores, train_on):
        info, digest = read_info(checkpoint), weights_hash(checkpoint)
        found = _scores_of(path, checkpoint, info, digest)
        info = replace(info, protocol=_protocol(info, found, path))
        trained = _scores_of(other, checkpoint, info, digest) if other else found
        is_random = isinstance(trained, Features) and trained.augmented
        if trained.protocol != found.protocol and not is_random:
            raise KinemaError(
                f"{path} was scored by the protocol '{found.protocol}', but {other} by "
                f"'{trained.protocol}': a fusion holds for the scores that it was found on. Test "
                "both parts by the same protocol."
            )
        checked.append((info, digest))
        if info.classes != checked[0][0].classes:
            raise KinemaError(
                f"{checkpoint} was trained on other classes than {checkpoints[0]}, or has them in "
                "another order: only checkpoints of the same data set can be in one file."
            )
    return checked


def _scores_of(path: Path, checkpoint: Path, info: CheckpointInfo, digest: str) -> Stream:
    scores = read_stream(path)
    if scores.checkpoint != digest:
        said = f"by the network {scores.checkpoint}" if scores.checkpoint else "by no known network"
        raise KinemaError(
            f"{path} was made {said}, not by {checkpoint} ({digest}): give the checkpoints in the "
            "order of the score files, or test this one again."
        )
    if scores.classes != info.classes:
        raise KinemaError(
            f"{path} has other classes than {checkpoint}, or has them in another order: test the "
            "checkpoint again."
        )
    return scores


def _protocol(info: CheckpointInfo, scores: Stream, path: Path) -> Protocol:
    """Return the protocol that the scores were made by."""
    name = scores.protocol
    if name == info.protocol.name:
        return info.protocol
    if name not in PROTOCOLS:
        raise KinemaError(
            f"{path} was scored by the protocol '{name}', which has no description here: test by "
            "one of `kinema recipes`, or by the checkpoint's own."
        )
    return PROTOCOLS[name]


def load_fused(path: Path, *, device: torch.device | str = "cpu") -> FusedCheckpoint:
    """Read a fused checkpoint: every stream is one as `load_checkpoint` gives it.

    Raises:
        KinemaError: the file is damaged, or was written by a newer Kinema.
    """
    with safe_open(path, framework="pt") as handle:
        entry = json.loads(handle.metadata()[FUSED_ENTRY])
    if entry["format"] > _FORMAT:
        raise KinemaError(f"{path} was written by a newer Kinema: update with pip.")
    tensors = read_tensors(path)
    if _hash(tensors) != entry["hash"]:
        raise KinemaError(
            f"{path} is damaged: its weights are not those that were written. Copy it again, or "
            "make it anew with `kinema fuse --save`."
        )
    parameters = {name: value.numpy() for name, value in _below(_FUSION, tensors).items()}
    return FusedCheckpoint(
        streams={
            name: _stream(said, _below(f"{_STREAMS}{name}/", tensors), path, device)
            for name, said in entry["streams"].items()
        },
        fusion=fusion_of(entry["fusion"], parameters),
        hash=entry["hash"],
    )


def _stream(
    entry: dict[str, Any],
    weights: dict[str, torch.Tensor],
    path: Path,
    device: torch.device | str,
) -> Checkpoint:
    info = info_of(entry, source=path)
    return Checkpoint(
        network=network_of(info, weights, device=device), info=info, hash=entry["hash"]
    )


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return 16 hexadecimal digits that name all tensors, with their names and shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
