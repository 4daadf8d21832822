"""Reading weights files: safetensors and torch's own, as one flat table of tensors."""

import json
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinema.errors import KinemaError

FUSED_ENTRY = "kinema-fused"
"""The entry of a file that holds several networks and their fusion."""
_CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "ema")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|base_model|backbone)\.)+")
_OUTSIDE_BACKBONE = ("input_bn.", "consensus.")

# All that torch.load raises for cut, damaged and foreign files (found by trying thousands).
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

# From the names of torchvision (and of its older files) to those of timm.
_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^classifier\.0\."), "pre_logits.fc1."),  # VGG
    (re.compile(r"^classifier\.3\."), "pre_logits.fc2."),
    (re.compile(r"^classifier\.6\."), "head.fc."),
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\."), r"\1\2."),  # DenseNet of 2017
)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Tensors by the names of a `SnippetNetwork`, and what the file says of itself.

    `modality`, `backbone` and `normalise` are empty where it does not say.
    """

    source: str
    tensors: Mapping[str, Tensor]
    modality: str = ""
    backbone: str = ""
    normalise: str = ""


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file (of Kinema or not) or a torch file, which runs no code.

    Raises:
        KinemaError: the file is absent, damaged, of another kind, or needs code to be read.
    """
    if not path.is_file():
        raise KinemaError(f"There is no weights file {path}: check model.weights.")
    with path.open("rb") as handle:
        is_safetensors = handle.read(9)[8:] == b"{"  # 8 bytes of length, then a JSON header
    tensors, said = _read_safetensors(path) if is_safetensors else (_read_torch(path), {})
    config = said.get("config", {})
    return WeightsFile(
        source=str(path),
        tensors=network_names(tensors),
        modality=config.get("data", {}).get("modality", ""),
        backbone=config.get("model", {}).get("backbone", ""),
        normalise=config.get("model", {}).get("normalise", ""),
    )


def network_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with the names of a `SnippetNetwork`: no wrappers, timm's layer names."""
    return {_network_name(name): tensor for name, tensor in tensors.items()}


def _network_name(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    if name.startswith(_OUTSIDE_BACKBONE):
        return name
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return f"backbone.{name}"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise KinemaError(
            f"{path} is not a complete safetensors file ({error}): fetch or copy it again."
        ) from error
    if FUSED_ENTRY in metadata:
        raise KinemaError(
            f"{path} holds several networks and their fusion, so it cannot be model.weights: give "
            "the checkpoint of one stream."
        )
    return tensors, json.loads(metadata.get("kinema", "{}"))


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise KinemaError(
            f"{path} cannot be read as weights: it is neither a safetensors file nor a torch file "
            "of plain tensors (files that would run code are refused). Save its state_dict with "
            "torch.save or safetensors."
        ) from error
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    tensors = _tensors_of(content)
    if not tensors:
        raise KinemaError(
            f"{path} holds no tensors by name: give a file with a state_dict, on its own or under "
            f"one of {', '.join(_CONTAINERS)}."
        )
    return tensors


def _tensors_of(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
