"""How many pairs of frames a device holds at once: large batches that always fit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CPU_BYTES = 2 * 1024**3  # what one batch may take on the CPU


def pairs_that_fit(device: "torch.device", *, bytes_per_pair: int, most: int) -> int:
    """Return a number of pairs from 1 to `most`: half of a GPU's free memory, 2 GiB on the CPU."""
    if device.type != "cuda":
        return max(1, min(most, _CPU_BYTES // bytes_per_pair))
    import torch

    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + cached
    return max(1, min(most, free // 2 // bytes_per_pair))
