"""The parser checks all lengths of a packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.net.packet import OPT_MSS, Datagram, Malformed, Segment, parse
from tests.helpers.support import CLIENT, SERVICE, packet, segment

RAW = packet(CLIENT, SERVICE, "PA", 0xFFFF_FFFF, 7, b"data")


def test_fields() -> None:
    parsed = segment(RAW)
    assert ((parsed.src, parsed.sport), (parsed.dst, parsed.dport)) == (CLIENT, SERVICE)
    assert (parsed.seq, parsed.ack, parsed.payload, parsed.payload_len, parsed.seq_len) == (
        0xFFFF_FFFF,
        7,
        b"data",
        4,
        4,
    )


@pytest.mark.parametrize("cut", range(len(RAW)))
def test_every_truncation_is_malformed(cut: int) -> None:
    with pytest.raises(Malformed):
        parse(RAW[:cut])


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [
        (0, 0x65, "not-ipv4"),
        (0, 0x44, "bad-ip-length"),
        (0, 0x4F, "bad-ip-length"),
        (3, 10, "bad-ip-length"),
        (3, 255, "bad-ip-length"),
        (3, 30, "short-tcp-header"),
        (6, 0x20, "fragment"),
        (7, 1, "fragment"),
        (32, 0x40, "bad-tcp-offset"),
        (32, 0xF0, "bad-tcp-offset"),
    ],
)
def test_contradicting_lengths_are_malformed(index: int, value: int, reason: str) -> None:
    raw = bytearray(RAW)
    raw[index] = value
    with pytest.raises(Malformed, match=reason):
        parse(bytes(raw))


def test_padding_is_cut_off() -> None:
    assert segment(RAW + bytes(6)).raw == RAW


def test_other_protocols_are_datagrams() -> None:
    raw = bytearray(RAW)
    raw[9] = 17
    assert isinstance(parse(bytes(raw)), Datagram)


@pytest.mark.parametrize(
    ("options", "mss", "scale"),
    [
        (b"", None, None),
        (bytes((2, 4, 5, 180, 1, 3, 3, 7)), 1460, 7),
        (bytes((1, 3, 3, 15, 0, 0, 0, 0)), None, 14),
        (bytes((3, 3, 7, 2)), None, 7),
        (bytes((2, 0, 5, 180)), None, None),
        (bytes((2, 40, 5, 180)), None, None),
        (bytes((2, 3, 5, 0)), None, None),
        (bytes((8, 2, 2, 4, 1, 0, 1, 1)), 256, None),
        (bytes((0, 2, 4, 5)), None, None),
        (bytes((2, 4, 5, 180, 2, 3, 1, 1)), 1460, None),
        (bytes((3, 3, 7, 3, 2, 3, 4, 1, 1, 1, 1, 1)), None, 7),
    ],
)
def test_options(options: bytes, mss: int | None, scale: int | None) -> None:
    parsed = segment(packet(CLIENT, SERVICE, "S", 1, options=options))
    assert (parsed.mss(), parsed.window_scale()) == (mss, scale)


@given(st.binary(max_size=40))
def test_no_options_make_the_parser_raise(options: bytes) -> None:
    segment(packet(CLIENT, SERVICE, "S", 1, options=options + bytes(-len(options) % 4))).options()


def test_an_option_of_a_wrong_length_is_ignored() -> None:
    assert segment(packet(CLIENT, SERVICE, "S", 1, options=bytes((OPT_MSS, 2, 1, 1)))).mss() is None


def test_equal_segments_compare_equal() -> None:
    assert segment(RAW) == segment(RAW)
    assert isinstance(parse(RAW), Segment)
