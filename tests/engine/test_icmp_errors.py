"""ICMP errors about connections and about legs."""

from ipaddress import IPv4Address

import dpkt
import pytest

from natmirror.actions import Accept, Drop, Hook
from natmirror.net.checksum import ones_sum
from natmirror.reasons import DropReason
from tests.helpers.client_connection import ClientConnection
from tests.helpers.support import (
    CLIENT,
    MASTER,
    SERVICE,
    at,
    icmp_error,
    packet,
    segment,
)


def test_an_icmp_error_about_a_nated_packet_is_translated_with_its_inner_header(connection: ClientConnection) -> None:
    connection.connect()
    request = connection.from_client("PA", b"x" * 1200)
    raw = icmp_error("10.20.0.1", "10.10.0.11", request.raw)
    verdict = connection.take(raw, Hook.FORWARD)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    outer = dpkt.ip.IP(verdict.packet)
    inner = dpkt.ip.IP(verdict.packet[28:48] + bytes(20))
    assert (outer.src, outer.dst) == (SERVICE[0], CLIENT[0])
    assert (inner.src, inner.dst) == (CLIENT[0], SERVICE[0])
    assert verdict.packet[48:52] == packet(CLIENT, SERVICE, "A", 0)[20:24]
    fresh = dpkt.ip.IP(verdict.packet)
    fresh.sum = fresh.data.sum = 0
    assert bytes(fresh) == verdict.packet, "outer and ICMP checksums"
    assert ones_sum(verdict.packet[28:48]) == 0xFFFF, "inner checksum"


def test_an_icmp_error_about_a_reply_reaches_the_backend(connection: ClientConnection) -> None:
    connection.connect()
    reply = connection.from_backend("PA", b"x" * 1200)
    verdict = connection.take(icmp_error("10.10.0.1", "10.10.0.100", reply.raw), Hook.PREROUTING)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    outer, inner = dpkt.ip.IP(verdict.packet), dpkt.ip.IP(verdict.packet[28:48])
    assert connection.backend
    assert (outer.dst, inner.src, inner.dst) == (connection.backend[0], connection.backend[0], CLIENT[0])


@pytest.mark.parametrize("hook", [Hook.FORWARD, Hook.OUTPUT])
def test_an_icmp_error_about_a_leg_is_taken_by_the_leg_and_dropped(connection: ClientConnection, hook: Hook) -> None:
    connection.connect()
    [syn] = connection.to_mirror
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.11", syn.raw, code=1), hook) == Drop(DropReason.FOR_LEG)
    assert [event.reason for event in connection.engine.take_events()] == ["unreachable"]


def test_an_icmp_error_passes_unless_it_is_addressed_to_the_sender_of_the_packet(connection: ClientConnection) -> None:
    connection.establish()
    request = connection.from_client("PA", b"x" * 1200)
    reply = connection.from_backend("PA", b"x" * 1200)
    for inner in (request.raw, reply.raw, connection.to_mirror[0].raw):
        assert connection.take(icmp_error("10.10.0.12", "10.10.0.13", inner), Hook.FORWARD) == Accept()


def test_icmp_errors_about_other_things_pass(connection: ClientConnection) -> None:
    inner = packet(CLIENT, at("192.0.2.1", 80), "A", 1)
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Accept()
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.100", inner), Hook.PREROUTING) == Accept()


def test_a_late_icmp_error_about_an_ended_leg_is_dropped(connection: ClientConnection) -> None:
    inner = packet(CLIENT, MASTER, "A", 1)
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Drop(
        DropReason.ICMP_WITHOUT_LEG
    )


def icmp(source: str, destination: str, message: bytes) -> bytes:
    """Return an ICMP message, with its checksum, in an IP packet."""
    checksum = (~ones_sum(message[:2] + b"\0\0" + message[4:]) & 0xFFFF).to_bytes(2, "big")
    body = message[:2] + checksum + message[4:]
    ends = {"src": IPv4Address(source).packed, "dst": IPv4Address(destination).packed}
    return bytes(dpkt.ip.IP(**ends, p=1, ttl=64, data=body, len=20 + len(body)))


