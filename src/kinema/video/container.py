"""Opening a video file, with a clear reason where that cannot be done."""

from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from kinema.errors import KinemaError
from kinema.video.claimed_size import claimed_size

_NOT_VIDEOS = ("image2", "tty", "_pipe")


class OpenVideo(NamedTuple):
    """A container and the video stream of it that is read."""

    container: InputContainer
    stream: VideoStream


def open_video(path: Path, *, threads: int) -> OpenVideo:
    """Open a video file and choose its first video stream that is no cover picture.

    Raises:
        KinemaError: the file is missing, a folder, empty, truncated, no video, or audio only.
    """
    _check_file(path)
    try:
        # An absolute path: FFmpeg would read "a:b.mp4" as a protocol. Titles may be in any code.
        container = av.open(str(path.absolute()), metadata_errors="ignore")
    except FFmpegError as error:
        raise KinemaError(_why_unreadable(path, error)) from error
    try:
        stream = _video_stream(path, container)
    except KinemaError:
        container.close()
        raise
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    return OpenVideo(container, stream)


def check_complete(path: Path) -> None:
    """Compare the size of the file with what its container says.

    Raises:
        KinemaError: the file is missing, empty or truncated.
    """
    _check_file(path)
    actual = path.stat().st_size
    claimed = claimed_size(path)
    if claimed is not None and claimed > actual:
        raise KinemaError(
            f"{path} is truncated: its container speaks of {claimed} bytes, the file has "
            f"{actual}. Copy or download it again."
        )


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise KinemaError(f"{path} is a folder, not a video file.")
    if not path.is_file():
        raise KinemaError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise KinemaError(f"{path} is empty (0 bytes).")


def _why_unreadable(path: Path, error: FFmpegError) -> str:
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: permission denied."
    with path.open("rb") as handle:
        head = handle.read(8)
    if head[4:8] == b"ftyp":
        return (
            f"{path} is truncated: it is an MP4 file without its index (moov). "
            "Copy or download it again."
        )
    return f"{path} is not a video that FFmpeg can read ({error.strerror})."


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    names = container.format.name.split(",")
    if any(name.endswith(_NOT_VIDEOS) for name in names):
        raise KinemaError(f"{path} is not a video (FFmpeg reads it as {container.format.name}).")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise KinemaError(f"{path} has video in a codec that this FFmpeg cannot decode.")
            return stream
    if container.streams.audio:
        raise KinemaError(f"{path} has sound but no video.")
    raise KinemaError(f"{path} has no video in it.")
