"""Where fetched weights are kept: the same address is fetched once."""

import hashlib
from pathlib import Path
from urllib.parse import urldefrag

import torch

from kinema.fetch import fetch


def cache_folder() -> Path:
    """Return the folder of torch's own downloads (below TORCH_HOME, if that is set)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def download(url: str, *, folder: Path | None = None, sha256: str = "") -> Path:
    """Fetch `url` into `folder` once, and return the file.

    Args:
        url: http or https; ``#sha256=…`` at its end is the same as `sha256`.
        folder: where to; by default a folder of this address's own in `cache_folder`.
        sha256: expected hash of the content in hexadecimal, whole or its first digits.

    Raises:
        KinemaError: not reachable, refused, cut off, or another content than the hash says.
    """
    address = urldefrag(url)[0]
    if folder is None:
        folder = cache_folder() / f"kinema-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    return fetch(
        [f"{address}#sha256={sha256}" if sha256 else url],
        folder,
        advice="fetch the file by other means and give model.weights=FILE",
    )
