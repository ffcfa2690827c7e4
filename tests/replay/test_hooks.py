"""The hooks of captured packets: packets that are captured twice, ICMP errors, mirrors that are backends."""

from pathlib import Path

import pytest

from natmirror.actions import Accept
from natmirror.net import seq
from natmirror.net.checksum import ones_sum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import PROTO_ICMP
from natmirror.replay.replay import Replay, replay
from natmirror.replay.streams import StreamsInMemory
from natmirror.rules import Rules, parse_rules
from tests.helpers.captures import ONE_BACKEND, session, write
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import C1, C2, CLIENT, MASTER, RULES, SERVICE, at, packet


def forwarded(raw: bytes) -> bytes:
    """Return a packet as a router forwards it, with a TTL one lower."""
    header = raw[:8] + bytes([raw[8] - 1]) + raw[9:10] + b"\0\0" + raw[12:20]
    return header[:10] + (~ones_sum(header) & 0xFFFF).to_bytes(2, "big") + header[12:] + raw[20:]


def unreachable(source: Endpoint, destination: Endpoint, inner: bytes) -> bytes:
    """Return an ICMP error (host unreachable) about ``inner``."""
    body = b"\x03\x01" + bytes(6) + inner[:28]
    body = body[:2] + (~ones_sum(body) & 0xFFFF).to_bytes(2, "big") + body[4:]
    header = bytes([0x45, 0, 0, 20 + len(body), 0, 0, 0, 0, 64, PROTO_ICMP, 0, 0]) + source[0] + destination[0]
    return header[:10] + (~ones_sum(header) & 0xFFFF).to_bytes(2, "big") + header[12:] + body


WEB = at("10.20.0.50", 6653)
WITHOUT_POOL = """
switches: [10.10.0.0/24]
services:
  - {name: web, address: 10.20.0.50, port: 6653, mirrors: [{name: master, address: 10.20.0.13}]}
"""


def test_a_packet_that_passed_unchanged_counts_once_and_a_retransmission_again(tmp_path: Path) -> None:
    syn = packet(CLIENT, WEB, "S", ISS)
    sent = [
        syn,
        syn,
        packet(WEB, CLIENT, "SA", IRS, seq.add(ISS, 1)),
        packet(CLIENT, WEB, "A", seq.add(ISS, 1), seq.add(IRS, 1)),
    ]
    capture = write(tmp_path / "in.pcap", [side for raw in sent for side in (raw, forwarded(raw))])
    report = replay(parse_rules(WITHOUT_POOL), capture, tmp_path / "out.pcap")
    assert (report.accepted, dict(report.skipped)) == (4, {"already seen": 4})


def test_icmp_errors_count_once_and_those_about_a_captured_leg_do_not_reach_the_models_leg(tmp_path: Path) -> None:
    errors = [
        unreachable(C1, CLIENT, packet(CLIENT, C1, "A", 1)),
        unreachable(SERVICE, CLIENT, packet(CLIENT, SERVICE, "A", 1)),
        unreachable(CLIENT, SERVICE, packet(SERVICE, CLIENT, "A", 1)),
        unreachable(CLIENT, C1, packet(C1, CLIENT, "A", 1)),
        unreachable(MASTER, CLIENT, packet(CLIENT, MASTER, "A", seq.add(ISS, 1))),
    ]
    capture = write(tmp_path / "in.pcap", [*session()[:6], *errors])
    report = replay(parse_rules(ONE_BACKEND), capture, tmp_path / "out.pcap")
    assert dict(report.skipped) == {"already rewritten": 4, "from a mirror": 1}
    report = replay(parse_rules(ONE_BACKEND), capture, tmp_path / "out.pcap", mirror="capture")
    assert dict(report.skipped) == {"already rewritten": 4}
    assert dict(report.dropped) == {"for-leg": 1}


@pytest.mark.parametrize("mirror", ["model", "capture"])
def test_packets_of_a_mirror_that_is_also_a_backend_are_distinguished(tmp_path: Path, mirror: str) -> None:
    rules = parse_rules(RULES.replace("{name: master, address: 10.20.0.13}", "{name: master, address: 10.20.0.12}"))
    client = next(
        client
        for client in (at(f"10.10.0.{host}", 40001) for host in range(1, 200))
        if first_hop(rules, client, tmp_path) == C1[0]
    )
    leg = [
        packet(C2, client, "SA", IRS, seq.add(ISS, 1)),
        packet(C2, client, "A", seq.add(IRS, 1), seq.add(ISS, 6)),
    ]
    whole = session(client=client)
    released = packet(C1, client, "A", seq.add(IRS, 1), seq.add(ISS, 6))
    capture = write(tmp_path / "in.pcap", [*whole[:5], leg[0], whole[5], released, leg[1]], step=0.0001)
    streams = StreamsInMemory()
    run = Replay(rules, capture, mirror=mirror, streams=streams)
    passed = [step.packet for step in run.steps() if step.cause == "capture" and isinstance(step.action, Accept)]
    assert not set(leg) & set(passed)
    assert list(streams.values()) == [b"hello"]


def first_hop(rules: Rules, client: Endpoint, directory: Path) -> bytes:
    """Return the address of a client's backend."""
    [step] = list(Replay(rules, write(directory / "syn.pcap", [packet(client, SERVICE, "S", ISS)])).steps())
    assert isinstance(step.action, Accept) and step.action.packet is not None
    return step.action.packet[16:20]
