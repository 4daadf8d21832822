"""TV-L1 and RAFT in batches on a GPU: pairs per second, accuracy, and what memory would allow.

    PYTHONPATH=src python benchmarks/flow_gpu.py

Run it from the root of the repository. It needs torch 2.11 or later with Triton and numpy; numba
(the CPU path), OpenCV and torchvision (RAFT) are measured where they are installed, and named where
not. It makes its own frames of 320 x 240, takes less than eight minutes, and every line is printed
as soon as it is known. Without a CUDA device it measures the plain torch path on a small load.

Floor: the bytes that the iterations of these very frames must move through device memory
(`tvl1_triton` counts them per pixel) over the copy bandwidth measured in the same run. RAFT has
random weights: its speed does not depend on them.
"""

import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from kinema.flow import raft, tvl1_torch
from kinema.flow.tvl1 import STANDARD, Tvl1Settings

if TYPE_CHECKING:
    from kinema.flow.tvl1_triton import Tile

WIDTH, HEIGHT = 320, 240
BATCHES = (16, 64, 128, 256, 512)
TILES = ((16, 64, 8), (16, 64, 4), (8, 64, 4), (8, 64, 8), (8, 32, 4), (16, 32, 4), (8, 128, 8))
TILES += ((4, 64, 4), (4, 128, 4), (32, 32, 8), (16, 128, 16), (4, 64, 2))
BYTES_PER_WARP = 36 + 64  # per pixel: `linearised` 9 floats; I1 with gradient, p and u made anew


