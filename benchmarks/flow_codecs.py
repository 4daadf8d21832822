"""Ways to store flow: bytes, error, time to write and to read a random stack of ten.

    python benchmarks/flow_codecs.py FOLDER_OF_VIDEOS [--videos N] [--pairs N]

Every way codes the same pictures (x above y, DIS, bound 20) without a container: packets in one
file, read by their place. A stack is ten neighbouring pairs from a random place, the decoder opened
anew, in turn with twenty gray JPEG files of quality 95. Times are CPU seconds of one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.flow.algorithms import compute, gray_from_rgb
from kinema.flow.encoding import DEFAULT_BOUND, encode
from kinema.video.reader import VideoReader

STACK_PAIRS, STACKS = 10, 20
PIXELS_PER_LEVEL = DEFAULT_BOUND / 127
DECODERS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "libdav1d"}


@dataclass(frozen=True, kw_only=True)
class Way:
    """An encoder with its options."""

    name: str
    codec: str
    options: dict[str, str]
    pixels: str = "yuv420p"
    group: int = 1  # frames from a keyframe to the next


def x264(name: str, qp: int, *, group: int = 1, more: str = "", preset: str = "veryfast") -> Way:
    """Return constant-quantiser x264 that is fast to decode."""
    parameters = (
        f"keyint={group}:min-keyint=1:scenecut=0:ipratio=1:aq-mode=0:no-mbtree=1:no-psy=1{more}"
    )
    options = {
        "preset": preset,
        "tune": "fastdecode",
        "qp": str(qp),
        "x264-params": parameters,
    }
    return Way(name=name, codec="libx264", options=options, group=group)


def x265(name: str, crf: int, preset: str, group: int) -> Way:
    """Return x265 with groups of pictures."""
    parameters = f"keyint={group}:min-keyint=1:scenecut=0:bframes=0:log-level=none:pools=none"
    options = {"preset": preset, "crf": str(crf), "x265-params": parameters}
    return Way(name=name, codec="libx265", options=options, group=group)


def crf(name: str, value: int, tune: dict[str, str]) -> Way:
    """Return x264 with its usual rate control in groups of 8."""
    parameters = "keyint=8:min-keyint=1:scenecut=0:bframes=0"
    options = {"preset": "veryfast", "crf": str(value), "x264-params": parameters, **tune}
    return Way(name=name, codec="libx264", options=options, group=8)


CHOSEN = ":subme=6"
WAYS = (
    x264("x264 qp 16, all keyframes", 16, more=CHOSEN),
    x264("x264 qp 18, all keyframes (standard)", 18, more=CHOSEN),
    x264("x264 qp 20, all keyframes", 20, more=CHOSEN),
    x264("x264 qp 22, all keyframes", 22, more=CHOSEN),
    x264("x264 qp 18, without subme 6", 18),
    x264("x264 qp 18, preset medium", 18, preset="medium"),
    x264("x264 qp 18, with deblocking", 18, more=CHOSEN + ":deblock=1"),
    x264("x264 qp 18, with CABAC", 18, more=CHOSEN + ":cabac=1"),
    x264("x264 qp 18, groups of 2", 18, group=2, more=CHOSEN),
    x264("x264 qp 18, groups of 4", 18, group=4, more=CHOSEN),
    x264("x264 qp 18, groups of 8", 18, group=8, more=CHOSEN),
    crf("x264 crf 20, groups of 8", 20, {}),
    crf("x264 crf 20, groups of 8, fastdecode", 20, {"tune": "fastdecode"}),
    x265("x265 crf 16 ultrafast, groups of 8", 16, "ultrafast", 8),
    x265("x265 crf 16 medium, groups of 8", 16, "medium", 8),
    x265("x265 crf 16 ultrafast, all keyframes", 16, "ultrafast", 1),
    Way(
        name="SVT-AV1 crf 20 preset 10, groups of 8",
        codec="libsvtav1",
        options={"crf": "20", "preset": "10", "svtav1-params": "keyint=8:pred-struct=1:lp=1"},
        group=8,
    ),
    Way(
        name="SVT-AV1 crf 20 preset 10, all keyframes",
        codec="libsvtav1",
        options={
            "crf": "20",
            "preset": "10",
            "svtav1-params": "keyint=1:pred-struct=1:lp=1",
        },
        group=1,
    ),
    Way(
        name="SVT-AV1 crf 10 preset 10, groups of 4",
        codec="libsvtav1",
        options={"crf": "10", "preset": "10", "svtav1-params": "keyint=4:pred-struct=1:lp=1"},
        group=4,
    ),
    Way(name="MJPEG q 2", codec="mjpeg", options={"qmin": "1", "q:v": "2"}, pixels="yuvj420p"),
    x264("x264 qp 0 (lossless)", 0, more=CHOSEN),
    x264("x264 qp 0, with CABAC", 0, more=CHOSEN + ":cabac=1"),
    Way(name="FFV1 (lossless)", codec="ffv1", options={"level": "3"}, pixels="gray"),
)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """The pictures of one video in one way."""

    way: Way
    path: Path
    places: list[tuple[int, int]]  # offset and size of every packet
    extradata: bytes | None
    shape: tuple[int, int]

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """Return the pictures first to last."""
        start = first - first % self.way.group
        decoder: Any = av.CodecContext.create(DECODERS.get(self.way.codec, self.way.codec), "r")
        decoder.thread_count = 1
        decoder.extradata = self.extradata
        decoder.height, decoder.width = self.shape
        with self.path.open("rb", buffering=0) as handle:
            handle.seek(self.places[start][0])
            content = handle.read(sum(size for _, size in self.places[start : last + 1]))
        frames, position = [], 0
        for _, size in self.places[start : last + 1]:
            frames += decoder.decode(av.Packet(content[position : position + size]))
            position += size
        frames += decoder.decode(None)
        return np.stack([self._luma(frame) for frame in frames[first - start :]])

    def _luma(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: self.shape[0], : self.shape[1]]


def code(way: Way, pictures_THW: NDArray[np.uint8], path: Path) -> Coded:
    """Encode the pictures of one video."""
    height, width = pictures_THW.shape[1:]
    encoder: Any = av.CodecContext.create(way.codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, way.pixels
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count, encoder.gop_size, encoder.max_b_frames = 1, way.group, 0
    encoder.color_range = 2
    encoder.options = way.options
    packets = []
    neutral = np.full((height // 2, width), 128, np.uint8)
    for index, picture in enumerate(pictures_THW):
        is_gray = way.pixels == "gray"
        planes = picture if is_gray else np.concatenate((picture, neutral))
        frame = av.VideoFrame.from_ndarray(planes, format=way.pixels)
        frame.pts, frame.time_base, frame.color_range = index, Fraction(1, 25), 2
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    sizes = [packet.size for packet in packets]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))
    places = [(sum(sizes[:index]), size) for index, size in enumerate(sizes)]
    return Coded(
        way=way, path=path, places=places, extradata=encoder.extradata, shape=(height, width)
    )


def write_jpegs(pictures_THW: NDArray[np.uint8], folder: Path) -> None:
    """Write x and y of every pair as JPEG files of quality 95."""
    folder.mkdir()
    half = pictures_THW.shape[1] // 2
    for index, picture in enumerate(pictures_THW):
        for name, plane in (("x", picture[:half]), ("y", picture[half:])):
            flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
            cv2.imwrite(str(folder / f"{name}_{index:05d}.jpg"), plane, flags)


def read_jpegs(folder: Path, first: int, last: int) -> NDArray[np.uint8]:
    """Return the pictures first to last from JPEG files."""
    paths = [folder / f"{name}_{i:05d}.jpg" for i in range(first, last + 1) for name in "xy"]
    planes = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    return np.stack(planes).reshape(last - first + 1, -1, planes[0].shape[1])


def pictures_of(video: Path, pairs: int) -> NDArray[np.uint8]:
    """Return x above y of the first pairs of a video (T, 2H, W)."""
    with closing(VideoReader(video)) as reader:
        gray_THW = gray_from_rgb(np.stack(list(islice(reader.stream(), pairs + 1))))
    encoded_T2HW = np.moveaxis(encode(compute(gray_THW, algorithm="dis")), 3, 1)
    return np.ascontiguousarray(encoded_T2HW).reshape(len(encoded_T2HW), -1, gray_THW.shape[2])


def measure(ways: Sequence[Way], pictures_THW: NDArray[np.uint8], folder: Path) -> NDArray[Any]:
    """Return (ways + 1, 4): bytes a pair, error in pixels, ms to write a pair, ms to read a stack.

    The last row is JPEG.
    """
    num = len(pictures_THW)
    result = np.zeros((len(ways) + 1, 4))
    coded = []
    for row, way in enumerate(ways):
        started = time.process_time()
        coded.append(code(way, pictures_THW, folder / str(row)))
        result[row, 2] = (time.process_time() - started) / num * 1e3
        result[row, 0] = coded[-1].path.stat().st_size / num
        result[row, 1] = error_of(coded[-1].read(0, num - 1), pictures_THW)
    started = time.process_time()
    write_jpegs(pictures_THW, folder / "jpegs")
    result[-1, 2] = (time.process_time() - started) / num * 1e3
    sizes = [
        (folder / "jpegs" / f"{n}_{i:05d}.jpg").stat().st_size for i in range(num) for n in "xy"
    ]
    result[-1, 0] = sum(sizes) / num
    result[-1, 1] = error_of(read_jpegs(folder / "jpegs", 0, num - 1), pictures_THW)
    rng = np.random.default_rng(0)
    for _ in range(STACKS):
        first = int(rng.integers(num - STACK_PAIRS + 1))
        for row in rng.permutation(len(result)):
            started = time.process_time()
            if row < len(coded):
                coded[row].read(first, first + STACK_PAIRS - 1)
            else:
                read_jpegs(folder / "jpegs", first, first + STACK_PAIRS - 1)
            result[row, 3] += (time.process_time() - started) / STACKS * 1e3
    return result


def error_of(found: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference in pixels per frame."""
    return float(np.abs(found.astype(np.int16) - right).mean()) * PIXELS_PER_LEVEL


def main() -> None:
    """Print one table, the mean over the videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=13, help="evenly taken")
    parser.add_argument("--pairs", type=int, default=48, help="at most, of each video")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.FATAL)
    videos = sorted(item for item in arguments.folder.rglob("*") if item.suffix in (".avi", ".mp4"))
    videos = videos[:: max(1, len(videos) // arguments.videos)]
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for video in videos:
            place = Path(folder) / video.stem
            place.mkdir()
            results.append(measure(WAYS, pictures_of(video, arguments.pairs), place))
    table = np.mean(results, axis=0)
    print("| way | bytes a pair | mean error, px | write a pair, ms | stack of 10, ms | speed |")
    print("|---|---|---|---|---|---|")
    names = [*(way.name for way in WAYS), "JPEG pairs, quality 95"]
    for name, row in zip(names, table, strict=True):
        speed = table[-1, 3] / row[3]
        print(
            f"| {name} | {row[0]:.0f} | {row[1]:.3f} | {row[2]:.2f} | {row[3]:.2f} | {speed:.2f} |"
        )


if __name__ == "__main__":
    main()
