"""The doctor on real files: what only they tell, the command, and the page."""

import json
import os
import re

import av
import cv2
import numpy as np
import pytest

from helpers_cli import kinema
from helpers_datasets import make_video, write
from kinema.datasets.build import build_index
from kinema.datasets.doctor import DoctorOptions, examine
from kinema.datasets.index import Index, read_index, write_index
from kinema.datasets.splits import SplitRule
from kinema.errors import KinemaError
from test_report import Page


def scene(path, seed, scale=1, quality="2"):
    """A video of smooth blobs that drift; the same seed gives the same pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (64 * scale, 48 * scale), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": quality})
        stream.width, stream.height, stream.pix_fmt = 64 * scale, 48 * scale, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.roll(image, i * scale, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def data(tmp_path):
    for number in range(6):
        for label in ("run", "walk"):
            seed = number + 10 * (label == "walk")
            scene(tmp_path / f"data/{label}/p{number}/a.mp4", seed)
    build_index(tmp_path / "data", tmp_path / "index", rule=SplitRule(test_fraction=0.3))
    return tmp_path


def topics(found, level="problem"):
    return [finding.topic for finding in found.findings if finding.level == level]


def test_sound_data(data):
    found = examine(data / "index", options=DoctorOptions(decode=True, similar=True))
    assert topics(found) == []
    assert "look-alikes" not in topics(found, "warning")
    assert found.facts.num_videos == 12
    assert found.facts.num_groups == 6


def test_vanished_and_changed_files(data):
    (data / "data/run/p0/a.mp4").unlink()
    make_video(data / "data/run/p1/a.mp4", seed=99, num_frames=9)
    touched = data / "data/run/p2/a.mp4"
    os.utime(touched, (1, 1))  # another time, but the same content
    found = examine(data / "index")
    assert topics(found) == ["files", "files"]
    gone, new = found.findings[:2]
    assert gone.text.startswith("Of 12 videos 1 is no longer there")
    assert gone.examples == ("run/p0/a",)
    assert new.text.startswith("1 video was changed since the index was made")
    assert new.examples == ("run/p1/a",)


def test_changed_folders_of_images(tmp_path):
    for number in range(8):
        folder = tmp_path / f"data/{'run' if number % 2 else 'walk'}/v{number}"
        folder.mkdir(parents=True)
        for i in range(3):
            image = np.full((24, 32, 3), 20 * number + i, np.uint8)
            cv2.imwrite(str(folder / f"img_{i + 1:05}.png"), image)
    build_index(tmp_path / "data", tmp_path / "index")
    os.utime(tmp_path / "data/walk/v0/img_00001.png", (1, 1))
    os.utime(tmp_path / "data/walk/v0/img_00003.png")
    cv2.imwrite(str(tmp_path / "data/run/v1/img_00001.png"), np.zeros((24, 32, 3), np.uint8))
    found = [f for f in examine(tmp_path / "index").findings if f.topic == "files"]
    assert [finding.examples for finding in found] == [("run/v1",)]


def test_damage_is_found_by_decoding(data):
    path = data / "data/walk/p3/a.mp4"
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 200
    content[start : start + 200] = bytes(200)
    index = read_index(data / "index")
    path.write_bytes(bytes(content))
    assert "decoding" not in topics(examine(data / "index"))
    found = examine(data / "index", options=DoctorOptions(decode=True))
    [damage] = [finding for finding in found.findings if finding.topic == "decoding"]
    assert damage.examples == ("walk/p3/a",)
    assert index == found.index


def test_copies_that_were_encoded_again(data):
    index = read_index(data / "index")
    test = next(v for v in index.videos if v.split == "test" and v.label == "run")
    train = next(v for v in index.videos if v.split == "train" and v.label == "run")
    scene(train.path, int(test.id[5]), scale=2, quality="12")
    build_index(data / "data", data / "index", rule=SplitRule(test_fraction=0.3))
    found = examine(data / "index", options=DoctorOptions(similar=True))
    [alike] = [finding for finding in found.findings if finding.topic == "look-alikes"]
    assert set(alike.examples) == {test.id, train.id}
    assert alike.text.startswith("In 1 pair of videos")


def leak(data):
    """Move one video of a test group to the training part."""
    index = read_index(data / "index")
    number = next(i for i, v in enumerate(index.videos) if v.split == "test")
    videos = list(index.videos)
    videos[number] = type(videos[number])(**{**vars(videos[number]), "split": "train"})
    write_index(Index(videos=tuple(videos), classes=index.classes), data / "index")


def test_command(data):
    sound = kinema("doctor", data / "index")
    assert sound.code == 0, sound.err
    assert "0 problems" in sound.out
    leak(data)
    found = kinema("doctor", data / "index")
    assert found.code == 1
    assert re.search(r"problem +groups: 1 group lies on both sides of the split", found.out)
    as_json = kinema("doctor", data / "index", "--json")
    assert as_json.code == 1
    values = json.loads(as_json.out)
    assert values["counts"]["problem"] == 1
    assert values["findings"][0]["topic"] == "groups"
    assert values["facts"]["num_videos"] == 12


def test_page(data):
    leak(data)
    (data / "data/walk/p5/a.mp4").unlink()
    assert kinema("doctor", data / "index", "--html", data / "page.html").code == 1
    html = (data / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "2 problems that make results wrong" in page.text.replace("2 problems that make  ", "")
    assert page.count("img") >= 3
    assert "no picture" in page.text  # of the video that is gone
    sources = [values["src"] for tag, values in page.elements if tag == "img"]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html


def test_page_is_safe_with_any_name(tmp_path):
    for number in range(4):
        for label in ("<b>run", 'wa\'lk & "x"'):
            folder = tmp_path / "data" / label
            make_video(folder / f"{number}.mp4", seed=number + 50 * len(label))
    build_index(tmp_path / "data", tmp_path / "index")
    assert kinema("doctor", tmp_path / "index", "--html", tmp_path / "p.html").code == 0
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<b>run" not in html
    assert "&lt;b&gt;run" in html


def test_no_index(tmp_path):
    found = kinema("doctor", tmp_path)
    assert found.code == 1
    assert found.error.startswith("There is no index in")
    write(tmp_path / "classes.txt", "a\n")
    header = "id,path,label,split,group,num_frames,fps,width,height,keyframe_interval\n"
    write(tmp_path / "index.csv", header)
    with pytest.raises(KinemaError, match="has no videos: make it again"):
        examine(tmp_path)
