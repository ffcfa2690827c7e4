"""Resets connections whose backend has failed, releases those that another host forwards, refuses clients if no backend
is open.

Theory. A receiver accepts a RST only at exactly the number that it expects next. It challenges a RST elsewhere inside
its window with an acknowledgement that carries the expected number (RFC 5961 §3.2). So natmirror resets a connection
at both ends, at the highest numbers that were forwarded to each, and answers a later packet with a RST at the number
that the packet acknowledges.
"""

from collections.abc import Iterable

from natmirror.actions import Accept, Drop, Send, Verdict
from natmirror.engine.counters import Counters, EngineCounter
from natmirror.fastpath.flow_flags import is_end_known, is_guest, is_killed, is_pinned, set_killed, vouch_for
from natmirror.fastpath.flow_states import IS_OPEN, State
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.mirror.outgoing import Outgoing
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.new_connections import Opening
from natmirror.net.build import build_reset, synthesise
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, RST, Segment
from natmirror.reasons import DropReason
from natmirror.rules import Backend, Service

_REASONS = {
    Opening.PAST_SERVICE: DropReason.PAST_SERVICE,
    Opening.CLIENT_FULL: DropReason.CLIENT_MAX_CONNECTIONS,
    Opening.CLIENT_TOO_FAST: DropReason.CLIENT_NEW_CONNECTIONS,
}


class Failover:
    """The part of an engine that resets, releases and picks up connections."""

    def __init__(self, nat: Nat, mirroring: GuardedMirroring, outgoing: Outgoing, counters: Counters) -> None:
        self._nat = nat
        self._mirroring = mirroring
        self._outgoing = outgoing
        self._counters = counters

    def kill(self, flows: Iterable[Flow], now: float) -> None:
        """Reset these flows at both ends, if they are open. Flows of services without a pool are only forgotten."""
        for flow in flows:
            if flow.service.pool is None:
                self._nat.forget(flow)
                continue
            if flow.state >= State.TIME_WAIT or flow.backend is None:
                continue
            self._counters.count(EngineCounter.FLOWS_RESET)
            self._reset_ends(flow, flow.backend)
            self._mirroring.flow_reset(flow, now)
            flow.row.state = State.RESET
            set_killed(flow.row)
            self._nat.touch(flow, now)

    def expel(self, flows: Iterable[Flow], now: float) -> None:
        """Reset these flows, whose clients the rules no longer name. Guests and standby flows are forgotten: the
        host that forwards them resets them."""
        for flow in flows:
            if is_guest(flow.row) or self._mirroring.is_standby(flow):
                self._nat.forget(flow)
            else:
                self.kill([flow], now)

    def repeat_resets(self, flows: Iterable[Flow]) -> None:
        """Send the RSTs of killed flows again: nothing acknowledges a RST, so a lost one goes unnoticed."""
        for flow in flows:
            if is_killed(flow.row) and flow.backend is not None:
                self._reset_ends(flow, flow.backend)

    def _reset_ends(self, flow: Flow, backend: Backend) -> None:
        orig, reply = flow.row.orig, flow.row.reply
        if not is_end_known(orig) or not is_end_known(reply):
            return  # the next number is not known: each end is reset when it sends a packet
        here, there = endpoint_of(flow.service), endpoint_of(backend)
        for ends, seq, ack in (((here, flow.client), reply.end, orig.end), ((flow.client, there), orig.end, reply.end)):
            self._outgoing.add([Send(synthesise(*ends, seq=seq, ack=ack, flags=RST | ACK, window=0))])

    def release(self, ids: Iterable[int], now: float) -> None:
        """Release these flows to another host, which forwards their packets from now on: end their legs. If their
        packets come here again, their numbers have moved on, so the connections are picked up; pinned bindings stay."""
        for flow in self._nat.by_ids(ids):
            if flow.is_direct or is_killed(flow.row):
                continue
            self._counters.count(EngineCounter.FLOWS_RELEASED)
            self._mirroring.release_flow(flow)
            client, service, backend, state = flow.client, flow.service, flow.backend, flow.state
            self._nat.forget(flow)
            if state in IS_OPEN:
                self._keep_pinned(self.pick_up(service, client, backend, now), now)

    def _keep_pinned(self, flow: Flow | None, now: float) -> None:
        """Mark a pinned binding as established: it is as certain as it was before the release."""
        if flow is not None and is_pinned(flow.row):
            vouch_for(flow.row)
            self._nat.touch(flow, now)

    def pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        """Return a flow for a connection that is picked up, and mirror it; None if the table is full."""
        flow = self._nat.pick_up(service, client, backend, now)
        if flow is not None and flow.service.mirrors:
            self._mirroring.picked_up(self._nat.keep_object(flow), None if backend is None else endpoint_of(backend))
        return flow

    def answer_killed(self, segment: Segment) -> Verdict:
        """Drop a packet of a killed flow, and reset its sender, which did not get our first RST or challenges it."""
        if not segment.flags & RST:
            self._outgoing.add([Send(build_reset(segment))])
        self._counters.drop(DropReason.FLOW_RESET)
        return Drop(DropReason.FLOW_RESET)

    def refuse(self, syn: Segment, opening: Opening) -> Verdict:
        """Return the verdict on a SYN that opens no flow, and reset its client if the rules say so."""
        if opening is Opening.NO_CLIENT:
            return Accept()
        if opening in (Opening.REFUSED, Opening.CLIENT_FULL):
            self._outgoing.add([Send(build_reset(syn))])
        reason = _REASONS.get(opening, DropReason.NO_BACKEND)
        self._counters.drop(reason)
        return Drop(reason)
