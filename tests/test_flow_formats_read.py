"""Old flow read back: every layout, and what is missing or damaged."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers_formats import HEIGHT, WIDTH, kinema_levels, levels_of, tsn, write_pairs
from kinema.errors import KinemaError, UsageError
from kinema.flow.encoding import decode
from kinema.flow.formats.find import find_videos
from kinema.flow.formats.names import LAYOUTS
from kinema.flow.formats.old_flow import open_old_flow
from kinema.flow.formats.quantise import dequantise, quantise_png, to_kinema
from kinema.flow.formats.sinks import open_sink

REAL = Path(__file__).parents[2] / "shared" / "data" / "flow_jpegs"


def test_levels_move_by_half_a_step_at_most():
    table = to_kinema()
    old = dequantise(np.arange(256, dtype=np.uint8), low=-20, high=20)
    new = decode(table[None, :, None, None].repeat(2, 3), bound=20)[0, 0, :, 0]
    assert np.abs(old - new).max() <= 20 / 254 + 1e-5
    assert np.array_equal(table, kinema_levels(np.arange(256)))
    assert (table[0], table[127], table[128], table[255]) == (1, 128, 128, 255)
    assert np.array_equal(256 - table.astype(int), table[::-1])


LAYOUT_CASES = {
    "tsn": ("dense-flow", "v", "v", "flow_x_%05d.jpg", "flow_y_%05d.jpg", 1),
    "tsn-2017": ("dense-flow", "v", "v", "flow_x_%04d.jpg", "flow_y_%04d.jpg", 1),
    "short-names": ("dense-flow", "v", "v", "x_%05d.jpg", "y_%05d.jpg", 1),
    "mmlab": ("denseflow", "v", "v", "flow_x_%05d.jpg", "flow_y_%05d.jpg", 0),
    "downloads": ("twostreamfusion", "u/v", "v/v", "frame%06d.jpg", "frame%06d.jpg", 1),
    "unpadded": ("gpu-flow", "x/v", "y/v", "frame%d.jpg", "frame%d.jpg", 1),
    "in-video": ("gpu-flow", "v/x", "v/y", "%05d.png", "%05d.png", 1),
    "both-told": ("twostreamfusion", "u/v", "v/v", "flow_x_%05d.jpg", "flow_y_%05d.jpg", 0),
}


@pytest.mark.parametrize("case", LAYOUT_CASES)
def test_images_of_every_layout_are_found(tmp_path, case):
    layout, in_x, in_y, name_x, name_y, first = LAYOUT_CASES[case]
    folder_x, folder_y = tmp_path / in_x, tmp_path / in_y
    write_pairs(folder_x, folder_y, name_x, name_y, range(first, first + 12))
    frames = tmp_path / ("v" if in_x == "v" else "rgb/v")
    frames.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(frames / "img_00001.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    found = list(find_videos(tmp_path))
    assert [(video.id, video.num_pairs) for video in found] == [("v", 12)]
    old = open_old_flow(tmp_path, bound=15)
    assert (old.layout, old.num_frames, old.height, old.width) == (layout, 12, HEIGHT, WIDTH)
    assert (old.bound, old.stride) == (15, 1)
    pairs_THW2 = old.read([11, 0, 11])
    for slot, index in enumerate((11, 0, 11)):
        for component, (folder, name) in enumerate(((folder_x, name_x), (folder_y, name_y))):
            image = cv2.imread(str(folder / (name % (first + index))), cv2.IMREAD_GRAYSCALE)
            assert np.array_equal(pairs_THW2[slot, ..., component], kinema_levels(image))
    old.close()


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        *((name, 1) for name in LAYOUTS),
        *((name, stride) for name in LAYOUTS if LAYOUTS[name].has_strides for stride in (2, -1)),
    ],
)
def test_what_is_written_is_read(tmp_path, name, stride):
    if name == "denseflow-h5":
        pytest.importorskip("h5py")
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (4, 2, HEIGHT, WIDTH))
    smooth = [[cv2.GaussianBlur(plane, (0, 0), 6) for plane in pair] for pair in noise]
    flow = (np.asarray(smooth) / np.abs(smooth).max() * 18).astype(np.float32)
    with open_sink(tmp_path, "a/v", name=name, bound=20, stride=stride) as sink:
        for index in range(4 + abs(stride)):
            if sink.wants_frames:
                sink.write_frame(np.full((HEIGHT, WIDTH, 3), index, np.uint8))
            if index >= abs(stride):
                sink.write_pair(flow[index - abs(stride)])
    old = open_old_flow(tmp_path, bound=20, stride=stride)
    assert (old.layout, old.stride, old.num_frames) == (name, stride, 4)
    error = np.abs(decode(old.read(range(4)), bound=20) - flow)
    exact = {"denseflow-png": 20 / 254 + 24 / 256, "denseflow-h5": 20 / 254}
    assert error.max() < exact.get(name, 20 / 255 + 20 / 254 + 3 * 40 / 255) + 1e-4
    old.close()


def test_a_video_can_be_named_in_many_ways(tmp_path):
    for name in ("a", "b"):
        write_pairs(
            tmp_path / "u" / name,
            tmp_path / "v" / name,
            "frame%06d.jpg",
            "frame%06d.jpg",
            range(1, 4 if name == "a" else 5),
        )
    assert open_old_flow(tmp_path, video="b").num_frames == 4
    assert open_old_flow(tmp_path / "u" / "b").num_frames == 4
    assert open_old_flow(tmp_path / "u", video="a").num_frames == 3
    assert open_old_flow(tmp_path / "u" / "a", y=tmp_path / "v" / "a").num_frames == 3
    with pytest.raises(UsageError, match="holds the flow of 2 videos, which one is not said: a, b"):
        open_old_flow(tmp_path)
    with pytest.raises(UsageError, match="2 videos, there is no 'c': a, b"):
        open_old_flow(tmp_path, video="c")
    with pytest.raises(UsageError, match=r"no flow of a at stride 2. There is stride 1"):
        open_old_flow(tmp_path, video="a", stride=2)
    with pytest.raises(KinemaError, match="There is no folder or file"):
        open_old_flow(tmp_path / "c")


def test_plain_frames_are_no_flow(tmp_path):
    for name in ("img_00001.jpg", "img_00002.jpg"):
        path = tmp_path / "x" / "data" / "v" / name  # x is above what is searched
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8), np.uint8))
    with pytest.raises(KinemaError, match=r"There is no stored flow in .*data"):
        open_old_flow(tmp_path / "x" / "data")


def test_png_and_hdf5_are_decoded_by_their_own_scale(tmp_path):
    flow = np.zeros((2, HEIGHT, WIDTH), np.float32)
    flow[0, :, 5:], flow[1, 3:] = 4.0, -12.0
    (tmp_path / "v").mkdir()
    cv2.imwrite(str(tmp_path / "v" / "flow_00000.png"), quantise_png(flow))
    pair = open_old_flow(tmp_path / "v").read([0])[0]
    # The bounds are 12 and 20: 4 is stored as 43 of 128 parts of 12, and -12 as -77 of 20.
    assert np.unique(pair[..., 0]).tolist() == [128, 128 + round(43 * 12 / 128 * 127 / 20)]
    assert np.unique(pair[..., 1]).tolist() == [128 - round(77 * 20 / 128 * 127 / 20), 128]
    pair = open_old_flow(tmp_path / "v", bound=10).read([0])[0]
    assert pair[..., 1].min() == 1  # cut


def test_floats_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    flow = np.random.default_rng(0).uniform(-25, 25, (3, 2, HEIGHT, WIDTH)).astype(np.float32)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for pair in range(3):
            file[f"flow_x_{pair:05d}"], file[f"flow_y_{pair:05d}"] = flow[pair]
    old = open_old_flow(tmp_path / "v.h5")
    assert (old.layout, old.num_frames) == ("denseflow-h5", 3)
    error = np.abs(decode(old.read([0, 1, 2]), bound=20) - np.clip(flow, -20, 20))
    assert error.max() <= 20 / 254 + 1e-5
    old.close()
    with h5py.File(tmp_path / "v.h5", "a") as file:
        del file["flow_y_00001"]
    with pytest.raises(KinemaError, match=r"flow_y_00001 is missing: .* x has 3 images and y 2"):
        open_old_flow(tmp_path / "v.h5")
    (tmp_path / "v.h5").write_bytes(b"no HDF5")
    with pytest.raises(KinemaError, match="cannot be read as an HDF5 file"):
        open_old_flow(tmp_path / "v.h5")


def test_images_in_hdf5_of_3d_resnets(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        for component, name in enumerate(("video_u", "video_v")):
            data = file.create_dataset(name, (4,), dtype=h5py.vlen_dtype(np.uint8))
            for pair in range(4):
                data[pair] = cv2.imencode(".png", levels_of(pair, component))[1].ravel()
    old = open_old_flow(tmp_path / "v.hdf5")
    assert (old.layout, old.num_frames) == ("3d-resnets-hdf5", 4)
    assert np.array_equal(old.read([3])[0, ..., 1], kinema_levels(levels_of(3, 1)))
    old.close()


def test_scales_of_gpu_flow_are_read(tmp_path):
    """Without clipping, gpu_flow scales every image by its own range, kept in <video>.bin."""
    write_pairs(tmp_path / "u/v", tmp_path / "v/v", "frame%06d.png", "frame%06d.png", (1, 2))
    ranges = np.array([[-3, 7, -1, 1], [-20, 20, -10, 40]], np.float32)
    ranges.tofile(tmp_path / "u" / "v.bin")
    flow = decode(open_old_flow(tmp_path).read([0, 1]), bound=20)
    for pair in range(2):
        for component in range(2):
            low, high = ranges[pair, 2 * component : 2 * component + 2].astype(float)
            wanted = levels_of(pair + 1, component) / 255 * (high - low) + low
            assert np.abs(flow[pair, component] - np.clip(wanted, -20, 20)).max() < 20 / 254 + 1e-4
    ranges[:1].tofile(tmp_path / "u" / "v.bin")
    with pytest.raises(KinemaError, match="is for 1 pairs, but there are 2"):
        open_old_flow(tmp_path)
    (tmp_path / "u" / "v.bin").write_bytes(b"12345678")
    with pytest.raises(KinemaError, match="does not hold four numbers for each pair"):
        open_old_flow(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    folder = tsn(tmp_path / "v")
    (folder / "flow_x_00003.jpg").rename(tmp_path / "kept.jpg")
    with pytest.raises(
        KinemaError,
        match=r"v/flow_x_00003.jpg is missing: .* from 1 to 5, but x has 4 images and y 5",
    ):
        open_old_flow(folder)
    (tmp_path / "kept.jpg").rename(folder / "flow_x_00003.jpg")
    (folder / "flow_y_00005.jpg").unlink()
    with pytest.raises(
        KinemaError, match=r"flow_y_00005.jpg is missing: .* x has 5 images and y 4"
    ):
        open_old_flow(folder)
    for path in folder.glob("flow_y*"):
        path.unlink()
    with pytest.raises(KinemaError, match=r"y component of the flow is missing: .*v has 5 images"):
        open_old_flow(folder)
    late = tsn(tmp_path / "late", range(3, 6))
    with pytest.raises(KinemaError, match=r"flow_x_00001.jpg is missing: .* from 1 to 5"):
        open_old_flow(late)
    cv2.imwrite(str(late / "flow_x_5.jpg"), levels_of(5, 0))
    with pytest.raises(KinemaError, match=r"two images 5: flow_x_00005.jpg and flow_x_5.jpg"):
        open_old_flow(late)


def test_two_kinds_of_one_component_are_refused(tmp_path):
    folder = tsn(tmp_path / "v")
    cv2.imwrite(str(folder / "x_00001.jpg"), levels_of(1, 0))
    with pytest.raises(
        KinemaError, match=r"two kinds of images of one thing: flow_x_\*.jpg and x_"
    ):
        open_old_flow(folder)


def test_links_are_followed_once(tmp_path):
    tsn(tmp_path / "far" / "v")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "far" / "v")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert [video.id for video in find_videos(tmp_path / "data")] == ["linked"]


@pytest.mark.parametrize("kept", ["u", "v"])
def test_a_component_that_lies_apart_may_be_missing(tmp_path, kept):
    folder = tmp_path / kept / "video"
    write_pairs(folder, folder, "frame%06d.jpg", "frame%06d.jpg", (1, 2))
    (tmp_path / {"u": "v", "v": "u"}[kept]).mkdir()
    lacking = {"u": "y", "v": "x"}[kept]
    with pytest.raises(KinemaError, match=f"The {lacking} component .*video has 2 images"):
        open_old_flow(tmp_path)


def test_damaged_images_are_named(tmp_path):
    folder = tsn(tmp_path / "v")
    path = folder / "flow_y_00002.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    old = open_old_flow(folder)
    assert old.read([0, 2]).shape == (2, HEIGHT, WIDTH, 2)
    with pytest.raises(KinemaError, match=r"v/flow_y_00002.jpg is cut off \(\d+ bytes\)"):
        old.read([1])
    path.write_bytes(b"")
    with pytest.raises(KinemaError, match=r"flow_y_00002.jpg (is cut off|cannot be read)"):
        old.read([1])
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(KinemaError, match=r"flow_y_00002.jpg cannot be read as an image"):
        old.read([1])
    cv2.imwrite(str(path), levels_of(2, 1, width=WIDTH + 2))
    with pytest.raises(KinemaError, match=r"is 30x20 pixels, .*flow_y_00002.jpg 32x20: both"):
        old.read([1])
    cv2.imwrite(str(folder / "flow_x_00002.jpg"), levels_of(2, 0, width=WIDTH + 2))
    with pytest.raises(KinemaError, match="Pair 1 is 32x20 pixels, the first one 30x20"):
        old.read([1])
    with pytest.raises(KinemaError, match="pairs 0 to 4: 5 was asked for"):
        old.read([5])
    png = cv2.imencode(".png", levels_of(1, 1))[1].tobytes()
    (folder / "flow_y_00001.jpg").write_bytes(png[:-30])
    with pytest.raises(KinemaError, match=r"flow_y_00001.jpg is cut off"):
        open_old_flow(folder)


def test_dense_flow_archives_are_read(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for component, part in enumerate("xy"):
        with zipfile.ZipFile(folder / f"flow_{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(1, 12):
                image = cv2.imencode(".png", levels_of(number, component))[1].tobytes()
                archive.writestr(f"{part}_{number:05d}.png", image)
    old = open_old_flow(folder)
    assert (old.layout, old.num_frames) == ("dense-flow-zip", 11)
    assert np.array_equal(old.read([10])[0, ..., 0], kinema_levels(levels_of(11, 0)))
    old.close()
    (folder / "flow_y.zip").write_bytes(b"PK")
    with pytest.raises(KinemaError, match=r"flow_y.zip is not a whole zip archive"):
        open_old_flow(folder)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the development videos")
def test_the_sample_of_old_flow_is_in_the_layout_of_tsn():
    found = list(find_videos(REAL))
    assert [(video.id, video.layout, video.num_pairs) for video in found] == [
        ("v_ApplyEyeMakeup_g01_c01", "dense-flow", 5)
    ]
    old = open_old_flow(REAL / "v_ApplyEyeMakeup_g01_c01")
    assert (old.num_frames, old.height, old.width) == (5, 240, 320)
    image = cv2.imread(str(REAL / found[0].id / "y_00005.jpg"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(old.read([4])[0, ..., 1], kinema_levels(image))
    assert abs(float(old.read(range(5)).mean()) - 128) < 6  # a face that hardly moves
