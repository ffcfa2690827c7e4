"""Between production and the legs: each mirrored flow's byte stream, given to a leg for each of its mirrors."""

from collections.abc import Callable
from typing import Any

from natmirror import seq
from natmirror.actions import LegEnded
from natmirror.fastpath import MIRRORED
from natmirror.icmp import IcmpError
from natmirror.ledger import MID_CONNECTION, OWN_BACKEND, PORT_IN_USE, Ledger, MirroredFlow, Strand, Tap
from natmirror.mirror import Leg, LegState
from natmirror.packet import SYN, Endpoint, Segment, endpoint_of, show
from natmirror.rules import Rules
from natmirror.stream import Reassembler
from natmirror.tcp import HALF_FIN
from natmirror.timers import Timers


class Mirroring:
    """All legs of an engine. What its methods make the legs send waits for take_packets()."""

    def __init__(self, rules: Rules, timers: Timers) -> None:
        self._timers = timers
        self._ledger = Ledger(rules.services)
        self._taps: dict[MirroredFlow, Tap] = {}
        self._strands: dict[tuple[Endpoint, Endpoint], Strand] = {}
        self._packets: list[bytes] = []
        self._events: list[LegEnded] = []

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
        if flow.syn is None or not flow.service.mirrors:
            return
        first = seq.add(flow.syn.seq, 1)
        tap = Tap(flow, Reassembler(first, max(mirror.buffer for mirror in flow.service.mirrors)))
        self._taps[flow] = tap
        for mirror in flow.service.mirrors:
            strand = Strand(mirror, tap)
            tap.strands.append(strand)
            if endpoint_of(mirror) == backend:
                strand.absent = OWN_BACKEND
            else:
                self._open_leg(strand, flow.syn.seq, now)
        if tap.alive():
            flow.row.flags |= MIRRORED
        if flow.syn.payload_len:
            self.feed(flow, flow.syn, now)

    def picked_up(self, flow: MirroredFlow) -> None:
        """A connection was met in its middle: no leg can begin there, but its bytes count as lost."""
        tap = Tap(flow, Reassembler(0, 0))
        tap.strands += [Strand(mirror, tap, absent=MID_CONNECTION) for mirror in flow.service.mirrors]
        self._taps[flow] = tap

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
        tap.final_bytes = tap.client_bytes
        for strand in tap.strands:
            self._ledger.of(strand).flow_forgotten(strand)

    def _open_leg(self, strand: Strand, iss: int, now: float) -> None:
        client = strand.tap.flow.client
        key = (endpoint_of(strand.mirror), client)
        older = self._strands.get(key)
        if older is not None and older.leg is not None and older.tap.flow_over:
            # A leg of a connection that is over gives way to the next connection of the same client port.
            self._settle(older, older.leg, older.leg.abort("port-reused"))
        if key in self._strands:
            strand.absent = PORT_IN_USE
            return
        self._ledger.of(strand).opened += 1
        strand.leg = Leg(client, key[0], iss=iss, max_buffer=strand.mirror.buffer)
        self._strands[key] = strand
        self._settle(strand, strand.leg, strand.leg.open(now))

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
        mirror, client = (segment.src, segment.sport), (segment.dst, segment.dport)
        self._do(mirror, client, lambda leg: leg.receive(segment, now))

    def icmp_error(self, error: IcmpError, now: float) -> None:
        """An error about a segment of a leg that stands."""
        if error.is_fragmentation_needed:
            self.path_mtu(error.inner_dst, error.inner_src, error.mtu, error.inner_seq, now)
        else:
            self._do(error.inner_dst, error.inner_src, lambda leg: leg.unreachable(error.inner_seq))

    def path_mtu(self, mirror: Endpoint, client: Endpoint, mtu: int, about: int, now: float) -> None:
        """The way to a mirror takes packets of at most ``mtu`` bytes; ``about`` is a number in the larger one."""
        self._do(mirror, client, lambda leg: leg.path_mtu(mtu, about, now))

    def handle_timer(self, key: tuple[Endpoint, Endpoint], now: float) -> None:
        """The deadline of the leg with this key has come."""
        self._do(*key, lambda leg: leg.handle_timer(now))

    def close(self) -> None:
        """End all legs."""
        for mirror, client in list(self._strands):
            self._do(mirror, client, lambda leg: leg.abort("shutdown"))

    # Housekeeping

    def _do(self, mirror: Endpoint, client: Endpoint, do: Callable[[Leg], list[bytes]]) -> None:
        strand = self._strands.get((mirror, client))
        if strand is not None and strand.leg is not None:
            self._settle(strand, strand.leg, do(strand.leg))

    def _each(self, tap: Tap, do: Callable[[Leg], list[bytes]]) -> None:
        for strand, leg in tap.alive():
            self._settle(strand, leg, do(leg))

    def _settle(self, strand: Strand, leg: Leg, packets: list[bytes]) -> None:
        """After a leg has moved: keep what it sends, set its timer anew, or write it off."""
        self._packets += packets
        key = (leg.mirror, leg.client)
        self._timers.set(("leg", key), leg.next_timer())
        if leg.ended is not None and self._strands.get(key) is strand:
            del self._strands[key]
            self._write_off(strand, leg, leg.ended)

    def _write_off(self, strand: Strand, leg: Leg, reason: str) -> None:
        tap = strand.tap
        self._ledger.of(strand).leg_ended(strand, leg, reason)
        service, mirror = tap.flow.service.name, strand.mirror.name
        self._events.append(LegEnded(show(leg.client), service, mirror, reason, tap.client_bytes, leg.acked_bytes))
        if tap.final_bytes is None and not tap.alive():
            tap.flow.row.flags &= ~MIRRORED

    # Reporting

    def legs_of(self, flow: MirroredFlow, now: float) -> list[dict[str, Any]]:
        """The flow's legs as plain values."""
        tap = self._taps.get(flow)
        strands = [] if tap is None else tap.strands
        return [_shown(strand, strand.leg, now) for strand in strands if strand.leg is not None]

    def mirrors(self, now: float) -> list[dict[str, Any]]:
        """Each mirror's ledger as plain values, living legs included."""
        lingering = [strand for strand in self._strands.values() if strand.tap.final_bytes is not None]
        return self._ledger.show(list(self._taps.values()), lingering, now)


def _shown(strand: Strand, leg: Leg, now: float) -> dict[str, Any]:
    state = LegState(leg.state).name.lower().replace("_", "-")
    return {
        "mirror": strand.mirror.name,
        "state": state if leg.ended is None else f"ended: {leg.ended}",
        "client_bytes": strand.tap.client_bytes,
        "sent_bytes": leg.sent_bytes,
        "acked_bytes": leg.acked_bytes,
        "in_flight_bytes": leg.in_flight_bytes,
        "lag_bytes": strand.missing_bytes if leg.ended is None else 0,
        "lag_seconds": round(leg.lag_seconds(now), 3),
        "consumed_bytes": leg.consumed_bytes,
        "retransmits": leg.retransmits,
        "timeouts": leg.timeouts,
        "rtt_seconds": leg.rtt_seconds,
    }
