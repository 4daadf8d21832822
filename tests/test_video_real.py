"""Development videos, read at random, equal plain sequential decoding.

A part of them by default; KINEMA_ALL_VIDEOS=1 takes all (a minute of CPU time).
"""

import os
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from kinema.video.probe import probe
from kinema.video.reader import VideoReader

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"ucf101": 0.9, "gestures": 1.0, "weizmann": 1.0}  # the share that can be indexed
STEP = 1 if os.environ.get("KINEMA_ALL_VIDEOS") else 7

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the development videos"),
]


def videos(name: str) -> list[Path]:
    return sorted(p for p in (DATA / name).rglob("*") if p.suffix in (".avi", ".mp4"))[::STEP]


def checksums(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [
            zlib.crc32(frame.to_ndarray(format="rgb24").tobytes())
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("name", SETS)
def test_random_reads_equal_sequential_decoding(name):
    rng = np.random.default_rng(0)
    indexed = 0
    paths = videos(name)
    assert len(paths) >= 36 // STEP
    for path in paths:
        truth = checksums(path)
        with VideoReader(path) as reader:
            assert reader.num_frames == len(truth), path
            for _ in range(4):
                indices = rng.integers(0, len(truth), rng.integers(1, 5)).tolist()
                read = [zlib.crc32(image.tobytes()) for image in reader.read(indices)]
                assert read == [truth[i] for i in indices], path
            assert [zlib.crc32(image.tobytes()) for image in reader.stream()] == truth, path
            indexed += reader.is_indexed
    assert indexed >= SETS[name] * len(paths)


@pytest.mark.parametrize("name", SETS)
def test_they_are_all_whole(name):
    for path in videos(name)[::2]:
        facts = probe(path)
        assert facts.num_frames > 10
        assert facts.width in (64, 320, 180), path
        assert 8 < facts.fps < 61, path
