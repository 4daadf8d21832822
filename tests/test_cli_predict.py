"""`kinema predict`: table, JSON, overlay videos, and which arguments it takes."""

import json

import cv2
import numpy as np
import pytest

from helpers_cli import STREAMS, inside, kinema, video_like
from kinema.errors import KinemaError
from kinema.overlay_video import overlay_paths
from kinema.prediction import PredictOptions
from kinema.prediction import predict as predict_videos
from kinema.video.reader import VideoReader


@pytest.fixture(scope="module")
def expected(finished):
    return predict_videos([finished.folder], [str(finished.data / "striped-circle")])


def test_the_table_has_a_line_for_each_video(finished, expected, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    done = kinema("predict", finished.folder, finished.data / "striped-circle")
    assert done.code == 0 and not done.err
    lines = done.out.splitlines()[1:]
    assert len(lines) == 4
    for line, row in zip(lines, expected.rows, strict=True):
        (best, share), (second, other), _ = row.top(expected.classes, 3)
        assert line.startswith(f"{row.source}  {best} ")
        assert f" {100 * share:.1f} %  {second} {100 * other:.1f}, " in line


def test_the_table_fits_a_terminal(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "a rather long name [of] a file " * 4
    video_like(tmp_path / f"{name.strip()}.mp4")
    done = kinema("predict", finished.folder / "rgb", tmp_path, "--top", "2")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("…") and "of a" not in lines[1] and "[of] a file.mp4" in lines[1]


def test_json_is_all_there_is_on_standard_output(finished, expected):
    words = ("predict", finished.folder, finished.data / "striped-circle", "--json", "--top", "2")
    found = json.loads(kinema(*words).out)
    assert found == json.loads(json.dumps(expected.as_json(2)))
    assert len(found["predictions"]) == 4 and len(found["predictions"][0]["top"]) == 2
    assert len(found["predictions"][0]["probabilities"]) == 6


def test_a_pattern_and_checkpoints_in_any_order(finished, expected):
    pattern = str(finished.data / "*" / "scene-01" / "*.mp4")
    words = (pattern, finished.checkpoint("flow"), finished.checkpoint("rgb"))
    found = json.loads(kinema("predict", *words, "--json").out)["predictions"]
    assert len(found) == 6
    by_source = {row["source"]: row["probabilities"] for row in found}
    first = expected.rows[0]
    np.testing.assert_allclose(by_source[str(first.source)], first.probabilities, atol=1e-6)


def test_weights_and_protocol_are_options(finished, expected):
    video = expected.rows[0].source
    words = ("predict", finished.folder, video, "--json", "--protocol", "uniform-10")
    found = json.loads(kinema(*words, "--weights", "1,3").out)["predictions"][0]
    options = PredictOptions(weights=(1.0, 3.0), protocol="uniform-10")
    again = predict_videos([finished.folder], [str(video)], options=options)
    np.testing.assert_allclose(found["probabilities"], again.rows[0].probabilities, atol=1e-6)


def test_overlay_videos_open_elsewhere(finished, tmp_path):
    """As many frames as the source, both sides even, frame at the left and flow at the right."""
    odd = video_like(tmp_path / "odd.mkv", num_frames=7, width=65, height=47, pix_fmt="yuv444p",
                     suffix=".mkv")  # fmt: skip
    out = tmp_path / "out"
    done = kinema("predict", finished.folder, odd, "--video", out)
    assert done.code == 0 and done.err.splitlines()[-1] == f"Overlay: {out / 'odd.mp4'}"
    capture = cv2.VideoCapture(str(out / "odd.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 7 == int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    height, width = frames[0].shape[:2]
    assert (height % 2, width % 2) == (0, 0) and width == 960
    with VideoReader(odd) as video:
        source = video.read([3])[0]
    panel = frames[3][14 : 14 + round(459 * 47 / 65), 14:473, ::-1]
    small = cv2.resize(panel, (65, 47), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - source).mean() < 12


def test_an_overlay_without_flow(finished, tmp_path):
    one = video_like(tmp_path / "one.mp4", num_frames=1)
    done = kinema("predict", finished.folder / "rgb", one, "--video", tmp_path / "out")
    assert done.code == 0
    with VideoReader(tmp_path / "out" / "one.mp4") as video:
        assert video.num_frames == 1 and video.width == 960


def test_overlays_of_equal_names_are_told_apart(tmp_path):
    names = ["a/1.mp4", "b/1.mp4", "b/2.avi", "b/2.mp4", "b/v1.5.mp4"]
    sources = [tmp_path / "in" / name for name in names]
    paths = overlay_paths(sources, tmp_path / "out")
    found = [path.relative_to(tmp_path / "out").as_posix() for path in paths]
    assert found == ["a/1.mp4", "b/1.mp4", "b/2.avi.mp4", "b/2.mp4.mp4", "b/v1.5.mp4"]
    assert overlay_paths(sources[:1], tmp_path) == [tmp_path / "1.mp4"]
    assert overlay_paths([], tmp_path) == []


def test_an_overlay_is_never_written_over_a_source(finished, tmp_path):
    video = video_like(tmp_path / "clip.mp4")
    content = video.read_bytes()
    done = kinema("predict", finished.folder / "rgb", video, "--video", tmp_path)
    assert done.code == 1 and "would be written over a source" in done.error
    assert video.read_bytes() == content
    with inside(tmp_path), pytest.raises(KinemaError, match="would be written over a source"):
        overlay_paths([video], tmp_path / "." )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DATA",), "No checkpoint among the arguments: give a run folder or .safetensors files"),
        (("RUN",), "No video among the arguments: give a file, a folder or a pattern."),
        (("RUN/flow/state.pt", "DATA"), "is neither a video nor a checkpoint of Kinema"),
        (("RUN", "DATA", "--weights", "1"), "The fusion weights 1 do not fit the 2 checkpoints"),
        (("RUN", "DATA", "--weights", "1,x"), "'x' in '1,x' is not a number"),
        (("RUN", "DATA", "--protocol", "centre"), "Did you mean 'centre-1'?"),
    ],
)  # fmt: skip
def test_wrong_arguments(finished, words, message):
    known = {"DATA": str(finished.data), "RUN": str(finished.folder)}
    told = [word.replace("RUN", known["RUN"]).replace("DATA", known["DATA"]) for word in words]
    done = kinema("predict", *told)
    assert done.code == 2 and message in done.error and not done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.mp4",), "'gone.mp4' is no video file, no folder with videos and no pattern"),
        (("--device", "cuda"), "torch sees no CUDA device: take cpu"),
        (("--device", "gpu"), "Unknown device 'gpu': choose auto, cpu, cuda or cuda:N."),
    ],
)
def test_what_is_not_there(finished, words, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = kinema("predict", finished.folder, finished.data / "striped-circle", *words)
    assert done.code in (1, 2) and message in done.error


def test_checkpoints_that_are_none(finished, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "run.json").write_text("{}")
    for name, message in (
        ("gone.safetensors", "There is no checkpoint"),
        ("text.safetensors", "is not a complete safetensors file"),
        (".", "is not the folder of a finished run (no results.json)"),
    ):
        done = kinema("predict", tmp_path / name, finished.data)
        assert done.code == 1 and message in done.error
    for stream in STREAMS:
        path = tmp_path / f"{stream}.safetensors"
        path.write_bytes(finished.checkpoint(stream).read_bytes()[:-50])
        assert "is not a complete safetensors file" in kinema("predict", path, finished.data).error
