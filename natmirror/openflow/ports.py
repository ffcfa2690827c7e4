"""The descriptions of a switch's ports, in the layout of each version of OpenFlow."""

from collections.abc import Iterable
from struct import Struct

from natmirror.openflow.messages import HEADER_LEN, V10, V14

MAX_PORTS = 4096
"""Ports of one switch that are kept up to date. Chassis switches have about 1,000, and 1.0 has room for 1,364."""
V10_FEATURES_LEN = 24  # bytes of a FEATURES_REPLY's body before its ports
_V10_PORT_LEN, _V13_PORT_LEN = 48, 64
_MIN_V14_PORT_LEN = 40  # 1.4.1 §7.2.1: before its properties
_V14_PORT_LEN = Struct("!4xH")
V10_MAX_PORTS = (0xFFFF - HEADER_LEN - V10_FEATURES_LEN) // _V10_PORT_LEN
_MAX_BODY_LEN = 60_000  # bytes; a message has at most 65,535


def port_bodies(ports: Iterable[bytes]) -> Iterable[bytes]:
    """Join descriptions of ports to bodies of messages."""
    body = b""
    for port in ports:
        if body and len(body) + len(port) > _MAX_BODY_LEN:
            yield body
            body = b""
        body += port
    yield body


def port_number(version: int, port: bytes) -> int:
    """Return the number in a port's description."""
    return int.from_bytes(port[0 : 2 if version == V10 else 4], "big")


def split_ports(version: int, ports: bytes) -> dict[int, bytes]:
    """Return consecutive descriptions of ports by number; ValueError for more than MAX_PORTS."""
    found: dict[int, bytes] = {}
    at = count = 0
    while (length := port_len(version, ports, at)) is not None:
        count += 1
        if count > MAX_PORTS:
            raise ValueError(f"more than {MAX_PORTS} ports")
        port = ports[at : at + length]
        found[port_number(version, port)] = port
        at += length
    return found


def port_len(version: int, ports: bytes, at: int) -> int | None:
    """Return the length of the description that begins at ``at``; None where it is incomplete (1.0.0 §5.2.1, 1.3.5
    §7.2.1, 1.4.1 §7.2.1)."""
    if version >= V14:
        is_there = at + _MIN_V14_PORT_LEN <= len(ports)
        length = _V14_PORT_LEN.unpack_from(ports, at)[0] if is_there else 0
        return length if _MIN_V14_PORT_LEN <= length <= len(ports) - at else None
    length = _V10_PORT_LEN if version == V10 else _V13_PORT_LEN
    return length if at + length <= len(ports) else None