def main() -> None:
    """Measure and print everything."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    print(f"python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores")
    frames_THW = moving_frames(513 if has_gpu else 3, *(HEIGHT, WIDTH) if has_gpu else (96, 128))
    if has_gpu:
        measure_gpu(frames_THW)
    else:
        print("no CUDA device here: the plain torch path on the CPU, a small load")
        flow, seconds = timed(lambda: tvl1_torch.tvl1_batched(frames_THW), device)
        report("tvl1, plain torch on the CPU", len(flow), seconds, size=frames_THW.shape[1:])
    measure_cpu(frames_THW[: 65 if has_gpu else 3].numpy())
    compare(frames_THW[:9], device)
    measure_raft(frames_THW[: 257 if has_gpu else 3].numpy(), device)


def moving_frames(num_frames: int, height: int, width: int) -> torch.Tensor:
    """Return gray frames (T, H, W): a textured ground that turns and drifts, two things before it.

    All motions are below a pixel to a few pixels per frame, and there is a little noise, as in the
    videos of a data set.
    """
    generator = torch.Generator().manual_seed(0)
    ground, thing = (_texture(height, width, generator) for _ in range(2))
    y = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width)[None].expand(height, width)
    frames = []
    for t in range(num_frames):
        angle, drift = 0.2 * np.sin(t / 19), 0.5 * np.sin(t / 17)
        frame = _sample(ground, x * np.cos(angle) - y * np.sin(angle) + drift, y + x * angle)
        for speed, radius in ((0.06, 0.3), (-0.04, 0.45)):
            cx, cy = 0.6 * np.sin(t * speed), 0.5 * np.cos(1.3 * t * speed)
            inside = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2).float()
            frame = frame * (1 - inside) + inside * _sample(thing, x - cx, y - cy)
        frame = frame + torch.randn(height, width, generator=generator) * 3
        frames.append(frame.clamp(0, 255).to(torch.uint8))
    return torch.stack(frames)


def _texture(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Return (1, 1, H, W): noise of several sizes, gray levels."""
    total = torch.zeros(1, 1, height, width)
    for cells in (6, 12, 24, 48, 96):
        noise = torch.rand(1, 1, cells * 3 // 4, cells, generator=generator) - 0.5
        smooth = F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
        total += smooth * (24 / cells) ** 0.5
    return 128 + total * 90


def _sample(picture: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    grid = torch.stack((x, y), dim=-1).float()[None]
    return F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)[0, 0]


def measure_gpu(frames_THW: torch.Tensor) -> None:
    """Print the speed of `tvl1_batched` and of its parts, against the memory floor."""
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    bandwidth = copy_bandwidth()
    print(f"copy bandwidth {bandwidth / 1e9:.0f} GB/s, read and written")
    frames_THW = frames_THW.to(device)
    linearised, relax = tvl1_torch.backend(device)
    has_triton = relax is not tvl1_torch.relax
    if not has_triton:
        print("Triton is not installed: the plain torch path is measured")
    _, seconds = timed(lambda: tvl1_torch.tvl1_batched(frames_THW[:17]), device)
    print(f"first call, with the compilation of the kernels: {seconds:.1f} s")
    for size in BATCHES:
        whole = frames_THW[: max(size, 256) + 1]
        run = partial(tvl1_torch.tvl1_batched, whole, pairs_per_batch=size)
        report(f"tvl1, batches of {size}", len(whole) - 1, median_of(run, device))
    size = min(256, len(frames_THW) - 1)
    backend, best = (linearised, relax), None
    if has_triton:
        best = measure_tiles(frames_THW[: size + 1])
        backend = tuple(partial(part, tile=best) for part in backend)
    run = partial(_run, frames_THW[: size + 1], backend)
    seconds = median_of(run, device)
    if best:
        report(f"tvl1, one batch of {size}, tile {tuple(best)}", size, seconds)
    work = count_work(frames_THW[: size + 1], backend)
    print_floor(work, seconds / size, bandwidth)


def _run(frames_THW: torch.Tensor, backend: tvl1_torch.Backend) -> torch.Tensor:
    with torch.no_grad():
        return tvl1_torch.flow_of_batch(frames_THW, settings=STANDARD, backend=backend)


def copy_bandwidth() -> float:
    """Return the bytes per second of a copy on the device, read and written bytes counted."""
    source = torch.rand(2**29, device="cuda")
    target = torch.empty_like(source)
    seconds = median_of(lambda: target.copy_(source), torch.device("cuda"), rounds=10)
    return 2 * source.nbytes / seconds


def measure_tiles(frames_THW: torch.Tensor) -> "Tile":
    """Print the speed of the iterations for shapes of a program; return the fastest shape."""
    from kinema.flow.tvl1_triton import BYTES_PER_ITERATION, Tile, linearised, relax

    device = frames_THW.device
    speeds: dict[Tile, list[float]] = {}
    never_stops = Tvl1Settings(epsilon=0.0, inner_iterations=50, outer_iterations=1, median=0)
    for height, width in ((HEIGHT, WIDTH), (154, 205)):
        level = F.interpolate(frames_THW[:, None].float(), (height, width))[:, 0]
        images = torch.stack([level[1:]] * 3, dim=1)
        u = torch.randn(len(images), 2, height, width, device=device)
        p = torch.zeros(len(images), 4, height, width, device=device)
        data = linearised(level[:-1].contiguous(), images, u)
        for tile in (Tile(*shape) for shape in TILES):
            run = partial(relax, data, u, p, settings=never_stops, tile=tile)
            seconds = median_of(run, device) / 50
            pixels = len(images) * height * width / seconds
            speeds.setdefault(tile, []).append(seconds)
            print(
                f"  iteration, {width}x{height}, tile {tile.height}x{tile.width}, "
                f"{tile.warps} warps: {pixels / 1e9:.1f} Gpixel/s, "
                f"{pixels * BYTES_PER_ITERATION / 1e9:.0f} GB/s"
            )
    best = min(speeds, key=lambda tile: sum(speeds[tile]))
    print(f"fastest tile {tuple(best)}; the default is {tuple(Tile())}")
    return best


def count_work(frames_THW: torch.Tensor, backend: tvl1_torch.Backend) -> dict[str, float]:
    """Return per pair: pixel iterations, pixels of warps, of medians, and the time of each part."""
    work = {"iterations": 0.0, "warps": 0.0, "medians": 0.0, "relax_s": 0.0, "linearised_s": 0.0}
    linearised, relax = backend

    def counted_linearised(first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        data, seconds = timed(lambda: linearised(first, *others), first.device)
        work["linearised_s"] += seconds
        return data

    def counted_relax(data: torch.Tensor, *others: torch.Tensor, **options: Any) -> Any:  # noqa: ANN401
        answer, seconds = timed(lambda: relax(data, *others, **options), data.device)
        area, taken = data.shape[2] * data.shape[3], answer[2].double()
        work["iterations"] += area * float(taken.sum())
        work["medians"] += area * float((taken / STANDARD.inner_iterations).ceil().sum())
        work["warps"] += area * len(data)
        work["relax_s"] += seconds
        return answer

    _, work["all_s"] = timed(
        lambda: _run(frames_THW, (counted_linearised, counted_relax)), frames_THW.device
    )
    return {name: value / (len(frames_THW) - 1) for name, value in work.items()}


def print_floor(work: dict[str, float], seconds: float, bandwidth: float) -> None:
    """Print the bytes of a pair, the time they need, and the time they took."""
    bytes_moved = 60 * work["iterations"] + 16 * work["medians"] + BYTES_PER_WARP * work["warps"]
    floor = bytes_moved / bandwidth
    pixels = WIDTH * HEIGHT
    print(
        f"a pair: {work['iterations'] / 1e6:.1f} M pixel iterations "
        f"({work['iterations'] / pixels:.0f} of the whole picture; UCF101: 20 to 42 M), "
        f"{bytes_moved / 1e9:.2f} GB: {floor * 1e3:.2f} ms at copy bandwidth "
        f"({1 / floor:.0f} pairs/s); measured {seconds * 1e3:.2f} ms, "
        f"{100 * floor / seconds:.0f} % of the floor's speed"
    )
    for part in ("relax", "linearised"):
        share = 100 * work[f"{part}_s"] / work["all_s"]
        print(f"  {part}: {share:.0f} % of the time (with a wait after every part)")


def measure_cpu(frames_THW: np.ndarray) -> None:
    """Print the speed of the CPU path with all cores, and of OpenCV's algorithms."""
    size, num_pairs = frames_THW.shape[1:], len(frames_THW) - 1
    if importlib.util.find_spec("numba"):
        from kinema.flow.tvl1 import tvl1

        threads = os.cpu_count() or 1
        tvl1(frames_THW[:2])  # compiles
        started = time.perf_counter()
        tvl1(frames_THW, threads=threads)
        seconds = time.perf_counter() - started
        report(f"tvl1, CPU path, {threads} threads", num_pairs, seconds, size=size)
    else:
        print("numba is not installed: no CPU path")
    if not importlib.util.find_spec("cv2"):
        print("OpenCV is not installed: none of its algorithms")
        return
    algorithms = opencv_algorithms()
    if "OpenCV DualTVL1" not in algorithms:
        print("OpenCV is without contrib, so without DualTVL1: DIS and Farneback instead")
    for name, compute in algorithms.items():
        few = frames_THW[:9] if name == "OpenCV DualTVL1" else frames_THW
        started = time.perf_counter()
        for first, second in pairwise(few):
            compute(first, second)
        report(name, len(few) - 1, time.perf_counter() - started, size=size)


def opencv_algorithms() -> dict[str, Callable[[Any, Any], Any]]:
    """Return DualTVL1 where OpenCV has contrib, else DIS and Farneback."""
    import cv2

    if hasattr(cv2, "optflow"):
        own = cv2.optflow.DualTVL1OpticalFlow_create()
        return {"OpenCV DualTVL1": lambda first, second: own.calc(first, second, None)}
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    numbers = (0.5, 5, 15, 3, 5, 1.1, 0)
    return {
        "OpenCV DIS medium": lambda first, second: dis.calc(first, second, None),
        "OpenCV Farneback": lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, *numbers),
    }


def compare(frames_THW: torch.Tensor, device: torch.device) -> None:
    """Print how far the paths are from each other."""
    here = tvl1_torch.tvl1_batched(frames_THW.to(device)).cpu().numpy()
    others: dict[str, np.ndarray] = {}
    if device.type == "cuda":
        others["plain torch on the CPU"] = tvl1_torch.tvl1_batched(frames_THW).numpy()
        alone = tvl1_torch.tvl1_batched(frames_THW.to(device), pairs_per_batch=1).cpu().numpy()
        others["the same, one pair at a time"] = alone
    if importlib.util.find_spec("numba"):
        from kinema.flow.tvl1 import tvl1

        others["the CPU path"] = tvl1(frames_THW.numpy())
    if importlib.util.find_spec("cv2"):
        own = opencv_algorithms().get("OpenCV DualTVL1")
        if own:
            flows = [own(*pair) for pair in pairwise(frames_THW.numpy())]
            others["OpenCV DualTVL1"] = np.stack(flows).transpose(0, 3, 1, 2)
    print(f"mean |flow| on {device.type}: {np.abs(here).mean():.3f} pixels")
    for name, flow in others.items():
        apart = np.abs(here - flow)
        print(f"  to {name}: mean {apart.mean():.5f}, largest {apart.max():.3f} pixels")


def measure_raft(frames_THW: np.ndarray, device: torch.device) -> None:
    """Print the speed of RAFT with random weights."""
    if not importlib.util.find_spec("torchvision"):
        print("torchvision is not installed: no RAFT")
        return
    from torchvision.models import optical_flow

    for name in ("small", "large") if device.type == "cuda" else ("small",):
        torch.manual_seed(0)
        network = getattr(optical_flow, f"raft_{name}")(weights=None).eval().to(device)
        for size in (8, 32, None) if device.type == "cuda" else (None,):
            run = partial(raft.flow_of_network, frames_THW, network=network, pairs_per_batch=size)
            seconds = median_of(run, device, rounds=2)
            label = f"raft-{name}, random weights, batches of {size or 'the default size'}"
            report(label, len(frames_THW) - 1, seconds, size=frames_THW.shape[1:])


def timed(function: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Return what a function returns and its seconds, the work of the device included."""
    _wait(device)
    started = time.perf_counter()
    answer = function()
    _wait(device)
    return answer, time.perf_counter() - started


def median_of(function: Callable[[], Any], device: torch.device, *, rounds: int = 3) -> float:
    """Return the median seconds of some rounds after one that is not counted."""
    return statistics.median([timed(function, device)[1] for _ in range(rounds + 1)][1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(
    name: str, num_pairs: int, seconds: float, *, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> None:
    """Print one figure."""
    print(
        f"{name}: {num_pairs / seconds:.1f} pairs/s of {size[1]}x{size[0]} "
        f"({num_pairs} pairs in {seconds:.2f} s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
