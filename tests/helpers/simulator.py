"""A client, a backend and a mirror around the engine in virtual time, on paths that lose, repeat, delay and reorder.

One seed determines everything, so that a failure can be repeated.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dpkt

from natmirror.actions import Accept, Action, Hook, LegEnded, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import build, build_reset, finish
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import (
    ACK,
    FIN,
    OPT_MSS,
    OPT_NOP,
    OPT_SACK,
    OPT_SACK_PERMITTED,
    OPT_WINDOW_SCALE,
    PROTO_TCP,
    PSH,
    RST,
    SYN,
    Segment,
)
from natmirror.rules import parse_rules
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, segment

_FIRST_TIMEOUT, _LAST_TIMEOUT = 0.3, 2.0
_KEY = bytes(16)
_ROUTER = bytes((10, 20, 0, 254))
_OURS = bytes((10, 20, 0, 1))
"""This host's own address, which legs may have as their source."""
QUEUE = 30_000
_TOO_LONG = 7 * 86_400.0  # seconds
ONE_BACKEND = RULES.replace("        - {name: c2, address: 10.20.0.12}\n", "")


@dataclass(frozen=True, slots=True)
class Weather:
    """What a path does to packets: probabilities, and times in seconds."""

    loss: float = 0.0
    repetition: float = 0.0
    delay: float = 0.001
    jitter: float = 0.0
    rate: float | None = None
    """In bytes a second. Faster packets wait, up to ``QUEUE`` bytes; beyond that they are lost."""
    mtu: int = 1500
    """In bytes. A router drops larger packets and sends their sender an ICMP error."""


