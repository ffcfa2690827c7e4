"""Rules, endpoints and packets for tests."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from typing import Any

import dpkt

from natmirror.fastpath import FlowRow
from natmirror.fastpath.flow_states import Event, timeouts_by_state
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, PSH, RST, SYN, URG, Segment, parse
from natmirror.rules import Release, Rules, Timeouts
from natmirror.tcp import tracker
from natmirror.tcp.acceptance import is_taken

TIMEOUTS = timeouts_by_state(**asdict(Timeouts()))
"""Seconds from a flow's last packet to its expiry, by its state, where the rules say nothing."""

_FLAGS = {"S": SYN, "A": ACK, "F": FIN, "R": RST, "P": PSH, "U": URG}

RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
    mirrors:
      - {name: master, address: 10.20.0.13}
"""


def at(address: str, port: int) -> Endpoint:
    """Return an endpoint, with its address given as text."""
    return IPv4Address(address).packed, port


CLIENT = at("10.10.0.11", 40001)
SERVICE = at("10.10.0.100", 6653)
C1 = at("10.20.0.11", 6653)
C2 = at("10.20.0.12", 6653)
MASTER = at("10.20.0.13", 6653)


def at_once(rules: Rules) -> Rules:
    """Return the rules with ``release: seen`` for all services: mirrors get each byte as it passes, so that a test
    which sends packets one by one needs none with the backend's acknowledgement."""
    services = tuple(replace(service, release=Release.SEEN) for service in rules.services)
    return replace(rules, services=services)


def flags(text: str) -> int:
    """Return TCP flags from letters, e.g. ``SA`` for SYN and ACK."""
    return sum(_FLAGS[letter] for letter in text)


def packet(
    source: Endpoint,
    destination: Endpoint,
    text: str,
    seq: int,
    ack: int = 0,
    data: bytes = b"",
    *,
    window: int = 0xFFFF,
    options: bytes = b"",
) -> bytes:
    """Return a TCP packet: ``packet(CLIENT, SERVICE, "PA", 1001, 5001, b"hello")``."""
    return build(
        source,
        destination,
        seq=seq & 0xFFFF_FFFF,
        ack=ack & 0xFFFF_FFFF,
        flags=flags(text),
        window=window,
        options=options,
        payload=data,
    )


def segment(raw: bytes) -> Segment:
    """Return the TCP segment in a packet, which has to be well-formed."""
    parsed = parse(raw)
    assert isinstance(parsed, Segment)
    return parsed


def track(row: FlowRow, parsed: Segment, *, from_client: bool) -> Event | None:
    """Track a segment as the engine does: by what its receiver takes."""
    taken = not parsed.flags & (SYN | RST) and is_taken(row, parsed, from_client=from_client)
    return tracker.track(row, parsed, from_client=from_client, is_taken=taken)


def summary(raw: bytes) -> tuple[str, int, int, bytes]:
    """Return a packet's flags, sequence number, acknowledgement and data."""
    parsed = segment(raw)
    letters = "".join(letter for letter in "SFRPA" if parsed.flags & _FLAGS[letter])
    return letters, parsed.seq, parsed.ack, parsed.payload


def assert_adds_up(snapshot: Mapping[str, Any]) -> None:
    """Assert that for each mirror every byte of the clients is acknowledged, pending, or lost for a reason."""
    for mirror in snapshot["mirrors"]:
        lost = sum(mirror["lost_bytes"].values())
        assert mirror["client_bytes"] == mirror["acked_bytes"] + mirror["pending_bytes"] + lost, mirror
        assert min(mirror["pending_bytes"], *mirror["lost_bytes"].values(), 0) == 0, mirror


def icmp_error(source: str, destination: str, inner: bytes, *, code: int = 4, mtu: int = 1000) -> bytes:
    """Return an unreachable error as a router sends it, with the inner header and eight bytes."""
    body = dpkt.icmp.ICMP(type=3, code=code, data=dpkt.icmp.ICMP.Unreach(mtu=mtu, data=inner[:28]))
    ip = dpkt.ip.IP(
        src=IPv4Address(source).packed, dst=IPv4Address(destination).packed, p=1, ttl=64, data=body, len=20 + len(body)
    )
    return bytes(ip)
