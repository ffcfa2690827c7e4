"""The lies of a client with a TCP of its own, and what is known of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from natmirror.lab.topology import SERVICE
from natmirror.net import seq
from natmirror.net.build import build
from natmirror.net.checksum import update_checksum_at
from natmirror.net.packet import ACK, FIN, IP_HEADER_LEN, OPT_MPTCP, OPT_NOP, OPT_WINDOW_SCALE, PSH, RST, SYN, URG
from tests.helpers.support import at
from tests.live.own_tcp import MAX_LEN, WINDOW, OwnTcp, stamps_option
from tests.live.scene import PORT

THERE = at(SERVICE, PORT)
BACKEND = at("10.20.0.11", PORT)
LIE = b"\xee"
"""A byte that no stream has."""
_FAR = 100_000


def packet(client: OwnTcp, *, begin: int | None = None, size: int | None = None, **fields: Any) -> bytes:
    """Return a packet with bytes that the stream does not have, where its next ones are or a little later."""
    draw = client.draw
    size = draw.choice((1, 10, 500, MAX_LEN)) if size is None else size
    begin = client.told + draw.choice((0, 0, 0, 1, 100, 1000)) if begin is None else begin
    return client.packet(at=client.at(begin), payload=LIE * size, **fields)


def ack_off(client: OwnTcp, by: int) -> int:
    """Return an acknowledgement that is wrong by so much."""
    return seq.add(client.rcv_nxt or 0, by)


def old(client: OwnTcp) -> int:
    """Return how wrong an acknowledgement of long ago is."""
    return -client.draw.choice(((1 << 31) - 1, 1 << 30, 3 * _FAR))


def later(client: OwnTcp, ack: int) -> bytes:
    """Return a packet past the next byte, with any acknowledgement."""
    return packet(client, begin=client.told + client.draw.choice((1, 100, 1000)), ack=ack)


def old_stamp(client: OwnTcp, age: int) -> bytes:
    return packet(client, stamp=seq.add(client.echoed, -age))


def bad_sum(client: OwnTcp) -> bytes:
    raw = packet(client)
    return raw[:36] + bytes((raw[36] ^ 0x55,)) + raw[37:]


def overlap_behind(client: OwnTcp) -> bytes:
    size = client.draw.choice((1, 100, MAX_LEN))
    return packet(client, begin=client.acked - size, size=size)


def overlap_over_the_edge(client: OwnTcp) -> bytes:
    """Acknowledged bytes and new ones in one segment, all of them false."""
    return packet(client, begin=client.acked - client.draw.choice((1, 50)), size=client.draw.choice((100, MAX_LEN)))


def expires(client: OwnTcp, ttl: int) -> bytes:
    flags = client.draw.choice((ACK | PSH, ACK | PSH, ACK | FIN, ACK | RST))
    return packet(client, flags=flags, ttl=ttl, stamp=seq.add(client.stamp, client.draw.choice((0, 0, 1 << 20))))


def off_the_path(client: OwnTcp) -> bytes:
    """A guess of an attacker: the numbers are any."""
    draw = client.draw
    flags = draw.choice((ACK | PSH, ACK, RST, RST | ACK, FIN | ACK, SYN))
    number, ack = draw.getrandbits(32), draw.getrandbits(32)
    return client.packet(at=number, payload=LIE * 100 * bool(flags & PSH), flags=flags, ack=ack)


def near_the_edge(client: OwnTcp) -> bytes:
    return packet(client, begin=client.edge + client.draw.choice((-500, -1, 0, 1, 1000)))


def urgent(client: OwnTcp) -> bytes:
    """Honest in all but its urgent pointer, or false."""
    raw = packet(client, flags=ACK | PSH | URG, size=client.draw.choice((0, 1, 100)))
    pointer = client.draw.choice((1, 5, 100)).to_bytes(2, "big")
    changed = bytearray(raw)
    changed[IP_HEADER_LEN + 18 : IP_HEADER_LEN + 20] = pointer
    update_checksum_at(changed, IP_HEADER_LEN + 16, b"\0\0", pointer)
    return bytes(changed)


def source_route(client: OwnTcp) -> bytes:
    """A packet with a loose source route, which this host's kernel drops after natmirror has seen it."""
    raw = packet(client)
    option = bytes((131, 7, 4)) + raw[16:20] + b"\0"
    changed = bytearray(raw[:IP_HEADER_LEN] + option + raw[IP_HEADER_LEN:])
    words = {0: bytes((0x47, 0)), 2: len(changed).to_bytes(2, "big")}
    for place, new in words.items():
        update_checksum_at(changed, 10, bytes(changed[place : place + 2]), new)
        changed[place : place + 2] = new
    update_checksum_at(changed, 10, bytes(len(option)), option)
    return bytes(changed)


def past_the_service(client: OwnTcp) -> bytes:
    """A packet to the backend's own endpoint."""
    return packet(client, begin=client.told, there=BACKEND)


