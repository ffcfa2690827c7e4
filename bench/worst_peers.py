"""For ``bench.worst``: an engine driven as a worker drives it, and a connection whose ends may send anything."""

import time
from collections.abc import Callable
from dataclasses import replace
from struct import pack
from typing import Any

from natmirror import fastpath
from natmirror.actions import Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net.build import build as build_packet
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, PSH, RST, SYN, Segment, parse
from natmirror.openflow.messages import V13, Type, build, hello
from natmirror.rules import parse_rules
from natmirror.runtime import worker

_FLAGS = {"S": SYN, "A": ACK, "P": PSH, "R": RST}
SERVICE, BACKEND, MIRROR = (
    (bytes(map(int, text.split("."))), 6653) for text in ("10.10.0.100", "10.20.0.11", "10.20.0.13")
)
_WIDE = bytes((1, 3, 3, 14))  # a window scale
MIB = 1 << 20


class Loop:
    """An engine driven as a worker drives it, with a manual clock; ``longest`` is its longest call, in seconds."""

    def __init__(self, rules: str, *, fast: bool) -> None:
        self.now = 1000.0
        self.longest = 0.0
        self._fast = fast
        self.engine = Engine(replace(parse_rules(rules), max_flows=20_000), key=bytes(16), fast=fast)

    def take(self, raw: bytes, hook: Hook) -> list[Segment]:
        """Give the engine a packet and do everything that is due then; return the segments sent to the mirror."""
        out: list[Segment] = []
        gear = self.engine._gear
        decided = fastpath.PUNT
        if self._fast:
            packet = bytearray(raw)
            decided = self._timed(lambda: gear.process(packet, hook, Checksum.VALID, self.now))
            out += _sent_to_mirror(gear.take_sends())
        if decided >= fastpath.PUNT:
            out += _sent_to_mirror(self._timed(lambda: self.engine.decide(raw, hook, self.now, Checksum.VALID)).sends)
        return out + self.do_what_is_due()

    def do_what_is_due(self) -> list[Segment]:
        """Call handle_timer() until nothing is due."""
        out: list[Segment] = []
        for _ in range(100_000):
            due = self.engine.next_timer()
            if due is None or due > self.now:
                break
            out += _sent_to_mirror(self._timed(self._handle_timer))
        return out

    def _handle_timer(self) -> list[Any]:
        until = time.thread_time() + getattr(worker, "_TIMER_SLICE", 0)
        of_bytes = getattr(worker, "_STUDY_SLICE", None)  # an older checkout measures slices in bytes
        slice_: Any = of_bytes or (lambda: time.thread_time() >= until)
        return list(self.engine.handle_timer(self.now, slice_))

    def _timed(self, call: Callable[[], Any]) -> Any:
        began = time.thread_time()
        found = call()
        self.longest = max(self.longest, time.thread_time() - began)
        return found


def _sent_to_mirror(actions: list[Any]) -> list[Segment]:
    sent = [parse(action.packet) for action in actions if isinstance(action, Send)]
    return [one for one in sent if isinstance(one, Segment) and one.dst == MIRROR[0]]


