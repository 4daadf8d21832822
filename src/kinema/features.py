"""Feature files: what a network sees in every clip of every video, before its classifier.

Shapes: N videos, V views (crops, or random passes), T clips, D features, P positions of a map,
C channels.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from kinema.errors import KinemaError
from kinema.files import replacing

FORMAT = "kinema-features-1"
_OPEN = -2  # the label of a view that is not there yet
_ALIGNMENT = 8  # bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The features of one stream.

    Attributes:
        ids: N names, all different; streams are joined by them.
        values: float32 (N, V, T, D), or maps (N, V, T, P, C); read from the file where it is
            asked for.
        labels: int64 (N,), positions in `classes`; -1 where the true class is unknown.
        view_labels: int64 (N, V): those of a mirrored view may be others.
        classes: names of the classes.
        map_shape: sides of a map, (H, W) or (time, H, W), with the product P; empty: pooled.
        augmented: views are random passes with the augmentation of the training.
        stream: rgb, flow or rgbdiff.
        protocol: how the video was shown to the network.
        checkpoint: hash of the network's file.

    Raises:
        KinemaError: shapes, ids or labels that do not fit each other.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    view_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    map_shape: tuple[int, ...] = ()
    augmented: bool = False
    stream: str = ""
    protocol: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        count, shape = len(self.ids), self.values.shape
        if not count or len(set(self.ids)) < count:
            raise KinemaError("Features need at least one video, and ids that are all different.")
        if len(shape) != (5 if self.map_shape else 4) or shape[0] != count:
            raise KinemaError(
                f"The features of {count} videos have the shape {shape}: (videos, views, clips, "
                "features) is expected, or (videos, views, clips, positions, channels) of maps."
            )
        if self.labels.shape != (count,) or self.view_labels.shape != shape[:2]:
            raise KinemaError(
                f"The labels have the shapes {self.labels.shape} and {self.view_labels.shape}, "
                f"but there are {count} videos with {shape[1]} views each."
            )
        highest = max(int(self.labels.max()), int(self.view_labels.max()))
        if highest >= len(self.classes):
            raise KinemaError(f"Label {highest} is no class: there are {len(self.classes)}.")

    def pooled(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return the mean over clips (and positions) of some videos, (n, V, D)."""
        values = self.values[rows]
        return np.asarray(values.mean(tuple(range(2, values.ndim - 1))), np.float32)

    def of_clips(self, video: int) -> NDArray[np.float32]:
        """Return the mean over views (and positions) of each clip of a video, (T, D)."""
        values = self.values[video]
        return np.asarray(values.mean((0, *range(2, values.ndim - 1))), np.float32)


@dataclass(frozen=True, kw_only=True)
class FeatureLayout:
    """What is known of a feature file before its first feature."""

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    views: int
    clips: int
    width: tuple[int, ...]  # (D,), or (P, C)
    facts: dict[str, str]  # stream, protocol, checkpoint, and what else the features depend on
    map_shape: tuple[int, ...] = ()
    augmented: bool = False

    def header(self) -> bytes:
        """Return the head of the safetensors file: the same for the same features."""
        count, place = len(self.ids), 0
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "labels": ("I64", (count,)),
            "view_labels": ("I64", (count, self.views)),
            "features": ("F32", (count, self.views, self.clips, *self.width)),
        }
        content: dict[str, Any] = {"__metadata__": self._metadata()}
        for name, (kind, shape) in shapes.items():
            end = place + prod(shape) * (8 if kind == "I64" else 4)
            content[name] = {"dtype": kind, "shape": shape, "data_offsets": (place, end)}
            place = end
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def _metadata(self) -> dict[str, str]:
        return {
            **self.facts,
            "format": FORMAT,
            "ids": json.dumps(self.ids),
            "classes": json.dumps(self.classes),
            "map_shape": json.dumps(self.map_shape),
            "augmented": json.dumps(self.augmented),
        }


