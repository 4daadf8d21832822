"""Parts of videos: from the rows of a table to clips, stored flow and stored frames."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_datasets import write
from helpers_engine import config_of
from helpers_video import SPECS, make_video, sequential
from kinema.data.clips import TestClips, TrainClips
from kinema.data.items import ClipSpec
from kinema.data.sources import open_source
from kinema.datasets.build import build_index
from kinema.datasets.index import Index, read_index
from kinema.datasets.span import Span
from kinema.datasets.splits import SplitRule
from kinema.engine.items import clip_items, flow_jobs, pack_jobs
from kinema.engine.train import train
from kinema.errors import KinemaError
from kinema.flow.extract import FlowOptions, extract_flow, verify_flow
from kinema.flow.live import LiveFlow
from kinema.packing.pack import pack, verify_pack
from kinema.testing import TestOptions, score_checkpoint
from kinema.video.frames import open_frames
from kinema.video.segment import open_segment

ROWS = (
    "path,label,split,segment_start,segment_end,start_seconds,end_seconds\n"
    "one.mp4,wave,test,5,17,,\n"
    "one.mp4,jump,test,20,,,\n"
    "two.mkv,wave,train,,,0.2,0.8\n"
    "two.mkv,jump,train,,,0.8,2.6\n"
    "whole.mp4,jump,train,,,,\n"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three videos of 40 frames at 25 per second, and the index of the segments above."""
    folder = tmp_path_factory.mktemp("segments")
    make_video(folder / "one.mp4", SPECS["h264"])
    make_video(folder / "two.mkv", replace(SPECS["h264-mkv"], width=48))
    make_video(folder / "whole.mp4", replace(SPECS["h264-no-b"], height=64))
    write(folder / "index.csv", ROWS)
    build_index(folder, folder / "index")
    return folder


def items(data, **stores):
    index = read_index(data / "index")
    return {item.id: item for item in clip_items(index.videos, classes=index.classes, **stores)}