class Connection:
    """One client's connection, with its backend and mirror; it counts the sequence numbers of all ends."""

    def __init__(self, loop: Loop, port: int = 40001, *, mss: int = 1460, answers: bool = True) -> None:
        self.loop = loop
        self.client: Endpoint = (bytes((10, 10, 0, 11)), port)
        self.client_seq, self.backend_seq, self.mirror_seq = 1001, 5001, 7001
        self.una = self.sent_to = 1001  # of the leg, shifted to the client's sequence numbers
        self.offset = 0  # from these to the numbers on the wire, as the leg's SYN shows
        self.say(self.client, SERVICE, "S", 1000, 0, options=_WIDE)
        self.say(BACKEND, self.client, "SA", 5000, 1001, options=_WIDE)
        self.from_client(b"")
        self.from_backend()
        if answers:
            self.answer(mss)

    def answer(self, mss: int = 1460) -> None:
        """Have the mirror accept the leg's SYN."""
        options = pack("!BBH", 2, 4, mss) + _WIDE + bytes((1, 1, 4, 2))
        self.say(MIRROR, self.client, "SA", 7000, 1001, options=options)

    def say(
        self, source: Endpoint, to: Endpoint, letters: str, at: int, ack: int, data: bytes = b"", **options: Any
    ) -> None:
        """Send a segment with these flags and numbers from one endpoint to another."""
        flags = sum(_FLAGS[letter] for letter in letters)
        ack = (ack + self.offset if source == MIRROR else ack) & 0xFFFF_FFFF
        numbers = {"seq": at & 0xFFFF_FFFF, "ack": ack, "window": 0xFFFF} | options
        raw = build_packet(source, to, flags=flags, payload=data, **numbers)
        for one in self.loop.take(raw, Hook.FORWARD if source == BACKEND else Hook.PREROUTING):
            if one.flags & SYN:
                self.offset = one.seq - 1000
            self.sent_to = max(self.sent_to, (one.seq - self.offset & 0xFFFF_FFFF) + one.payload_len)

    def from_client(self, data: bytes, at: int | None = None, letters: str = "A") -> None:
        """Send a client's bytes: the next ones, or those from the sequence number ``at`` on."""
        place = self.client_seq if at is None else at
        self.say(self.client, SERVICE, letters, place, self.backend_seq, data)
        if at is None:
            self.client_seq += len(data)

    def from_backend(self, data: bytes = b"", ack: int | None = None) -> None:
        """Send a backend's bytes, with an acknowledgement of the client's."""
        self.say(BACKEND, self.client, "A", self.backend_seq, self.client_seq if ack is None else ack, data)
        self.backend_seq += len(data)

    def from_mirror(self, data: bytes = b"", at: int | None = None, **options: Any) -> None:
        """Send a mirror's bytes, with an acknowledgement up to ``una``."""
        self.say(MIRROR, self.client, "A", self.mirror_seq if at is None else at, self.una, data, **options)
        if at is None:
            self.mirror_seq += len(data)

    def sack(self, *edges: int) -> bytes:
        """Return a SACK option with blocks, each given by its begin and its end."""
        return bytes((1, 1, 5, 2 + 4 * len(edges))) + b"".join(
            pack("!I", edge + self.offset & 0xFFFF_FFFF) for edge in edges
        )

    def write(self, length: int) -> None:
        """Send bytes of the client that its backend acknowledges."""
        for at in range(0, length, 60_000):
            self.from_client(bytes(min(60_000, length - at)))
            self.from_backend()

    def widen(self, window: int) -> None:
        """Have the leg's congestion window grow to ``window``."""
        row = next(iter(self.loop.engine._legs.living.values())).leg.row  # type: ignore[union-attr]
        while row.cwnd < window:
            self.write(2 * min(int(row.cwnd), 8 * MIB) - (self.client_seq - self.una))
            while self.una < self.sent_to:
                self.una += min(2 * int(row.mss), self.sent_to - self.una)
                self.loop.now += 1e-6
                self.from_mirror()

    def greet(self, version: int = V13) -> None:
        """Have both ends send HELLO, and the switch its features."""
        self.from_client(hello(version, 1))
        self.from_backend(hello(version, 1))
        self.answer()
        self.from_backend(build(version, Type.FEATURES_REQUEST, 2))
        self.from_client(build(version, Type.FEATURES_REPLY, 2, pack("!QIBB2xII", 7, 0, 254, 0, 0, 0)))
        self.from_backend()

    def ask_in_parts(self, multipart: int, bodies: list[bytes], version: int = V13) -> None:
        """Have the controller ask for a multipart of this type, and the switch answer with a part for each body."""
        self.from_backend(build(version, Type.MULTIPART_REQUEST, 3, pack("!HH4x", multipart, 0)))
        for place, body in enumerate(bodies):
            head = pack("!HH4x", multipart, place < len(bodies) - 1)
            self.from_client(build(version, Type.MULTIPART_REPLY, 3, head + body))
            self.from_backend()
        self.una = self.sent_to
        self.from_mirror()
