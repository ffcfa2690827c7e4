"""A client that lies: beside its honest segments it sends others, which its backend may refuse, and others that it
takes. And an attacker off the path who guesses all numbers."""

from collections.abc import Callable
from typing import Any

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.build import build
from natmirror.net.checksum import update_checksum_at
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, PSH, RST, SYN, URG, Segment
from tests.helpers.pair_world import Pair
from tests.helpers.receiver import Overlap, Receiver, Stamped, stamps_option
from tests.helpers.restarting_mirror import RestartingMirror
from tests.helpers.simulator import Peer, Weather, World
from tests.helpers.support import CLIENT, SERVICE, segment

LIE = b"\xee"
"""A byte that no honest stream has."""
_BACKEND: Endpoint = (bytes((10, 20, 0, 11)), 6653)
_MAX_LIE = 1400  # bytes
_AT_ONCE = Weather()
_SYN_PART = 0.7  # of the SYNs that have lies beside them
_FAR = 100_000
_REPEATED = 0x1234_5678  # a number that an attacker off the path guesses again and again
_MD5_OPTION = bytes((19, 18)) + bytes(16) + b"\1\1"


class LyingWorld(World):
    """A World whose client lies with each packet with the probability ``part``, in the ways of ``kinds``.

    Whatever it does, no mirror has a byte that the backend has not taken: ``check()`` asserts it whenever the mirror
    has got something.
    """

    def __init__(
        self,
        seed: int,
        stream: bytes,
        *,
        kinds: list[str],
        part: float = 0.3,
        hops: int = 1,
        overlap: Overlap = Overlap.LINUX,
        ack_delay: float = 0.0,
        exceeds_window: bool = False,
        predicts: bool = True,
        room: int = 60_000,
        stamps: bool = True,
        blind: int = 0,
        silence: float = 0.0,
        weather: Weather,
        mirror_weather: Weather = _AT_ONCE,
        **options: Any,
    ) -> None:
        """``hops``: the routers between this host and the backend. ``blind``: how many packets the attacker off the
        path sends. ``silence``: for how many seconds a client with timestamps pauses in the middle of its stream.
        ``weather`` is that of the client's side and the backend's."""
        sides: dict[str, Any] = {"client_side": weather, "backend_side": weather, "mirror_side": mirror_weather}
        super().__init__(seed, stream, **sides, **options)
        draw = self.random
        answer, mss, scale = options.get("answer", b""), options.get("mss", 1000), options.get("scale")
        ends = {"mss": mss, "scale": scale, "first_stamp": draw.choice((1, 0xFFFF_FF00, 0x7FFF_FF00))}
        self.client: Peer
        client_iss = draw.choice([0, 0xFFFF_FF00, draw.getrandbits(32)])
        if stamps:
            self.client = stamped = Stamped(self, CLIENT, SERVICE, client_iss, to_send=stream, **ends)
            if silence:
                stamped.pauses_after = len(stream) // 2
                self.later(silence, stamped.resume)
        else:
            self.client = Peer(self, CLIENT, SERVICE, client_iss, to_send=stream, mss=mss, scale=scale)
        how = {"overlap": overlap, "ack_delay": ack_delay, "exceeds_window": exceeds_window, "predicts": predicts}
        self.backend: Receiver = Receiver(self, _BACKEND, CLIENT, draw.getrandbits(32), to_send=answer, **ends, **how)
        self.backend.room = room
        self.weather[id(self.client)] = self.weather[id(self.backend)] = weather
        self._kinds, self._part, self._hops = kinds, part, hops
        self.blind_left = blind
        """How many packets the attacker off the path still sends."""
        self._checked = 0

    # The path

    def carry(self, sender: Peer, packet: bytes) -> None:
        if sender is not self.client:
            super().carry(sender, packet)
            return
        honest = segment(packet)
        is_syn = bool(honest.flags & SYN)
        kinds = [kind for kind in self._kinds if (kind in SYN_LIES) == is_syn]
        is_lying = kinds and self.random.random() < (_SYN_PART if is_syn else self._part)
        packets = [packet, *(self._lie(kinds, honest) for _ in range(3 if is_syn else 1))] if is_lying else [packet]
        for one in packets if self.random.random() < 0.5 else reversed(packets):
            super().carry(sender, one)
        is_open = sender._una != sender._iss
        for _ in range(min(self.blind_left, 40) if is_open else 0):
            self.blind_left -= 1
            self._guess()

    def _deliver(self, packet: bytes) -> None:
        is_to_backend = packet[12:16] == CLIENT[0] and packet[16:20] == _BACKEND[0]
        if is_to_backend and packet[8] <= 1 + self._hops:
            return  # its time to live ends at this host, or at a router behind it
        super()._deliver(packet)
        self.check()

    def check(self) -> None:
        """Assert that the mirror has no byte that the backend has not taken."""
        got, taken = self.mirror.received, self.backend.received
        if len(got) > self._checked:
            assert got[self._checked :] == taken[self._checked : len(got)], "the mirror got what the backend did not"
            self._checked = len(got)

    # The lies

    def _lie(self, kinds: list[str], honest: Segment) -> bytes:
        """Return a lie of one of the kinds that goes beside an honest packet."""
        return LIES[self.random.choice(kinds)](self, honest)

    def packet(
        self,
        honest: Segment,
        *,
        at: int | None = None,
        flags: int = ACK | PSH,
        ack: int | None = None,
        size: int | None = None,
        stamp: int = 0,
        options: bytes = b"",
    ) -> bytes:
        """Return a packet of the client like an honest one, with data that it never sent; ``stamp``: how far its
        timestamp is from the right one."""
        draw = self.random
        if isinstance(self.client, Stamped) and self.client.uses_stamps:
            options = stamps_option(seq.add(self.client.stamp, stamp), self.client._ts_recent or 0) + options
        size = draw.choice((1, 10, 500, _MAX_LIE)) if size is None else size
        return build(
            *(CLIENT, SERVICE),
            seq=self.near(honest) if at is None else at,
            ack=honest.ack if ack is None else ack,
            flags=flags,
            window=honest.window,
            options=options,
            payload=LIE * size,
        )

    def near(self, honest: Segment) -> int:
        """Return a number where the next honest byte is or will be, or a little later."""
        client = self.client
        return seq.add(self.random.choice((client._max, honest.seq)), self.random.choice((0, 0, 0, 1, 100, 1000, 3000)))

    def _guess(self) -> None:
        """Send a packet with the right endpoints and any numbers, in the client's name or the backend's."""
        draw = self.random
        numbers = {
            "seq": draw.choice((draw.getrandbits(32), _REPEATED)),
            "ack": draw.getrandbits(32),
            "window": draw.choice((0, 100, 0xFFFF)),
        }
        flags = draw.choice((ACK | PSH, ACK | PSH, ACK, RST, RST | ACK, FIN | ACK, SYN, SYN | ACK))
        payload = LIE * draw.choice((0, 1, 100, 1400)) if flags & PSH else b""
        stamps = draw.choice((b"", stamps_option(draw.getrandbits(32), draw.getrandbits(32))))
        if draw.random() < 0.7:
            raw = build(CLIENT, SERVICE, flags=flags, options=stamps, payload=payload, **numbers)
            self.later(draw.random() * 0.05, lambda: self._through_engine(raw, Hook.PREROUTING))
        else:
            raw = build(_BACKEND, CLIENT, flags=flags, options=stamps, payload=payload, **numbers)
            self.later(draw.random() * 0.05, lambda: self._through_engine(raw, Hook.FORWARD))


