"""Stored features as training clips: what a frozen backbone saw, for a consensus to learn from.

Shapes: V views, T clips of a view, N of them that are drawn, D features of all streams.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sample_train
from kinema.errors import KinemaError
from kinema.features import Features, load_features


class FeatureClips:
    """Clips (x_ND float32, label, index): N features of one view, drawn anew in every epoch.

    The features of several streams lie side by side; they are of the same view and clips. A view
    with more clips than are needed gives one from each of N equal parts of the video, drawn at
    random.

    Args:
        streams: features of the same videos.
        ids: the videos, in the order of the clips.
        num_segments: N.
        seed: of all randomness.

    Raises:
        KinemaError: videos that are missing, or streams that do not fit.
    """

    def __init__(
        self, streams: Sequence[Features], ids: Sequence[str], *, num_segments: int, seed: int
    ) -> None:
        first = streams[0]
        for stream in streams:
            if stream.map_shape:
                raise KinemaError(
                    f"The features of {stream.stream} are maps: a consensus over time is trained "
                    "on pooled ones (`kinema features` without --maps)."
                )
            if stream.values.shape[1:3] != first.values.shape[1:3]:
                raise KinemaError(
                    f"The features of {first.stream} have {first.values.shape[1]} views of "
                    f"{first.values.shape[2]} clips, those of {stream.stream} "
                    f"{stream.values.shape[1]} of {stream.values.shape[2]}: extract both alike."
                )
        if first.values.shape[2] < num_segments:
            raise KinemaError(
                f"The stored features have {first.values.shape[2]} clips of a video, but "
                f"data.num_segments={num_segments}: extract more (--snippets, or another "
                "--protocol), or lower it."
            )
        self._streams = streams
        self._rows = [_rows(stream, ids) for stream in streams]
        self._num_segments, self._seed = num_segments, seed

    def __len__(self) -> int:
        return len(self._rows[0])

    @property
    def labels(self) -> torch.Tensor:
        """Class of every video, (len,)."""
        return torch.from_numpy(self._streams[0].labels[self._rows[0]])

    def clips(self, index: int, *, epoch: int) -> list[tuple[torch.Tensor, int, int]]:
        """Return the clip of a video in an epoch."""
        rng = np.random.default_rng((self._seed, epoch, index))
        first = self._streams[0]
        view = int(rng.integers(first.values.shape[1]))
        places = sample_train(
            "tsn",
            num_frames=first.values.shape[2],
            length=1,
            num_segments=self._num_segments,
            rng=rng,
        )
        label = int(first.view_labels[self._rows[0][index], view])
        return [(self._read(index, view, places), label, index)]

    def views(self, index: int) -> torch.Tensor:
        """Return all views of a video at N even places, (V, N, D): what a validation goes by."""
        _, num_views, clips = self._streams[0].values.shape[:3]
        step = clips / self._num_segments
        places = ((np.arange(self._num_segments) + 0.5) * step).astype(np.int64)
        return torch.stack([self._read(index, view, places) for view in range(num_views)])

    def _read(self, index: int, view: int, places: NDArray[np.int64]) -> torch.Tensor:
        parts = [
            np.array(stream.values[rows[index], view][places], np.float32)
            for stream, rows in zip(self._streams, self._rows, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1))


def open_features(folder: Path, stream: str, part: str, *, checkpoint: str) -> Features:
    """Open what `kinema features` wrote of a stream and a part.

    Args:
        folder: of its files.
        stream: such as rgb.
        part: train or val.
        checkpoint: hash of the network that they must be of.

    Raises:
        KinemaError: there are none, or those of another network.
    """
    path = folder / f"{stream}-{part}.safetensors"
    if not path.is_file():
        raise KinemaError(
            f"data.features={folder}: there is no {path.name} in it. `kinema features CHECKPOINT "
            f"-o {folder}` makes it."
        )
    found = load_features(path)
    if found.checkpoint != checkpoint:
        raise KinemaError(
            f"{path} has the features of another network than the {stream} stream starts from "
            "(model.weights, second.weights): extract them with that checkpoint."
        )
    return found


def _rows(stream: Features, ids: Sequence[str]) -> list[int]:
    places = {name: row for row, name in enumerate(stream.ids)}
    missing = [name for name in ids if name not in places]
    if missing:
        raise KinemaError(
            f"{len(missing)} of {len(ids)} videos have no stored {stream.stream} features (first: "
            f"{missing[0]}): extract them from the same index."
        )
    return [places[name] for name in ids]
