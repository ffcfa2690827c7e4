"""The decision on a packet that the C gear punts: find its flow, track it, rewrite it, hand it to mirroring.

========== ======================= ================================================================================
hook       packet                  action
========== ======================= ================================================================================
PREROUTING client to service       destination becomes the backend; the legs get the data too
PREROUTING client to backend       dropped if it belongs to a flow, for its copies would lack it; else it passes
PREROUTING mirror to client        to a leg: consumed; to no leg: reset, or passes if the mirror is a backend too
FORWARD    backend to client       source becomes the service
FORWARD,   service to client       of a service without a pool: tracked, passes
OUTPUT
any        ICMP error              about a leg: consumed; about a NATed connection: translated
========== ======================= ================================================================================

A packet, step by step. The client 10.10.0.11:40001 sends 5 bytes, "hello", to the service 10.10.0.100:6653. Since its
SYN the connection has been bound to the backend 10.20.0.11:6653. The mirror 10.20.0.13:6653 gets a copy of its data:

1. **Find.** decide() parses the packet. It is a client's, because its hook is PREROUTING, its destination is a service
and its source lies in a client network. nat/flows finds the flow by the two endpoints. If there is none, the connection
is picked up here, with the client's derived backend. 2. **Track.** tcp/tracker updates the flow's state by the
segment's flags and numbers, and nat/flows sets its deadline. 3. **Rewrite.** net/build replaces the destination by
10.20.0.11:6653 and updates both checksums. The result is the verdict, Accept(packet). Mirroring gets the packet only
afterwards, so a fault there does not change the verdict. 4. **Hand on.** Mirroring gets the segment through
mirror/guarded, which lets no exception out. It adds a packet for 10.20.0.13 to Outgoing, and decide() returns
Decision(verdict, [that packet]).

The backend's reply takes the same four steps in the other direction: its flow is found by 10.20.0.11:6653 and the
client, and its source becomes 10.10.0.100:6653. The mirror's acknowledgement belongs to no flow of production: its leg
is found (engine/mirror_packets), gets it, and the packet is dropped.
"""

from natmirror.actions import Accept, Decision, Drop, Hook, Verdict
from natmirror.engine.counters import Counters, EngineCounter
from natmirror.engine.failover import Failover
from natmirror.engine.icmp_errors import IcmpErrors
from natmirror.engine.mirror_packets import MirrorPackets
from natmirror.fastpath.flow_flags import (
    awaits_reply,
    has_reader,
    has_silent_client,
    has_takers,
    is_ambiguous,
    is_killed,
    is_loose,
    is_service_mirrored,
    is_throttled,
    is_unconfirmed,
    is_watched,
    set_ambiguous,
    strips_mptcp,
)
from natmirror.fastpath.flow_states import Event, State
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.mirror.outgoing import Outgoing
from natmirror.nat.client_syn import client_syn
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.new_connections import NewConnections, Opening
from natmirror.nat.services import ServiceTable
from natmirror.net.build import rewrite
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, FIN, RST, SYN, URG, Datagram, Malformed, Segment, parse
from natmirror.reasons import DropReason, EndedBy
from natmirror.rules import Backend, Service
from natmirror.tcp.acceptance import agrees
from natmirror.tcp.breaks import note_arrival
from natmirror.tcp.following import Follow
from natmirror.tcp.syns import repeats_answer