def forged_acknowledgement(client: OwnTcp) -> list[bytes]:
    """A lie that the backend never gets, and its acknowledgement in the backend's name, from the client's side."""
    size = client.draw.choice((1, 100, MAX_LEN))
    acknowledgement = build(
        *(BACKEND, client.here),
        seq=client.rcv_nxt or 0,
        ack=client.at(client.told + size),
        flags=ACK,
        window=WINDOW,
        options=stamps_option(client.their_stamp, client.stamp) if client.uses_stamps else b"",
    )
    return [packet(client, begin=client.told, size=size, ttl=2), acknowledgement]


def signed_syn(client: OwnTcp) -> bytes:
    """A SYN that the backend refuses: signed, though it knows no key."""
    return other_syn(client, options=MD5)


def lost_syn(client: OwnTcp) -> bytes:
    return other_syn(client, ttl=2, options=client.draw.choice((b"", bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 14)))))


def other_syn(client: OwnTcp, **fields: Any) -> bytes:
    """A SYN with another number, other options or data."""
    begin = client.draw.choice((0, 0, 2, 98, 1000, -4)) - 1
    return packet(client, begin=begin, size=client.draw.choice((0, 3, 100)), flags=SYN, **fields)


def reset(client: OwnTcp) -> bytes:
    draw = client.draw
    begin = client.told + draw.choice((0, 1, 100))
    return packet(client, begin=begin, size=0, flags=RST | draw.choice((0, ACK)), ttl=draw.choice((2, 64)))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of lie: the packet, or the packets, that go before the true bytes or after them."""

    lie: Callable[[OwnTcp], bytes | list[bytes]]
    is_refused: bool = False
    """Whether every receiver refuses it, as natmirror knows: then both ends have the client's stream."""
    needs_stamps: bool = False
    is_elsewhere: bool = False
    """Whether it comes from another host."""
    is_syn: bool = False
    """Whether it goes beside the client's SYN instead."""


MD5 = bytes((19, 18)) + bytes(16) + bytes((OPT_NOP, OPT_NOP))
MPTCP_DSS = bytes((OPT_MPTCP, 8, 0x20, 0x01)) + bytes(4)
KINDS = {
    "acknowledgement of unsent bytes": Kind(lambda client: packet(client, ack=ack_off(client, _FAR)), True),
    "no acknowledgement": Kind(lambda client: packet(client, flags=PSH), True),
    "old timestamp": Kind(lambda client: old_stamp(client, client.draw.choice((1000, 1 << 30))), True, True),
    "expires at this host": Kind(lambda client: expires(client, 1), True),
    "bad sum": Kind(bad_sum, True),
    "far beyond the window": Kind(lambda client: packet(client, begin=client.told + (1 << 30)), True),
    "overlap after the acknowledgement": Kind(overlap_behind, True),
    "guess": Kind(off_the_path, True, is_elsewhere=True),
    "guess in the window": Kind(lambda client: later(client, client.draw.getrandbits(32)), is_elsewhere=True),
    "guess with the right number": Kind(
        lambda client: packet(client, begin=client.told, ack=client.draw.getrandbits(32)), is_elsewhere=True
    ),
    "past the service": Kind(past_the_service, True),
    "forged acknowledgement": Kind(forged_acknowledgement),
    "old acknowledgement": Kind(lambda client: packet(client, begin=client.told, ack=ack_off(client, old(client)))),
    "overlap before the acknowledgement": Kind(packet),
    "overlap over the edge": Kind(overlap_over_the_edge),
    "acknowledgement that lags": Kind(
        lambda client: packet(client, ack=ack_off(client, -client.draw.choice((1, 1000, 5000, WINDOW << 7))))
    ),
    "acknowledgement that runs ahead": Kind(
        lambda client: packet(client, ack=ack_off(client, client.draw.choice((1, 1000, 5000))))
    ),
    "timestamp that may be old": Kind(
        lambda client: old_stamp(client, client.draw.choice((-1, 1, 2, 20))), False, True
    ),
    "expires behind this host": Kind(lambda client: expires(client, 2)),
    "near the window's edge": Kind(near_the_edge),
    "signature": Kind(lambda client: packet(client, options=MD5)),
    "Multipath TCP": Kind(lambda client: packet(client, options=MPTCP_DSS)),
    "urgent": Kind(urgent),
    "source route": Kind(source_route),
    "FIN that is lost": Kind(lambda client: packet(client, flags=ACK | FIN, size=0, ttl=2)),
    "old acknowledgement past the next byte": Kind(lambda client: later(client, ack_off(client, old(client)))),
    "FIN that is refused": Kind(
        lambda client: packet(client, flags=ACK | FIN, size=client.draw.choice((0, 1)), ack=ack_off(client, -(1 << 30)))
    ),
    "FIN that is taken": Kind(lambda client: packet(client, flags=ACK | FIN, size=client.draw.choice((0, 1, 100)))),
    "RST": Kind(reset),
    "SYN that is signed": Kind(signed_syn, is_syn=True),
    "SYN that is lost": Kind(lost_syn, is_syn=True),
    "SYN": Kind(lambda client: packet(client, flags=SYN, size=client.draw.choice((0, 100)))),
}


def lies(kind: Kind, client: OwnTcp, count: int) -> list[bytes]:
    """Return the packets of so many lies."""
    found = [kind.lie(client) for _ in range(count)]
    return [packet for lie in found for packet in (lie if isinstance(lie, list) else [lie])]
