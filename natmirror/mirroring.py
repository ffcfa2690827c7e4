"""Between production and the legs: each mirrored flow's byte stream, given to a leg for each of its mirrors.

Here too: what became of the bytes. Sums over ended legs are kept for each mirror.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from natmirror import seq
from natmirror.actions import LegEnded
from natmirror.fastpath import MIRRORED
from natmirror.icmp import IcmpError
from natmirror.mirror import Leg, LegState
from natmirror.packet import SYN, Endpoint, Segment, endpoint_of, show
from natmirror.rules import Mirror, Rules, Service
from natmirror.stream import Reassembler
from natmirror.tcp import HALF_FIN
from natmirror.timers import Timers


class MirroredFlow(Protocol):
    """What has to be known of a flow to mirror it."""

    row: Any
    client: Endpoint
    service: Service
    syn: Segment | None


@dataclass(slots=True)
class Totals:
    """What became of one mirror's copies; the bytes are those of legs and flows that are over."""

    endpoint: Endpoint
    opened: int = 0
    refused: int = 0
    client_bytes: int = 0
    sent_bytes: int = 0
    acked_bytes: int = 0
    consumed_bytes: int = 0
    retransmits: int = 0
    ended: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Strand:
    """One leg, with the tap that feeds it."""

    leg: Leg
    mirror: Mirror
    tap: "_Tap"


@dataclass(slots=True, eq=False)
class _Tap:
    """A mirrored flow's stream, and the legs that it goes to."""

    flow: MirroredFlow
    reassembler: Reassembler
    strands: list[_Strand]
    finished: bool = False
    flow_over: bool = False
    final_bytes: int | None = None  # what the client sent in all, once the flow's row is gone

    def client_bytes(self) -> int:
        """Bytes the client has sent on this connection."""
        return int(self.flow.row.orig.bytes) if self.final_bytes is None else self.final_bytes

    def alive(self) -> list[_Strand]:
        """The legs that have not ended."""
        return [strand for strand in self.strands if strand.leg.ended is None]


