import json
import threading

import pytest

from helpers_datasets import write
from kinema.datasets.scan import scan
from kinema.errors import KinemaError
from kinema.video.probe import Probe

FOUND = Probe(num_frames=9, fps=5.0, width=4, height=2, keyframe_interval=3.0, sha256="x")


@pytest.fixture
def files(tmp_path):
    return [write(tmp_path / f"{i}.mp4", str(i)) for i in range(6)]


def test_results_and_reasons(tmp_path, files):
    def probe_file(path):
        if path.stem == "1":
            raise KinemaError(f"{path} has no picture.")
        if path.stem == "2":
            raise PermissionError(13, "denied")
        return FOUND

    result = scan(files, cache=tmp_path / "cache.json", workers=3, probe_file=probe_file)
    assert {path.stem for path in result.probes} == {"0", "3", "4", "5"}
    assert result.probes[files[0]] == FOUND
    assert result.failures == {
        files[1]: "has no picture",
        files[2]: "cannot be read: denied",
    }
    assert result.num_cached == 0


def test_files_are_opened_at_the_same_time(tmp_path, files):
    barrier = threading.Barrier(3, timeout=20)

    def probe_file(path):
        barrier.wait()
        return FOUND

    assert len(scan(files, cache=tmp_path / "c.json", workers=3, probe_file=probe_file).probes) == 6


def test_an_interrupted_scan_goes_on_where_it_stopped(tmp_path, files):
    def interrupted(path):
        if path.stem == "3":
            raise KeyboardInterrupt
        return FOUND

    with pytest.raises(KeyboardInterrupt):
        scan(files, cache=tmp_path / "cache.json", workers=1, probe_file=interrupted)
    opened = []

    def probe_file(path):
        opened.append(path.stem)
        return FOUND

    result = scan(files, cache=tmp_path / "cache.json", workers=1, probe_file=probe_file)
    assert "3" in opened
    assert not {"0", "1", "2"} & set(opened)
    assert result.num_cached == 6 - len(opened)
    assert len(result.probes) == 6


@pytest.mark.parametrize("content", ["[]", "{", '{"version": 0, "files": {}}', '{"version": 1}'])
def test_an_unusable_cache_counts_as_none(tmp_path, files, content):
    cache = write(tmp_path / "cache.json", content)
    assert scan(files, cache=cache, probe_file=lambda path: FOUND).num_cached == 0
    assert len(json.loads(cache.read_text())["files"]) == 6
    assert scan(files, cache=cache, probe_file=lambda path: FOUND).num_cached == 6


def test_changed_and_vanished_files_are_opened_again(tmp_path, files):
    cache = tmp_path / "cache.json"
    scan(files, cache=cache, probe_file=lambda path: FOUND)
    write(files[0], "longer content")
    files[1].unlink()

    def probe_file(path):
        path.read_bytes()
        return FOUND

    result = scan(files, cache=cache, probe_file=probe_file)
    assert result.num_cached == 4
    assert result.failures == {files[1]: "cannot be read: No such file or directory"}
