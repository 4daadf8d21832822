"""Old flow packed into stores: right values, the ids of an index, resumed, failures listed."""

import errno
import json
import zipfile

import cv2
import numpy as np
import pytest

from kinema.api import with_sources
from kinema.data.items import ClipItem, ClipSpec
from kinema.data.sources import open_source
from kinema.errors import KinemaError, UsageError
from kinema.files import sha256_of
from kinema.flow import convert as module
from kinema.flow.convert import convert
from kinema.flow.encoding import decode
from kinema.flow.formats.sinks import open_sink
from kinema.flow.manifest import stored_options
from kinema.flow.store import FlowStore
from kinema.recipes import recipe

HEIGHT, WIDTH, PAIRS = 24, 32, 5
NAMES = ("v_HandstandPushups_g01_c01", "v_Archery_g01_c01", "v_Archery_g02_c01")
INDEX = ("HandstandPushups/v_HandStandPushups_g01_c01", *(f"Archery/{n}" for n in NAMES[1:]))


def smooth_flow(seed, *, num_pairs=PAIRS):
    noise = np.random.default_rng(seed).normal(0, 1, (num_pairs, 2, HEIGHT, WIDTH))
    planes = np.asarray([[cv2.GaussianBlur(plane, (0, 0), 6) for plane in pair] for pair in noise])
    return (planes * 12 / np.abs(planes).max()).astype(np.float32)


def old_data(folder, name, *, videos=NAMES, **options):
    """Write the flow of some videos as an older tool would."""
    for seed, video in enumerate(videos):
        with open_sink(folder, video, name=name, bound=20, **options) as sink:
            for flow_2HW in smooth_flow(seed):
                sink.write_pair(flow_2HW)
    return folder


@pytest.fixture
def tsn(tmp_path):
    return old_data(tmp_path / "old", "dense-flow", frames=False)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("dense-flow", "dense-flow"),
        ("dense-flow-zip", "dense-flow-zip"),
        ("denseflow", "denseflow"),
        ("denseflow-png", "denseflow-png"),
        ("denseflow-h5", "denseflow-h5"),
        ("twostreamfusion", "twostreamfusion"),
    ],
)
def test_every_layout_becomes_stores(tmp_path, name, layout):
    if name == "denseflow-h5":
        pytest.importorskip("h5py")
    old = old_data(tmp_path / "old", name, frames=False)
    summary = convert(old, tmp_path / "new", quality="lossless", workers=2)
    assert (summary.videos, summary.kept, summary.pairs) == (3, 0, 3 * PAIRS)
    assert dict(summary.layouts) == {layout: 3}
    assert summary.failures == summary.missing == ()
    for seed, video in enumerate(NAMES):
        store = FlowStore(tmp_path / "new" / f"{video}.mp4")
        store.verify()
        assert store.num_frames == PAIRS
        error = decode(store.read(range(PAIRS)), bound=20) - smooth_flow(seed)
        assert np.abs(error).max() < 40 / 255 + 4 * 40 / 255
        assert np.abs(error).mean() < 0.1


def test_a_store_tells_where_it_is_from(tmp_path, tsn):
    convert(tsn, tmp_path / "new", bound=15, algorithm="tvl1", size="340x256")
    metadata = FlowStore(tmp_path / "new" / f"{NAMES[1]}.mp4").metadata
    assert (metadata["algorithm"], metadata["bound"], metadata["size"]) == ("tvl1", 15, "340x256")
    assert (metadata["source"], metadata["source_layout"]) == (NAMES[1], "dense-flow")
    images = sorted((tsn / NAMES[1]).iterdir(), key=lambda path: (path.name[-9:], path.name))
    (tmp_path / "all").write_bytes(b"".join(path.read_bytes() for path in images))
    assert metadata["source_sha256"] == sha256_of(tmp_path / "all")
    assert metadata["source_bytes"] == (tmp_path / "all").stat().st_size


def test_training_can_use_the_stores(tmp_path, tsn):
    convert(tsn, tmp_path / "new", bound=15, size="340x256")
    options = stored_options(tmp_path / "new")
    assert (options.algorithm, options.bound, options.size) == ("unknown", 15, "340x256")
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert sorted(manifest["videos"]) == sorted(NAMES)
    assert manifest["videos"][NAMES[0]]["pairs"] == PAIRS
    config = with_sources(recipe("tsn", "flow"), tmp_path, flow_store=tmp_path / "new")
    assert (config.data.flow_algorithm, config.data.flow_bound) == ("unknown", 15)
    item = ClipItem(
        id=NAMES[0],
        path=tmp_path / "no video",
        label=0,
        num_frames=PAIRS + 1,
        flow_path=tmp_path / "new" / f"{NAMES[0]}.mp4",
    )
    spec = ClipSpec(stream="flow", flow_algorithm="unknown", flow_bound=15)
    assert open_source(item, spec).read([0, 4]).shape == (2, HEIGHT, WIDTH, 2)


def test_videos_get_the_ids_of_an_index(tmp_path, tsn):
    old_data(tsn, "dense-flow", videos=("v_Other_g01_c01",), frames=False)
    ids = (*INDEX, "Archery/v_Archery_g99_c01")
    summary = convert(tsn, tmp_path / "new", ids=ids)
    stores = (tmp_path / "new").rglob("*.mp4")
    assert {path.relative_to(tmp_path / "new").with_suffix("").as_posix() for path in stores} == {
        *INDEX
    }
    assert (summary.videos, summary.missing) == (3, ("Archery/v_Archery_g99_c01",))
    assert "no flow found for 1 videos of the index: Archery/v_Arch" in summary.describe()
    with pytest.raises(KinemaError, match=r"None of the 4 videos is in the index: .*'a/b'"):
        convert(tsn, tmp_path / "other", ids=["a/b"])


