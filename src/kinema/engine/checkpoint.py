"""Self-contained checkpoints: weights and a JSON entry with all that is needed to use them."""

import hashlib
import json
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from kinema.config import Config, from_dict, to_dict
from kinema.engine.protocols import Protocol, find_protocol
from kinema.errors import KinemaError
from kinema.files import replacing
from kinema.models.network import SnippetNetwork, build_network

_ENTRY = "kinema"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What travels with the weights."""

    config: Config
    classes: tuple[str, ...]
    protocol: Protocol  # how it is tested unless asked otherwise
    provenance: dict[str, Any] = field(default_factory=dict)  # epoch, metrics, versions, index


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network ready for use, in evaluation mode."""

    network: SnippetNetwork
    info: CheckpointInfo
    hash: str  # of the weights alone, see `weights_hash`

    @property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return self.info.config

    @property
    def protocol(self) -> Protocol:
        """How it is tested unless asked otherwise."""
        return self.info.protocol

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.info.classes


def save_checkpoint(path: Path, network: nn.Module, info: CheckpointInfo) -> None:
    """Write weights and `info` to a safetensors file, whole or not at all."""
    state = network.state_dict()
    _write(path, {name: value.detach().cpu().contiguous() for name, value in state.items()}, info)


def _write(path: Path, weights: dict[str, torch.Tensor], info: CheckpointInfo) -> None:
    entry = {
        "format": _FORMAT,
        "config": to_dict(info.config),
        "classes": list(info.classes),
        "protocol": to_dict(info.protocol),
        "provenance": info.provenance,
    }
    content = save(weights, metadata={_ENTRY: json.dumps(entry)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # safetensors' own writer hides why it failed


def read_info(path: Path) -> CheckpointInfo:
    """Read the JSON entry of a checkpoint.

    Raises:
        KinemaError: the file is absent, or is not a checkpoint of Kinema.
    """
    if not path.is_file():
        raise KinemaError(f"There is no checkpoint {path}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise KinemaError(
            f"{path} is not a complete safetensors file ({error}): give a checkpoint that "
            "`kinema train` wrote, such as RUN/rgb/best.safetensors."
        ) from error
    if _ENTRY not in metadata:
        raise KinemaError(
            f"{path} holds weights but no description by Kinema: start a training from it with "
            f"model.weights={path} instead."
        )
    entry = json.loads(metadata[_ENTRY])
    if entry["format"] > _FORMAT:
        raise KinemaError(f"{path} was written by a newer Kinema: update with pip.")
    config, protocol = from_dict(Config, entry["config"]), entry.get("protocol")
    return CheckpointInfo(
        config=config,
        classes=tuple(entry["classes"]),
        protocol=from_dict(Protocol, protocol) if protocol else find_protocol(config.protocol),
        provenance=entry["provenance"],
    )


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Build the network of a checkpoint and load its weights."""
    info = read_info(path)
    network = build_network(
        info.config.model,
        modality=info.config.data.modality,
        stack=info.config.data.stack,
        num_classes=len(info.classes),
        num_segments=info.config.data.num_segments,
        crop=info.config.data.crop,
    )
    with safe_open(path, framework="pt") as handle:
        weights = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    network.load_state_dict(weights)
    network.to(device).eval()
    return Checkpoint(network=network, info=info, hash=weights_hash(path))


def add_provenance(path: Path, values: dict[str, Any]) -> None:
    """Add facts to a checkpoint, such as its weight in a fusion; the weights stay as they are."""
    info = read_info(path)
    with safe_open(path, framework="pt") as handle:
        weights = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    updated = replace(info, provenance={**info.provenance, **values})
    _write(path, weights, updated)


def weights_hash(path: Path) -> str:
    """Return 16 hexadecimal digits that name the weights, whatever the JSON entry says."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        header_bytes = int.from_bytes(handle.read(8), "little")
        handle.seek(8 + header_bytes)
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write what a resume needs, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as handle:
        try:
            torch.save(state, handle)
        except RuntimeError as error:  # a failed write makes torch stumble a second time
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote (tensors and plain values only, no code).

    Raises:
        KinemaError: the file is damaged or of another kind.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise KinemaError(
            f"{path} is not the whole state of a training: remove it to start the training anew, "
            "or choose another output folder."
        ) from error
    return state
