"""Video files whose frames are found without opening the container.

To open and probe an mp4 costs more than to decode ten small frames. A packed video is an ordinary
mp4 without B-frames with one more box at its end, which players skip: a header (JSON) and the
place of every packet. A reader takes the last bytes of the file, then the bytes of the packets it
needs, and gives them to the decoder.

    ... ordinary mp4 ... | size, 'uuid', id | header | table | footer
"""

import json
import platform
import struct
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from kinema.errors import KinemaError, UsageError

_BOX_ID = b"kinema-packed-v1"
_BOX_HEAD = struct.Struct(">I4s16s")
_FOOTER = struct.Struct("<III8s")  # CRC-32 of header and table, header bytes, packets, magic
_MAGIC = b"KINEMA01"
_PACKET = np.dtype([("offset", "<u8"), ("size", "<u4"), ("is_keyframe", "u1")])
# Decoders to be used again: a new one costs as much as to decode two small frames.
_IDLE_DECODERS: deque[tuple[str, bytes, VideoCodecContext]] = deque(maxlen=4)
_VERIFIED_FRAMES = 256  # at once: bounds the memory
_TAIL_BYTES = 8192  # holds the index of five hundred frames: one read for most files


def store_path(folder: Path, video_id: str) -> Path:
    """Return where the packed video of a video lies: ``folder/<id>.mp4``.

    Raises:
        UsageError: the id would lead out of the folder.
    """
    path = folder / f"{video_id}.mp4"
    if not video_id or Path(video_id).is_absolute() or ".." in Path(video_id).parts:
        raise UsageError(
            f"'{video_id}' cannot be the id of a video: write a relative path without '..'."
        )
    return path


