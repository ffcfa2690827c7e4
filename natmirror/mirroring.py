"""Between production and the legs: each mirrored flow's byte stream, given to a leg for each of its mirrors."""

from collections.abc import Callable
from typing import Any

from natmirror import seq
from natmirror.actions import LegEnded, Send
from natmirror.fastpath import GAPPED, HELD, MIRRORED, NO_FLOW, READ, REPLY_GAPPED, WAITING, Gear, Memory
from natmirror.ledger import MID_CONNECTION, OWN_BACKEND, Ledger, MirroredFlow, Strand, Tap
from natmirror.legs import Legs
from natmirror.legstate import LegState
from natmirror.mirror import Leg
from natmirror.packet import ACK, RST, SYN, Endpoint, Segment, endpoint_of, show, synthesise
from natmirror.reading import Kind, Reading
from natmirror.rules import Mirror, Service
from natmirror.selection import unwanted
from natmirror.shadow import Shadow
from natmirror.shadowing import Shadowing
from natmirror.stream import Reassembler
from natmirror.tcp import HALF_ACK, HALF_FIN, is_taken
from natmirror.throttle import Throttle
from natmirror.timers import AT_ONCE, Timers


class Mirroring:
    """The streams of all flows with mirrors, and the legs that carry them."""

    def __init__(
        self,
        gear: Gear,
        memory: Memory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        shadowing: Shadowing,
        reading: Reading,
    ) -> None:
        self._memory = memory
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._shadowing = shadowing
        self._reading = reading
        self._gear = gear
        self._taps: dict[MirroredFlow, Tap] = {}
        self._throttles: dict[MirroredFlow, Throttle] = {}
        self._events: list[LegEnded] = []

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        events, self._events = self._events, []
        return events + self._shadowing.take_events()

    # What production does

    def accepted(self, flow: MirroredFlow) -> None:
        """The backend has accepted the connection: from here on the client is shown no more than throttling legs have
        room for."""
        if flow.picked_up:
            return
        buffers = [mirror.buffer for mirror in flow.service.mirrors if mirror.throttles]
        if buffers and any(not unwanted(mirror, flow.client[0]) for mirror in flow.service.mirrors if mirror.throttles):
            first = seq.add(flow.row.iss, 1)
            self._throttles[flow] = Throttle(seq.add(first, min(buffers)), min(buffers))
            flow.row.flags |= HELD

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        """The client's handshake is complete: call each mirror, but one that is the connection's own backend or does
        not want this client."""
        if flow.picked_up or not flow.service.mirrors:
            return
        first = seq.add(flow.row.iss, 1)
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        tap = Tap(flow, Reassembler(flow.row, "orig", first, max_waiting, self._memory), self)
        self._taps[flow] = tap
        for mirror in flow.service.copies:
            strand = Strand(mirror, tap)
            tap.strands = (*tap.strands, strand)
            strand.absent = OWN_BACKEND if endpoint_of(mirror) == backend else unwanted(mirror, flow.client[0])
            if strand.absent is None:
                self._open_leg(strand, flow.row.iss, now)
        if tap.alive():
            flow.row.flags |= MIRRORED
        if self._shadowing.opened(flow, backend):
            tap.replies = Reassembler(flow.row, "reply", flow.row.orig.ack, max_waiting, self._memory)
            flow.row.flags |= READ
        flow.row.account = self._ledger.account(tap)
        self._hold(tap)
        if flow.syn_data:
            taken = seq.diff(flow.row.reply.ack, first)  # a backend may have left a SYN's data alone (RFC 7413 §4.2.2)
            self._feed(tap, first, flow.syn_data[: max(taken, 0)], now)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> None:
        """A connection was met in its middle: no copy can begin there, but its bytes count as lost; a session can."""
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        tap = Tap(flow, Reassembler(flow.row, "orig", None, max_waiting, self._memory), self)
        tap.strands = tuple(Strand(mirror, tap, absent=MID_CONNECTION) for mirror in flow.service.copies)
        self._taps[flow] = tap
        if self._shadowing.opened(flow, backend):
            tap.replies = Reassembler(flow.row, "reply", None, max_waiting, self._memory)
            flow.row.flags |= READ | GAPPED | REPLY_GAPPED
        flow.row.account = self._ledger.account(tap)

    def untracked(self, service: Service, count: int) -> None:
        """The flow table was full when a client sent ``count`` bytes: they count as lost."""
        self._ledger.untracked(service, count)

    def throttled_window(self, flow: MirroredFlow, segment: Segment) -> int:
        """The window field that the client is to see in a segment of its backend's."""
        throttle = self._throttles.get(flow)
        if throttle is None:
            return segment.window
        window = throttle.window(segment, flow.row.reply.scale)
        if (tap := self._taps.get(flow)) is not None:
            self._mark_waiting(tap, throttle)
        return window

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """A segment of the client's with a right checksum, which the tracker has seen before."""
        tap = self._taps.get(flow)
        if tap is None or segment.flags & (SYN | RST) or not is_taken(flow.row.reply, segment, loose=flow.picked_up):
            return
        if not tap.reassembler.is_placed:
            tap.reassembler.place(segment.seq)
        self._feed(tap, segment.seq, segment.payload, now)

    def unread(self, flow: MirroredFlow) -> None:
        """Nobody reads the flow any more."""
        tap, row = self._taps.get(flow), flow.row
        row.flags &= ~(READ | REPLY_GAPPED)
        if tap is None or tap.replies is None:
            return
        tap.replies.clear()
        if not tap.alive():
            row.flags &= ~(WAITING | GAPPED)
            tap.reassembler.clear()

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        """The same for a segment of the backend's, where somebody reads it."""
        tap = self._taps.get(flow)
        if tap is None or tap.replies is None or segment.flags & (SYN | RST):
            return
        row, replies = flow.row, tap.replies
        if not row.flags & READ or not is_taken(row.orig, segment, loose=flow.picked_up):
            return
        if not replies.is_placed:
            replies.place(segment.seq)
        edge = seq.latest(row.orig.edge, row.orig.ack)
        if flow.picked_up:  # nobody knows how wide its window is
            edge = seq.latest(edge, seq.add(segment.seq, segment.payload_len))
        data = replies.push(segment.seq, segment.payload, edge)
        if data:
            self._reading.add(Kind.REPLY, row.id, data)
        if row.orig.flags & HALF_ACK and seq.lt(replies.next, row.orig.ack):
            self._reading.add(Kind.REPLY_LOST, row.id)
            if data := replies.restart(row.orig.ack, edge):
                self._reading.add(Kind.REPLY, row.id, data)
        row.flags = row.flags & ~REPLY_GAPPED | (REPLY_GAPPED if replies.waiting_bytes else 0)

    def window_moved(self, flow: MirroredFlow, now: float) -> None:
        """The backend has spoken, and may take now what waited for its window."""
        if (tap := self._taps.get(flow)) is not None:
            self._feed(tap, tap.reassembler.next, b"", now)

    def _feed(self, tap: Tap, at: int, payload: bytes, now: float) -> None:
        """Bytes of the client's from number ``at`` on: what is in order goes to the legs."""
        row, reassembler = tap.flow.row, tap.reassembler
        is_read = bool(row.flags & READ)
        if tap.finished or not (tap.alive() or is_read):
            return
        fin_seq = seq.add(row.orig.end, -1) if row.orig.flags & HALF_FIN else None
        if fin_seq is not None:
            payload = payload[: max(seq.diff(fin_seq, at), 0)]  # nothing follows a FIN
        edge = seq.latest(row.reply.edge, row.reply.ack)
        if tap.flow.picked_up:  # nobody knows how wide its window is
            edge = seq.latest(edge, seq.add(at, len(payload)))
        data = reassembler.push(at, payload, edge)
        row.flags &= ~(WAITING | GAPPED)
        row.flags |= (WAITING if reassembler.blocked else 0) | (GAPPED if reassembler.waiting_bytes else 0)
        if data:
            self._each(tap, lambda leg: leg.write(data, now))
            if is_read:
                self._reading.add(Kind.ORIG, row.id, data)
        acked = fin_seq if fin_seq is not None and row.reply.ack == row.orig.end else row.reply.ack
        if row.reply.flags & HALF_ACK and seq.lt(reassembler.next, acked):
            # The backend has what never passed here, or found no room, so the client will not send it again.
            reason = "memory-full" if reassembler.starved else "hole"
            self._each(tap, lambda leg: leg.abort(reason))
            if is_read:
                self._reading.add(Kind.ORIG_LOST, row.id)
                if data := reassembler.restart(acked, edge):
                    self._reading.add(Kind.ORIG, row.id, data)
                row.flags &= ~(WAITING | GAPPED)
                row.flags |= GAPPED if reassembler.waiting_bytes else 0
        if fin_seq == reassembler.next:
            tap.finished = True
            self._each(tap, lambda leg: leg.finish(now))
            if is_read:
                self._reading.add(Kind.FINISHED, row.id)

    def flow_reset(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection was reset."""
        self.window_moved(flow, now)
        self._flow_over(flow, now, lambda leg: leg.reset(now))
        if (tap := self._taps.get(flow)) is not None and tap.replies is not None:
            self._reading.add(Kind.RESET, flow.row.id)

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection has closed in order: the backend has everything, so whoever lacks something has a
        hole."""
        self.window_moved(flow, now)
        tap = self._taps.get(flow)
        complete = tap is not None and tap.finished
        self._flow_over(flow, now, lambda leg: leg.finish(now) if complete else leg.abort("hole"))
        if tap is not None and tap.replies is not None:
            self._reading.add(Kind.FINISHED, flow.row.id)

    def handed_over(self, flow: MirroredFlow) -> None:
        """Another host passes the connection from here on: no leg of ours gets the rest of it."""
        if (tap := self._taps.get(flow)) is not None:
            self._each(tap, lambda leg: leg.abort("handed-over"))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """The flow leaves the table, and its numbers with it; legs that were not told of its end are cut."""
        self._release(flow)
        tap = self._taps.get(flow)
        if tap is None:
            return
        if not tap.flow_over:
            self._each(tap, lambda leg: leg.abort("flow-expired"))
        self._shadowing.forgotten(flow)
        tap.reassembler.clear()
        if tap.replies is not None:
            tap.replies.clear()
        del self._taps[flow]
        tap.final_bytes = tap.client_bytes
        for _, leg in tap.alive():
            leg.row.flow_id, leg.row.client_bytes = NO_FLOW, tap.final_bytes
        for strand in tap.strands:
            self._ledger.flow_forgotten(strand)
        tap.strands = ()  # no circle is left for a collector of garbage

    def _open_leg(self, strand: Strand, iss: int, now: float) -> None:
        made = self._legs.make(strand, strand.tap.flow.client, iss, now)
        if isinstance(made, str):
            strand.absent = made
            return
        strand.leg = made
        self._ledger.of(strand).opened += 1
        made.row.flow_id = strand.tap.flow.row.id
        made.row.mirror_id = self._ledger.number(strand)
        self._link(strand.tap)
        self._legs.settle(strand, made, made.open(now))

    def _flow_over(self, flow: MirroredFlow, now: float, do: Callable[[Leg], list[bytes]]) -> None:
        tap = self._taps.get(flow)
        if tap is None or tap.flow_over:
            return
        tap.flow_over = True

        def end(leg: Leg) -> list[bytes]:
            leg.client_gone(now)
            return do(leg)

        self._each(tap, end)

    # Housekeeping

    def _each(self, tap: Tap, do: Callable[[Leg], list[bytes]]) -> None:
        for strand, leg in tap.alive():
            self._legs.settle(strand, leg, do(leg))

    def _link(self, tap: Tap) -> None:
        """Tell the C gear which legs the flow has."""
        if tap.final_bytes is None:
            self._gear.legs.link(tap.flow.row, [leg.row for _, leg in tap.alive()])

    def leg_ended(self, strand: Strand, leg: Leg, reason: str) -> None:
        """A strand's leg is over."""
        self._link(strand.tap)
        self._write_off(strand, leg, reason)

    def leg_moved(self, strand: Strand) -> None:
        """A strand's leg has done something."""
        if strand.mirror.throttles:
            self._hold(strand.tap)

    def _write_off(self, strand: Strand, leg: Leg, reason: str) -> None:
        tap = strand.tap
        self._ledger.leg_ended(strand, leg, reason)
        service, mirror = tap.flow.service.name, strand.mirror.name
        self._events.append(LegEnded(show(tap.flow.client), service, mirror, reason, tap.client_bytes, leg.acked_bytes))
        if tap.final_bytes is None and len(tap.strands) == len(tap.flow.service.copies):
            tap.flow.row.account = self._ledger.account(tap)
        if tap.final_bytes is None and not tap.alive():
            tap.flow.row.flags &= ~MIRRORED
            if not tap.flow.row.flags & READ:
                tap.flow.row.flags &= ~(WAITING | GAPPED)
                tap.reassembler.clear()

    def _hold(self, tap: Tap) -> None:
        """After a leg has moved: how far its client may send; if that is much further than it knows, tell it."""
        flow = tap.flow
        throttle = self._throttles.get(flow)
        if throttle is None or len(tap.strands) < len(flow.service.copies):
            return  # nothing to hold, or legs are still to be opened
        row = flow.row
        edges = [seq.add(leg.una, strand.mirror.buffer) for strand, leg in tap.alive() if strand.mirror.throttles]
        nearest = min(edges, key=lambda edge: seq.diff(edge, row.reply.ack)) if edges else row.reply.edge
        throttle.hold = seq.latest(throttle.hold, nearest)
        self._mark_waiting(tap, throttle)
        due = throttle.is_update_due(row.orig.end, row.reply.edge) and not tap.flow_over
        # Not now: packets of the same batch may tell the client more.
        self._timers.set(("window", flow), AT_ONCE if due else None)
        if not edges and not due:
            self._release(flow)

    def _mark_waiting(self, tap: Tap, throttle: Throttle) -> None:
        """Tell the legs that hold the client back whether it waits for them now."""
        row = tap.flow.row
        waits = throttle.is_used_up(row.orig.end, row.reply.edge) and not tap.flow_over
        for strand, leg in tap.alive():
            holds = strand.mirror.throttles and seq.le(seq.add(leg.una, strand.mirror.buffer), throttle.hold)
            if leg.client_waits != (waits and holds):
                leg.client_waits = waits and holds
                leg.hand_over()

    def tell_window(self, flow: MirroredFlow) -> None:
        """The client may send further than it knows: tell it, unless a packet of its backend's has done so."""
        throttle, reply = self._throttles[flow], flow.row.reply
        if throttle.is_update_due(flow.row.orig.end, reply.edge):
            window = throttle.cut(reply.ack, seq.diff(reply.edge, reply.ack) >> reply.scale, reply.scale)
            ends = (endpoint_of(flow.service), flow.client)
            numbers = {"seq": reply.end, "ack": reply.ack, "window": window}
            self._legs.send([Send(synthesise(*ends, flags=ACK, options=throttle.options(), **numbers))])
        tap = self._taps.get(flow)
        if tap is not None:
            self._mark_waiting(tap, throttle)
        if tap is None or not any(strand.mirror.throttles for strand, _ in tap.alive()):
            self._release(flow)

    def _release(self, flow: MirroredFlow) -> None:
        """No leg holds the client back any more."""
        if self._throttles.pop(flow, None) is not None:
            self._timers.set(("window", flow), None)
            flow.row.flags &= ~HELD

    # Reporting

    def legs_of(self, flow: MirroredFlow, now: float) -> list[dict[str, Any]]:
        """The flow's legs as plain values."""
        tap = self._taps.get(flow)
        strands = () if tap is None else tap.strands
        return [_shown(strand, strand.leg, now) for strand in strands if strand.leg is not None] + [
            _shown_session(shadow, now) for shadow in self._shadowing.shadows_of(flow.row.id)
        ]

    def lingering(self, now: float) -> list[dict[str, Any]]:
        """The legs that have outlived their flow, each as a flow that is gone, with its leg."""
        found = []
        for holder, leg in self._legs.holders():
            if isinstance(holder, Strand) and holder.tap.final_bytes is not None:
                found.append(_gone(holder.service_name, holder.tap.flow.client, _shown(holder, leg, now)))
            elif isinstance(holder, Shadow) and holder.connection.is_forgotten:
                found.append(_gone(holder.service_name, holder.connection.client, _shown_session(holder, now)))
        return found

    def mirrors(self, now: float) -> list[dict[str, Any]]:
        """Each mirror's ledger as plain values, living legs included."""
        shown, sums = self._ledger.show(self._gear, now), self._shadowing.sums()
        for entry in shown:
            entry["sessions"] = sums.get((entry["service"], entry["name"]), {})
        return shown

    def memory(self) -> dict[str, int]:
        """Bytes that are held back for mirrors, and how many may be."""
        return {"used_bytes": self._memory.used, "limit_bytes": self._memory.limit}


def _gone(service: str, client: Endpoint, leg: dict[str, Any]) -> dict[str, Any]:
    return {
        "service": service,
        "client": show(client),
        "backend": None,
        "state": "gone",
        "client_bytes": leg["client_bytes"],
        "legs": [leg],
    }


def _shown(strand: Strand, leg: Leg, now: float) -> dict[str, Any]:
    missing = strand.missing_bytes if leg.ended is None else 0
    return _shown_leg(strand.mirror, leg, strand.tap.client_bytes, missing, now)


def _shown_session(shadow: Shadow, now: float) -> dict[str, Any]:
    leg, session = shadow.leg, shadow.session
    if leg is None:
        waits = "waits to know the switch" if shadow.connection.is_picked_up else "waits for both HELLOs"
        why = shadow.absent or waits
        return {
            "mirror": shadow.mirror.name,
            "state": f"none: {why}",
            "session": None,
            **_NO_LEG,
        }
    shown = _shown_leg(shadow.mirror, leg, int(leg.row.client_bytes), leg.lag_bytes, now)
    return {**shown, "session": None if session is None else session.shown(), "unheard": shadow.unheard}


_NO_LEG = dict.fromkeys(
    (
        *("client_bytes", "sent_bytes", "acked_bytes", "in_flight_bytes", "lag_bytes", "lag_seconds"),
        *("consumed_bytes", "retransmits", "timeouts", "rtt_seconds"),
    ),
    0,
)


def _shown_leg(mirror: Mirror, leg: Leg, client_bytes: int, lag_bytes: int, now: float) -> dict[str, Any]:
    state = LegState(leg.state).name.lower().replace("_", "-")
    return {
        "mirror": mirror.name,
        "state": state if leg.ended is None else f"ended: {leg.ended}",
        "client_bytes": client_bytes,
        "sent_bytes": leg.sent_bytes,
        "acked_bytes": leg.acked_bytes,
        "in_flight_bytes": leg.in_flight_bytes,
        "lag_bytes": lag_bytes,
        "lag_seconds": round(leg.lag_seconds(now), 3),
        "consumed_bytes": leg.consumed_bytes,
        "retransmits": leg.retransmits,
        "timeouts": leg.timeouts,
        "rtt_seconds": leg.rtt_seconds,
    }
