"""Old flow in HDF5: denseflow's floats, and the images of Hara's 3D-ResNets.

denseflow: ``<video>.h5`` with data sets ``flow_x_00000``, ``flow_y_00000`` … of float32 (H, W).
3D-ResNets: ``<video>.hdf5`` with ``video_u`` and ``video_v``, each a list of whole image files.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.flow.encoding import encode
from kinema.flow.formats.pairs import ImagePairs, Pairs, check_numbers
from kinema.video.hdf5_file import ListShelf, open_hdf5_file

_DATA_SET = re.compile(r"flow_([xy])_(?:([pm])(\d+)_)?(\d+)")


class Hdf5Contents(NamedTuple):
    """What flow there is in an HDF5 file."""

    layout: str  # "denseflow-h5" or "3d-resnets-hdf5"
    counts: dict[int, int]  # how many pairs at each stride


def hdf5_contents(path: Path) -> Hdf5Contents:
    """Return what flow is in a file.

    Raises:
        KinemaError: h5py is not installed, or the file is damaged.
    """
    with open_hdf5_file(path) as file:
        if "video_u" in file and "video_v" in file:
            return Hdf5Contents("3d-resnets-hdf5", {1: len(file["video_u"])})
        counts: dict[int, int] = {}
        for name in file:
            match = _DATA_SET.fullmatch(name)
            if match and match[1] == "x":
                stride = _stride(match)
                counts[stride] = counts.get(stride, 0) + 1
    return Hdf5Contents("denseflow-h5", counts)


def open_hdf5(path: Path, stride: int, bound: float) -> Pairs:
    """Return the pairs in a file.

    Args:
        path: the HDF5 file.
        stride: which pairs, where there are several kinds.
        bound: pixels at the ends of the result.

    Raises:
        KinemaError: there are none, they have gaps, or the file is damaged.
    """
    contents = hdf5_contents(path)
    if stride not in contents.counts:
        raise KinemaError(f"{path} holds no flow at stride {stride}.")
    if contents.layout == "denseflow-h5":
        return _FloatPairs(path, bound=bound, stride=stride)
    return ImagePairs(ListShelf(path, "video_u"), ListShelf(path, "video_v"), bound=bound)


def _stride(match: re.Match[str]) -> int:
    return 1 if not match[2] else int(match[3]) * (1 if match[2] == "p" else -1)


class _NameShelf:
    """The data sets of one component; see `kinema.video.shelves.Shelf`."""

    def __init__(self, where: str, names: dict[int, str]) -> None:
        self.where, self.names = where, names
        self.numbers = sorted(names)

    def name(self, number: int) -> str:
        example = next(iter(self.names.values()))
        return self.names.get(number) or f"{example[:-5]}{number:05d}"

    def load(self, position: int) -> bytes:
        raise NotImplementedError(f"{self.where} holds arrays, not files")

    def close(self) -> None:
        pass


class _FloatPairs:
    """See `kinema.flow.formats.pairs.Pairs`."""

    def __init__(self, path: Path, *, bound: float, stride: int) -> None:
        self._path, self._bound, self._file = path, bound, open_hdf5_file(path)
        names: dict[str, dict[int, str]] = {"x": {}, "y": {}}
        for name in self._file:
            match = _DATA_SET.fullmatch(name)
            if match and _stride(match) == stride:
                names[match[1]][int(match[4])] = name
        if not names["y"]:
            raise KinemaError(f"{path} has the x component of flow, but not y.")
        self._x, self._y = (_NameShelf(str(path), names[part]) for part in ("x", "y"))
        check_numbers(self._x, self._y, max(0, -stride))

    def __len__(self) -> int:
        return len(self._x.numbers)

    def read(self, index: int) -> NDArray[np.uint8]:
        flow_2HW = np.stack(self._planes(index))
        return np.moveaxis(encode(flow_2HW[None], bound=self._bound)[0], 2, 0)

    def _planes(self, index: int) -> list[NDArray[np.float32]]:
        names = [shelf.names[shelf.numbers[index]] for shelf in (self._x, self._y)]
        try:
            planes = [np.asarray(self._file[name][()], np.float32) for name in names]
        except (OSError, KeyError) as error:
            raise KinemaError(f"{self._path} is damaged at {names[0]}: {error}.") from error
        if planes[0].shape != planes[1].shape or planes[0].ndim != 2:
            raise KinemaError(
                f"{self._path}: {names[0]} has the shape {planes[0].shape}, {names[1]} "
                f"{planes[1].shape}: both must be one picture."
            )
        return planes

    def contents(self) -> Iterator[bytes]:
        for index in range(len(self)):
            for plane in self._planes(index):
                yield plane.tobytes()

    def span(self) -> str:
        first, last = (self._x.names[self._x.numbers[i]] for i in (0, -1))
        return f"{self._path}:{first} to {last}"

    def close(self) -> None:
        self._file.close()