class LyingPair(LyingWorld, Pair):
    """A LyingWorld with two hosts."""


class LyingToRestarts(RestartingMirror, LyingWorld):
    """A LyingWorld whose mirror restarts, so that copies begin again."""

    def check(self) -> None:
        """Assert that each piece that the mirror has got is a part of what the backend has taken, in their order."""
        at = 0
        for piece in self.pieces:
            found = self.backend.received.find(piece, at)
            assert found >= 0, "the mirror got what the backend did not"
            at = found + len(piece)


def _with_ttl(raw: bytes, ttl: int) -> bytes:
    changed = bytearray(raw)
    changed[8] = ttl
    update_checksum_at(changed, 10, raw[8:10], bytes(changed[8:10]))
    return bytes(changed)


def _bad_sum(raw: bytes) -> bytes:
    return raw[:36] + bytes((raw[36] ^ 0x55,)) + raw[37:]


# Each kind of lie


def _old_ack(world: LyingWorld, honest: Segment) -> bytes:
    age = world.random.choice((1 << 31, (1 << 31) - 1, (1 << 31) - 3000, 1 << 30, 3 * _FAR))
    return world.packet(honest, ack=seq.add(honest.ack, -age))


def _old_ack_and_fin(world: LyingWorld, honest: Segment) -> bytes:
    return world.packet(honest, flags=ACK | FIN, ack=seq.add(honest.ack, -world.random.choice((1 << 30, 3 * _FAR))))


def _overlap_behind(world: LyingWorld, honest: Segment) -> bytes:
    size = world.random.choice((1, 100, _MAX_LIE))
    return world.packet(honest, at=seq.add(world.client._una, -size), size=size)


def _urgent(world: LyingWorld, honest: Segment) -> bytes:
    """An urgent pointer of a bare acknowledgement, or with false bytes; its timestamp may be old."""
    size, stamp = world.random.choice((0, 0, 1, 100)), world.random.choice((0, 0, -100, -1000))
    raw = bytearray(world.packet(honest, flags=ACK | URG, size=size, stamp=stamp))
    pointer = world.random.choice((0, 1, 2, 500)).to_bytes(2, "big")
    update_checksum_at(raw, 36, bytes(raw[38:40]), pointer)
    raw[38:40] = pointer
    return bytes(raw)


