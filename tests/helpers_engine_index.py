"""The data set of the engine's tests, made once: name this file in `pytest_plugins`."""

import pytest

from kinema.datasets.build import build_index
from kinema.datasets.splits import SplitRule
from kinema.samples import make_samples


@pytest.fixture(scope="session")
def tiny_index(tmp_path_factory):
    """12 training, 6 validation and 6 test videos of 10 frames, 6 classes."""
    folder = tmp_path_factory.mktemp("engine")
    make_samples(
        folder / "videos", videos_per_class=4, num_scenes=4, num_frames=10, size=(64, 64), seed=1
    )
    build_index(folder / "videos", folder / "index", rule=SplitRule())
    return folder / "index"
