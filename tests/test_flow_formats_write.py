"""Flow written in the layouts of older tools: names, numbers, values, and what a kill leaves."""

import errno
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.errors import KinemaError, UsageError
from kinema.flow.formats.names import LAYOUTS, find_layout
from kinema.flow.formats.quantise import dequantise_png, quantise, quantise_png
from kinema.flow.formats.sinks import is_complete, open_sink

NUM_FRAMES, HEIGHT, WIDTH = 7, 24, 32
VIDEO = "Archery/v_Archery_g01_c01"


def smooth_flow(num_pairs, *, scale=15.0, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, (num_pairs, 2, HEIGHT, WIDTH))
    planes = [[cv2.GaussianBlur(plane, (0, 0), 6) for plane in pair] for pair in noise]
    return (np.asarray(planes) * scale / np.abs(planes).max()).astype(np.float32)


def frame(index):
    """A frame of one colour that tells its number."""
    return np.full((HEIGHT, WIDTH, 3), (30 * index, 100, 200 - 20 * index), np.uint8)


def write(out, name, *, stride=1, flow=None, video=VIDEO, stop_after=None, **options):
    if name == "denseflow-h5":
        pytest.importorskip("h5py")
    flow = smooth_flow(NUM_FRAMES - abs(stride)) if flow is None else flow
    with open_sink(out, video, name=name, stride=stride, **options) as sink:
        for index in range(NUM_FRAMES):
            if sink.wants_frames:
                sink.write_frame(frame(index))
            if index >= abs(stride):
                sink.write_pair(flow[index - abs(stride)])
            if index == stop_after:
                raise RuntimeError("stopped")
        assert sink.num_pairs == NUM_FRAMES - abs(stride)
    return flow