def test_an_exact_id_is_preferred_and_a_double_one_refused(tmp_path):
    old = old_data(tmp_path / "old", "dense-flow", videos=("a/v", "b/v", "c/w"), frames=False)
    summary = convert(old, tmp_path / "new", ids=["a/v", "b/v"])
    assert (summary.videos, summary.failures) == (2, ())
    summary = convert(old, tmp_path / "two", ids=["x/v", "x/w"])
    assert summary.videos == 1
    ((video, reason),) = summary.failures
    assert video == "x/v"
    assert "2 times: a/v (dense-flow), b/v (dense-flow)" in reason


def test_whole_stores_are_kept_and_damaged_ones_made_again(tmp_path, tsn):
    convert(tsn, tmp_path / "new")
    paths = sorted((tmp_path / "new").glob("*.mp4"))
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[0].write_bytes(before[0][:-100])
    (tmp_path / "new" / f".{paths[1].stem}.77.part.mp4").write_bytes(b"of a killed process")
    summary = convert(tsn, tmp_path / "new")
    assert (summary.videos, summary.kept, summary.pairs) == (3, 2, PAIRS)
    assert [path.read_bytes() for path in paths] == before
    assert [path.stat().st_mtime_ns == old for path, old in zip(paths, times, strict=True)] == [
        False,
        True,
        True,
    ]
    assert not list((tmp_path / "new").glob(".*"))
    with pytest.raises(KinemaError, match=r"made with bound=20.*, but bound=15"):
        convert(tsn, tmp_path / "new", bound=15)


def test_a_bad_video_costs_only_itself(tmp_path, tsn):
    (tsn / NAMES[0] / "flow_x_00002.jpg").unlink()
    path = tsn / NAMES[1] / "flow_y_00004.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    summary = convert(tsn, tmp_path / "new", workers=2)
    assert summary.videos == 1
    reasons = dict(summary.failures)
    assert "flow_x_00002.jpg is missing" in reasons[NAMES[0]]
    assert "flow_y_00004.jpg is cut off" in reasons[NAMES[1]]
    assert [path.stem for path in (tmp_path / "new").glob("*.mp4")] == [NAMES[2]]
    assert f"failed: {NAMES[1]}: " in summary.describe()


def test_a_cut_archive_is_converted_without_unpacking(tmp_path):
    old = old_data(tmp_path / "old", "twostreamfusion", frames=False)
    with zipfile.ZipFile(tmp_path / "flow.zip", "w") as archive:
        for path in sorted(old.rglob("*.jpg")):
            archive.write(path, path.relative_to(old))
    data = (tmp_path / "flow.zip").read_bytes()
    for part in range(3):
        piece = data[part * len(data) // 3 : (part + 1) * len(data) // 3]
        (tmp_path / f"flow.zip.{part + 1:03d}").write_bytes(piece)
    convert(old, tmp_path / "folder", ids=INDEX)
    summary = convert(tmp_path / "flow.zip.001", tmp_path / "archive", ids=INDEX, workers=3)
    assert (summary.videos, summary.pairs, summary.failures) == (3, 3 * PAIRS, ())
    for video in INDEX:
        stores = [FlowStore(tmp_path / kind / f"{video}.mp4") for kind in ("folder", "archive")]
        assert np.array_equal(*(store.read(range(PAIRS)) for store in stores))


def test_stride_1_is_taken_where_it_is(tmp_path):
    old = old_data(tmp_path / "old", "denseflow", videos=NAMES[:2], frames=False)
    old_data(tmp_path / "old", "denseflow", videos=NAMES[1:], stride=2, frames=False)
    summary = convert(old, tmp_path / "new")
    assert summary.videos == 2
    assert summary.failures == ((NAMES[2], "it has flow at stride 2 only, others have stride 1."),)
    assert stored_options(tmp_path / "new").stride == 1
    convert(old / NAMES[2], tmp_path / "two")
    assert stored_options(tmp_path / "two").stride == 2
    old_data(tmp_path / "other", "denseflow", videos=NAMES[:1], stride=2, frames=False)
    old_data(tmp_path / "other", "denseflow", videos=NAMES[:1], stride=-1, frames=False)
    with pytest.raises(KinemaError, match="at the strides -1, 2"):
        convert(tmp_path / "other", tmp_path / "three")


def test_wrong_requests_are_refused(tmp_path, tsn):
    (tmp_path / "empty").mkdir()
    with pytest.raises(KinemaError, match="There is no stored flow in"):
        convert(tmp_path / "empty", tmp_path / "new")
    with pytest.raises(KinemaError, match="There is no folder or file"):
        convert(tmp_path / "nowhere", tmp_path / "new")
    (tmp_path / "notes.txt").write_text("no flow")
    with pytest.raises(KinemaError, match=r"notes.txt is not stored flow: give a folder"):
        convert(tmp_path / "notes.txt", tmp_path / "new")
    with pytest.raises(UsageError, match="bound must be positive"):
        convert(tsn, tmp_path / "new", bound=0)
    with pytest.raises(UsageError, match="no quality 'best'"):
        convert(tsn, tmp_path / "new", quality="best")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_stops_the_conversion(tmp_path, tsn, monkeypatch):
    class FullWriter(module.FlowWriter):
        def write(self, pair_HW2):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "FlowWriter", FullWriter)
    with pytest.raises(KinemaError, match="No space left on the disk"):
        convert(tsn, tmp_path / "new", workers=1)
    assert not list((tmp_path / "new").rglob("*.mp4"))