class Peer:
    """A plain TCP endpoint: go-back-N with a fixed timer, a window of ``room`` bytes, and selective acknowledgements
    if both ends offer them.

    ``to_send`` is its whole stream. It closes after the last byte; the passive end closes only after the other has.
    """

    def __init__(
        self,
        world: "World",
        here: Endpoint,
        there: Endpoint,
        iss: int,
        *,
        to_send: bytes,
        mss: int,
        scale: int | None = None,
        sack: bool = False,
    ) -> None:
        self._world = world
        self._here, self._there = here, there
        self._iss = iss
        self._stream = to_send
        self._mss = mss
        self._scale = scale
        self._their_scale = 0
        self._scaled = False
        self._sack = sack
        self._sacked = False
        self.room = 60_000
        self.received = bytearray()
        self.closed_by_peer = False
        self.reset = False
        self._una = self._max = iss
        self._window = 0
        self._rcv_nxt: int | None = None
        self._waiting: dict[int, tuple[bytes, bool]] = {}
        self._timeout = _FIRST_TIMEOUT
        self._timer = 0
        self._opened = False

    @property
    def done(self) -> bool:
        """Whether its whole stream is acknowledged, including the FIN."""
        return self._una == seq.add(self._iss, len(self._stream) + 2)

    def open(self) -> None:
        """Send a SYN to the other end."""
        self._opened = True
        self._max = seq.add(self._iss, 1)
        self._emit(self._iss, SYN)
        self._arm()

    def receive(self, one: Segment) -> None:
        """Take a segment of the other end."""
        if self.reset:
            return
        if one.flags & RST:
            self.reset = self.reset or (self._rcv_nxt is not None and one.seq == self._rcv_nxt)
            return
        if one.flags & SYN:
            self._take_syn(one)
        if self._rcv_nxt is None:
            return
        if one.flags & ACK and seq.lt(self._una, one.ack) and seq.le(one.ack, self._max):
            self._una = one.ack
            self._timeout = _FIRST_TIMEOUT
            self._arm()
        if one.flags & ACK and one.ack == self._una:
            self._window = one.window << (0 if one.flags & SYN or not self._scaled else self._their_scale)
        took = self._take_data(one)
        if not self._push() and (took or one.seq_len or seq.lt(one.seq, self._rcv_nxt)):
            self._emit(self._max, ACK)

    def _take_syn(self, one: Segment) -> None:
        if self._rcv_nxt is None:
            self._rcv_nxt = seq.add(one.seq, 1)
            scale = one.window_scale()
            self._scaled = scale is not None and self._scale is not None
            self._their_scale = scale or 0
            self._sacked = self._sack and one.sack_permitted()
        if not self._opened:
            self._there = (one.src, one.sport)
            self._max = seq.latest(self._max, seq.add(self._iss, 1))
            if self._una == self._iss:
                self._emit(self._iss, SYN | ACK)
                self._arm()

    def _take_data(self, one: Segment) -> bool:
        assert self._rcv_nxt is not None
        first = seq.add(one.seq, 1) if one.flags & SYN else one.seq
        payload, fin = one.payload, bool(one.flags & FIN)
        ahead = seq.diff(first, self._rcv_nxt)
        if not (payload or fin) or ahead > self.room:
            return False
        if ahead < 0:
            if -ahead > len(payload):
                return False
            payload, first = payload[-ahead:], self._rcv_nxt
        self._waiting[first] = max(
            self._waiting.get(first, (b"", False)), (payload, fin), key=lambda got: (len(got[0]), got[1])
        )
        while self._rcv_nxt in self._waiting:
            payload, fin = self._waiting.pop(self._rcv_nxt)
            self.received += payload
            self._rcv_nxt = seq.add(self._rcv_nxt, len(payload) + fin)
            self.closed_by_peer = self.closed_by_peer or fin
        return True

    def _push(self) -> bool:
        """Send what the window allows; return whether that was anything."""
        established = self._una != self._iss
        if not established:
            return False
        sent = False
        end = seq.add(self._iss, 1 + len(self._stream))
        limit = seq.add(self._una, self._window)
        while seq.lt(self._max, end) and seq.lt(self._max, limit):
            size = min(self._mss, seq.diff(end, self._max), seq.diff(limit, self._max))
            self._emit_data(self._max, size)
            self._max = seq.add(self._max, size)
            sent = True
        if self._max == end and (self._opened or self.closed_by_peer):
            self._emit(end, FIN | ACK)
            self._max = seq.add(end, 1)
            sent = True
        if sent:
            self._arm()
        return sent

    def _emit_data(self, at: int, size: int) -> None:
        offset = seq.diff(at, self._iss) - 1
        self._emit(at, ACK | PSH, self._stream[offset : offset + size])

    def _arm(self) -> None:
        self._timer += 1
        timer = self._timer
        self._world.later(self._timeout, lambda: self._expire(timer))

    def _expire(self, timer: int) -> None:
        if timer != self._timer or self.reset or self._una == self._max:
            return
        self._timeout = min(2 * self._timeout, _LAST_TIMEOUT)
        if self._una == self._iss:
            self._emit(self._iss, SYN if self._opened else SYN | ACK)
        else:
            left = seq.diff(seq.add(self._iss, 1 + len(self._stream)), self._una)
            if left > 0:
                self._emit_data(self._una, min(self._mss, left, seq.diff(self._max, self._una)))
            else:
                self._emit(self._una, FIN | ACK)
        self._arm()

    def _emit(self, at: int, flags: int, payload: bytes = b"") -> None:
        if self._rcv_nxt is None:
            flags &= ~ACK
        shift = self._scale or 0 if self._scaled and not flags & SYN else 0
        packet = build(
            self._here,
            self._there,
            seq=at,
            ack=self._rcv_nxt or 0,
            flags=flags,
            window=min(self.room >> shift, 0xFFFF),
            options=self._options(flags, payload),
            payload=payload,
        )
        self._world.carry(self, packet)

    def _options(self, flags: int, payload: bytes) -> bytes:
        return self._syn_options(flags) if flags & SYN else b"" if payload else self._sack_blocks()

    def _syn_options(self, flags: int) -> bytes:
        options = bytes((OPT_MSS, 4, self._mss >> 8, self._mss & 0xFF))
        if self._scale is not None and (self._opened or self._scaled):
            options += bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, self._scale))
        if self._sack and (self._opened or self._sacked):
            options += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))
        return options

    def _sack_blocks(self) -> bytes:
        if not self._sacked or not self._waiting:
            return b""
        blocks = [(at, seq.add(at, len(payload))) for at, (payload, _) in self._waiting.items() if payload]
        self._world.random.shuffle(blocks)
        numbers = b"".join(number.to_bytes(4, "big") for block in blocks[:4] for number in block)
        return bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + len(numbers))) + numbers if numbers else b""