def _off(world: LyingWorld, honest: Segment, sign: int) -> int:
    return seq.add(honest.ack, sign * world.random.choice((1, 1000, 5000, honest.window, 2 * honest.window)))


def _near_the_edge(world: LyingWorld, honest: Segment) -> bytes:
    edge = seq.add(world.backend._edge, world.random.choice((-500, -1, 0, 1, 1000)))
    return world.packet(honest, at=edge)


def _expires(*ttls: int) -> Callable[[LyingWorld, Segment], bytes]:
    def lie(world: LyingWorld, honest: Segment) -> bytes:
        flags = world.random.choice((ACK | PSH, ACK | PSH, ACK | FIN, ACK | RST))
        return _with_ttl(world.packet(honest, flags=flags), world.random.choice(ttls))

    return lie


def _old_stamp(*ages: int) -> Callable[[LyingWorld, Segment], bytes]:
    return lambda world, honest: world.packet(honest, stamp=-world.random.choice(ages))


def _finish_early(world: LyingWorld, honest: Segment) -> bytes:
    """A FIN that expires on its way, or that its receiver refuses; honest data follows it."""
    size = world.random.choice((0, 0, 100))
    if world.random.random() < 0.5:
        return _with_ttl(world.packet(honest, flags=ACK | FIN, size=size), 2)
    return world.packet(honest, flags=ACK | FIN, size=size, ack=seq.add(honest.ack, -(1 << 30)))


def _finish(world: LyingWorld, honest: Segment) -> bytes:
    """A FIN that its receiver takes, though honest data follows it."""
    return world.packet(honest, flags=ACK | FIN, size=world.random.choice((0, 0, 100)))


def _reset(world: LyingWorld, honest: Segment) -> bytes:
    raw = world.packet(honest, flags=RST | world.random.choice((0, ACK)), size=0)
    return _with_ttl(raw, world.random.choice((2, 64)))


def _other_syn(world: LyingWorld, honest: Segment) -> bytes:
    draw = world.random
    stamps = stamps_option(world.client.stamp, 0) if isinstance(world.client, Stamped) else b""
    options = draw.choice((b"", stamps, bytes((1, 3, 3, draw.choice((0, 2, 14)))), stamps + _MD5_OPTION))
    raw = build(
        *(CLIENT, SERVICE),
        seq=seq.add(honest.seq, draw.choice((0, 0, 1, 3, 99, 1000, -3, 1 << 30))),
        ack=0,
        flags=SYN,
        window=draw.choice((honest.window, 0, 100)),
        options=options,
        payload=LIE * draw.choice((0, 0, 3, 100)),
    )
    return _with_ttl(raw, draw.choice((2, 64)))


Lie = Callable[[LyingWorld, Segment], bytes]
SYN_LIES: dict[str, Lie] = {"SYN that differs": _other_syn}
"""The lies beside the client's SYN."""
REFUSED: dict[str, Lie] = {
    "acknowledgement of unsent bytes": lambda world, honest: world.packet(honest, ack=seq.add(honest.ack, _FAR)),
    "no acknowledgement": lambda world, honest: world.packet(honest, flags=PSH),
    "old timestamp": _old_stamp(1000, 1 << 30),
    "expires at this host": _expires(1),
    "bad sum": lambda world, honest: _bad_sum(world.packet(honest)),
    "far beyond the window": lambda world, honest: world.packet(honest, at=seq.add(honest.seq, 1 << 30)),
    "overlap after the acknowledgement": _overlap_behind,
}
"""The lies that every receiver refuses, as this host knows: each kind's name, and the packet that it sends beside an
honest one."""

LIES: dict[str, Lie] = {
    **REFUSED,
    **SYN_LIES,
    "old acknowledgement": _old_ack,
    "old acknowledgement with a FIN": _old_ack_and_fin,
    "overlap before the acknowledgement": lambda world, honest: world.packet(honest),
    "acknowledgement that lags": lambda world, honest: world.packet(honest, ack=_off(world, honest, -1)),
    "acknowledgement that runs ahead": lambda world, honest: world.packet(honest, ack=_off(world, honest, 1)),
    "timestamp that may be old": _old_stamp(2, 20, 100),
    "expires behind this host": _expires(2, 3),
    "near the window's edge": _near_the_edge,
    "signature": lambda world, honest: world.packet(honest, options=_MD5_OPTION),
    "urgent": _urgent,
    "FIN that is lost": _finish_early,
    "FIN that is taken": _finish,
    "RST": _reset,
    "SYN": lambda world, honest: world.packet(honest, flags=SYN, size=world.random.choice((0, 100))),
}
"""All lies. A receiver may refuse or take the others, and this host cannot know which."""
