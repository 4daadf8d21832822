"""Where a process computes: device, precision, threads, its place among `torchrun`'s processes."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kinema.console import say
from kinema.errors import KinemaError, UsageError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The device and the rank of this process; `dtype` is None for plain float32."""

    device: torch.device
    rank: int = 0
    world: int = 1
    dtype: torch.dtype | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def sum(self, *values: float) -> tuple[float, ...]:
        """Return each value summed over all processes."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        if self.device.type == "cuda":
            total = total.to(self.device)
        distributed.all_reduce(total)
        return tuple(total.tolist())

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401
        """Return the values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        distributed.all_gather_object(gathered, value)
        return gathered

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network as it is called in training: over all processes, where several."""
        if self.world == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps float16 gradients above zero; it does nothing in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def tell(self, line: str) -> None:
        """Say something once, however many processes there are."""
        if self.is_main:
            say(line)

    def share_buffers(self, network: nn.Module) -> None:
        """Give the network of every process the first one's buffers (statistics of BatchNorm)."""
        if self.world > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def runtime(
    *, device: str = "auto", precision: Precision = "auto", threads: int = 0
) -> Iterator[Runtime]:
    """Set this process up, alone or as one of `torchrun`'s, and clean up at the end.

    Raises:
        KinemaError: the device is not there.
    """
    if threads:
        torch.set_num_threads(threads)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    joined = world > 1 and not distributed.is_initialized()
    if joined:
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Runtime(device=chosen, rank=rank, world=world, dtype=_dtype(precision, chosen))
    finally:
        if joined:
            distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Unknown device '{name}': choose auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise KinemaError(
                f"The device '{name}' is asked for, but torch sees no CUDA device: take cpu, or "
                "look at `kinema checks` and CUDA_VISIBLE_DEVICES."
            )
        if device.index is None:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    if precision == "auto":
        precision = "bf16" if has_native_bf16(device) else "fp32"
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def has_native_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32 on `device` (emulated bfloat16 is not)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