def append_index(path: Path, *, metadata: dict[str, Any]) -> None:
    """Make the finished mp4 at `path` a packed video that carries `metadata` (JSON values)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = (item for item in container.demux(stream) if item.size)
        rows = [(item.pos, item.size, item.is_keyframe) for item in packets]
        table = np.array(rows, _PACKET)
        extradata = stream.codec_context.extradata or b""
        codec = stream.codec_context.codec.canonical_name
    with path.open("r+b") as handle:
        checksum, media_bytes = _checksum(handle)
        header = {
            "codec": codec,
            "extradata": b64encode(extradata).decode(),
            "media_bytes": media_bytes,
            "media_crc32": checksum,
            "metadata": metadata,
        }
        head = json.dumps(header).encode()
        content = head + table.tobytes()
        footer = _FOOTER.pack(zlib.crc32(content), len(head), len(table), _MAGIC)
        box_bytes = _BOX_HEAD.size + len(content) + _FOOTER.size
        handle.write(_BOX_HEAD.pack(box_bytes, b"uuid", _BOX_ID) + content + footer)


def _checksum(handle: BinaryIO, limit_bytes: int | None = None) -> tuple[int, int]:
    """Return CRC-32 and length of the first `limit_bytes` (None: all) of a file."""
    checksum = length = 0
    while block := handle.read(1 << 20 if limit_bytes is None else min(1 << 20, limit_bytes)):
        checksum, length = zlib.crc32(block, checksum), length + len(block)
        if limit_bytes is not None:
            limit_bytes -= len(block)
    return checksum, length


class PackedVideo:
    """Random access to the frames of a packed video.

    Holds the index only: cheap to open, and can be pickled and shared between processes.

    Attributes:
        path: the file.
        num_frames: number of frames.
        metadata: what the writer stored.

    Raises:
        KinemaError: the file is missing, truncated, damaged, or not a packed video.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        header, self._table = self._read_index()
        self._is_keyframe = self._table["is_keyframe"].tobytes()
        self._codec: str = header["codec"]
        self._extradata = b64decode(header["extradata"])
        self._media = header["media_bytes"], header["media_crc32"]
        self.metadata: dict[str, Any] = header["metadata"]
        self.num_frames = len(self._table)

    def _read_index(self) -> tuple[dict[str, Any], NDArray[np.void]]:
        try:
            with self.path.open("rb", buffering=0) as handle:
                file_bytes = handle.seek(0, 2)
                tail = _tail(handle, file_bytes, _TAIL_BYTES)
                box_bytes = _box_bytes(tail)
                if box_bytes > len(tail):
                    tail = _tail(handle, file_bytes, box_bytes)
        except OSError as error:
            raise KinemaError(f"Cannot open {self.path}: {error.strerror}.") from error
        content = tail[-box_bytes:][_BOX_HEAD.size : -_FOOTER.size]
        checksum, head_bytes, _, _ = _FOOTER.unpack(tail[-_FOOTER.size :] or bytes(_FOOTER.size))
        if not box_bytes or zlib.crc32(content) != checksum:
            raise self._damaged("its index is missing: the file was cut off, or is no store")
        header = json.loads(content[:head_bytes].decode())
        if header["media_bytes"] != file_bytes - box_bytes:
            raise self._damaged("bytes are missing in the middle or were added")
        return header, np.frombuffer(content[head_bytes:], _PACKET)

    def _damaged(self, reason: str) -> KinemaError:
        return KinemaError(f"{self.path} is damaged: {reason}. Delete it and make it again.")

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, decoded frame) once for every distinct index, in rising order.

        Raises:
            KinemaError: an index is outside the video, or the file is damaged.
        """
        wanted = sorted({int(index) for index in indices})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.num_frames:
            raise KinemaError(
                f"{self.path} has the indices 0 to {self.num_frames - 1}: "
                f"{wanted[0]} to {wanted[-1]} were asked for."
            )
        left = set(wanted)
        decoder = _take_decoder(self._codec, self._extradata)
        try:
            for packet in chain(self._packets(wanted), (None,)):
                for frame in decoder.decode(packet):
                    index = -1 if frame.pts is None else frame.pts
                    if index in left:
                        left.remove(index)
                        yield index, frame
        except av.FFmpegError as error:
            raise self._damaged(f"a frame cannot be decoded ({error.strerror})") from error
        if left:
            raise self._damaged(f"frame {min(left)} cannot be decoded")
        decoder.flush_buffers()
        _IDLE_DECODERS.append((self._codec, self._extradata, decoder))

    def _packets(self, wanted: Sequence[int]) -> Iterator["av.Packet[Any]"]:
        """Yield the packets from the keyframe before each wanted frame up to it, each once."""
        with self.path.open("rb", buffering=0) as handle:
            for first, last in self._runs(wanted):
                rows = self._table[first : last + 1].tolist()
                begin, end = rows[0][0], rows[-1][0] + rows[-1][1]
                handle.seek(begin)
                content = handle.read(end - begin)
                if len(content) < end - begin:
                    raise self._damaged("it became shorter while it was read")
                for index, (offset, size, _) in enumerate(rows, first):
                    packet = av.Packet(size)  # with zeros after its end; Packet(data) has none
                    packet.update(content[offset - begin : offset - begin + size])
                    packet.pts = packet.dts = index
                    yield packet

    def _runs(self, wanted: Sequence[int]) -> list[tuple[int, int]]:
        """Return first and last of the packets to decode: neighbours, read from disk at once."""
        runs: list[tuple[int, int]] = []
        for index in wanted:
            keyframe = max(0, self._is_keyframe.rfind(1, 0, index + 1))
            if runs and keyframe <= runs[-1][1] + 1:
                runs[-1] = runs[-1][0], index
            else:
                runs.append((keyframe, index))
        return runs

    def verify(self) -> None:
        """Compare the checksum of the whole file and decode every frame.

        Raises:
            KinemaError: the file is damaged.
        """
        media_bytes, checksum = self._media
        with self.path.open("rb") as handle:
            if _checksum(handle, media_bytes)[0] != checksum:
                raise self._damaged("the checksum of its frames is wrong")
        for first in range(0, self.num_frames, _VERIFIED_FRAMES):
            for _ in self.frames(range(first, min(first + _VERIFIED_FRAMES, self.num_frames))):
                pass


def _take_decoder(codec: str, extradata: bytes) -> VideoCodecContext:
    """Return a decoder that waits, or a new one."""
    for entry in list(_IDLE_DECODERS):
        if entry[:2] == (codec, extradata):
            with suppress(ValueError):  # another thread took it
                _IDLE_DECODERS.remove(entry)
                return entry[2]
    decoder = cast(VideoCodecContext, av.CodecContext.create(codec, "r"))
    decoder.extradata = extradata
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}  # not an image with holes, but an error
    if platform.machine() in ("x86_64", "AMD64"):  # there it is an eighth faster, of MPEG-4 alone
        decoder.options = {**decoder.options, "idct": "xvid"}
    return decoder


def _tail(handle: FileIO, file_bytes: int, num_bytes: int) -> bytes:
    handle.seek(max(0, file_bytes - num_bytes))
    return handle.read(num_bytes)


def _box_bytes(tail: bytes) -> int:
    """Return the length of the index box that ends the file, 0 where there is none."""
    if len(tail) < _FOOTER.size:
        return 0
    _, head_bytes, num_packets, magic = _FOOTER.unpack(tail[-_FOOTER.size :])
    if magic != _MAGIC:
        return 0
    return int(_BOX_HEAD.size + head_bytes + num_packets * _PACKET.itemsize + _FOOTER.size)
