"""Small test videos of every awkward kind, made with PyAV, and the plain sequential decoder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

NOT_CODED_VOP = b"\x00\x00\x01\xb6\x50\x4f"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How a test video is encoded."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    num_frames: int = 40
    width: int = 64
    height: int = 48
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    pts_start: int = 0
    pts_steps: tuple[int, ...] = (1,)  # repeated: variable frame rates
    rotation: int = 0
    interlaced: bool = False


SPECS: dict[str, Spec] = {
    "h264": Spec(options={"g": "12", "bf": "3"}),
    "h264-one-keyframe": Spec(options={"g": "999", "bf": "2", "sc_threshold": "0"}),
    "h264-no-b": Spec(options={"g": "10", "bf": "0"}),
    "h264-open-gop": Spec(options={"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"}),
    "h264-intra-refresh": Spec(options={"x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
    "h264-interlaced": Spec(options={"g": "10", "x264-params": "tff=1"}, interlaced=True),
    "h264-vfr": Spec(options={"g": "9"}, pts_steps=(1, 5, 2, 1, 9)),
    "h264-late-start": Spec(suffix=".mkv", options={"g": "9"}, pts_start=500),
    "h264-negative-start": Spec(options={"g": "9"}, pts_start=-30),
    "h264-edit-list": Spec(
        options={"g": "20"}, pts_start=-7, container_options={"avoid_negative_ts": "disabled"}
    ),
    "h264-odd": Spec(width=33, height=47, pix_fmt="yuv444p", options={"g": "7"}),
    "h264-10bit": Spec(pix_fmt="yuv420p10le", options={"g": "7"}),
    "h264-gray": Spec(pix_fmt="gray", options={"g": "7"}),
    "h264-full-range": Spec(pix_fmt="yuvj420p", options={"g": "7"}),
    "h264-rotated": Spec(options={"g": "7"}, rotation=-90),
    "h264-rotated-180": Spec(options={"g": "7"}, rotation=180),
    "h264-raw": Spec(suffix=".h264", options={"g": "12", "bf": "2"}),
    "h264-raw-no-b": Spec(suffix=".h264", options={"g": "12", "bf": "0"}),
    "h264-mpegts": Spec(suffix=".ts", options={"g": "12", "bf": "2"}),
    "h264-mkv": Spec(suffix=".mkv", options={"g": "12", "bf": "2"}),
    "h264-avi": Spec(suffix=".avi", options={"g": "12", "bf": "2"}),
    "h264-fragmented": Spec(
        options={"g": "12"}, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "hevc-open-gop": Spec(
        codec="libx265", options={"x265-params": "keyint=10:open-gop=1:log-level=none"}
    ),
    "vp9": Spec(suffix=".webm", codec="libvpx-vp9", options={"g": "12", "lag-in-frames": "9"}),
    "vp8-hidden-frames": Spec(
        suffix=".webm", codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "12"}
    ),
    "mpeg4-avi": Spec(suffix=".avi", codec="mpeg4", options={"g": "12"}),
    "mpeg4-avi-b": Spec(suffix=".avi", codec="mpeg4", options={"g": "12", "bf": "2"}),
    "mpeg4-mp4-b": Spec(codec="mpeg4", options={"g": "12", "bf": "2"}),
    "mpeg2": Spec(suffix=".mpg", codec="mpeg2video", options={"g": "12", "bf": "2"}),
    "mjpeg": Spec(suffix=".avi", codec="mjpeg", pix_fmt="yuvj420p", width=33, height=47),
    "ffv1-odd": Spec(suffix=".mkv", codec="ffv1", pix_fmt="yuv420p", width=33, height=47),
    "flv": Spec(suffix=".flv", codec="flv", options={"g": "12"}),
    "gif": Spec(suffix=".gif", codec="gif", pix_fmt="rgb8"),
    "single-frame": Spec(num_frames=1),
}


def picture(i: int, *, width: int, height: int) -> np.ndarray:
    """A textured picture that moves, with a block that belongs to frame i alone."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    base = np.sin((x + 2 * i) / 5) + np.cos((y - i) / 7)
    image = np.stack([base, base[::-1], np.roll(base, i, axis=1)], axis=-1)
    image = ((image + 2) * 60).astype(np.uint8)
    image[4:12, 4:12] = (i * 37 % 256, i * 91 % 256, i * 53 % 256)
    return image


