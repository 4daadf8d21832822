"""What a bug report needs: versions, devices, codecs and threads of this machine."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "kinema",
    "torch",
    "torchvision",
    "timm",
    "av",
    "numpy",
    "opencv-python-headless",
    "numba",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
    "jinja2",
    "tensorboard",
)
_OPTIONAL = ("torchcodec", "transformers", "ray", "h5py", "onnx", "onnxruntime")
_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "ffv1", "libx264", "libx265")


def environment() -> dict[str, dict[str, str]]:
    """Return sections of name and value, in the order in which they are shown."""
    return {
        "system": {
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "processors": f"{os.cpu_count()}, of which {_usable_processors()} may be used",
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "optional packages": {name: _version(name) for name in _OPTIONAL},
        "devices": _devices(),
        "codecs": _codecs(),
    }


def _usable_processors() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"torch": f"cannot be loaded: {error}"}

    from kinema.engine.runtime import has_native_bf16

    cpu = torch.device("cpu")
    found = {
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "bf16 on the cpu": "native" if has_native_bf16(cpu) else "emulated: fp32 is used",
    }
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        found["cuda"] = "no device is visible"
    return found


def _codecs() -> dict[str, str]:
    try:
        import av
    except (ImportError, OSError) as error:
        return {"av": f"cannot be loaded: {error}"}

    available = av.codecs_available
    library = ".".join(str(part) for part in av.library_versions["libavcodec"])
    states = {name: "yes" if name in available else "no" for name in _CODECS}
    return {"libavcodec": library, **states}
