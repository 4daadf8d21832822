"""Quick configurations, and trainings in processes of their own."""

import multiprocessing
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from kinema.config import override
from kinema.datasets.index import read_index, write_index
from kinema.engine.log import read_metrics
from kinema.errors import KinemaError
from kinema.recipes import recipe

# A network in which nothing depends on the other videos of a batch (LayerNorm, no BatchNorm).
WITHOUT_BATCH_NORM = "model.backbone=test_efficientnet_ln"
SGD = ("optim.name=sgd", "optim.lr=0.05", "optim.schedule=constant", "optim.weight_decay=0")
# Everything that has a state: dropout, averaged weights, noise, momentum.
WITH_STATE = (
    "model.dropout=0.4",
    "optim.ema=0.8",
    "augment.photometric=medium",
    "train.save_every_seconds=0",
)
_TIMES = {"seconds", "clips_per_second", "data_wait"}
_PATIENCE_SECONDS = 120


def part_of_index(index, folder, *, train):
    """The same index with the first `train` training videos alone; all classes stay."""
    whole = read_index(index)
    left = [video for video in whole.videos if video.split == "train"][train:]
    videos = tuple(video for video in whole.videos if video not in left)
    write_index(replace(whole, videos=videos), folder)
    return folder


def config_of(index, *overrides, modality="rgb", batch=4, epochs=2):
    base = (f"data.index={index}", f"train.batch_size={batch}", f"train.epochs={epochs}")
    return override(recipe("tiny", modality), [*base, *overrides])


def weights_of(path):
    return load_file(path)


def assert_same_files(first, second, *names):
    """The weights of two run folders, bit by bit."""
    for name in names or ("best.safetensors", "last.safetensors"):
        one, two = weights_of(first / name), weights_of(second / name)
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.equal(value, two[key]), f"{name}: {key}"


def assert_close_files(first, second, *, atol, name="last.safetensors"):
    one, two = weights_of(first / name), weights_of(second / name)
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=atol, msg=lambda m, k=key: k + m)


def figures_of(out):
    """The lines of metrics.jsonl without what a clock measured."""
    lines = read_metrics(out / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in _TIMES} for line in lines]


def start_process(target, *arguments):
    """Start a function in a process that has loaded the package already but computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kinema.engine.train", "torch.utils.tensorboard"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def exit_code_of(process):
    process.join(_PATIENCE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the process did not end")
    return process.exitcode


def exit_codes_of_ranks(target, *arguments, world=2):
    """Run a function in `world` processes as `torchrun` would; returns their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        start_process(_as_rank, rank, world, port, target, *arguments) for rank in range(world)
    ]
    return [exit_code_of(process) for process in ranks]


def _as_rank(rank, world, port, target, *arguments):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    target(*arguments)


def train_here(config, out):
    """Train on the CPU; what the user would read is left in errors-<rank>.txt, exit code 1."""
    from kinema.engine.train import train

    torch.set_num_threads(1)
    try:
        train(config, out, device="cpu")
    except KinemaError as error:
        (out / f"errors-{os.environ.get('RANK', 0)}.txt").write_text(str(error))
        raise SystemExit(1) from error


def train_until(config, out, events, number, rank=None):
    """Train, and send this process a signal at its event of that count.

    An event is the begin of a batch, or a file that is written but not yet in its place. With
    `rank`, the signal is for that one alone.
    """
    left = events

    def counted(function):
        def wrapper(*arguments):
            nonlocal left
            left -= 1
            if left == 0 and rank in (None, int(os.environ.get("RANK", 0))):
                os.kill(os.getpid(), number)
            return function(*arguments)

        return wrapper

    from kinema.engine import train as module

    module.train_batch = counted(module.train_batch)
    os.fsync = counted(os.fsync)
    train_here(config, out)


def train_killed(config, out, events):
    """SIGKILL after so many events."""
    train_until(config, out, events, signal.SIGKILL)


def train_stopped_on_one(config, out, events):
    """SIGTERM to the second process alone."""
    train_until(config, out, events, signal.SIGTERM, 1)


def error_text(out, rank=0):
    return Path(out / f"errors-{rank}.txt").read_text()