def files(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def numbered(template, numbers):
    return [template % number for number in numbers]


EXPECTED = {
    ("dense-flow", 1): [
        *numbered(f"{VIDEO}/flow_x_%05d.jpg", range(1, 7)),
        *numbered(f"{VIDEO}/flow_y_%05d.jpg", range(1, 7)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(1, 7)),
    ],
    ("dense-flow", 2): [
        *numbered(f"{VIDEO}/flow_x_%05d.jpg", range(1, 4)),
        *numbered(f"{VIDEO}/flow_y_%05d.jpg", range(1, 4)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(1, 4)),
    ],
    ("dense-flow-zip", 1): [f"{VIDEO}/{name}.zip" for name in ("flow_x", "flow_y", "img")],
    ("denseflow", 1): [
        *numbered(f"{VIDEO}/flow_x_%05d.jpg", range(6)),
        *numbered(f"{VIDEO}/flow_y_%05d.jpg", range(6)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(7)),
    ],
    ("denseflow", 2): [
        *numbered(f"{VIDEO}/flow_x_p2_%05d.jpg", range(5)),
        *numbered(f"{VIDEO}/flow_y_p2_%05d.jpg", range(5)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(7)),
    ],
    ("denseflow", -1): [
        *numbered(f"{VIDEO}/flow_x_m1_%05d.jpg", range(1, 7)),
        *numbered(f"{VIDEO}/flow_y_m1_%05d.jpg", range(1, 7)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(7)),
    ],
    ("denseflow-png", 1): [
        *numbered(f"{VIDEO}/flow_%05d.png", range(6)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(7)),
    ],
    ("denseflow-png", 2): [
        *numbered(f"{VIDEO}/flow_p2_%05d.png", range(5)),
        *numbered(f"{VIDEO}/img_%05d.jpg", range(7)),
    ],
    ("denseflow-h5", 1): [f"{VIDEO}.h5", *numbered(f"{VIDEO}/img_%05d.jpg", range(7))],
    ("denseflow-h5", -2): [f"{VIDEO}_m2.h5", *numbered(f"{VIDEO}/img_%05d.jpg", range(7))],
    ("gpu-flow", 1): [
        *numbered(f"rgb/{VIDEO}/frame%06d.jpg", range(1, 8)),
        *numbered(f"x/{VIDEO}/frame%06d.jpg", range(1, 7)),
        *numbered(f"y/{VIDEO}/frame%06d.jpg", range(1, 7)),
    ],
    ("gpu-flow", 3): [
        *numbered(f"rgb/{VIDEO}/frame%06d.jpg", range(1, 4)),
        *numbered(f"x/{VIDEO}/frame%06d.jpg", range(1, 3)),
        *numbered(f"y/{VIDEO}/frame%06d.jpg", range(1, 3)),
    ],
    ("twostreamfusion", 1): [
        *numbered(f"jpegs_256/{VIDEO}/frame%06d.jpg", range(1, 8)),
        *numbered(f"tvl1_flow/u/{VIDEO}/frame%06d.jpg", range(1, 7)),
        *numbered(f"tvl1_flow/v/{VIDEO}/frame%06d.jpg", range(1, 7)),
    ],
}


@pytest.mark.parametrize(("name", "stride"), EXPECTED)
def test_names_and_numbers_are_those_of_the_tool(tmp_path, name, stride):
    num_pairs = NUM_FRAMES - abs(stride)
    if name == "denseflow-h5":
        pytest.importorskip("h5py")
    assert not is_complete(tmp_path, VIDEO, num_pairs, name=name, stride=stride)
    write(tmp_path, name, stride=stride)
    assert files(tmp_path) == sorted(EXPECTED[name, stride])
    assert is_complete(tmp_path, VIDEO, num_pairs, name=name, stride=stride)
    assert is_complete(tmp_path, VIDEO, 0, name=name, stride=stride)
    assert not is_complete(tmp_path, VIDEO, num_pairs + 3, name=name, stride=stride)


def test_every_layout_is_tested():
    assert {name for name, _ in EXPECTED} == set(LAYOUTS)


def place_of(name, part):
    if name in ("gpu-flow", "twostreamfusion"):
        roots = {"x": "x", "y": "y"} if name == "gpu-flow" else {"x": "u", "y": "v"}
        above = "" if name == "gpu-flow" else "tvl1_flow/"
        return f"{above}{roots[part]}/{VIDEO}/frame%06d.jpg"
    return f"{VIDEO}/flow_{part}_%05d.jpg"


@pytest.mark.parametrize("name", ["dense-flow", "denseflow", "gpu-flow", "twostreamfusion"])
@pytest.mark.parametrize("bound", [None, 8.0])
def test_images_hold_the_vectors(tmp_path, name, bound):
    flow = write(tmp_path, name, bound=bound)
    used = bound or {"denseflow": 32}.get(name, 20)
    first = 0 if name == "denseflow" else 1
    for pair in range(6):
        for component, part in enumerate("xy"):
            path = tmp_path / (place_of(name, part) % (first + pair))
            levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert levels.shape == (HEIGHT, WIDTH)
            wanted = np.clip(flow[pair, component], -used, used)
            error = np.abs(levels / 255 * 2 * used - used - wanted) / (2 * used / 255)
            assert error.max() < 0.5 + 4  # half a level, and what JPEG adds
            assert error.mean() < 0.9
            rounded = np.rint((wanted.astype(float) + used) * 255 / (2 * used)).astype(np.uint8)
            as_opencv_writes = cv2.imencode(".jpg", rounded)[1]  # its default quality is the tools'
            assert path.read_bytes() == as_opencv_writes.tobytes()


def test_quantise_is_the_formula_of_the_tools():
    flow = np.array([0, 20, -20, 25, -25, 0.07, -0.07, 0.16, 7.3, -19.99], np.float32)
    wanted = [
        255 if v > 20 else 0 if v < -20 else round(255 * (v + 20) / 40) for v in flow.tolist()
    ]
    assert quantise(flow, bound=20).tolist() == wanted
    assert wanted[:5] == [128, 255, 0, 255, 0]


def test_png_has_the_scale_of_each_picture():
    flow = np.zeros((2, 6, 5), np.float32)
    flow[0, 0, :3] = 3, -1.5, 0
    flow[1, 0, :2] = 5, -5  # 5 needs the bound 8, which is no odd multiple of 4: 12
    picture = quantise_png(flow)
    assert picture[0, :4, 0].tolist() == [224, 80, 128, 128]
    assert picture[0, :3, 1].tolist() == [round(5 * 128 / 12 + 128), round(128 - 5 * 128 / 12), 128]
    assert picture[:, 0, 2].tolist() == [1, 1, 1, 1, 3, 3]
    flow[0, 0, 0] = 3000  # as wide as the picture at most
    assert quantise_png(flow)[0, 0].tolist() == [255, round(5 * 128 / 12 + 128), 3]


def test_png_is_exact_to_half_a_step(tmp_path):
    flow = write(tmp_path, "denseflow-png")
    for pair in range(6):
        picture = cv2.imread(str(tmp_path / VIDEO / f"flow_{pair:05d}.png"))
        assert np.array_equal(picture, quantise_png(flow[pair]))
        for component, row in ((0, 0), (1, -1)):
            bound = 4.0 * picture[row, 0, 2]
            motion = (picture[..., component].astype(float) - 128) * bound / 128
            assert np.abs(motion - flow[pair, component]).max() <= bound / 256 + 1e-5
            assert np.abs(dequantise_png(picture)[component] - motion).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "path", "number"),
    [
        ("dense-flow", f"{VIDEO}/img_00001.jpg", 1),
        ("dense-flow", f"{VIDEO}/img_00006.jpg", 6),
        ("denseflow", f"{VIDEO}/img_00000.jpg", 0),
        ("denseflow-h5", f"{VIDEO}/img_00006.jpg", 6),
        ("gpu-flow", f"rgb/{VIDEO}/frame000001.jpg", 0),
        ("twostreamfusion", f"jpegs_256/{VIDEO}/frame000007.jpg", 6),
    ],
)
def test_images_are_the_right_frames(tmp_path, name, path, number):
    write(tmp_path, name)
    image = cv2.imread(str(tmp_path / path))[..., ::-1].astype(int)
    assert np.abs(image - frame(number)).max() <= 3


