"""The packets that peers send, good and hostile ones, and the time that passes between them."""

from collections.abc import Callable
from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import SYN
from tests.helpers.hostile.peers import Connection, Peers
from tests.helpers.hostile.setting import BACKENDS, MIRRORS, OUR_ADDRESS, ROUTERS, SERVICES, is_openflow
from tests.helpers.openflow import ALL
from tests.helpers.support import icmp_error, packet

Move = Callable[[Peers], None]
_lib: Any = lib
_PAUSES = (0.0, 0.001, 0.001, 0.05, 0.05, 0.3, 0.3, 1.0, 1.0, 5.0)
_LONG_PAUSES = (70.0, 300.0, 8000.0)
_WAYS_PAST = (Hook.PREROUTING, Hook.FORWARD)
_HOOKS = (*(Hook.FORWARD,) * 8, Hook.OUTPUT, Hook.PREROUTING)


def behave(peers: Peers) -> None:
    """Do what two good ends of a connection and its mirrors do."""
    draw, payloads = peers.random, peers.payloads
    if not peers.connections or draw.random() < 0.05:
        peers.connect()
        return
    one = draw.choice(list(peers.connections.values()))
    chance = draw.random()
    if chance < 0.45:
        peers.from_client(one, payloads.data(version=one.version))
    elif chance < 0.75:
        peers.from_backend(one, payloads.data(version=one.version) if draw.random() < 0.4 else b"")
    elif chance < 0.85:
        peers.from_client(one)
    elif chance < 0.93:
        ahead = draw.choice((-100, -10, 5, 3000))
        peers.from_client(one, draw.randbytes(draw.choice((1, 50, 1400))), ahead=ahead)
    else:
        _close(peers, one)
    if draw.random() < 0.7:
        peers.answer_legs()


def _close(peers: Peers, one: Connection) -> None:
    """Close or reset a connection, one side or both; it may go on as if it had not been closed."""
    draw = peers.random
    letters = draw.choice(("FA", "FA", "FA", "R", "RA"))
    send = [peers.from_client, peers.from_backend]
    draw.shuffle(send)
    for side in send[: draw.choice((1, 2))]:
        side(one, b"", letters)
    if draw.random() < 0.8:
        peers.from_client(one)
        del peers.connections[one.client, one.service]


def lie_as_client(peers: Peers) -> None:
    """Send any packet of a client."""
    client, service = peers.random.choice(peers.clients), peers.random.choice(SERVICES)
    _lie(peers, client, service, Hook.PREROUTING, client[1], openflow=is_openflow(service))


def lie_as_backend(peers: Peers) -> None:
    """Send any packet of a backend, of a program behind a service without a pool, or in their names."""
    draw = peers.random
    client, backend = draw.choice(peers.clients), draw.choice([*BACKENDS, *BACKENDS, *SERVICES])
    _lie(peers, backend, client, draw.choice(_HOOKS), client[1], openflow=True)


def _lie(peers: Peers, source: Endpoint, to: Endpoint, hook: Hook, client_port: int, *, openflow: bool) -> None:
    draw, payloads = peers.random, peers.payloads
    numbers = peers.number_of(source, client_port), peers.number_of(to, client_port)
    data = payloads.data(version=draw.choice(ALL) if openflow and draw.random() < 0.5 else None)
    raw = packet(*(source, to, payloads.flags(), *numbers, data), window=payloads.window(), options=payloads.options())
    if draw.random() < 0.05:
        raw = raw[:36] + draw.randbytes(2) + raw[38:]  # another sum
    peers.host.receive(raw, hook, Checksum.UNVERIFIED if draw.random() < 0.3 else Checksum.VALID)


def lie_as_mirror(peers: Peers) -> None:
    """Send any packet of a mirror, mostly an answer to one of a leg."""
    draw, payloads = peers.random, peers.payloads
    if peers.sent_by_legs and draw.random() < 0.8:
        one = draw.choice(peers.sent_by_legs)
        source, to = (one.dst, one.dport), (one.src, one.sport)
        ack = draw.choice((seq.add(one.seq, one.seq_len + draw.choice((0, 0, 0, 1))), one.seq, one.seq + 1))
        if one.flags & SYN:
            letters, number = draw.choice(("SA", "SA", "SA", "RA", "A")), draw.getrandbits(32)
        else:
            letters, number = payloads.flags(), seq.add(one.ack, draw.choice((0, 0, 0, 0, 1, -1, 100)))
    else:
        client = draw.choice(peers.clients)
        source, to = draw.choice(MIRRORS), draw.choice((client, client, (OUR_ADDRESS, 32_768)))
        letters, number, ack = payloads.flags(), draw.getrandbits(32), peers.number_of(client, client[1])
    options = payloads.sack(ack) if draw.random() < 0.3 else payloads.options()
    data = payloads.data(version=draw.choice(ALL))
    raw = packet(source, to, letters, number, ack, data, window=payloads.window(), options=options)
    peers.host.receive(raw, Hook.PREROUTING)


