"""From coded packets to frame numbers: which gives which, and where decoding can start.

Frame i is the i-th frame that decoding the whole file in sequence gives. Where packets can be
trusted to give one frame each, in the order of their timestamps (or, for MPEG-4 part 2, of their
picture types), an index is made by reading the packets without decoding them. Otherwise there is
no index and frames are found by counting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from kinema.video.bitstream import (
    SMALLEST_CODED_VOP_BYTES,
    find_vop,
    h264_length_size,
    h264_picture,
    is_b_vop,
    is_packed,
    vop_display_order,
)
from kinema.video.container import OpenVideo

VideoPacket: TypeAlias = "Packet[Any]"

_MOST_BYTES_HELD = 64 << 20
# Codecs with one frame per packet, where a packet that the container calls a keyframe needs
# nothing before it: those that show pictures in decoding order, and one that does not. H.264 and
# MPEG-4 part 2 are looked into further.
_ORDERED_CODECS = frozenset(
    ("vp9", "av1", "mjpeg", "ffv1", "huffyuv", "ffvhuff", "utvideo", "prores", "dnxhd", "png")
)
_REORDERED_CODECS = frozenset(("hevc", "h264"))


@dataclass(frozen=True, kw_only=True)
class PacketIndex:
    """What is known of the packets of a video in decoding order, without decoding.

    Attributes:
        frame_of: the frame number of each packet; -1 for packets that give none.
        packet_of: the packet number of each frame.
        start_packets: packets where decoding can start, ascending; the first is 0.
        start_frames: the first frame that is right after a start at each of them, ascending.
        disposable: packets that no other packet depends on.
        times: (dts, pts) of each packet.
        packets: the packets themselves, or None where they are too many bytes to hold.
    """

    frame_of: list[int]
    packet_of: list[int]
    start_packets: list[int]
    start_frames: list[int]
    disposable: list[bool]
    times: list[tuple[int | None, int | None]]
    packets: list[VideoPacket] | None


@dataclass(kw_only=True)
class _Scan:
    """What one pass over the packets collects."""

    packets: list[VideoPacket]
    times: list[tuple[int | None, int | None]]
    starts: list[bool]
    disposable: list[bool]
    shown: list[bool]
    bidirectional: list[bool]  # H.264 only: shown before a picture that is decoded earlier
    held: bool = True


def build_index(video: OpenVideo) -> PacketIndex | None:
    """Read all packets of a video; None if its frames can only be counted by decoding.

    Raises:
        av.FFmpegError: the container is damaged.
    """
    codec = video.stream.codec_context.codec.canonical_name
    if codec == "mpeg4":
        return _mpeg4_index(video)
    if codec not in _ORDERED_CODECS | _REORDERED_CODECS:
        return None
    scan = _scan(video, is_h264=codec == "h264")
    in_order = codec != "hevc" and not any(scan.bidirectional)
    has_clock = video.container.format.name != "avi"  # AVI knows decoding times only
    return _timestamp_index(scan, in_order=in_order, has_clock=has_clock)


def _packets(video: OpenVideo) -> Iterator[VideoPacket]:
    """Yield the packets without the empty one that PyAV puts at the end."""
    for packet in video.container.demux(video.stream):
        if packet.size > 0:
            yield packet


def _scan(video: OpenVideo, *, is_h264: bool) -> _Scan:
    scan = _Scan(packets=[], times=[], starts=[], disposable=[], shown=[], bidirectional=[])
    length_size = h264_length_size(video.stream.codec_context.extradata)
    num_bytes = 0
    for packet in _packets(video):
        starts, disposable, bidirectional = packet.is_keyframe, False, False
        if is_h264:
            picture = h264_picture(bytes(packet), length_size=length_size)
            starts, disposable = picture.restarts, not picture.referenced
            bidirectional = picture.bidirectional
        scan.times.append((packet.dts, packet.pts))
        scan.starts.append(starts)
        scan.disposable.append(disposable)
        scan.bidirectional.append(bidirectional)
        scan.shown.append(not packet.is_discard)
        num_bytes += packet.size
        if num_bytes > _MOST_BYTES_HELD:
            scan.held = False
            scan.packets.clear()
        if scan.held:
            scan.packets.append(packet)
    return scan


def _timestamp_index(scan: _Scan, *, in_order: bool, has_clock: bool) -> PacketIndex | None:
    """Order frames by presentation time; without a clock, only where decoding order will do."""
    if not scan.starts or not scan.starts[0]:
        return None
    order = _presentation_order([pts for _, pts in scan.times]) if has_clock else None
    if order is None and in_order:
        order = np.arange(len(scan.times))
    if order is None or order[0] != 0 or not _times_fit_pictures(order, scan.bidirectional):
        return None
    shown_order = order[np.asarray(scan.shown)[order]]
    frame_of = np.full(len(order), -1, dtype=np.int64)
    frame_of[shown_order] = np.arange(len(shown_order))
    return _make_index(
        frame_of.tolist(),
        starts=scan.starts,
        disposable=scan.disposable,
        times=scan.times,
        packets=scan.packets if scan.held else None,
    )


def _times_fit_pictures(order: NDArray[np.int64], bidirectional: list[bool]) -> bool:
    """Whether every B picture is shown before one that is decoded earlier; false times are not."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return not np.any(bidirectional & (places == np.maximum.accumulate(places)))