@pytest.mark.parametrize(("name", "number"), [("dense-flow", 2), ("gpu-flow", 0)])
def test_tools_that_skip_frames_keep_every_second(tmp_path, name, number):
    flow = write(tmp_path, name, stride=2)
    first, second = (tmp_path / (place_of(name, "x") % number) for number in (1, 2))
    for path, pair in ((first, 0), (second, 2)):
        error = cv2.imread(str(path), 0).astype(int) - quantise(flow[pair, 0], bound=20)
        assert np.abs(error).max() <= 3
    folder = {"dense-flow": f"{VIDEO}/img_00001", "gpu-flow": f"rgb/{VIDEO}/frame000001"}[name]
    image = cv2.imread(str(tmp_path / f"{folder}.jpg"))[..., ::-1].astype(int)
    assert np.abs(image - frame(number)).max() <= 3


def test_archives_have_the_members_of_dense_flow(tmp_path):
    flow = write(tmp_path, "dense-flow-zip")
    for archive, member in (("flow_x", "x"), ("flow_y", "y"), ("img", "img")):
        with zipfile.ZipFile(tmp_path / VIDEO / f"{archive}.zip") as opened:
            assert opened.namelist() == numbered(f"{member}_%05d.jpg", range(1, 7))
            assert opened.testzip() is None
    with zipfile.ZipFile(tmp_path / VIDEO / "flow_y.zip") as opened:
        levels = cv2.imdecode(np.frombuffer(opened.read("y_00003.jpg"), np.uint8), 0)
    assert np.abs(levels.astype(int) - quantise(flow[2, 1], bound=20)).max() <= 3


def test_hdf5_keeps_every_bit(tmp_path):
    h5py = pytest.importorskip("h5py")
    flow = write(tmp_path, "denseflow-h5", stride=-2)
    with h5py.File(tmp_path / f"{VIDEO}_m2.h5") as file:
        names = [f"flow_{part}_m2_{n:05d}" for part in "xy" for n in range(2, 7)]
        assert sorted(file) == names
        for pair in range(5):
            for component, part in enumerate("xy"):
                stored = file[f"flow_{part}_m2_{pair + 2:05d}"]
                assert stored.dtype == np.float32
                assert np.array_equal(stored[()], flow[pair, component])


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(KinemaError, match=r"kinema\[hdf5\]"):
        open_sink(tmp_path, VIDEO, name="denseflow-h5")


