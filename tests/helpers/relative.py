"""An engine that shows its legs in the client's numbers, so that a test can compare a leg's stream with the client's.

On the wire each leg has numbers of its own (tests/mirror/test_own_numbers.py tests that). Here the engine's packets to
a mirror are shifted back by the leg's offset, and the mirror's acknowledgements are shifted forward before the engine
gets them. The engine itself is the real one.
"""

from collections.abc import Sequence
from typing import Any

from natmirror.actions import Decision, Hook, Send
from natmirror.net import seq
from natmirror.net.checksum import Checksum, update_checksum_at
from natmirror.net.endpoint import Endpoint
from natmirror.net.icmp import parse_error
from natmirror.net.packet import OPT_NOP, OPT_SACK, SYN, Malformed, Segment, parse
from tests.helpers.judged_engine import JudgedEngine

_Leg = tuple[Endpoint, Endpoint]  # local end, mirror


class RelativeEngine(JudgedEngine):
    """An engine whose packets from and to mirrors have the client's numbers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offsets: dict[_Leg, int] = {}
        drain, gear, acknowledge = self._outgoing.drain, self._gear.take_sends, self._gear.acknowledge

        def acknowledgements(now: float) -> list[Send]:
            self._gear.take_sends = gear  # type: ignore[method-assign]  # drain() is to shift them
            sends = acknowledge(now)
            self._gear.take_sends = lambda: self._in_client_numbers(gear())  # type: ignore[method-assign]
            return sends

        self._outgoing.drain = lambda: self._in_client_numbers(drain())  # type: ignore[method-assign]
        self._gear.take_sends = lambda: self._in_client_numbers(gear())  # type: ignore[method-assign]
        self._gear.acknowledge = acknowledgements  # type: ignore[method-assign]

    def receive(self, packet: bytes, hook: Hook, now: float, checksum: Checksum = Checksum.UNVERIFIED) -> Decision:
        return super().receive(self.on_the_wire(packet), hook, now, checksum)

    def _offset(self, leg: _Leg) -> int:
        local, mirror = leg
        row = self._gear.legs.find(mirror, local)
        if row is not None:
            self._offsets[leg] = row.seq_offset
        return self._offsets.get(leg, 0)

    def _in_client_numbers(self, sends: Sequence[Send]) -> list[Send]:
        parsed = [(send, parse(send.packet)) for send in sends]
        opened = [(at, _from_us(one)) for at, (_, one) in enumerate(parsed) if _is_syn(one)]
        out = []
        for at, (send, one) in enumerate(parsed):
            if not isinstance(one, Segment):
                out.append(send)
                continue
            leg = _from_us(one)
            is_older = any(other > at and leg == syn for other, syn in opened)
            offset = self._offsets.get(leg, 0) if is_older else self._offset(leg)
            out.append(Send(_shifted(send.packet, one.ip_len + 4, -offset), send.segment_len))
        return out

    def on_the_wire(self, packet: bytes) -> bytes:
        """Return a mirror's packet, or an ICMP error about a leg, with the numbers on the wire."""
        try:
            one = parse(packet)
        except Malformed:
            return packet
        if not isinstance(one, Segment):
            error = parse_error(one)
            if error is None:
                return packet
            offset = self._offset((error.inner_src, error.inner_dst))
            return _shifted_error(packet, one.ip_len, error.inner_at + error.inner_ip_len + 4, offset)
        offset = self._offset(((one.dst, one.dport), (one.src, one.sport)))
        if not offset:
            return packet
        packet = _shifted(packet, one.ip_len + 8, offset, sum_at=one.ip_len + 16)
        for at in _block_numbers(one):
            packet = _shifted(packet, at, offset, sum_at=one.ip_len + 16)
        return packet


def _is_syn(one: Any) -> bool:
    return isinstance(one, Segment) and bool(one.flags & SYN)


def _from_us(one: Any) -> _Leg:
    return (one.src, one.sport), (one.dst, one.dport)


def _shifted(packet: bytes, at: int, by: int, *, sum_at: int | None = None) -> bytes:
    """Return a packet with its 32-bit number at ``at`` shifted, and the checksum at ``sum_at`` updated; a synthesised
    packet has no checksum yet."""
    buffer = bytearray(packet)
    old = packet[at : at + 4]
    buffer[at : at + 4] = seq.add(int.from_bytes(old, "big"), by).to_bytes(4, "big")
    if sum_at is not None:
        if at % 2:  # checksums are over 16-bit words
            old, at = packet[at - 1 : at + 5], at - 1
        update_checksum_at(buffer, sum_at, old, bytes(buffer[at : at + len(old)]))
    return bytes(buffer)


def _shifted_error(packet: bytes, icmp_at: int, at: int, by: int) -> bytes:
    return _shifted(packet, at, by, sum_at=icmp_at + 2)


def _block_numbers(one: Segment) -> list[int]:
    """Return the offsets of the numbers in the selective acknowledgements."""
    at = one.ip_len + 20
    while at + 1 < one.data_at:
        if one.raw[at] == OPT_NOP:
            at += 1
        elif one.raw[at] == OPT_SACK and (one.raw[at + 1] - 2) % 8 == 0:
            return list(range(at + 2, at + one.raw[at + 1], 4))
        elif one.raw[at] == 0 or one.raw[at + 1] < 2:
            break
        else:
            at += one.raw[at + 1]
    return []