class Mirroring:
    """All legs of an engine. What its methods make the legs send waits for take_packets()."""

    def __init__(self, rules: Rules, timers: Timers) -> None:
        self._timers = timers
        self._taps: dict[MirroredFlow, _Tap] = {}
        self._strands: dict[tuple[Endpoint, Endpoint], _Strand] = {}
        self._packets: list[bytes] = []
        self._events: list[LegEnded] = []
        self.totals: dict[tuple[str, str], Totals] = {
            (service.name, mirror.name): Totals(endpoint_of(mirror))
            for service in rules.services
            for mirror in service.mirrors
        }

    def take_packets(self) -> list[bytes]:
        """What is to be sent to mirrors since the last call."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        events, self._events = self._events, []
        return events

    # What production does

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        """The client's handshake is complete: call each mirror, but one that is the connection's own backend."""
        mirrors = [mirror for mirror in flow.service.mirrors if endpoint_of(mirror) != backend]
        if not mirrors or flow.syn is None:
            return
        first = seq.add(flow.syn.seq, 1)
        tap = _Tap(flow, Reassembler(first, max(mirror.buffer for mirror in mirrors)), [])
        for mirror in mirrors:
            self._open_leg(tap, mirror, flow.syn.seq, now)
        if not tap.strands:
            return
        self._taps[flow] = tap
        flow.row.flags |= MIRRORED
        if flow.syn.payload_len:
            self.feed(flow, flow.syn, now)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """A believed segment of the client's, which the tracker has seen before."""
        tap = self._taps.get(flow)
        if tap is None or not tap.alive():
            return
        row = flow.row
        limit = seq.latest(row.reply.edge, row.reply.ack)
        data = tap.reassembler.push(seq.add(segment.seq, segment.flags & SYN and 1), segment.payload, limit)
        if data:
            self._each(tap, lambda leg: leg.write(data, now))
        fin_seq = seq.add(row.orig.end, -1) if row.orig.flags & HALF_FIN else None
        acked = fin_seq if fin_seq is not None and row.reply.ack == row.orig.end else row.reply.ack
        if seq.lt(tap.reassembler.next, acked):
            # The backend has what never passed here, so the client will not send it again.
            self._each(tap, lambda leg: leg.abort("hole"))
        elif fin_seq == tap.reassembler.next and not tap.finished:
            tap.finished = True
            self._each(tap, lambda leg: leg.finish(now))

    def flow_reset(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection was reset."""
        self._flow_over(flow, now, lambda leg: leg.reset(now))

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection has closed in order: the backend has everything, so whoever lacks something has a
        hole."""
        tap = self._taps.get(flow)
        complete = tap is not None and tap.finished
        self._flow_over(flow, now, lambda leg: leg.finish(now) if complete else leg.abort("hole"))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """The flow leaves the table, and its numbers with it; legs that were not told of its end are cut."""
        tap = self._taps.get(flow)
        if tap is None:
            return
        if not tap.flow_over:
            self._each(tap, lambda leg: leg.abort("flow-expired"))
        del self._taps[flow]
        tap.final_bytes = tap.client_bytes()
        for strand in tap.strands:
            self._totals(strand).client_bytes += tap.final_bytes

    def _open_leg(self, tap: _Tap, mirror: Mirror, iss: int, now: float) -> None:
        key = (endpoint_of(mirror), tap.flow.client)
        older = self._strands.get(key)
        if older is not None and older.tap.flow_over:
            # A leg of a connection that is over gives way to the next connection of the same client port.
            self._settle(older, older.leg.abort("port-reused"))
        totals = self.totals[tap.flow.service.name, mirror.name]
        if key in self._strands:
            totals.refused += 1
            return
        totals.opened += 1
        strand = _Strand(Leg(tap.flow.client, key[0], iss=iss, max_buffer=mirror.buffer), mirror, tap)
        tap.strands.append(strand)
        self._strands[key] = strand
        self._settle(strand, strand.leg.open(now))

    def _flow_over(self, flow: MirroredFlow, now: float, do: Callable[[Leg], list[bytes]]) -> None:
        tap = self._taps.get(flow)
        if tap is None or tap.flow_over:
            return
        tap.flow_over = True

        def end(leg: Leg) -> list[bytes]:
            leg.client_gone(now)
            return do(leg)

        self._each(tap, end)

    # What mirrors and the network do

    def has_leg(self, mirror: Endpoint, client: Endpoint) -> bool:
        """Whether a leg stands between the two."""
        return (mirror, client) in self._strands

    def receive(self, segment: Segment, now: float) -> None:
        """A believed segment of a mirror's, for a leg that stands."""
        strand = self._strands[(segment.src, segment.sport), (segment.dst, segment.dport)]
        self._settle(strand, strand.leg.receive(segment, now))

    def icmp_error(self, error: IcmpError, now: float) -> None:
        """An error about a segment of a leg that stands."""
        if error.is_fragmentation_needed:
            self.path_mtu(error.inner_dst, error.inner_src, error.mtu, error.inner_seq, now)
            return
        strand = self._strands[error.inner_dst, error.inner_src]
        strand.leg.unreachable(error.inner_seq)
        self._settle(strand, [])

    def path_mtu(self, mirror: Endpoint, client: Endpoint, mtu: int, about: int, now: float) -> None:
        """The way to a mirror takes packets of at most ``mtu`` bytes; ``about`` is a number in the one that was
        larger."""
        strand = self._strands.get((mirror, client))
        if strand is not None:
            self._settle(strand, strand.leg.path_mtu(mtu, about, now))

    def handle_timer(self, key: tuple[Endpoint, Endpoint], now: float) -> None:
        """The deadline of the leg with this key has come."""
        strand = self._strands[key]
        self._settle(strand, strand.leg.handle_timer(now))

    def close(self) -> None:
        """End all legs."""
        for strand in list(self._strands.values()):
            self._settle(strand, strand.leg.abort("shutdown"))

    # Housekeeping

    def _each(self, tap: _Tap, do: Callable[[Leg], list[bytes]]) -> None:
        for strand in tap.alive():
            self._settle(strand, do(strand.leg))

    def _settle(self, strand: _Strand, packets: list[bytes]) -> None:
        """After a leg has moved: keep what it sends, set its timer anew, or write it off."""
        self._packets += packets
        leg = strand.leg
        key = (leg.mirror, leg.client)
        self._timers.set(("leg", key), leg.next_timer())
        if leg.ended is not None and self._strands.get(key) is strand:
            del self._strands[key]
            self._write_off(strand, leg.ended)

    def _write_off(self, strand: _Strand, reason: str) -> None:
        leg, tap = strand.leg, strand.tap
        totals = self._totals(strand)
        totals.ended[reason] += 1
        totals.sent_bytes += leg.sent_bytes
        totals.acked_bytes += leg.acked_bytes
        totals.consumed_bytes += leg.consumed_bytes
        totals.retransmits += leg.retransmits
        service, mirror = tap.flow.service.name, strand.mirror.name
        self._events.append(LegEnded(show(leg.client), service, mirror, reason, tap.client_bytes(), leg.acked_bytes))
        if tap.final_bytes is None and not tap.alive():
            tap.flow.row.flags &= ~MIRRORED

    def _totals(self, strand: _Strand) -> Totals:
        return self.totals[strand.tap.flow.service.name, strand.mirror.name]

    # Reporting

    def legs_of(self, flow: MirroredFlow) -> list[dict[str, Any]]:
        """The flow's legs, for a snapshot."""
        tap = self._taps.get(flow)
        return [] if tap is None else [self._show(strand) for strand in tap.strands]

    def mirrors(self) -> list[dict[str, Any]]:
        """Each mirror's sums, living legs included, for a snapshot."""
        sums: dict[tuple[str, str], dict[str, Any]] = {
            key: {
                "service": key[0],
                "name": key[1],
                "address": show(totals.endpoint),
                "legs": 0,
                "opened": totals.opened,
                "refused": totals.refused,
                "client_bytes": totals.client_bytes,
                "sent_bytes": totals.sent_bytes,
                "acked_bytes": totals.acked_bytes,
                "consumed_bytes": totals.consumed_bytes,
                "retransmits": totals.retransmits,
                "ended": dict(totals.ended),
            }
            for key, totals in self.totals.items()
        }
        for strand in self._strands.values():
            entry = sums[strand.tap.flow.service.name, strand.mirror.name]
            entry["legs"] += 1
            for name in ("sent_bytes", "acked_bytes", "consumed_bytes", "retransmits"):
                entry[name] += getattr(strand.leg, name)
        for tap in self._taps.values():
            for strand in tap.strands:
                sums[tap.flow.service.name, strand.mirror.name]["client_bytes"] += tap.client_bytes()
        return list(sums.values())

    @staticmethod
    def _show(strand: _Strand) -> dict[str, Any]:
        leg = strand.leg
        state = LegState(leg.state).name.lower().replace("_", "-")
        return {
            "mirror": strand.mirror.name,
            "state": state if leg.ended is None else f"ended: {leg.ended}",
            "client_bytes": strand.tap.client_bytes(),
            "sent_bytes": leg.sent_bytes,
            "acked_bytes": leg.acked_bytes,
            "lag_bytes": leg.lag_bytes,
            "consumed_bytes": leg.consumed_bytes,
            "retransmits": leg.retransmits,
        }