def test_the_index_has_frame_numbers(data):
    index = read_index(data / "index")
    assert {video.id: (video.segment, video.num_frames) for video in index.videos} == {
        "one_5-17": ((5, 17), 12),
        "one_20-end": ((20, 40), 20),
        "two_200-800ms": ((5, 20), 15),
        "two_800-2600ms": ((20, 40), 20),  # 2.6 s is within a second of the end
        "whole": (None, 40),
    }
    with (data / "index" / "index.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert (rows[0]["segment_start"], rows[0]["segment_end"]) == ("5", "17")
    assert not any(row["segment_start"] for row in rows if row["id"] == "whole")
    build_index(data / "index", data / "again")  # an index is a table too
    assert [(v.id, v.segment) for v in read_index(data / "again").videos] == [
        (v.id, v.segment) for v in index.videos
    ]


@pytest.mark.parametrize("name", ["one_5-17", "one_20-end", "two_200-800ms"])
def test_clips_are_those_of_sequential_decoding(data, name):
    item = items(data)[name]
    start, end = item.segment
    frames = sequential(item.path)[start:end]
    spec = ClipSpec(stream="rgb", length=4, interval=2, resize="none", num_segments=2)
    clips = TestClips([item], spec, rule="sliding", num_clips=0, clips_per_item=99)
    _, _, x_NTCHW = clips[0]
    found = {x.numpy().tobytes() for clip in x_NTCHW for x in clip}
    every = {np.ascontiguousarray(frame.transpose(2, 0, 1)).tobytes() for frame in frames}
    assert found <= every and len(x_NTCHW) > 0
    first = np.stack(frames[0:8:2]).transpose(0, 3, 1, 2)
    assert torch.equal(x_NTCHW[0], torch.from_numpy(first))


def test_training_reads_the_segment_alone(data):
    item = items(data)["one_5-17"]
    spec = ClipSpec(stream="rgb", length=1, resize="none", crop=48, num_segments=3)
    colours = [frame[8, 8].tolist() for frame in sequential(item.path)]
    reader = open_source(item, spec)
    assert [frame[8, 8].tolist() for frame in reader.read(range(12))] == colours[5:17]
    assert len(TrainClips([item], spec, config_of(data).augment, seed=1)) == 1
    with pytest.raises(KinemaError, match="has no frame 12: its 12 frames are numbered 0 to 11"):
        reader.read([3, 12])


@pytest.mark.parametrize("algorithm", ["dis", "motion-vectors"])
def test_flow_of_a_segment_is_that_of_the_video(data, tmp_path, algorithm):
    options = FlowOptions(algorithm=algorithm, size="none", quality="lossless")
    jobs = flow_jobs(read_index(data / "index"))
    assert not extract_flow(jobs, tmp_path, options=options, workers=1).failures
    assert verify_flow(jobs, tmp_path) == ()
    whole = LiveFlow.of(open_frames(jobs[0].path), options)
    for job in jobs[:2]:
        start, end = job.segment
        spec = ClipSpec(stream="flow", flow_algorithm=algorithm)
        stored = open_source(items(data, flow_store=str(tmp_path))[job.id], spec)
        live = open_source(items(data)[job.id], spec)
        right = whole.read(range(start, end - 1))
        assert stored.num_frames == live.num_frames == end - start - 1
        np.testing.assert_array_equal(stored.read(range(stored.num_frames)), right)
        np.testing.assert_array_equal(live.read(range(live.num_frames)), right)


def test_a_store_holds_the_segment_and_is_made_again_for_another(data, tmp_path):
    jobs = pack_jobs(read_index(data / "index"))
    pack(jobs, tmp_path, short_side=None, quality="lossless", workers=1)
    assert verify_pack(jobs, tmp_path) == ()
    stored = items(data, frame_store=str(tmp_path))["one_20-end"]
    images = open_source(stored, ClipSpec(stream="rgb")).read(range(20))
    np.testing.assert_array_equal(images, np.stack(sequential(stored.path)[20:]))
    assert pack(jobs, tmp_path, short_side=None, quality="lossless", workers=1).frames == 0
    moved = [replace(jobs[0], segment=(6, 18)), *jobs[1:]]
    again = pack(moved, tmp_path, short_side=None, quality="lossless", workers=1)
    assert (again.frames, again.kept) == (12, 4)


def test_a_network_is_trained_and_tested_on_segments(data, tmp_path):
    train(config_of(data / "index", "data.crop=32", epochs=1), tmp_path / "run")
    scores = score_checkpoint(tmp_path / "run" / "best.safetensors", tmp_path / "test.npz")
    assert scores.ids == ("one_5-17", "one_20-end")
    assert scores.labels.tolist() == [1, 0]
    rows = "path,label,split\none.mp4,fly,test\ntwo.mkv,jump,train\nwhole.mp4,fly,train\n"
    build_index(write(data / "other.csv", rows), tmp_path / "other")
    options = TestOptions(index=str(tmp_path / "other"))
    with pytest.raises(KinemaError, match="label 'fly', which the network was not trained on"):
        score_checkpoint(tmp_path / "run" / "best.safetensors", tmp_path / "x.npz", options=options)


def test_segments_outside_the_video_are_rejected(data, tmp_path):
    table = write(
        data / "wrong.csv",
        "path,label,segment_start,segment_end,start_seconds,end_seconds\n"
        "one.mp4,a,0,42,,\none.mp4,a,40,41,,\none.mp4,a,0,41,,\none.mp4,b,,,1.5,2.7\n"
        "two.mkv,b,,,0.4,0.8\ntwo.mkv,a,,,0.401,0.41\n",
    )
    report = build_index(table, tmp_path / "index", rule=SplitRule(test_fraction=0))
    assert [video.segment for video in report.index.videos] == [None, (10, 20)]
    assert [reason for _, reason in report.rejected] == [
        "the segment from 0 to 42 frames is outside the video, which has 40 frames",
        "the segment from 40 to 41 frames is outside the video, which has 40 frames",
        "the segment from 1.5 to 2.7 seconds is outside the video, which has 40 frames",
        "the segment from 0.401 to 0.41 seconds has no frame in it",
    ]


def test_the_same_segment_under_two_labels_rejects_both_and_others_do_not(data, tmp_path):
    rows = "one.mp4,a,0,9,1\none.mp4,b,0,9,2\none.mp4,b,9,20,3\none.mp4,a,20,30,4\n"
    table = write(data / "double.csv", f"path,label,segment_start,segment_end,id\n{rows}")
    report = build_index(table, tmp_path / "index", rule=SplitRule(test_fraction=0))
    assert sorted(video.id for video in report.index.videos) == ["3", "4"]
    assert "same content as '2', which has another label" in report.rejected[0][1]


def test_segments_of_one_video_stay_in_one_part(data, tmp_path):
    rows = [
        f"{name},{label},{start},{start + 8}\n"
        for name in ("one.mp4", "two.mkv", "whole.mp4")
        for label, start in (("a", 0), ("b", 10), ("a", 20))
    ]
    table = write(data / "many.csv", "path,label,segment_start,segment_end\n" + "".join(rows))
    index: Index = build_index(table, tmp_path / "index").index
    parts = {video.path.name: set() for video in index.videos}
    for video in index.videos:
        parts[video.path.name].add(video.split)
    assert all(len(found) == 1 for found in parts.values())
    assert {"train", "test"} <= set().union(*parts.values())


@pytest.mark.parametrize("values", ["7,", ",9", "9,9", "x,3"])
def test_a_wrong_segment_in_an_index_is_named(data, tmp_path, values):
    text = (data / "index" / "index.csv").read_text().replace(",5,17", f",{values}")
    write(tmp_path / "index.csv", text)
    write(tmp_path / "classes.txt", "jump\nwave\n")
    with pytest.raises(KinemaError, match=r"line 2: .*(no part of a video|not a number)"):
        read_index(tmp_path)


def test_a_segment_that_no_longer_fits_is_an_error(data):
    with pytest.raises(KinemaError, match="the segment from 30 up to 41 is not within it"):
        open_segment(data / "one.mp4", (30, 41))


@pytest.mark.parametrize(
    ("span", "frames", "fps", "found"),
    [
        (Span(start=1.5, end=3.0, unit="seconds"), 100, 29.97, (45, 90)),
        (Span(start=0.0, end=10.0, unit="seconds"), 290, 30.0, None),  # within a second: whole
        (Span(start=2.0, unit="seconds"), 90, 30.0, (60, 90)),
        (Span(start=0, end=51), 50, 0.0, None),
        (Span(start=10, end=20), 50, 0.0, (10, 20)),
    ],
)
def test_spans_by_hand(span, frames, fps, found):
    assert span.resolve(num_frames=frames, fps=fps) == found


def test_seconds_need_a_rate(tmp_path: Path):
    with pytest.raises(KinemaError, match="in seconds, but the video has no frame rate"):
        Span(start=1, end=2, unit="seconds").resolve(num_frames=50, fps=0.0)
