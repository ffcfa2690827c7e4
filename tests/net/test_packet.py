"""Packets: parsed with all lengths checked, rewritten and built with right checksums."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.net.build import build_reset, rewrite, synthesise
from natmirror.net.checksum import Checksum, ones_sum, pseudo_header_sum, updated_checksum
from natmirror.net.packet import ACK, OPT_MSS, PROTO_TCP, Datagram, Malformed, Segment, parse
from tests.helpers.support import C1, CLIENT, SERVICE, packet, segment, told

RAW = packet(CLIENT, SERVICE, "PA", 0xFFFF_FFFF, 7, b"data")


def recomputed(raw: bytes) -> bytes:
    """The packet with the checksums that dpkt gives it."""
    ip = dpkt.ip.IP(raw)
    ip.sum = ip.data.sum = 0
    return bytes(ip)


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
def test_contradictions_are_told(index: int, value: int, reason: str) -> None:
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
    ],
)
def test_options(options: bytes, mss: int | None, scale: int | None) -> None:
    parsed = segment(packet(CLIENT, SERVICE, "S", 1, options=options))
    assert (parsed.mss(), parsed.window_scale()) == (mss, scale)


@given(st.binary(max_size=40))
def test_no_options_make_the_parser_stumble(options: bytes) -> None:
    segment(packet(CLIENT, SERVICE, "S", 1, options=options + bytes(-len(options) % 4))).options()


def test_an_option_of_another_length_counts_for_nothing() -> None:
    assert segment(packet(CLIENT, SERVICE, "S", 1, options=bytes((OPT_MSS, 2, 1, 1)))).mss() is None


@given(st.binary(max_size=300))
def test_the_sum_is_that_of_the_obvious_loop(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(padded[at] << 8 | padded[at + 1] for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_sum(data) == total


@given(st.binary(min_size=20, max_size=20), st.integers(0, 9), st.binary(min_size=2, max_size=2))
def test_an_updated_checksum_is_a_computed_one(data: bytes, at: int, new: bytes) -> None:
    changed = data[: 2 * at] + new + data[2 * at + 2 :]
    updated = updated_checksum(~ones_sum(data) & 0xFFFF, data[2 * at : 2 * at + 2], new)
    assert updated % 0xFFFF == (~ones_sum(changed) & 0xFFFF) % 0xFFFF, "0 and 0xffff are the same sum"


@given(st.binary(max_size=200), st.integers(0, 0xFFFF_FFFF), st.sampled_from([b"", bytes(4), bytes(40)]))
def test_built_packets_have_right_checksums(data: bytes, number: int, options: bytes) -> None:
    raw = packet(CLIENT, SERVICE, "PA", number, 1, data, options=options)
    assert raw == recomputed(raw)
    assert segment(raw).checksum_ok()


@given(st.binary(max_size=200), st.sampled_from([Checksum.UNVERIFIED, Checksum.VALID, Checksum.PARTIAL]))
def test_rewritten_packets_have_right_checksums(data: bytes, checksum: Checksum) -> None:
    raw = bytearray(packet(CLIENT, SERVICE, "PA", 1, 1, data))
    if checksum is Checksum.PARTIAL:
        raw[36:38] = b"\xde\xad"
    before = parse(bytes(raw), checksum)
    assert isinstance(before, Segment)
    for out in (
        rewrite(before, destination=C1),
        rewrite(before, source=C1),
        rewrite(before, source=C1, destination=CLIENT),
        rewrite(before, source=C1, window=77),
    ):
        assert out == recomputed(out)
    assert segment(out).window == 77


@given(st.binary(min_size=1, max_size=50), st.integers(1, 0xFFFE))
def test_a_wrong_checksum_stays_wrong(data: bytes, off: int) -> None:
    raw = bytearray(packet(CLIENT, SERVICE, "PA", 1, 1, data))
    field = (int.from_bytes(raw[36:38], "big") + off) & 0xFFFF
    raw[36:38] = field.to_bytes(2, "big")
    before = segment(bytes(raw))
    assert segment(rewrite(before, destination=C1)).checksum_ok() == before.checksum_ok()


def test_resets_answer_as_the_rfc_says() -> None:
    assert told(build_reset(segment(packet(CLIENT, C1, "A", 5, 9)))) == ("R", 9, 0, b"")
    assert told(build_reset(segment(packet(CLIENT, C1, "S", 0xFFFF_FFFF)))) == ("RA", 0, 0, b"")
    assert told(build_reset(segment(packet(CLIENT, C1, "F", 5, 0, b"ab")))) == ("RA", 0, 8, b"")


def test_a_segment_is_a_value() -> None:
    assert segment(RAW) == segment(RAW)
    assert isinstance(parse(RAW), Segment)


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=60), st.integers(0, 10))
def test_sums_of_synthesised_packets_are_those_of_the_slow_way(addresses: bytes, data: bytes, words: int) -> None:
    ends = (addresses[:4], 1), (addresses[4:], 2)
    numbers = {"seq": 3, "ack": 4, "flags": ACK, "window": 5, "options": bytes(4 * words), "payload": data}
    packet = synthesise(*ends, **numbers)  # type: ignore[arg-type]
    assert packet[10:12] == (~ones_sum(packet[:10] + bytes(2) + packet[12:20]) & 0xFFFF).to_bytes(2, "big")
    expected = pseudo_header_sum(addresses[:4], addresses[4:], PROTO_TCP, len(packet) - 20)
    assert packet[36:38] == expected.to_bytes(2, "big")