def bypass(peers: Peers) -> None:
    """Send a client's packet to the backend's own address, past the service: data that the backend takes as that of
    the client's connection with the service, or another version of it."""
    draw = peers.random
    if peers.connections and draw.random() < 0.8:
        one = draw.choice(list(peers.connections.values()))
        client, backend, number, ack = one.client, one.backend, one.client_next, one.backend_next
    else:
        client, backend = draw.choice(peers.clients), draw.choice(BACKENDS)
        number, ack = peers.number_of(client, client[1]), peers.number_of(backend, client[1])
    data = peers.payloads.data()
    letters = draw.choice(("PA", "PA", "A", "S", "FA", "R"))
    peers.host.receive(packet(client, backend, letters, number, ack, data), draw.choice(_WAYS_PAST))


def flood(peers: Peers) -> None:
    """Send much data that no backend acknowledges, with gaps or without, so that a client's memory is used up."""
    if not peers.connections:
        return
    draw, one = peers.random, peers.random.choice(list(peers.connections.values()))
    for _ in range(draw.randrange(2, 6)):
        peers.from_client(one, draw.randbytes(draw.choice((1400, 9000, 16_000))))
        one.client_next = seq.add(one.client_next, draw.choice((0, 0, 0, 100)))


def drain(peers: Peers) -> None:
    """Leave a client, or a backend or a mirror for its client, hardly any turns. The threads may be swamped then."""
    draw, host = peers.random, peers.host
    address = draw.choice((*(one[0] for one in peers.clients), draw.choice(BACKENDS)[0], draw.choice(MIRRORS)[0]))
    client = draw.choice(peers.clients)[0] if draw.random() < 0.5 else ffi.NULL
    rest = draw.choice((0, 1, 2, 20))
    for engine in host.engines:
        peer: Any = _lib.nm_turns_of(engine._gear.handle.turns, address, client, host.now)
        for price in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
            while _lib.nm_turn_take(peer, price + rest, 1, 0):
                pass
        while _lib.nm_turn_pass_stray(peer, 0):
            pass
        engine._gear.handle.is_swamped = rest == 1
        engine._gear.handle.sheds_until = host.now + rest


def lie_as_router(peers: Peers) -> None:
    """Send an ICMP error about a packet that a leg, a client or a backend may have sent."""
    draw = peers.random
    if peers.sent_by_legs and draw.random() < 0.5:
        inner = draw.choice(peers.sent_by_legs).raw
    else:
        client = draw.choice(peers.clients)
        source, to = draw.choice(((client, draw.choice(SERVICES)), (draw.choice(BACKENDS), client)))
        inner = packet(source, to, "A", peers.number_of(source, client[1]))
    to_address = draw.choice(("10.10.0.11", "10.10.0.100", "10.20.0.1", "10.20.0.11"))
    mtu = draw.choice((0, 68, 552, 1000, 65_535))
    raw = icmp_error(draw.choice(ROUTERS), to_address, inner, code=draw.choice((0, 1, 3, 4)), mtu=mtu)
    if draw.random() < 0.2:
        raw = raw[: draw.randrange(len(raw))]
    peers.host.receive(raw, draw.choice(list(Hook)), Checksum.UNVERIFIED)


def send_junk(peers: Peers) -> None:
    """Send a malformed packet: cut short, with wrong lengths, or random bytes."""
    draw = peers.random
    client, service = draw.choice(peers.clients), draw.choice(SERVICES)
    raw = bytearray(packet(client, service, "PA", peers.number_of(client, client[1]), 0, b"junk"))
    for _ in range(draw.randrange(1, 4)):
        raw[draw.randrange(len(raw))] = draw.getrandbits(8)
    junk = draw.choice((bytes(raw), bytes(raw[: draw.randrange(len(raw))]), draw.randbytes(draw.randrange(80))))
    peers.host.receive(junk, draw.choice(list(Hook)), draw.choice(list(Checksum)))


def wait(peers: Peers) -> None:
    """Let time pass, and do what is due."""
    draw = peers.random
    peers.host.pass_time(draw.choice(_LONG_PAUSES) if draw.random() < 0.04 else draw.choice(_PAUSES))


PACKETS: dict[Move, int] = {
    lie_as_client: 10,
    lie_as_backend: 8,
    lie_as_mirror: 12,
    bypass: 3,
    flood: 2,
    lie_as_router: 2,
    send_junk: 1,
    wait: 7,
}
"""The hostile moves and their weights."""


def overtake_fin(peers: Peers) -> None:
    """Send what follows a client's FIN, and the backend's acknowledgement of it, before the FIN, which may not come."""
    if not peers.connections:
        return
    draw, one = peers.random, peers.random.choice(list(peers.connections.values()))
    peers.from_client(one, ahead=1)
    if draw.random() < 0.7:
        one.client_next = seq.add(one.client_next, 1)
        peers.from_backend(one)
        one.client_next = seq.add(one.client_next, -1)
    if draw.random() < 0.5:
        peers.answer_legs()
    if draw.random() < 0.6:
        peers.from_client(one, letters="FA")
    else:
        one.client_next = seq.add(one.client_next, 1)


OVERTAKING: dict[Move, int] = {**PACKETS, overtake_fin: 12}
"""The same, and packets that overtake each other."""