class DrawnNumbers:
    """Initial numbers of legs, often near the wrap."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def first(self, local: Endpoint, mirror: Endpoint, now: float) -> int:
        return self._source.choice([0, 0xFFFF_FF00, 0x7FFF_FF00, self._source.getrandbits(32)])

    def note_last(self, local: Endpoint, mirror: Endpoint, last: int, now: float) -> None:
        """Do nothing: no two legs have the same ends."""


class World:
    """One connection through an engine, with a path on each side of it."""

    def __init__(
        self,
        seed: int,
        stream: bytes,
        *,
        answer: bytes = b"",
        client_side: Weather,
        backend_side: Weather,
        mirror_side: Weather,
        mss: int = 1000,
        mirror_mss: int = 1000,
        mirror_room: int = 60_000,
        mirror_scale: int | None = None,
        scale: int | None = None,
        sack: bool = False,
        settings: str = "",
        top: str = "",
        fast: bool = True,
    ) -> None:
        """``settings`` is text for the mirror's rules, such as ``, when-behind: throttle``; ``top`` for the rules
        themselves, such as ``mirror-memory: 1MiB``."""
        self.now = 0.0
        self.random = random.Random(seed)
        self.rules = parse_rules(top + ONE_BACKEND.replace("10.20.0.13}", f"10.20.0.13{settings}}}"))
        self.engine = Engine(self.rules, key=_KEY, fast=fast, numbers=DrawnNumbers(random.Random(seed)))
        iss = self.random.choice([0, 0xFFFF_FF00, 0x7FFF_FF00, self.random.getrandbits(32)])
        backend = (bytes((10, 20, 0, 11)), 6653)
        self.client = Peer(self, CLIENT, SERVICE, iss, to_send=stream, mss=mss, scale=scale)
        self.backend = Peer(self, backend, CLIENT, self.random.getrandbits(32), to_send=answer, mss=mss, scale=scale)
        self.mirror = Peer(
            self,
            MASTER,
            CLIENT,
            self.random.getrandbits(32),
            to_send=answer,
            mss=mirror_mss,
            scale=mirror_scale,
            sack=sack,
        )
        self.mirror.room = mirror_room
        self.weather = {id(self.client): client_side, id(self.backend): backend_side, id(self.mirror): mirror_side}
        self.events: list[LegEnded] = []
        self.actions: list[tuple[float, list[Action]]] = []
        """The engine's verdicts and packets, with their times."""
        self._free_at: dict[int, float] = {}  # when each path will have sent all that waits for it
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def run(self, until: float = _TOO_LONG) -> None:
        """Run until nothing is left to happen, or until a time."""
        self.client.open()
        while self.now < until:
            timers = [when for one in self.engines if (when := one.next_timer()) is not None]
            coming = self._coming[0][0] if self._coming else None
            due = min((*timers, *(() if coming is None else (coming,))), default=None)
            if due is None:
                return
            self.now = max(self.now, due)
            if coming is not None and coming <= due:
                heapq.heappop(self._coming)[2]()
            else:
                for one in self.engines:
                    self._send(one.handle_timer(self.now))
            for one in self.engines:
                self.events += one.take_events()
                if self._count % 64 == 0:
                    assert_adds_up(one.snapshot(self.now))
        assert until < _TOO_LONG, "the simulation does not end"

    @property
    def engines(self) -> list[Engine]:
        """The engines that run."""
        return [self.engine]

    def later(self, delay: float, do: Callable[[], None]) -> None:
        """Call ``do`` after ``delay`` seconds."""
        self._count += 1
        heapq.heappush(self._coming, (self.now + delay, self._count, do))

    def carry(self, sender: Peer, packet: bytes) -> None:
        """Send a peer's packet to the engine."""
        hook = Hook.FORWARD if sender is self.backend else Hook.PREROUTING
        self._travel(sender, lambda: self._through_engine(packet, hook), 0)

    def _through_engine(self, packet: bytes, hook: Hook) -> None:
        decision = self.engine.receive(packet, hook, self.now, Checksum.UNVERIFIED)
        verdict = decision.verdict
        self.actions.append((self.now, [verdict, *decision.sends]))
        if isinstance(verdict, Accept) and packet[9] == PROTO_TCP:
            if packet[16:20] == _OURS:
                self._deliver(build_reset(segment(packet)))  # from our own kernel, which has no such connection
            else:
                self._deliver(verdict.packet or packet)
        self._send(decision.sends)

    def _send(self, sends: Sequence[Send]) -> None:
        if sends:
            self.actions.append((self.now, list(sends)))
        for send in sends:
            for packet in finish(send.packet, send.segment_len):
                self._deliver(packet)

    def _deliver(self, packet: bytes) -> None:
        one = segment(packet)
        peer = {CLIENT[0]: self.client, MASTER[0]: self.mirror}.get(one.dst, self.backend)
        weather = self.weather[id(peer)]
        if len(packet) > weather.mtu:
            self.later(weather.delay, lambda: self._report_too_big(packet, weather.mtu))
        else:
            self._travel(peer, lambda: peer.receive(one), len(packet))

    def _report_too_big(self, packet: bytes, mtu: int) -> None:
        """Send a router's fragmentation-needed error to the sender of a packet, through the engine's host."""
        error = dpkt.icmp.ICMP(type=3, code=4, data=dpkt.icmp.ICMP.Unreach(mtu=mtu, data=packet[:28]))
        outer = dpkt.ip.IP(src=_ROUTER, dst=packet[12:16], p=dpkt.ip.IP_PROTO_ICMP, data=error)
        self._through_engine(bytes(outer), Hook.FORWARD)

    def _travel(self, peer: Peer, arrive: Callable[[], None], size: int) -> None:
        weather = self.weather[id(peer)]
        wait = 0.0
        if weather.rate is not None:
            free_at = max(self._free_at.get(id(peer), 0.0), self.now)
            wait = free_at - self.now
            if wait * weather.rate > QUEUE:
                return
            self._free_at[id(peer)] = free_at + size / weather.rate
        for _ in range(1 + (self.random.random() < weather.repetition)):
            if self.random.random() >= weather.loss:
                self.later(wait + weather.delay + self.random.random() * weather.jitter, arrive)