def _presentation_order(times: list[int | None]) -> NDArray[np.int64] | None:
    """Return the packets by presentation time; None if times are missing or doubled."""
    known = [time for time in times if time is not None]
    if len(known) < len(times) or len(set(known)) < len(known):
        return None
    return np.argsort(np.asarray(known, dtype=np.int64))


def _mpeg4_index(video: OpenVideo) -> PacketIndex | None:
    """Order frames by VOP types: AVI files know no presentation times, and packed ones lie."""
    scan = _scan(video, is_h264=False)
    if not scan.held or not scan.packets or not all(scan.shown):
        return None
    units = _mpeg4_units(scan.packets, video.stream.codec_context.extradata or b"")
    if units is None:
        return None
    packets, starts, disposable = units
    frame_of = vop_display_order(disposable)
    if frame_of is None or not starts[0]:
        return None
    times = [(packet.dts, packet.pts) for packet in packets]
    return _make_index(frame_of, starts=starts, disposable=disposable, times=times, packets=packets)


def _mpeg4_units(
    packets: Sequence[VideoPacket], extradata: bytes
) -> tuple[list[VideoPacket], list[bool], list[bool]] | None:
    """Return packets of one VOP each, whether each is a start, and whether each is a B-VOP.

    None if a packet holds no picture, or two in any but the manner of packed bitstreams.
    """
    units: list[VideoPacket] = []
    starts: list[bool] = []
    bidirectional: list[bool] = []
    packed = bool(packets) and is_packed(extradata + bytes(packets[0]))
    held: bytes | None = None  # the second VOP of a packet, decoded in place of the next packet
    for packet in packets:
        data = bytes(packet)
        at = find_vop(data)
        if at < 0:
            return None
        second = find_vop(data, at + 1) if packed else -1
        is_b, is_small = is_b_vop(data, at), len(data) < SMALLEST_CODED_VOP_BYTES
        if held is not None:
            units.append(_packet_of(held))
            starts.append(False)
            bidirectional.append(True)
            if second >= 0 or is_b == is_small:
                return None
            held = data if is_b else None  # what is not a B-VOP is the empty one after a pair
            continue
        if is_small or (second >= 0 and not is_b_vop(data, second)):
            return None
        held = data[second:] if second >= 0 else None
        units.append(_packet_of(data[:second]) if held is not None else packet)
        starts.append(packet.is_keyframe)
        bidirectional.append(is_b)
    return units, starts, bidirectional


def _packet_of(data: bytes) -> VideoPacket:
    """Make a packet with the zeros after its end that decoders read; Packet(data) has none."""
    packet: VideoPacket = Packet(len(data))
    packet.update(data)
    return packet


def _make_index(
    frame_of: list[int],
    *,
    starts: list[bool],
    disposable: list[bool],
    times: list[tuple[int | None, int | None]],
    packets: list[VideoPacket] | None,
) -> PacketIndex | None:
    frames = np.asarray(frame_of, dtype=np.int64)
    packet_of = np.empty(int((frames >= 0).sum()), dtype=np.int64)
    packet_of[frames[frames >= 0]] = np.flatnonzero(frames >= 0)
    start_packets = np.flatnonzero(starts)
    latest = np.maximum.accumulate(frames)[start_packets]
    start_frames = np.where(frames[start_packets] < 0, latest + 1, frames[start_packets])
    if np.any(start_frames < latest):  # what is decoded before a start is shown before it
        return None
    return PacketIndex(
        frame_of=frame_of,
        packet_of=packet_of.tolist(),
        start_packets=start_packets.tolist(),
        start_frames=start_frames.tolist(),
        disposable=disposable,
        times=times,
        packets=packets,
    )
