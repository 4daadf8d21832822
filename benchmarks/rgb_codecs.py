"""Ways to store RGB frames: bytes, error, time to write and to read three random frames.

    python benchmarks/rgb_codecs.py FOLDER_OF_VIDEOS [--videos N] [--frames N] [--short-side S]

Every way codes the same frames without a container: packets in one file, read by their place,
with one decoder that is kept. A clip is three frames, one from each third of the video, in turn
with three JPEG files of quality 95 read by OpenCV. Times are CPU seconds of one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flow_codecs import DECODERS, Way, crf, x264, x265
from kinema.video.reader import VideoReader
from kinema.video.sizes import shrunk_size

CLIP_FRAMES, CLIPS = 3, 20
JPEG_QUALITY = 95
BT601, LIMITED = 5, 1
FAST = ":subme=6"
MJPEG = "JPEG quality {} in one file"


def mjpeg(quality: int) -> Way:
    """Return JPEG images as packets, coded and decoded by OpenCV."""
    return Way(name=MJPEG.format(quality), codec="opencv", options={"q": str(quality)})


def mpeg(name: str, quantiser: int, *, group: int = 2, codec: str = "mpeg4", **more: str) -> Way:
    """Return MPEG-4 part 2 or MPEG-2 with a constant quantiser."""
    options = {"qmin": str(quantiser), "qmax": str(quantiser), "sc_threshold": "1000000000"}
    if codec == "mpeg4":
        options["flags"] = "+aic"
    return Way(name=name, codec=codec, options={**options, **more}, group=group)


def lossless(name: str, more: str) -> Way:
    """Return x264 in RGB without loss."""
    return Way(
        name=name, codec="libx264rgb", options=x264("", 0, more=more).options, pixels="rgb24"
    )


WAYS = (
    mpeg("MPEG-4 q 1, pairs", 1),
    mpeg("**MPEG-4 q 2, pairs (standard)**", 2),
    mpeg("MPEG-4 q 3, pairs", 3),
    mpeg("MPEG-4 q 2, all keyframes", 2, group=1),
    mpeg("MPEG-4 q 2, groups of 3", 2, group=3),
    mpeg("MPEG-4 q 2, groups of 4", 2, group=4),
    mpeg("MPEG-4 q 2, pairs, without AC prediction", 2, flags="-aic"),
    mpeg("MPEG-4 q 1, pairs, trellis", 1, mbd="rd", trellis="1"),
    mpeg("MPEG-2 q 2, pairs", 2, codec="mpeg2video"),
    x264("x264 qp 22, all keyframes", 22, more=FAST),
    x264("x264 qp 18, pairs", 18, group=2, more=FAST),
    x264("x264 qp 20, pairs", 20, group=2, more=FAST),
    x264("x264 qp 18, groups of 4", 18, group=4, more=FAST),
    x264("x264 qp 18, pairs, deblocking", 18, group=2, more=FAST + ":deblock=1"),
    x264("x264 qp 18, pairs, CABAC", 18, group=2, more=FAST + ":cabac=1"),
    Way(
        name="x264 qp 18, pairs, 4:4:4",
        codec="libx264",
        options=x264("", 18, group=2, more=FAST).options,
        pixels="yuv444p",
        group=2,
    ),
    crf("x264 crf 20, groups of 8", 20, {}),
    x265("x265 crf 20 ultrafast, all keyframes", 20, "ultrafast", 1),
    Way(
        name="SVT-AV1 crf 20 preset 10, all keyframes",
        codec="libsvtav1",
        options={"crf": "20", "preset": "10", "svtav1-params": "keyint=1:pred-struct=1:lp=1"},
    ),
    *(mjpeg(quality) for quality in (75, 80, 90, 95)),
    lossless("**x264 RGB qp 0 (lossless)**", ""),
    lossless("x264 RGB qp 0, CABAC", ":cabac=1"),
    Way(name="FFV1 RGB (lossless)", codec="ffv1", options={"level": "3"}, pixels="bgr0"),
)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """The frames of one video in one way."""

    way: Way
    path: Path
    places: list[tuple[int, int]]  # offset and size of every packet
    extradata: bytes | None
    shape: tuple[int, int]

    @cached_property
    def decoder(self) -> Any:  # noqa: ANN401
        """Return the decoder, which is used again."""
        codec = DECODERS.get(self.way.codec, self.way.codec.removesuffix("rgb"))
        decoder: Any = av.CodecContext.create(DECODERS.get(codec, codec), "r")
        decoder.thread_count = 1
        decoder.extradata = self.extradata
        decoder.height, decoder.width = self.shape
        if codec == "mpeg4":
            decoder.options = {"idct": "xvid"}  # as `kinema.video.packed` does on x86
        return decoder

    @cached_property
    def reformatter(self) -> VideoReformatter:
        """Return FFmpeg's converter, which is used again."""
        return VideoReformatter()

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return RGB frames; the indices rise."""
        frames_THWC = np.empty((len(indices), *self.shape, 3), np.uint8)
        with self.path.open("rb", buffering=0) as handle:
            for slot, index in enumerate(indices):
                start = index - index % self.way.group
                handle.seek(self.places[start][0])
                packets = [handle.read(size) for _, size in self.places[start : index + 1]]
                self._decode(packets, frames_THWC[slot])
        return frames_THWC

    def _decode(self, packets: list[bytes], out_HWC: NDArray[np.uint8]) -> None:
        if self.way.codec == "opencv":
            out_HWC[:] = cv2.imdecode(np.frombuffer(packets[0], np.uint8), cv2.IMREAD_COLOR_RGB)
            return
        frames = []
        for content in packets:
            packet = av.Packet(len(content))  # with zeros after its end; Packet(content) has none
            packet.update(content)
            frames += self.decoder.decode(packet)
        frames += self.decoder.decode(None)
        self.decoder.flush_buffers()
        frame = frames[-1]
        if frame.format.name == "yuv420p":
            cv2.cvtColor(i420_of(frame, self.shape), cv2.COLOR_YUV2RGB_I420, out_HWC)
        else:
            out_HWC[:] = self.reformatter.reformat(frame, format="rgb24").to_ndarray()


def i420_of(frame: av.VideoFrame, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the three planes one after the other, without padding."""
    height, width = shape
    planes_HW = np.empty(height * width * 3 // 2, np.uint8)
    begin = 0
    for plane, rows, columns in zip(
        frame.planes, (height, *[height // 2] * 2), (width, *[width // 2] * 2), strict=True
    ):
        picture = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        size = rows * columns
        planes_HW[begin : begin + size].reshape(rows, columns)[:] = picture[:rows, :columns]
        begin += size
    return planes_HW.reshape(-1, width)


def frame_of(image_HWC: NDArray[np.uint8], pixels: str) -> av.VideoFrame:
    """Return an RGB image as a frame for the encoder, chroma averaged where it is halved."""
    if pixels == "yuv420p":
        height, width = image_HWC.shape[:2]
        planes = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2YUV_I420)
        half = cv2.resize(image_HWC, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        matrix = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
        chroma_HW2 = cv2.transform(half, np.c_[matrix, [128, 128]])
        planes.reshape(-1)[height * width :] = np.moveaxis(chroma_HW2, 2, 0).reshape(-1)
        return av.VideoFrame.from_ndarray(planes, format=pixels)
    frame = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
    options = {"dst_colorspace": BT601, "dst_color_range": LIMITED} if "yuv" in pixels else {}
    return frame.reformat(format=pixels, **options)


def code(way: Way, frames_THWC: NDArray[np.uint8], path: Path) -> Coded:
    """Encode the frames of one video."""
    shape = frames_THWC.shape[1], frames_THWC.shape[2]
    extradata = None
    if way.codec == "opencv":
        flags = [cv2.IMWRITE_JPEG_QUALITY, int(way.options["q"])]
        packets = [
            cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
            for image in frames_THWC
        ]
    else:
        encoder = encoder_for(way, shape)
        coded = []
        for index, image in enumerate(frames_THWC):
            frame = frame_of(image, way.pixels)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            if "yuv" in way.pixels:
                frame.colorspace, frame.color_range = BT601, LIMITED
            coded += encoder.encode(frame)
        packets = [bytes(packet) for packet in (*coded, *encoder.encode(None))]
        extradata = encoder.extradata
    sizes = [len(packet) for packet in packets]
    path.write_bytes(b"".join(packets))
    places = [(sum(sizes[:index]), size) for index, size in enumerate(sizes)]
    return Coded(way=way, path=path, places=places, extradata=extradata, shape=shape)


def encoder_for(way: Way, shape: tuple[int, int]) -> Any:  # noqa: ANN401
    """Return FFmpeg's encoder of a way."""
    encoder: Any = av.CodecContext.create(way.codec, "w")
    encoder.height, encoder.width = shape
    encoder.pix_fmt = way.pixels
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count, encoder.gop_size, encoder.max_b_frames = 1, way.group, 0
    if "yuv" in way.pixels:
        encoder.colorspace, encoder.color_range = BT601, LIMITED
    encoder.options = way.options
    return encoder


def write_jpegs(frames_THWC: NDArray[np.uint8], folder: Path) -> None:
    """Write all frames as JPEG files."""
    folder.mkdir()
    for index, image in enumerate(frames_THWC):
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        cv2.imwrite(str(folder / f"img_{index:05d}.jpg"), bgr, flags)


def read_jpegs(folder: Path, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Return frames from JPEG files."""
    images = [cv2.imread(str(folder / f"img_{index:05d}.jpg")) for index in indices]
    return np.stack([cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images])


def frames_of(video: Path, num: int, short_side: int) -> NDArray[np.uint8]:
    """Return the first frames of a video, shrunk by area (0: as they are), even sizes."""
    with VideoReader(video) as reader:
        frames = list(islice(reader.stream(), num))
    height, width = frames[0].shape[:2]
    if short_side:
        height, width = shrunk_size(f"short:{short_side}", height=height, width=width)
        frames = [cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA) for x in frames]
    return np.ascontiguousarray(np.stack(frames)[:, : height - height % 2, : width - width % 2])


def measure(ways: Sequence[Way], frames_THWC: NDArray[np.uint8], folder: Path) -> NDArray[Any]:
    """Return (ways + 1, 5): bytes a frame, mean error, PSNR, ms to write one, ms to read a clip.

    The last row is the JPEG folder.
    """
    num = len(frames_THWC)
    result = np.zeros((len(ways) + 1, 5))
    coded = []
    for row, way in enumerate(ways):
        started = time.process_time()
        coded.append(code(way, frames_THWC, folder / str(row)))
        result[row, 3] = (time.process_time() - started) / num * 1e3
        result[row, 0] = coded[-1].path.stat().st_size / num
        result[row, 1:3] = errors_of(coded[-1].read(range(num)), frames_THWC)
    started = time.process_time()
    jpegs = folder / "jpegs"
    write_jpegs(frames_THWC, jpegs)
    result[-1, 3] = (time.process_time() - started) / num * 1e3
    result[-1, 0] = sum(item.stat().st_size for item in jpegs.iterdir()) / num
    result[-1, 1:3] = errors_of(read_jpegs(jpegs, range(num)), frames_THWC)
    rng = np.random.default_rng(0)
    for _ in range(CLIPS):
        thirds = np.linspace(0, num, CLIP_FRAMES + 1).astype(int)
        indices = [int(rng.integers(*bounds)) for bounds in pairwise(thirds)]
        for row in rng.permutation(len(result)):
            started = time.process_time()
            if row < len(coded):
                coded[row].read(indices)
            else:
                read_jpegs(jpegs, indices)
            result[row, 4] += (time.process_time() - started) / CLIPS * 1e3
    return result


def errors_of(found: NDArray[np.uint8], right: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean absolute difference in grey levels and the PSNR in dB (at most 99)."""
    difference = found.astype(np.float32) - right
    mean_square = float(np.square(difference).mean())
    psnr = min(99.0, 10 * np.log10(255**2 / mean_square)) if mean_square else 99.0
    return float(np.abs(difference).mean()), psnr


def main() -> None:
    """Print one table, the mean over the videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=13, help="evenly taken")
    parser.add_argument("--frames", type=int, default=48, help="at most, of each video")
    parser.add_argument("--short-side", type=int, default=0, help="shrink to it; 0: do not")
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
            frames = frames_of(video, arguments.frames, arguments.short_side)
            results.append(measure(WAYS, frames, place))
    table = np.mean(results, axis=0)
    print(f"{len(videos)} videos")
    print("| way | bytes a frame | mean error | PSNR, dB | write, ms | clip of 3, ms | speed |")
    print("|---|---|---|---|---|---|---|")
    names = [*(way.name for way in WAYS), f"JPEG files, quality {JPEG_QUALITY}"]
    for name, row in zip(names, table, strict=True):
        print(
            f"| {name} | {row[0]:.0f} | {row[1]:.2f} | {row[2]:.1f} | {row[3]:.2f} | "
            f"{row[4]:.2f} | {table[-1, 4] / row[4]:.2f} |"
        )


if __name__ == "__main__":
    main()