class FeatureWriter:
    """Puts the features of single clips into their places in the file; see `writing_features`.

    Attributes:
        view_labels: int64 (N, V) of the views that are done; below -1 for the others.
    """

    def __init__(self, handle: BinaryIO, layout: FeatureLayout, view_labels: Any) -> None:  # noqa: ANN401
        self._handle, self._layout, self.view_labels = handle, layout, view_labels
        count = len(layout.ids)
        self._marks = len(layout.header()) + 8 * count
        self._values = self._marks + 8 * count * layout.views
        self._done: list[tuple[int, int, int]] = []

    def is_done(self, video: int, view: int) -> bool:
        """Tell whether all features of a view are in the file."""
        return bool(self.view_labels[video, view] != _OPEN)

    def put(self, place: tuple[int, int, int], values: NDArray[np.float32]) -> None:
        """Write the features of consecutive clips.

        Args:
            place: video, view, and the first clip.
            values: float32 (clips, D) or (clips, P, C).
        """
        video, view, clip = place
        layout = self._layout
        if values.shape[1:] != layout.width or not np.isfinite(values).all():
            raise KinemaError(
                f"The features of '{layout.ids[video]}' have the shape {values.shape[1:]} instead "
                f"of {layout.width}, or are not finite numbers: take fp32 precision."
            )
        row = (video * layout.views + view) * layout.clips + clip
        self._handle.seek(self._values + 4 * row * prod(layout.width))
        self._handle.write(np.ascontiguousarray(values, "<f4").tobytes())

    def finish(self, video: int, view: int, label: int) -> None:
        """Note that a view is complete."""
        self._done.append((video, view, label))

    def mark(self) -> None:
        """Bring the features to the disk, then the notes that they are complete."""
        if not self._done:
            return
        self._handle.flush()
        for video, view, label in self._done:
            self.view_labels[video, view] = label
            self._handle.seek(self._marks + 8 * (video * self._layout.views + view))
            self._handle.write(np.int64(label).astype("<i8").tobytes())
        self._handle.flush()
        self._done = []


def partial_path(path: Path) -> Path:
    """Return the name under which a feature file grows until it is complete."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def writing_features(path: Path, layout: FeatureLayout) -> Iterator[FeatureWriter]:
    """Write a feature file in place, clip by clip; an interrupted one goes on.

    It grows as ``FILE.partial`` and gets its name when all views are there.

    Raises:
        KinemaError: there are other features of this name, whole or begun.
    """
    if path.exists() and not _same_head(path, layout.header()):
        raise _other(path)
    growing = partial_path(path)
    if path.exists():
        path.rename(growing)  # complete: nothing is written, and it gets its name back
    elif not growing.exists():
        _begin(growing, layout)
    elif not _same_head(growing, layout.header()):
        raise _other(growing)
    shape = (len(layout.ids), layout.views)
    with growing.open("r+b") as handle:
        handle.seek(len(layout.header()) + 8 * shape[0])
        marks = np.frombuffer(handle.read(8 * shape[0] * shape[1]), "<i8").astype(np.int64)
        writer = FeatureWriter(handle, layout, marks.reshape(shape))
        try:
            yield writer
        finally:
            writer.mark()
    if (writer.view_labels != _OPEN).all():
        growing.replace(path)


def _begin(path: Path, layout: FeatureLayout) -> None:
    count = len(layout.ids)
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(layout.header())
        handle.write(np.array(layout.labels, "<i8").tobytes())
        handle.write(np.full(count * layout.views, _OPEN, "<i8").tobytes())
        values = 4 * count * layout.views * layout.clips * prod(layout.width)
        handle.truncate(handle.tell() + values)


def _same_head(path: Path, head: bytes) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(head)) == head


def _other(path: Path) -> KinemaError:
    return KinemaError(
        f"{path} holds features that were made otherwise (checkpoint, protocol, videos or kind): "
        "remove it, or choose another folder."
    )


def load_features(path: Path) -> Features:
    """Open a feature file; the features stay on the disk until they are used.

    Raises:
        KinemaError: no such file, another kind of file, or one that is not complete.
    """
    if not path.is_file():
        raise KinemaError(f"There is no feature file {path}.")
    try:
        with safe_open(path, framework="np") as handle:
            facts = handle.metadata() or {}
            if facts.get("format") != FORMAT:
                raise KinemaError(f"{path} is not a feature file: `kinema features` makes them.")
            labels, view_labels = handle.get_tensor("labels"), handle.get_tensor("view_labels")
            shape = tuple(handle.get_slice("features").get_shape())
    except (SafetensorError, OSError) as error:
        raise KinemaError(f"{path} is not a whole feature file ({error}).") from error
    if (view_labels == _OPEN).any():
        raise KinemaError(f"{path} is not complete: run the same command again, it goes on.")
    start = path.stat().st_size - 4 * prod(shape)
    return Features(
        ids=tuple(json.loads(facts["ids"])),
        values=np.memmap(path, "<f4", "r", start, shape),
        labels=labels,
        view_labels=view_labels,
        classes=tuple(json.loads(facts["classes"])),
        map_shape=tuple(json.loads(facts["map_shape"])),
        augmented=json.loads(facts["augmented"]),
        stream=facts.get("stream", ""),
        protocol=facts.get("protocol", ""),
        checkpoint=facts.get("checkpoint", ""),
    )