class Forwarding:
    """The part of an engine that decides on every packet that C punts."""

    def __init__(
        self,
        services: ServiceTable,
        nat: Nat,
        new_connections: NewConnections,
        mirror_packets: MirrorPackets,
        mirroring: GuardedMirroring,
        failover: Failover,
        icmp_errors: IcmpErrors,
        outgoing: Outgoing,
        counters: Counters,
        follow: Follow,
    ) -> None:
        self._services = services
        self._nat = nat
        self._new_connections = new_connections
        self._mirror_packets = mirror_packets
        self._mirroring = mirroring
        self._failover = failover
        self._icmp_errors = icmp_errors
        self._outgoing = outgoing
        self._counters = counters
        self._follow = follow

    def decide(self, packet: bytes, hook: Hook, now: float, checksum: Checksum) -> Decision:
        """Return the decision on a packet, given from its IP header on."""
        self._mirroring.set_time(now)
        try:
            parsed = parse(packet, checksum)
        except Malformed as malformed:
            return Decision(self._drop(malformed.reason), [])
        if isinstance(parsed, Datagram):
            verdict = self._icmp_errors.receive(parsed, to_service=hook is Hook.PREROUTING)
        elif hook is not Hook.PREROUTING:
            verdict = self._from_backend(parsed, now)
        elif (service := self._services.at((parsed.dst, parsed.dport))) and (
            parsed.src in self._services.clients or self._has_flow(parsed)
        ):
            verdict = self._from_client(parsed, service, now)
        elif self._mirror_packets.is_for_leg(parsed):
            verdict = self._mirror_packets.receive(parsed, now)
        elif self._nat.is_past_service((parsed.dst, parsed.dport), (parsed.src, parsed.sport)):
            verdict = self._drop(DropReason.PAST_SERVICE)
        else:
            verdict = Accept()
        return Decision(verdict, self._outgoing.drain())

    def _has_flow(self, segment: Segment) -> bool:
        """Return whether a packet to a service has a flow. A client that a reload removed keeps its flows at first."""
        return self._nat.find_orig((segment.src, segment.sport), (segment.dst, segment.dport)) is not None

    # From a client

    def _from_client(self, segment: Segment, service: Service, now: float) -> Verdict:
        """Return the verdict on a packet from a client to a service."""
        # 1. Find the flow. A RST answers packets of a killed one, until the client opens a new connection.
        is_syn = segment.flags & (SYN | ACK | RST) == SYN
        is_vain = is_syn and segment.ttl <= 1 and service.pool is not None  # the kernel will drop it
        flow = self._nat.find_orig((segment.src, segment.sport), (segment.dst, segment.dport))
        if flow is not None and is_killed(flow.row) and not is_vain:
            if not is_syn:
                self._nat.touch(flow, now, moved=False)
                return self._failover.answer_killed(segment)
            self._nat.forget(flow)
            flow = None
        if not segment.checksum_ok():  # the backend will drop it, so it changes no state here
            if flow is None:
                return self._without_flow(segment, service, EngineCounter.BAD_CHECKSUM_PACKETS)
            self._counters.count(EngineCounter.BAD_CHECKSUM_PACKETS)
            return self._to_backend(segment, service, flow)
        if is_vain and flow is not None:
            return self._to_backend(segment, service, flow)
        if is_syn and not is_vain:
            return self._from_client_syn(segment, service, flow, now)
        if flow is None and segment.payload_len and not segment.flags & (SYN | RST):
            flow = self._pick_up_by_client(segment, service, now)
        elif flow is not None and is_loose(flow.row) and self._is_for_another_backend(flow, segment):
            flow = None
        if flow is None:
            return self._without_flow(segment, service, EngineCounter.PACKETS_WITHOUT_FLOW)

        # 2. Track it.
        event, taken = self._track(flow, segment, now, from_client=True)

        # 3. Rewrite it.
        verdict = self._to_backend(segment, service, flow)

        # 4. Hand the segment to mirroring, unless it is a bare acknowledgement. The C gear does the same.
        if is_service_mirrored(flow.row):
            self._hand_on(flow, segment, event, taken, now)
            self._hand_on_end(flow, event, now, from_client=True)
        return verdict

    def _hand_on(self, flow: Flow, segment: Segment, event: Event | None, taken: bool, now: float) -> None:
        """Hand a client's segment on to mirroring; ``event`` is what it has changed, ``taken`` whether its backend
        takes it."""
        is_opening, count = event is Event.HANDSHAKE or flow.row.state < State.ESTABLISHED, segment.payload_len
        if taken and count:
            self._hand_on_mptcp(flow, segment, from_client=True, is_opening=is_opening)
        if event is Event.HANDSHAKE:
            self._mirroring.open(self._nat.keep_object(flow), endpoint_of(flow.backend or flow.service), now)
            flow.forget_syn_data()
        if flow.row.state == State.SYN_SENT and is_watched(flow.row) and count and flow.service.mirrors:
            self._mirroring.unanswered(self._nat.keep_object(flow), count)
        elif taken and (count or segment.flags & (FIN | URG)):
            self._mirroring.feed(flow, segment, now)

    def _from_client_syn(self, segment: Segment, service: Service, flow: Flow | None, now: float) -> Verdict:
        """Return the verdict on a SYN: of a new connection, repeated, or inside an established connection."""
        # 1. Find the flow that it belongs to, if any, and 2. track it.
        syn = client_syn(segment, keeps_data=is_service_mirrored(flow.row)) if flow is not None else None
        if flow and syn and not has_silent_client(flow.row) and self._nat.await_new_syn(flow, syn, now):
            # The backend decides: it challenges the SYN (RFC 5961 §4), or accepts it. See _follow_new_syn().
            if flow.new_syn is not syn and not flow.is_first_syn(segment):
                return self._drop(DropReason.OVER_LIMIT)
            flow.row.orig.packets += 1
            return self._to_backend(segment, service, flow)
        again = flow is not None and flow.is_first_syn(segment) and flow.state in (State.SYN_SENT, State.SYN_RECEIVED)
        if flow is not None and again:
            if not self._nat.is_unanswered(flow, now):
                self._nat.note_repeated_syn(flow, segment)
                self._follow(flow.row, segment, True)
                self._nat.touch(flow, now)
                return self._to_backend(segment, service, flow)
            self._counters.count(EngineCounter.SYNS_UNANSWERED)
        backend, opening = self._new_connections.choose(service, (segment.src, segment.sport), now, again=again)
        if opening not in (Opening.TO_BACKEND, Opening.WATCHED):
            return self._failover.refuse(segment, opening)
        flow = self._nat.open(service, backend, segment, now)
        if flow is None:
            return self._without_flow(segment, service, EngineCounter.FLOWS_UNTRACKED)
        self._counters.count(EngineCounter.FLOWS_OPENED)
        # 3. Rewrite it. 4. Nothing to hand on: mirrors get nothing before the handshake is complete.
        return self._to_backend(segment, service, flow)

    def _is_for_another_backend(self, flow: Flow, segment: Segment) -> bool:
        """Return whether only a backend says that it has this connection, and a client's packet does not confirm it:
        then that goes to the client's derived backend. The flow stays, for an attacker may have sent the packet."""
        if flow.backend is None or not has_silent_client(flow.row) or agrees(flow.row.reply, segment):
            return False
        return flow.backend != self._services.derived_backend(flow.service, flow.client)

    def _pick_up_by_client(self, segment: Segment, service: Service, now: float) -> Flow | None:
        """Return a flow for a client's data; None if the table is full, or if they are past another flow's service."""
        client = (segment.src, segment.sport)
        if self._nat.is_past_service(self._services.derived_endpoint(service, client), client, may_pick_up=True):
            return None
        backend = None if service.pool is None else self._services.derived_backend(service, client)
        return self._pick_up(service, client, backend, now)

    def _without_flow(self, segment: Segment, service: Service, counter: EngineCounter) -> Verdict:
        """Return the verdict on a client's packet without a flow: it passes to the client's derived backend and is
        counted, unless it is past another flow's service. Its bytes reach no mirror."""
        client = (segment.src, segment.sport)
        if self._nat.is_past_service(self._services.derived_endpoint(service, client), client):
            return self._drop(DropReason.PAST_SERVICE)
        self._counters.count(counter)
        is_read = counter is not EngineCounter.BAD_CHECKSUM_PACKETS and (segment.ttl > 1 or service.pool is None)
        if segment.payload_len and not segment.flags & RST and is_read:
            self._mirroring.untracked(service, segment.payload_len)
        return self._to_backend(segment, service, None)

    def _to_backend(self, segment: Segment, service: Service, flow: Flow | None) -> Verdict:
        """Return the packet with the flow's backend as its destination; without a flow, the client's derived
        backend."""
        if service.pool is None:
            return Accept()
        backend = flow.backend if flow is not None else None
        backend = backend or self._services.derived_backend(service, (segment.src, segment.sport))
        strips = segment.flags & SYN and _strips_mptcp(service, flow)
        return Accept(rewrite(segment, destination=endpoint_of(backend), strips_mptcp=bool(strips)))

    # From a backend

    def _from_backend(self, segment: Segment, now: float) -> Verdict:
        """Return the verdict on a packet at FORWARD or OUTPUT: perhaps a backend's, or of a service without a pool."""
        # 1. Find the flow.
        source, client = (segment.src, segment.sport), (segment.dst, segment.dport)
        flow = self._nat.find_reply(source, client)
        if flow is None:
            return self._unbound_reply(segment, source, client, now)
        if is_killed(flow.row):
            return self._failover.answer_killed(segment)
        if flow.is_direct:
            self._nat.track_direct_reply(flow, segment, now)
            return Accept()
        if not segment.checksum_ok():
            self._counters.count(EngineCounter.BAD_CHECKSUM_PACKETS)
            return self._to_client(segment, flow.service, flow)
        flow = self._follow_new_syn(flow, segment, now)

        # 2. Track it.
        was_unanswered = flow.row.state == State.SYN_SENT
        event, taken = self._track(flow, segment, now, from_client=False)
        if event is Event.SYN_ACK:
            self._nat.note_accepted(flow)
        elif event is Event.RST and was_unanswered:
            self._nat.note_refused(flow, now)
            self._counters.count(EngineCounter.SYNS_REFUSED)

        # 3. Rewrite it.
        verdict = self._to_client(segment, flow.service, flow)

        # 4. Hand it to mirroring. Mirrors may wait for it, and one that is behind may narrow the client's window.
        if taken and segment.payload_len:
            self._hand_on_mptcp(flow, segment, from_client=False, is_opening=flow.row.state < State.ESTABLISHED)
        if segment.flags & SYN and is_ambiguous(flow.row):
            self._mirroring.became_ambiguous(flow)
        if event is Event.SYN_ACK and flow.service.throttles:
            self._mirroring.accepted(self._nat.keep_object(flow))
        if awaits_reply(flow.row):
            self._mirroring.acknowledged(flow, now)
        if has_reader(flow.row) and taken and segment.seq_len:
            self._mirroring.feed_replies(flow, segment)
        self._hand_on_end(flow, event, now, from_client=False)
        if is_throttled(flow.row):
            window = self._mirroring.throttled_window(flow, segment)
            if window != segment.window:
                verdict = self._to_client(segment, flow.service, flow, window)
        return verdict

    def _follow_new_syn(self, flow: Flow, segment: Segment, now: float) -> Flow:
        """Return the flow of the new connection, if this is the backend's SYN-ACK to a SYN with another number than the
        flow's; else the flow as it is."""
        syn = flow.new_syn
        if syn is None or segment.flags & (SYN | ACK | RST) != SYN | ACK or repeats_answer(flow.row, segment):
            return flow
        if not flow.accepts_new_syn(segment):
            if flow.accepts_former_syn(segment):
                set_ambiguous(flow.row)
            return flow
        self._mirroring.flow_reset(flow, now)
        self._counters.count(EngineCounter.FLOWS_OPENED)
        return self._nat.reopen(flow, syn, now)

    def _unbound_reply(self, segment: Segment, source: Endpoint, client: Endpoint, now: float) -> Verdict:
        """Return the verdict on a packet to a client for which there is no flow: a backend's, or any other host's."""
        # 1. Find the service whose address the client expects.
        services = self._services.services_of(source)
        if not services or client[0] not in self._services.clients:
            return Accept()
        is_syn_ack = segment.flags & (SYN | ACK) == SYN | ACK
        is_answer = is_syn_ack and not segment.flags & RST and len(services) == 1
        if is_answer and self._nat.is_crowded(now) and not self._nat.find_orig(client, endpoint_of(services[0])):
            # It most likely answers a SYN whose flow was evicted or found no room: translate it, or the client would
            # repeat its SYN and might get another backend.
            self._counters.count(EngineCounter.PACKETS_WITHOUT_FLOW)
            return self._to_client(segment, services[0], None)
        if is_syn_ack:
            # No SYN to this backend passed here: the client connected to the backend directly.
            self._counters.count(EngineCounter.DIRECT_CONNECTIONS)
            self._nat.open_direct(services[0], source, client, now)
            return Accept()
        if len(services) > 1:
            return self._drop(DropReason.AMBIGUOUS_REPLY)
        service = services[0]
        bound = self._nat.find_orig(client, endpoint_of(service))
        if bound is not None and not is_unconfirmed(bound.row):
            # The client's port now has a connection with another backend: this packet belongs to an older connection.
            return self._drop(DropReason.FORMER_BACKEND)
        flow = None
        if segment.payload_len and not segment.flags & RST and segment.checksum_ok():
            # Assume that the sender is the backend of this connection, until the client or another backend speaks.
            flow = self._pick_up(service, client, self._services.backend_at(service, source), now)
        else:
            self._counters.count(EngineCounter.PACKETS_WITHOUT_FLOW)

        # 2. Track it.
        taken = flow is not None and self._follow(flow.row, segment, False)[1]

        # 3. Rewrite it.
        verdict = self._to_client(segment, service, flow)

        # 4. Hand it on.
        if flow is not None and taken:
            self._hand_on_mptcp(flow, segment, from_client=False, is_opening=False)
            if has_reader(flow.row):
                self._mirroring.feed_replies(flow, segment)
        return verdict

    def _to_client(self, segment: Segment, service: Service, flow: Flow | None, window: int | None = None) -> Verdict:
        """Return the packet with the service as its source, and with this window field if one is given."""
        if service.pool is None:
            return Accept()
        strips = segment.flags & SYN and _strips_mptcp(service, flow)
        return Accept(rewrite(segment, source=endpoint_of(service), window=window, strips_mptcp=bool(strips)))

    # For all of them

    def _track(self, flow: Flow, segment: Segment, now: float, *, from_client: bool) -> tuple[Event | None, bool]:
        """Update a flow's state and deadline by a segment whose checksum is right. Return the event that changed the
        state, or None, and whether the segment's receiver takes it; False for a SYN or RST. A RST that its receiver
        ignores refreshes nothing (RFC 7857 §7)."""
        note_arrival(flow.row, now)
        event, taken = self._follow(flow.row, segment, from_client)
        if event is not None or not segment.flags & RST:
            self._nat.touch(flow, now, moved=event is not None)
        return event, taken

    def _pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        flow = self._failover.pick_up(service, client, backend, now)
        self._counters.count(EngineCounter.FLOWS_PICKED_UP if flow else EngineCounter.FLOWS_UNTRACKED)
        return flow

    def _hand_on_mptcp(self, flow: Flow, segment: Segment, *, from_client: bool, is_opening: bool) -> None:
        """Hand on that a flow belongs to an MPTCP connection, if data that its receiver takes shows that (RFC 8684
        §3.7: the first data of each direction have an option) while it has copies or sessions, or is opening."""
        if is_service_mirrored(flow.row) and (is_opening or has_takers(flow.row)) and segment.mptcp():
            self._mirroring.showed_mptcp(flow, segment, from_client=from_client)

    def _hand_on_end(self, flow: Flow, event: Event | None, now: float, *, from_client: bool) -> None:
        if event is Event.RST:
            self._mirroring.flow_reset(flow, now, EndedBy.CLIENT if from_client else EndedBy.BACKEND)
        elif event is Event.LAST_ACK:
            self._mirroring.flow_closed(flow, now)

    def _drop(self, reason: DropReason) -> Drop:
        self._counters.drop(reason)
        return Drop(reason)


def _strips_mptcp(service: Service, flow: Flow | None) -> bool:
    """Return whether a SYN leaves without MP_CAPABLE, so that client and backend use plain TCP. A flow keeps what the
    rules said when it began."""
    return service.strips_mptcp if flow is None else strips_mptcp(flow.row)
