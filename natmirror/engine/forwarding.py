"""What becomes of production's packets: those of clients to the services, and those of backends back to them.

The verdict, NAT and the tracker come first, then mirroring is told, through a door that lets no exception out
(guarded.py). What legs send because of it waits for ``legs.take_sends()``.
"""

from natmirror.actions import Accept, Decision, Drop, Verdict
from natmirror.engine.counters import Counters
from natmirror.engine.failover import Failover
from natmirror.fastpath.flow_flags import has_reader, is_aborted, is_held, is_past_window, is_service_mirrored
from natmirror.fastpath.flow_states import Event, State
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flows import Flow, Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.packet import ACK, RST, SYN, Checksum, Endpoint, Segment, endpoint_of, rewrite, segment_checksum_ok
from natmirror.rules import Backend, Service
from natmirror.tcp import tracker


class Forwarding:
    """The engine's part that production passes through. Each method gives the verdict, then what is to be sent."""

    def __init__(
        self, registry: ServiceTable, nat: Nat, mirroring: GuardedMirroring, failover: Failover, stats: Counters
    ) -> None:
        self._registry = registry
        self._nat = nat
        self._mirroring = mirroring
        self._failover = failover
        self._stats = stats

    # Packets of the client

    def from_client(self, segment: Segment, service: Service, checksum: Checksum, now: float) -> Decision:
        """A packet to a service from one of the networks of clients."""
        client = (segment.src, segment.sport)
        flow = self._nat.find_orig(client, endpoint_of(service))
        if flow is not None and is_aborted(flow.row):
            if segment.flags & (SYN | ACK | RST) != SYN:
                self._nat.touch(flow, now, moved=False)
                return self._failover.tell_again(segment)
            self._nat.forget(flow)
            flow = None
        if not segment_checksum_ok(segment, checksum):
            self._stats.count("bad_checksums")
            return Decision(self._to_backend(segment, service, flow, checksum), [])
        if segment.flags & (SYN | ACK | RST) == SYN:
            return self._client_syn(segment, service, flow, checksum, now)
        if flow is None and segment.payload_len and not segment.flags & (SYN | RST):
            backend = None if service.pool is None else self._registry.derived_backend(service, client)
            flow = self._pick_up(service, client, backend, now)
        if flow is None:
            self._stats.count("unbound_packets")
            self._count_untracked(segment, service)
            return Decision(self._to_backend(segment, service, None, checksum), [])
        verdict = self._to_backend(segment, service, flow, checksum)
        event = tracker.track(flow.row, segment, from_client=True, picked_up=flow.picked_up)
        self._nat.touch(flow, now, moved=event is not None)
        if event is Event.HANDSHAKE and is_service_mirrored(flow.row):
            self._mirroring.open(
                self._nat.know(flow), endpoint_of(service if flow.backend is None else flow.backend), now
            )
        if segment.seq_len:  # a bare acknowledgement is the C gear's, and may change nothing here that it does not
            self._mirroring.feed(flow, segment, now)
        self._tell_legs(flow, event, now)
        return Decision(verdict, [])

    def _client_syn(
        self, segment: Segment, service: Service, flow: Flow | None, checksum: Checksum, now: float
    ) -> Decision:
        if flow is not None and self._nat.await_new_syn(flow, segment, now):
            # Not ours to believe: the backend will challenge it (RFC 5961 §4) or accept it, and then we follow.
            flow.row.orig.packets += 1
            return Decision(self._to_backend(segment, service, flow, checksum), [])
        if flow is not None and flow.is_first_syn(segment) and flow.state in (State.SYN_SENT, State.SYN_RECEIVED):
            if not self._nat.is_unanswered(flow, now):
                tracker.track(flow.row, segment, from_client=True, picked_up=False)
                self._nat.touch(flow, now)
                return Decision(self._to_backend(segment, service, flow, checksum), [])
            self._stats.count("syns_unanswered")
        backend = self._nat.choose(service, (segment.src, segment.sport), now)
        if backend is None and service.pool is not None:
            return self._failover.turn_away(segment, service.pool)
        if self._registry.is_removed(service):
            return Decision(Accept(), [])
        flow = self._nat.open(service, backend, segment, now)
        self._stats.count("flows_opened" if flow else "flows_refused")
        if flow is None:
            self._count_untracked(segment, service)
        return Decision(self._to_backend(segment, service, flow, checksum), [])

    def _count_untracked(self, segment: Segment, service: Service) -> None:
        """What a client sends on a connection that has found no room in the flow table reaches no mirror."""
        if segment.payload_len and not segment.flags & RST:
            self._mirroring.untracked(service, segment.payload_len)

    def _to_backend(self, segment: Segment, service: Service, flow: Flow | None, checksum: Checksum) -> Verdict:
        """The packet on its way to the flow's backend, or without a flow to the one that the rules alone give."""
        if service.pool is None:
            return Accept()
        backend = flow.backend if flow is not None else None
        backend = backend or self._registry.derived_backend(service, (segment.src, segment.sport))
        return Accept(rewrite(segment, checksum, destination=endpoint_of(backend)))

    def _pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        flow = self._failover.pick_up(service, client, backend, now)
        self._stats.count("flows_picked_up" if flow else "flows_refused")
        return flow

    # Packets of the backend

    def from_backend(
        self, segment: Segment, source: Endpoint, client: Endpoint, checksum: Checksum, now: float
    ) -> Decision:
        """A packet that may be a backend's, or a service's without a pool."""
        flow = self._nat.find_reply(source, client)
        if flow is None:
            return self._unbound_reply(segment, source, client, checksum, now)
        if is_aborted(flow.row):
            return self._failover.tell_again(segment)
        if flow.direct:
            self._nat.direct_reply(flow, segment, now)
            return Decision(Accept(), [])
        verdict = self._to_client(segment, flow.service, checksum)
        if not segment_checksum_ok(segment, checksum):
            self._stats.count("bad_checksums")
            return Decision(verdict, [])
        flow = self._follow_new_syn(flow, segment, now)
        refused = flow.state is State.SYN_SENT
        event = tracker.track(flow.row, segment, from_client=False, picked_up=flow.picked_up)
        self._nat.touch(flow, now, moved=event is not None)
        if event is Event.SYN_ACK:
            self._nat.answered(flow)
            if flow.service.throttles:
                self._mirroring.accepted(self._nat.know(flow))
        elif event is Event.RST and refused:
            self._nat.refused(flow, now)
            self._stats.count("syns_refused")
        if is_past_window(flow.row):
            self._mirroring.window_moved(flow, now)
        if has_reader(flow.row) and segment.seq_len:
            self._mirroring.feed_replies(flow, segment)
        self._tell_legs(flow, event, now)
        if is_held(flow.row):
            window = self._mirroring.throttled_window(flow, segment)
            if window != segment.window:
                verdict = self._to_client(segment, flow.service, checksum, window)
        return Decision(verdict, [])

    def _follow_new_syn(self, flow: Flow, segment: Segment, now: float) -> Flow:
        """If the backend accepts a new connection of the client's ports, the old one is over."""
        syn = flow.new_syn
        if syn is None or segment.flags & (SYN | ACK) != SYN | ACK or segment.ack != (syn.seq + 1) & 0xFFFF_FFFF:
            return flow
        self._mirroring.flow_reset(flow, now)
        self._stats.count("flows_opened")
        return self._nat.reopen(flow, syn, now)

    def _unbound_reply(
        self, segment: Segment, source: Endpoint, client: Endpoint, checksum: Checksum, now: float
    ) -> Decision:
        services = self._registry.services_of(source)
        if not services or not self._registry.is_client(client[0]):
            return Decision(Accept(), [])
        is_answer = segment.flags & (SYN | ACK | RST) == SYN | ACK and len(services) == 1
        if is_answer and self._nat.is_crowded and not self._nat.find_orig(client, endpoint_of(services[0])):
            # Most likely of a flow that had to go, and no other backend is to answer in its place.
            self._stats.count("unbound_packets")
            return Decision(self._to_client(segment, services[0], checksum), [])
        if segment.flags & (SYN | ACK) == SYN | ACK:
            # Nobody came to this backend through us: the client called it itself.
            self._stats.count("direct_connections")
            self._nat.open_direct(services[0], source, client, now)
            return Decision(Accept(), [])
        if len(services) > 1:
            return Decision(self._drop("ambiguous-reply"), [])
        service = services[0]
        bound = self._nat.find_orig(client, endpoint_of(service))
        if bound is not None and (not bound.picked_up or bound.row.reply.packets):
            # An older connection of this client port; what it still sends is not the client's any more.
            return Decision(self._drop("stale-backend"), [])
        if segment.payload_len and not segment.flags & RST and segment_checksum_ok(segment, checksum):
            # The backend itself is the best witness of where the connection belongs.
            flow = self._pick_up(service, client, self._registry.backend_at(service, source), now)
            if flow is not None:
                tracker.track(flow.row, segment, from_client=False, picked_up=True)
                self._nat.touch(flow, now)  # its backend has spoken: so it is not half open any more
                if has_reader(flow.row):
                    self._mirroring.feed_replies(flow, segment)
        else:
            self._stats.count("unbound_packets")
        return Decision(self._to_client(segment, service, checksum), [])

    def _to_client(self, segment: Segment, service: Service, checksum: Checksum, window: int | None = None) -> Verdict:
        if service.pool is None:
            return Accept()
        return Accept(rewrite(segment, checksum, source=endpoint_of(service), window=window))

    def _tell_legs(self, flow: Flow, event: Event | None, now: float) -> None:
        if event is Event.RST:
            self._mirroring.flow_reset(flow, now)
        elif event is Event.LAST_ACK:
            self._mirroring.flow_closed(flow, now)

    def _drop(self, reason: str) -> Drop:
        self._stats.drop(reason)
        return Drop(reason)
