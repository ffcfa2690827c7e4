"""The replay reassembles fragments exactly as this kernel does."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyroute2 import netns

from natmirror.lab.topology import Lab
from natmirror.net.checksum import ones_sum
from natmirror.replay.fragments import Reassembly, is_fragment

pytestmark = pytest.mark.live

_PROTOCOL, _END = 253, 254  # for experiments (RFC 3692)
_CASES = 400
_HERE, _THERE = "10.10.0.11", "10.10.0.1"


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the code in the with block in a network namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        netns.setns(namespace)
        yield
    finally:
        netns.setns(before)
        os.close(before)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Stay on one core in the with block: packets that a core sends to this host arrive in their order."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def datagram(ident: int, tos: int, flags_and_offset: int, data: bytes, *, protocol: int = _PROTOCOL) -> bytes:
    """Return an IPv4 packet, or a fragment, from the client to the load balancer."""
    header = bytearray(20)
    header[:2] = bytes([0x45, tos])
    header[2:4] = (20 + len(data)).to_bytes(2, "big")
    header[4:6] = ident.to_bytes(2, "big")
    header[6:8] = flags_and_offset.to_bytes(2, "big")
    header[8:10] = bytes([64, protocol])
    header[12:20] = socket.inet_aton(_HERE) + socket.inet_aton(_THERE)
    header[10:12] = (~ones_sum(header) & 0xFFFF).to_bytes(2, "big")
    return bytes(header) + data


def fragments(draw: random.Random, ident: int) -> list[bytes]:
    """Return the fragments of a packet in some order, and perhaps some that do not belong to it."""
    data = draw.randbytes(draw.randrange(1, 70))
    pieces, at = [], 0
    while at < len(data):
        step = draw.choice((8, 8, 16, 24))
        pieces.append((at // 8, at + step < len(data), data[at : at + step]))
        at += step
    if draw.random() < 0.6:
        draw.shuffle(pieces)
    for _ in range(draw.choice((0, 0, 1, 2, 3))):
        odd = (draw.choice((0, 1, 2, 3, 5, 8, 8191)), draw.random() < 0.6, draw.randbytes(draw.randrange(25)))
        pieces.insert(draw.randrange(len(pieces) + 1), draw.choice((odd, draw.choice(pieces))))
    tos = draw.choice((0, 0, 1, 2))
    return [
        datagram(
            ident,
            draw.choice((0, 1, 2, 3)) if draw.random() < 0.1 else tos,
            (0x2000 if more else 0) | (0x4000 if draw.random() < 0.2 else 0) | offset,
            piece,
        )
        for offset, more, piece in pieces
    ]


def test_random_fragments_become_the_same_packets(lab: Lab) -> None:
    with inside(lab.ns("lb")):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, _PROTOCOL)
        ends = socket.socket(socket.AF_INET, socket.SOCK_RAW, _END)
    with inside(lab.ns("s1")):
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with receiver, ends, sender, on_one_core():
        receiver.setblocking(False)
        ends.settimeout(5)
        reassembly, draw = Reassembly(), random.Random(1)
        made = 0
        for ident in range(1, _CASES + 1):
            sent = fragments(draw, ident)
            expected = []
            for one in sent:
                sender.sendto(one, (_THERE, 0))
                whole = reassembly.add(one, ident * 1e-3) if is_fragment(one) else one
                expected += [] if whole is None else [whole]
            sender.sendto(datagram(ident, 0, 0, b"end", protocol=_END), (_THERE, 0))
            ends.recv(100)  # all before it has arrived
            found = []
            while True:
                try:
                    found.append(receiver.recv(70_000))
                except BlockingIOError:
                    break
            assert found == expected, [one.hex() for one in sent]
            made += len(found)
    assert made > _CASES // 2 and reassembly.unused.total() > _CASES