@pytest.mark.parametrize(("kind", "code"), [*((3, code) for code in range(16)), (11, 0), (11, 1), (12, 0)])
def test_errors_of_each_kind_are_translated_in_both_directions(
    connection: ClientConnection, kind: int, code: int
) -> None:
    connection.connect()
    request, reply = connection.from_client("PA", b"request"), connection.from_backend("PA", b"reply")
    for source, destination, inner, hook in (
        ("10.20.0.1", "10.10.0.11", request.raw, Hook.FORWARD),
        ("10.10.0.1", "10.10.0.100", reply.raw, Hook.PREROUTING),
    ):
        verdict = connection.take(icmp(source, destination, bytes((kind, code)) + bytes(6) + inner[:28]), hook)
        assert isinstance(verdict, Accept)
        assert verdict.packet
        assert verdict.packet[20:22] == bytes((kind, code)), "type and code stay"
        assert ones_sum(verdict.packet[20:]) == 0xFFFF
        assert connection.backend
        ends = (CLIENT[0], SERVICE[0]) if hook is Hook.FORWARD else (connection.backend[0], CLIENT[0])
        assert (verdict.packet[40:44], verdict.packet[44:48]) == ends


def test_queries_and_damaged_errors_pass_unchanged(connection: ClientConnection) -> None:
    connection.connect()
    raw = icmp_error("10.20.0.1", "10.10.0.11", connection.from_client("PA", b"x").raw)
    damaged = raw[:22] + bytes((raw[22] ^ 1,)) + raw[23:]
    assert connection.take(damaged, Hook.FORWARD) == Accept()
    for kind in (8, 0, 13, 14):
        query = icmp("10.20.0.1", "10.10.0.11", bytes((kind, 0)) + raw[22:])
        assert connection.take(query, Hook.FORWARD) == connection.take(query, Hook.PREROUTING) == Accept()


def test_an_error_about_a_packet_with_ip_options_is_translated(connection: ClientConnection) -> None:
    connection.connect()
    inner = connection.from_client("PA", b"x" * 100).raw
    with_options = bytes((0x46,)) + inner[1:20] + bytes((1, 1, 1, 0)) + inner[20:]
    verdict = connection.take(
        icmp("10.20.0.1", "10.10.0.11", bytes((3, 1)) + bytes(6) + with_options[:40]), Hook.FORWARD
    )
    assert isinstance(verdict, Accept)
    assert verdict.packet
    assert (verdict.packet[44:48], verdict.packet[54:56]) == (SERVICE[0], SERVICE[1].to_bytes(2, "big"))


def test_extensions_after_the_inner_packet_stay_as_they_are(connection: ClientConnection) -> None:
    """RFC 4884: the inner packet is padded to 128 bytes, 32 words as the sixth byte of the error says."""
    connection.connect()
    inner = connection.from_client("PA", b"x" * 60).raw
    extensions = bytes((0x20, 0, 0, 0, 0, 8, 1, 1)) + b"mpls"
    message = bytes((3, 1, 0, 0, 0, 32, 0, 0)) + inner.ljust(128, b"\0") + extensions
    verdict = connection.take(icmp("10.20.0.1", "10.10.0.11", message), Hook.FORWARD)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    assert verdict.packet[-len(extensions) :] == extensions


def test_a_wrong_checksum_of_the_inner_packet_stays_wrong(connection: ClientConnection) -> None:
    connection.connect()
    inner = connection.from_client("PA", b"x" * 60).raw
    for place in (10, 36):  # of the IP header, of TCP
        wrong = inner[:place] + bytes((inner[place] ^ 0x55,)) + inner[place + 1 :]
        verdict = connection.take(icmp("10.20.0.1", "10.10.0.11", bytes((3, 1)) + bytes(6) + wrong), Hook.FORWARD)
        assert isinstance(verdict, Accept)
        assert verdict.packet
        assert (ones_sum(verdict.packet[28:48]) == 0xFFFF) is (place == 36)
        assert segment(verdict.packet[28:]).checksum_ok() is (place == 10)
