"""What flow needs to know of GPUs: whether there are any, and how many pairs one holds at once."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_DRIVER = Path("/dev/nvidiactl")
_CPU_BYTES = 2 * 1024**3  # what one batch may take on the CPU


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA names them."""
    if not _DRIVER.exists() and shutil.which("nvidia-smi") is None:
        return ()  # without loading torch, which takes seconds
    import torch

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed:
        return tuple(allowed.split(","))
    return tuple(str(number) for number in range(torch.cuda.device_count()))


def pairs_that_fit(device: "torch.device", *, bytes_per_pair: int, most: int) -> int:
    """Return a number of pairs from 1 to `most`: half of a GPU's free memory, 2 GiB on the CPU."""
    if device.type != "cuda":
        return max(1, min(most, _CPU_BYTES // bytes_per_pair))
    import torch

    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + cached
    return max(1, min(most, free // 2 // bytes_per_pair))
