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
from kinema.models.video_network import VideoNetwork, build_video_network
from kinema.weights.files import FUSED_ENTRY

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

    network: VideoNetwork
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


def entry_of(info: CheckpointInfo) -> dict[str, Any]:
    """Return the JSON entry that travels with the weights."""
    return {
        "format": _FORMAT,
        "config": to_dict(info.config),
        "classes": list(info.classes),
        "protocol": to_dict(info.protocol),
        "provenance": info.provenance,
    }


def _write(path: Path, weights: dict[str, torch.Tensor], info: CheckpointInfo) -> None:
    content = save(weights, metadata={_ENTRY: json.dumps(entry_of(info))})
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
    if FUSED_ENTRY in metadata:
        raise KinemaError(
            f"{path} holds several streams and their fusion: `kinema predict` and `kinema test` "
            "take such a file, alone; give the checkpoint of one stream here."
        )
    if _ENTRY not in metadata:
        raise KinemaError(
            f"{path} holds weights but no description by Kinema: start a training from it with "
            f"model.weights={path} instead."
        )
    return info_of(json.loads(metadata[_ENTRY]), source=path)


def info_of(entry: dict[str, Any], *, source: Path) -> CheckpointInfo:
    """Return what a JSON entry says, see `entry_of`.

    Raises:
        KinemaError: a newer Kinema wrote `source`.
    """
    if entry["format"] > _FORMAT:
        raise KinemaError(f"{source} was written by a newer Kinema: update with pip.")
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
    network = network_of(info, read_tensors(path), device=device)
    return Checkpoint(network=network, info=info, hash=weights_hash(path))


def network_of(
    info: CheckpointInfo, weights: dict[str, torch.Tensor], *, device: torch.device | str = "cpu"
) -> VideoNetwork:
    """Build the network that `info` describes, with these weights, in evaluation mode."""
    network = build_video_network(info.config, num_classes=len(info.classes))
    network.load_state_dict(weights)
    network.to(device).eval()
    return network


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a whole safetensors file by name."""
    with safe_open(path, framework="pt") as handle:
        return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


def add_provenance(path: Path, values: dict[str, Any]) -> None:
    """Add facts to a checkpoint, such as its weight in a fusion; the weights stay as they are."""
    info = read_info(path)
    updated = replace(info, provenance={**info.provenance, **values})
    _write(path, read_tensors(path), updated)


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