def make_video(path: Path, spec: Spec) -> Path:
    with av.open(str(path), "w", options=spec.container_options) as container:
        stream = container.add_stream(spec.codec, rate=25, options=spec.options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pix_fmt
        if spec.interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        pts = spec.pts_start
        for i in range(spec.num_frames):
            image = picture(i, width=spec.width, height=spec.height)
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame.reformat(format=spec.pix_fmt)))
            pts += spec.pts_steps[i % len(spec.pts_steps)]
        container.mux(stream.encode(None))
    return path


def mpeg4_vops(*, num_frames: int, b_frames: int) -> tuple[bytes, list[bytes]]:
    """Encode MPEG-4 and return its headers and its VOPs in decoding order."""
    context = av.CodecContext.create("mpeg4", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"g": "15", "bf": str(b_frames), "qscale": "2"}
    context.flags |= av.codec.context.Flags.global_header
    vops = []
    for i in [*range(num_frames), None]:
        frame = None
        if i is not None:
            frame = VideoFrame.from_ndarray(picture(i, width=64, height=48), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
        vops += [bytes(packet) for packet in context.encode(frame)]
    return context.extradata, vops


def mux_mpeg4_avi(path: Path, packets: list[bytes]) -> Path:
    """Write MPEG-4 chunks to an AVI file as they are, empty ones and doubled ones too."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, data in enumerate(packets):
            packet = Packet(len(data))
            packet.update(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


def make_packed_avi(path: Path, *, num_frames: int = 40) -> Path:
    """An AVI as DivX 5 made them: a P- and a B-VOP in one chunk, a shift, an empty VOP."""
    headers, vops = mpeg4_vops(num_frames=num_frames, b_frames=2)
    chunks = [headers + b"\x00\x00\x01\xb2DivX503b1393p" + vops[0]]
    at = 1
    while at < len(vops):
        run = 1
        while at + run < len(vops) and vops[at + run][4] >> 6 == 2:
            run += 1
        group = vops[at : at + run]
        chunks += [group[0]] if run == 1 else [group[0] + group[1], *group[2:], NOT_CODED_VOP]
        at += run
    return mux_mpeg4_avi(path, chunks)


def make_avi_with_empty_vops(path: Path) -> Path:
    """An AVI where some chunks give no frame."""
    headers, vops = mpeg4_vops(num_frames=30, b_frames=0)
    chunks = [headers + vops[0], *vops[1:9], NOT_CODED_VOP, *vops[9:20], NOT_CODED_VOP, *vops[20:]]
    return mux_mpeg4_avi(path, chunks)


def make_video_without_times(path: Path) -> Path:
    """An MP4 whose packets all carry the same time."""
    return _with_times(path, SPECS["h264-no-b"], lambda number: 0)


def make_video_with_false_times(path: Path) -> Path:
    """An MP4 with B-frames whose packets are dated in decoding order."""
    return _with_times(path, SPECS["h264"], lambda number: number * 512)


def _with_times(path: Path, spec: Spec, time_of: Callable[[int], int]) -> Path:
    source = make_video(path.with_name("source.mp4"), spec)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.pts = packet.dts = time_of(number)
                packet.duration = 0
                packet.stream = stream
                new.mux(packet)
    return path


def make_sound(path: Path, *, cover: bool = False) -> Path:
    """A file with sound alone, or with a cover picture as well."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        if cover:
            image = container.add_stream("mjpeg", rate=1)
            image.width, image.height, image.pix_fmt = 64, 48, "yuvj420p"
            image.disposition = av.stream.Disposition.attached_pic
            frame = VideoFrame.from_ndarray(picture(0, width=64, height=48), format="rgb24")
            container.mux(image.encode(frame.reformat(format="yuvj420p")))
            container.mux(image.encode(None))
        for number in range(8):
            samples = np.zeros((1, 1024), np.float32)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, number * 1024
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def sequential(path: Path) -> list[np.ndarray]:
    """All frames as plain sequential decoding gives them, turned as the metadata says."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            for frame in container.decode(video=0)
        ]
