"""Kinema: two-stream video action recognition, from a folder of videos to a tested classifier.

Every verb of the command line is a function here: ``kinema.train(...)``, ``kinema.run(...)``.
They live in `kinema.api` and are loaded at their first use, so that the import costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinema.api import (
        bench_train,
        checks,
        compare,
        convert_flow,
        demo,
        doctor,
        download,
        export_index,
        extract_features,
        extract_flow,
        frames,
        fuse,
        fuse_trained,
        index,
        list_models,
        pack,
        predict,
        report,
        run,
        save_fused,
        test,
        train,
        train_motion,
        verify_flow,
        verify_pack,
        write_overlays,
    )

__version__ = "0.1.0"

__all__ = [
    "bench_train",
    "checks",
    "compare",
    "convert_flow",
    "demo",
    "doctor",
    "download",
    "export_index",
    "extract_features",
    "extract_flow",
    "frames",
    "fuse",
    "fuse_trained",
    "index",
    "list_models",
    "pack",
    "predict",
    "report",
    "run",
    "save_fused",
    "test",
    "train",
    "train_motion",
    "verify_flow",
    "verify_pack",
    "write_overlays",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in __all__:
        raise AttributeError(f"module 'kinema' has no attribute '{name}'")
    from kinema import api

    return getattr(api, name)
