"""Files of networks that estimate flow: weights, and one JSON entry that says of which network."""

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.errors import KinemaError
from kinema.files import replacing, sha256_of

if TYPE_CHECKING:
    from torch import nn

_ENTRY = "kinema-motion"
_FORMAT = 1
_HASH_DIGITS = 16


def save_motion(path: Path, network: "nn.Module", *, name: str, provenance: dict[str, Any]) -> None:
    """Write a network that estimates flow, whole or not at all.

    Args:
        path: the file, .safetensors.
        network: the network.
        name: of `kinema.flow.motion_network`.
        provenance: where it comes from: epochs, losses, versions.
    """
    from safetensors.torch import save

    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    entry = {"format": _FORMAT, "network": name, "provenance": provenance}
    content = save(weights, metadata={_ENTRY: json.dumps(entry)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_motion(path: Path) -> dict[str, Any]:
    """Return the entry of such a file: `network`, `provenance`.

    Raises:
        KinemaError: the file is absent, damaged or of another kind.
    """
    if not path.is_file():
        raise KinemaError(
            f"There is no file {path} with the weights of a MotionNet: give one that "
            "`kinema train-motion` wrote."
        )
    try:
        with path.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        raise KinemaError(f"{path} is not a whole safetensors file ({error}).") from error
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if _ENTRY not in metadata:
        raise KinemaError(
            f"{path} holds no MotionNet: give a file that `kinema train-motion` wrote, such as "
            "RUN/last.safetensors."
        )
    entry: dict[str, Any] = json.loads(metadata[_ENTRY])
    if entry["format"] > _FORMAT:
        raise KinemaError(f"{path} was written by a newer Kinema: update with pip.")
    return entry


def load_motion(path: Path) -> "tuple[nn.Module, str]":
    """Return the network of a file, and its name.

    Raises:
        KinemaError: as `read_motion`, or the weights are cut off.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from kinema.flow.motion_network import build_motion_network

    name = str(read_motion(path)["network"])
    network = build_motion_network(name)
    try:
        weights = load(path.read_bytes())
    except SafetensorError as error:
        raise KinemaError(f"{path} is not a whole safetensors file ({error}).") from error
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    if shapes != {key: value.shape for key, value in weights.items()}:
        raise KinemaError(
            f"{path} was written by another Kinema, whose {name} had other layers: train it anew "
            "with `kinema train-motion`."
        )
    network.load_state_dict(weights)
    return network, name


def describe_motion(path: str) -> dict[str, Any]:
    """Return what decides the flow of a file: its network, and a hash of its content."""
    return dict(_described(path, _changed(path)))


def _changed(path: str) -> int:
    """Return when a file was written last, nanoseconds; 0 where it is missing."""
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else 0


@lru_cache(maxsize=8)
def _described(path: str, _time: int) -> tuple[tuple[str, str], ...]:
    name = str(read_motion(Path(path))["network"])
    return ("network", name), ("weights_sha256", sha256_of(Path(path))[:_HASH_DIGITS])
