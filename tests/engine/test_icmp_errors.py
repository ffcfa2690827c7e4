"""ICMP errors about connections and about legs."""

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
