"""What a video is, and whether it is whole: asked once, when an index of videos is made."""

from dataclasses import dataclass
from pathlib import Path

from kinema.errors import KinemaError
from kinema.files import sha256_of
from kinema.video.container import check_complete
from kinema.video.image_checks import check_images
from kinema.video.images import is_images
from kinema.video.reader import VideoReader


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Facts about a readable video.

    Attributes:
        num_frames: the number of frames that decoding gives.
        fps: mean frames per second; 0.0 where the container knows none, as images do.
        width: in pixels, after rotation.
        height: in pixels, after rotation.
        keyframe_interval: mean frames between the places where decoding can start.
        sha256: of the file's content, or of all images in order; 64 hexadecimal digits.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    keyframe_interval: float
    sha256: str


def probe(path: Path | str, *, decode_all: bool = False) -> Probe:
    """Read a video's packets and decode its first frame and its last group of pictures.

    Everything is decoded if the file is not consistent in itself: its frames cannot be counted by
    packets, or its container gives another number of frames. With `decode_all` it always is, and
    a picture that the decoder had to patch up is an error too. Of images, all are read, and the
    first and the last are decoded.

    Raises:
        KinemaError: the file is missing, empty, no video, audio only, truncated, damaged or
            without a frame; an image is missing, cut off or of another size; the flow beside the
            images does not go with them. The message says which.
    """
    path = Path(path)
    if is_images(path):
        return _probe_images(path, decode_all=decode_all)
    check_complete(path)
    with VideoReader(path) as reader:
        if reader.num_frames == 0:
            raise KinemaError(f"{path} has no frames: nothing in it can be decoded.")
        width, height = reader.width, reader.height
        claimed = reader.claimed_frames
        if decode_all:
            _check_all(reader)
        else:
            _decode_from(reader, int(reader.keyframes[-1]) if reader.is_indexed else 0)
            if reader.is_indexed and claimed not in (0, reader.num_frames):
                _decode_from(reader, 0)
        return Probe(
            num_frames=reader.num_frames,
            fps=reader.fps,
            width=width,
            height=height,
            keyframe_interval=reader.num_frames / len(reader.keyframes),
            sha256=sha256_of(path),
        )


def _probe_images(path: Path, *, decode_all: bool) -> Probe:
    found = check_images(path, decode_all=decode_all)
    return Probe(
        num_frames=found.num_frames,
        fps=0.0,
        width=found.width,
        height=found.height,
        keyframe_interval=1.0,
        sha256=found.sha256,
    )


def _decode_from(reader: VideoReader, start: int) -> None:
    """Decode to the end; the reader itself finds out where frames are not as its index says."""
    for _ in reader.decode(start):
        pass


def _check_all(reader: VideoReader) -> None:
    for i, frame in enumerate(reader.decode()):
        if frame.is_corrupt:
            raise KinemaError(f"{reader.path} is damaged: parts of frame {i} are missing.")
