"""Rewritten and built packets have right checksums."""

import dpkt
from hypothesis import given
from hypothesis import strategies as st

from natmirror.net.build import build_reset, rewrite, synthesise
from natmirror.net.checksum import Checksum, ones_sum, pseudo_header_sum
from natmirror.net.packet import ACK, PROTO_TCP, Segment, parse
from tests.helpers.support import C1, CLIENT, SERVICE, packet, segment, summary


def recomputed(raw: bytes) -> bytes:
    """Return the packet with the checksums that dpkt computes."""
    ip = dpkt.ip.IP(raw)
    ip.sum = ip.data.sum = 0
    return bytes(ip)


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


def test_resets_have_the_numbers_of_the_rfc() -> None:
    assert summary(build_reset(segment(packet(CLIENT, C1, "A", 5, 9)))) == ("R", 9, 0, b"")
    assert summary(build_reset(segment(packet(CLIENT, C1, "S", 0xFFFF_FFFF)))) == ("RA", 0, 0, b"")
    assert summary(build_reset(segment(packet(CLIENT, C1, "F", 5, 0, b"ab")))) == ("RA", 0, 8, b"")


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=60), st.integers(0, 10))
def test_checksums_of_synthesised_packets_equal_slowly_computed_ones(addresses: bytes, data: bytes, words: int) -> None:
    ends = (addresses[:4], 1), (addresses[4:], 2)
    numbers = {"seq": 3, "ack": 4, "flags": ACK, "window": 5, "options": bytes(4 * words), "payload": data}
    packet = synthesise(*ends, **numbers)  # type: ignore[arg-type]
    assert packet[10:12] == (~ones_sum(packet[:10] + bytes(2) + packet[12:20]) & 0xFFFF).to_bytes(2, "big")
    expected = pseudo_header_sum(addresses[:4], addresses[4:], PROTO_TCP, len(packet) - 20)
    assert packet[36:38] == expected.to_bytes(2, "big")
