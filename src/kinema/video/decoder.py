"""Decoding single frames by number: from the nearest start, past what nobody needs.

Two decoders with one method, `frame(i, wanted=...)`. `IndexedDecoder` trusts the packet index and
checks it on every frame that comes out; where the file does not keep to it, it raises
`IndexMismatchError` and `CountingDecoder`, the plain sequence, takes its place.
"""

import bisect
import itertools
from collections import deque
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Protocol

from av.error import FFmpegError
from av.video.frame import VideoFrame

from kinema.video.container import OpenVideo, open_video
from kinema.video.packet_index import PacketIndex, VideoPacket


class IndexMismatchError(Exception):
    """A frame came out that the packet index did not foretell, or one did not come."""


def count_frames(path: Path, *, threads: int) -> int:
    """Decode a whole video and count its frames."""
    video = open_video(path, threads=threads)
    try:
        return sum(1 for _ in video.container.decode(video.stream))
    finally:
        video.container.close()


class Decoder(Protocol):
    """Decodes frame i, the i-th that sequential decoding of the file gives."""

    def frame(self, i: int, *, wanted: Container[int] | None) -> VideoFrame | None:
        """Return frame `i` >= 0, or None if the video has no such frame.

        Args:
            i: the frame number; cheap where frames are asked for in ascending order.
            wanted: the frames that will be asked for next; others may be left undecoded. None if
                all that follow `i` are wanted.
        """

    def close(self) -> None:
        """Give back the file."""


class CountingDecoder:
    """Decodes everything from the first frame on and counts: always right, never quick."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self._path, self._threads = path, threads
        self._start()

    def _start(self) -> None:
        self._video = open_video(self._path, threads=self._threads)
        self._frames = self._video.container.decode(self._video.stream)
        self._number = -1
        self._current: VideoFrame | None = None

    def frame(self, i: int, *, wanted: Container[int] | None) -> VideoFrame | None:
        """See `Decoder.frame`; `wanted` makes no difference here."""
        if i < self._number:
            self.close()
            self._start()
        while self._number < i:
            frame = next(self._frames, None)
            if frame is None:
                return None
            self._current = frame
            self._number += 1
        return self._current

    def close(self) -> None:
        """Give back the file."""
        self._current = None
        self._frames = iter(())
        self._video.container.close()


class IndexedDecoder:
    """Decodes from the nearest start before a frame and leaves out pictures that nobody needs."""

    def __init__(self, video: OpenVideo, index: PacketIndex) -> None:
        self._video, self._index = video, index
        self._codec = video.stream.codec_context
        self._packets: Iterator[VideoPacket] = iter(())
        self._ready: deque[tuple[int, VideoFrame]] = deque()
        self._left_out: set[int] = set()
        self._next_packet = self._first = 0
        self._last = len(index.packet_of)  # not started: every frame needs a jump

    def frame(self, i: int, *, wanted: Container[int] | None) -> VideoFrame | None:
        """See `Decoder.frame`.

        Raises:
            IndexMismatchError: the packets do not give the frames that the index says.
            av.FFmpegError: the video is damaged.
        """
        if i >= len(self._index.packet_of):
            return None
        if not self._is_ahead(i):
            self._jump(i)
        while True:
            while self._ready and self._ready[0][0] < i:
                self._ready.popleft()
            if self._ready:
                return self._ready[0][1]  # kept: the same frame may be asked for again
            self._decode_next(wanted)

    def close(self) -> None:
        """Give back the file."""
        self._ready.clear()
        self._packets = iter(())
        self._video.container.close()

    def _is_ahead(self, i: int) -> bool:
        """Whether going on is the best way to frame `i`."""
        if i <= self._last:
            return any(number == i for number, _ in self._ready)
        start = self._index.start_packets[self._start_before(i)]
        return start <= self._next_packet and i not in self._left_out

    def _start_before(self, i: int) -> int:
        return bisect.bisect_right(self._index.start_frames, i) - 1

    def _jump(self, i: int) -> None:
        start = self._start_before(i)
        self._next_packet = self._index.start_packets[start]
        self._first = self._index.start_frames[start]
        self._last = self._first - 1
        self._ready.clear()
        self._left_out.clear()
        self._codec.flush_buffers()
        self._packets = packets_from(self._video, self._index, self._next_packet)

    def _decode_next(self, wanted: Container[int] | None) -> None:
        number = self._next_packet
        self._next_packet += 1
        if number >= len(self._index.frame_of):
            if number > len(self._index.frame_of):
                raise IndexMismatchError
            self._take(self._codec.decode(None))
            return
        packet = next(self._packets, None)
        if packet is None:
            raise IndexMismatchError
        frame = self._index.frame_of[number]
        unneeded = frame < self._first or (wanted is not None and frame not in wanted)
        if unneeded and self._index.disposable[number]:
            self._left_out.add(frame)
            return
        packet.pts = frame if frame >= 0 else None
        self._take(self._codec.decode(packet))

    def _take(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            number = frame.pts
            if number is None:
                raise IndexMismatchError
            if number < self._first:  # before the start: made of pictures that were not decoded
                continue
            for between in range(self._last + 1, number):
                if between not in self._left_out:
                    raise IndexMismatchError
                self._left_out.remove(between)
            if number <= self._last:
                raise IndexMismatchError
            self._last = number
            self._ready.append((number, frame))


def packets_from(video: OpenVideo, index: PacketIndex, number: int) -> Iterator[VideoPacket]:
    """Yield the packets from `number` on: those in memory, else by seeking in the file."""
    if index.packets is not None:
        return iter(index.packets[number:])
    return _packets_in_file(video, index, number)


def _packets_in_file(video: OpenVideo, index: PacketIndex, number: int) -> Iterator[VideoPacket]:
    dts, pts = index.times[number]
    try:
        video.container.seek(dts if dts is not None else pts or 0, stream=video.stream)
    except FFmpegError as error:
        raise IndexMismatchError from error
    packets = video.container.demux(video.stream)
    first = next(packets)
    later = (i for i, (_, pts) in enumerate(index.times) if pts is not None and pts == first.pts)
    landed = next(later, number + 1)  # by presentation time: FFmpeg guesses the other after a seek
    if landed > number:
        raise IndexMismatchError
    return itertools.islice(itertools.chain((first,), packets), number - landed, None)
