"""The header bits that say what depends on what, against packets made by hand and by encoders."""

import av
import pytest

import helpers_video as hv
from kinema.video import bitstream


def test_h264_pictures_with_start_codes():
    # NAL 0x65: IDR slice, referenced; 0x41: referenced slice; 0x01: slice that nobody refers to.
    # Slice headers: first_mb 0 ("1"), then slice type 7 (I, "0001000"), 5 (P), 6 (B), 1 (B).
    idr = b"\x00\x00\x00\x01\x67aaaa\x00\x00\x01\x65" + bytes([0b10001000])
    p = b"\x00\x00\x01\x09\xf0\x00\x00\x01\x41" + bytes([0b10011000])
    b = b"\x00\x00\x01\x01" + bytes([0b10011100])
    assert bitstream.h264_picture(idr, length_size=0) == (True, True, False)
    assert bitstream.h264_picture(p, length_size=0) == (False, True, False)
    assert bitstream.h264_picture(b, length_size=0) == (False, False, True)
    assert bitstream.h264_picture(b"\x00\x00\x01\x09\xf0", length_size=0) == (False, True, True)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_h264_pictures_with_lengths(size):
    def units(*parts):
        return b"".join(len(part).to_bytes(size, "big") + part for part in parts)

    assert bitstream.h264_length_size(bytes([1, 0, 0, 0, 0xFC | (size - 1)])) == size
    data = units(b"\x06xyz", b"\x65\x88\x80")
    assert bitstream.h264_picture(data, length_size=size) == (True, True, False)
    assert bitstream.h264_length_size(b"\x00\x00\x00\x01\x67") == 0
    assert bitstream.h264_length_size(None) == 0


@pytest.mark.parametrize("name", ["h264", "h264-mpegts", "h264-interlaced"])
def test_h264_slice_types_are_those_that_the_decoder_reports(tmp_path, name):
    spec = hv.SPECS[name]
    path = hv.make_video(tmp_path / f"v{spec.suffix}", spec)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        size = bitstream.h264_length_size(stream.codec_context.extradata)
        read = {
            packet.pts: bitstream.h264_picture(bytes(packet), length_size=size).bidirectional
            for packet in container.demux(stream)
            if packet.size
        }
    with av.open(str(path)) as container:
        told = {frame.pts: int(frame.pict_type) == 3 for frame in container.decode(video=0)}
    assert read == told
    assert 5 <= sum(told.values()) <= 30


def test_vops():
    data = b"head\x00\x00\x01\xb6\x10aaaa\x00\x00\x01\xb6\x90bb"
    assert bitstream.find_vop(data) == 4
    assert bitstream.find_vop(data, 5) == 13
    assert bitstream.find_vop(data, 14) == -1
    assert not bitstream.is_b_vop(data, 4)
    assert bitstream.is_b_vop(data, 13)
    assert bitstream.is_packed(b"\x00\x00\x01\xb2DivX503b1393p")
    assert bitstream.is_packed(b"\x00\x00\x01\xb2DivX503Build1393p")
    assert not bitstream.is_packed(b"\x00\x00\x01\xb2DivX503b1393")
    assert not bitstream.is_packed(b"\x00\x00\x01\xb2XviD0055")


def test_vops_are_shown_after_the_b_vops_that_follow_them():
    # I P B B P B  are shown as  I B B P B P
    order = bitstream.vop_display_order([False, False, True, True, False, True])
    assert order == [0, 3, 1, 2, 5, 4]
    assert bitstream.vop_display_order([False] * 4) == [0, 1, 2, 3]
    assert bitstream.vop_display_order([False, True]) is None
    assert bitstream.vop_display_order([]) == []
