"""The motion vectors that a video file carries: decoded, in display order, with their spans.

FFmpeg gives the vectors of a picture with the side that they point to (past or future), not the
picture. It is taken to be the nearest one on that side, in display order, that was decoded before
and that others may refer to: what encoders put first in their lists, and the only one there is in
MPEG-1, -2 and -4. Vectors of H.264 that refer to another picture come out too long.

FFmpeg keeps no vectors of MPEG-4's B pictures (it gives zeros). They get those of the reference
shown next, which spans them: the mean motion over that span.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from av.codec.context import Flags2
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.video.bitstream import h264_length_size, h264_picture
from kinema.video.container import OpenVideo, open_video
from kinema.video.packet_index import VideoPacket

# Those that FFmpeg gives vectors of, in blocks whose sides are multiples of 8 pixels.
CODECS_WITH_VECTORS = frozenset(
    (
        "h264",
        "mpeg4",
        "mpeg2video",
        "mpeg1video",
        "h263",
        "flv1",
        "rv10",
        "rv20",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4v3",
        "wmv1",
        "wmv2",
    )
)
_CODECS_WITH_B_VECTORS = frozenset(("h264", "mpeg2video", "mpeg1video"))
NO_BLOCKS = np.empty(0, dtype=[("source", np.int32)])
_MOST_REORDERED = 16  # pictures shown before one that was decoded earlier, H.264's largest buffer


@dataclass(frozen=True, kw_only=True)
class CodedVectors:
    """The vectors of one picture.

    Attributes:
        height: of the picture in pixels, before rotation.
        width: likewise.
        quarter_turns: counterclockwise, from the stored to the shown picture.
        blocks: FFmpeg's AVMotionVector fields (source, w, h, dst_x, dst_y, motion_x, motion_y,
            motion_scale, ...), one row per block and direction; empty if it was coded alone. A B
            picture of MPEG-4 has those of the next reference.
        past_span: frames that vectors to the past lead over.
        future_span: frames that vectors to the future lead over.
    """

    height: int
    width: int
    quarter_turns: int
    blocks: NDArray[np.void]
    past_span: int = 1
    future_span: int = 1


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A decoded picture.

    Attributes:
        number: its place in decoding order.
        referenced: whether others may refer to it.
        borrows: whether its own vectors are unknown, but those of the next reference span it.
        vectors: its own.
    """

    number: int
    referenced: bool
    borrows: bool
    vectors: CodedVectors


def check_codec(path: Path, video: OpenVideo) -> None:
    """Refuse a codec that FFmpeg gives no vectors of.

    Raises:
        KinemaError: names the codec and says what to do.
    """
    codec = video.stream.codec_context.codec.canonical_name
    if codec not in CODECS_WITH_VECTORS:
        raise KinemaError(
            f"{path} is coded as {codec}, whose motion vectors FFmpeg does not give: it does for "
            "H.264, MPEG-1, -2 and -4, H.263, FLV1 and WMV 1 and 2. Compute the flow "
            "(algorithm dis), or encode the video anew as H.264."
        )


def coded_vectors(path: Path) -> Iterator[CodedVectors]:
    """Yield the vectors of every picture of a video, in display order.

    Memory is that of at most 17 pictures' vectors, besides the decoder's own.

    Raises:
        KinemaError: the file is missing, no video, damaged, or in a codec without vectors.
    """
    coming = _pictures(path)
    held: deque[_Picture] = deque()
    references: deque[tuple[int, int]] = deque(maxlen=_MOST_REORDERED)  # (place, number)
    place = 0
    while picture := held.popleft() if held else next(coming, None):
        vectors, ahead = picture.vectors, 0
        past = _span_to_past(place, picture.number, references)
        if picture.borrows or np.any(vectors.blocks["source"] > 0):
            ahead = _look_ahead(picture.number, held, coming)
        if picture.borrows:
            blocks = held[ahead - 1].vectors.blocks if ahead else NO_BLOCKS
            yield replace(vectors, blocks=blocks, past_span=past + ahead)
        else:
            yield replace(vectors, past_span=past, future_span=max(ahead, 1))
        if picture.referenced:
            references.append((place, picture.number))
        place += 1


def _span_to_past(place: int, number: int, references: deque[tuple[int, int]]) -> int:
    """Return the frames from the latest reference shown that was decoded before; 1 if none was."""
    return next((place - at for at, earlier in reversed(references) if earlier < number), 1)


def _look_ahead(number: int, held: deque[_Picture], coming: Iterator[_Picture]) -> int:
    """Hold what comes until a reference is shown that was decoded before picture `number`.

    Returns how many frames that is ahead; 0 if there is none.
    """
    for span in range(1, _MOST_REORDERED + 1):
        if len(held) < span:
            following = next(coming, None)
            if following is None:
                break
            held.append(following)
        if held[span - 1].referenced and held[span - 1].number < number:
            return span
    return 0


def _pictures(path: Path) -> Iterator[_Picture]:
    video = open_video(path, threads=1)
    try:
        check_codec(path, video)
        video.stream.codec_context.flags2 |= Flags2.export_mvs
        yield from _decode(video)
    except FFmpegError as error:
        raise KinemaError(
            f"{path} is damaged: it cannot be decoded to the end ({error.strerror})."
        ) from error
    finally:
        video.container.close()


def _decode(video: OpenVideo) -> Iterator[_Picture]:
    """Decode everything; each picture carries the number of its packet in place of its time."""
    context = video.stream.codec_context
    codec = context.codec.canonical_name
    length_size = h264_length_size(context.extradata)
    unreferenced: set[int] = set()

    def picture(frame: VideoFrame) -> _Picture:
        number = frame.pts if frame.pts is not None else -1
        is_b = frame.pict_type == PictureType.B
        referenced = number not in unreferenced if codec == "h264" else not is_b
        unreferenced.discard(number)
        borrows = is_b and codec not in _CODECS_WITH_B_VECTORS
        vectors = _vectors_of(frame)
        return _Picture(number=number, referenced=referenced, borrows=borrows, vectors=vectors)

    first: VideoPacket | None = None
    number = 0
    for packet in video.container.demux(video.stream):
        if packet.size == 0:
            continue
        if codec == "h264" and not h264_picture(bytes(packet), length_size=length_size).referenced:
            unreferenced.add(number)
        first = first or packet
        packet.pts = number
        yield from map(picture, context.decode(packet))
        number += 1
    last: list[VideoFrame] = []
    if first is not None and codec != "h264":
        # The last picture comes without its vectors if the end makes the decoder show it: the
        # first packet does it in place of the end. The picture that it gives is not shown.
        first.pts = number
        last += context.decode(first)
    last += context.decode(None)
    yield from (picture(frame) for frame in last if frame.pts != number)


def _vectors_of(frame: VideoFrame) -> CodedVectors:
    side_data = frame.side_data.get("MOTION_VECTORS")
    return CodedVectors(
        height=frame.height,
        width=frame.width,
        quarter_turns=round(frame.rotation / 90) % 4,
        # A copy: the array itself would keep the whole picture in memory.
        blocks=side_data.to_ndarray().copy() if side_data is not None else NO_BLOCKS,
    )