def test_frames_can_be_left_out(tmp_path):
    write(tmp_path, "dense-flow", frames=False)
    assert not [name for name in files(tmp_path) if "img" in name]
    assert is_complete(tmp_path, VIDEO, 6, name="dense-flow", frames=False)
    assert not is_complete(tmp_path, VIDEO, 6, name="dense-flow")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_video_that_is_stopped_half_way_leaves_nothing(tmp_path, name):
    with pytest.raises(RuntimeError, match="stopped"):
        write(tmp_path, name, stop_after=4)
    assert files(tmp_path) == []
    assert not is_complete(tmp_path, VIDEO, 6, name=name)
    assert not is_complete(tmp_path, VIDEO, 0, name=name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_new_run_that_is_stopped_keeps_the_old_video(tmp_path, name):
    write(tmp_path, name)
    before = {path: (tmp_path / path).read_bytes() for path in files(tmp_path)}
    with pytest.raises(RuntimeError, match="stopped"):
        write(tmp_path, name, flow=-smooth_flow(6), stop_after=4)
    assert {path: (tmp_path / path).read_bytes() for path in files(tmp_path)} == before
    assert is_complete(tmp_path, VIDEO, 6, name=name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_incomplete_video_is_replaced(tmp_path, name):
    write(tmp_path, name, flow=-smooth_flow(6))
    flow_files = [path for path in files(tmp_path) if "img" not in path and "rgb" not in path]
    (tmp_path / flow_files[-1]).unlink()
    assert not is_complete(tmp_path, VIDEO, 6, name=name)
    write(tmp_path, name)
    assert files(tmp_path) == sorted(EXPECTED[name, 1])
    write(tmp_path / "fresh", name)
    for path in files(tmp_path / "fresh"):
        if not path.endswith(".h5"):
            assert (tmp_path / path).read_bytes() == (tmp_path / "fresh" / path).read_bytes()


@pytest.mark.parametrize("name", ["gpu-flow", "twostreamfusion"])
def test_x_without_y_is_not_complete(tmp_path, name):
    """A process may die between the renaming of the folders: y comes last."""
    write(tmp_path, name)
    y = (tmp_path / (place_of(name, "y") % 1)).parent
    y.rename(y.with_name(".v.part"))
    assert not is_complete(tmp_path, VIDEO, 6, name=name)


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / "Archery" / ".v_Archery_g01_c01.123456.part"
    left.mkdir(parents=True)
    (left / "flow_x_00001.jpg").write_bytes(b"")
    others = [
        tmp_path / "Archery" / ".v_Archery_g01_c02.123456.part",
        tmp_path / "Archery" / ".v_Archery_g01_c01.v2.123456.part",
    ]
    for other in others:
        other.mkdir()
    write(tmp_path, "dense-flow")
    assert not left.exists()
    assert all(other.exists() for other in others)


def test_what_a_killed_process_left_of_an_hdf5_file_is_removed(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "Archery").mkdir()
    left = tmp_path / "Archery" / ".v_Archery_g01_c01.123456.part.h5"
    left.write_bytes(b"half")
    write(tmp_path, "denseflow-h5")
    assert not left.exists()


def test_strides_share_a_folder(tmp_path):
    write(tmp_path, "denseflow")
    write(tmp_path, "denseflow", stride=2)
    (tmp_path / VIDEO / "notes.txt").write_text("kept")
    write(tmp_path, "denseflow", stride=-1)
    for stride in (1, 2, -1):
        assert is_complete(tmp_path, VIDEO, 7 - abs(stride), name="denseflow", stride=stride)
    assert (tmp_path / VIDEO / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("name", ["dense-flow", "twostreamfusion", "dense-flow-zip"])
def test_a_full_disk_is_said_clearly(tmp_path, name, monkeypatch):
    calls = []

    def full(*args):
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 1

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(KinemaError, match="No space left on the disk while writing") as caught:
        write(tmp_path, name)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert files(tmp_path) == []


def test_a_full_disk_does_not_crash_the_hdf5_library(tmp_path):
    pytest.importorskip("h5py")
    script = f"""
import errno, pathlib, resource
import numpy as np
from kinema.flow.formats.sinks import open_sink
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with open_sink(pathlib.Path({str(tmp_path)!r}), "v", name="denseflow-h5", frames=False) as sink:
        for _ in range(40):
            sink.write_pair(np.ones((2, 60, 80), np.float32))
except OSError as error:
    print(errno.errorcode[error.errno], sink.num_pairs)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    name, pairs = done.stdout.split()
    assert (name, 3 <= int(pairs) <= 6) == ("EFBIG", True)
    assert files(tmp_path) == []


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no flow format 'denseflo'. Did you mean 'denseflow'"):
        open_sink(tmp_path, "v", name="denseflo")
    with pytest.raises(
        UsageError, match=r"dense_flow has none below 1. Negative strides: denseflo"
    ):
        open_sink(tmp_path, "v", name="dense-flow", stride=-1)
    with pytest.raises(UsageError, match="cannot hold stride 0"):
        find_layout("denseflow", stride=0)
    with pytest.raises(UsageError, match="cannot be the id of a video"):
        open_sink(tmp_path, "../v", name="dense-flow")
