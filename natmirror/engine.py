"""The engine: packets and a clock value go in, actions come out.

It composes NAT and mirroring and does no I/O: the same engine runs live behind NFQUEUE, offline over a capture, and in
tests. Two gears: the C gear repeats for a packet what was decided for its flow; everything that it punts is decided
here. With the C gear off the actions are the same.

What happens to a packet follows from its hook and its addresses:

========== ======================= ================================================================================
hook       packet                  action
========== ======================= ================================================================================
PREROUTING client to service       destination becomes the backend; its data also goes to the legs
PREROUTING mirror to client        a leg's: consumed; nobody's: reset; a backend's too: passes to FORWARD
FORWARD    backend to client       source becomes the service
FORWARD,   service to client       a service without a pool: looked at, passes
OUTPUT
any        ICMP error              a leg's: consumed; a NATed connection's: translated
========== ======================= ================================================================================
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from natmirror import fastpath, tcp
from natmirror.actions import Accept, Action, Drop, LegEnded, Ordered, Send
from natmirror.failover import Failover
from natmirror.fastpath import Memory
from natmirror.icmperrors import IcmpErrors
from natmirror.ledger import Ledger
from natmirror.legs import Legs
from natmirror.mirroring import Mirroring
from natmirror.nat import Flow, Nat
from natmirror.openflow.datapath import Directory
from natmirror.packet import (
    ACK,
    RST,
    SYN,
    Checksum,
    Datagram,
    Endpoint,
    Malformed,
    Segment,
    build_reset,
    endpoint_of,
    parse,
    rewrite,
    segment_checksum_ok,
    show,
)
from natmirror.reading import Reading
from natmirror.rules import Backend, Rules, Service
from natmirror.shadowing import Shadowing
from natmirror.shards import ALL, Shard
from natmirror.stats import Stats
from natmirror.tcp import State
from natmirror.timers import AT_ONCE, Timers

_TCP = b"\x06"  # IPv4's protocol field
_MAX_LEGS_DUE = 64  # in one call, so that packets need not wait for more
_MAX_EXPIRED = 256  # the same for flows


class Hook(IntEnum):
    """Where netfilter handed the packet over; the kernel's NF_INET_* numbers."""

    PREROUTING = 0
    FORWARD = 2
    OUTPUT = 3


class Engine:
    """NAT and mirroring by the rules.

    ``key``, 16 random bytes, keys the flow table's hash. ``fast`` switches the C gear on. ``now`` is in seconds, of
    any clock that does not go backwards. Of several engines each has its ``shard`` of the clients, and they share
    ``memory``, by default as much as the rules say. No packet makes a method raise.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        key: bytes,
        fast: bool = True,
        shard: Shard = ALL,
        memory: Memory | None = None,
    ) -> None:
        self._fast = fast
        self._shard = shard
        self._stats = Stats()
        self._timers = Timers()
        memory = memory or Memory(rules.mirror_memory)
        self._gear = fastpath.Gear(max(1, rules.max_flows // shard.count), memory, key)
        self._legs = Legs(self._gear.legs, self._is_bound, shard.leg_ports)
        ledger = Ledger(rules.services)
        self._reading = Reading(self._gear)
        self._shadowing = Shadowing(
            rules, self._reading, memory, self._timers, self._legs, ledger, lambda flow: self._mirroring.unread(flow)
        )
        self._mirroring = Mirroring(
            self._gear, memory, self._timers, self._legs, ledger, self._shadowing, self._reading
        )
        self._nat = Nat(rules, self._gear, self._legs.make_way, self._mirroring.flow_forgotten)
        self._services = {endpoint_of(service): service for service in rules.services}
        self._mirrors = {endpoint_of(mirror): mirror for service in rules.services for mirror in service.mirrors}
        self._sources = {mirror.source.packed for mirror in self._mirrors.values() if mirror.source is not None}
        self._failover = Failover(self._nat, self._legs, self._mirroring, self._stats)
        self._icmp = IcmpErrors(self._services, self._mirrors, self._sources, self._nat, self._legs, self._stats)

    def receive(self, packet: bytes, hook: Hook, now: float, checksum: Checksum = Checksum.UNVERIFIED) -> list[Action]:
        """One packet from its IP header on: its verdict comes first, then what is to be sent besides."""
        if self._fast:
            buffer = bytearray(packet)
            decided = self._gear.process(buffer, hook, checksum, now)
            if decided == fastpath.MODIFIED:
                return [Accept(bytes(buffer)), *self._gear.take_sends(), *self.study(now)]
            if decided == fastpath.ACCEPT:
                return [Accept(), *self._gear.take_sends(), *self.study(now)]
            if decided == fastpath.CONSUMED:
                return [Drop("consumed"), *self._gear.take_sends(), *self.study(now)]
        return [*self.decide(packet, hook, now, checksum), *self.study(now)]

    def decide(self, packet: bytes, hook: Hook, now: float, checksum: Checksum) -> list[Action]:
        """What receive() gives for a packet that the C gear leaves to Python."""
        try:
            parsed = parse(packet)
        except Malformed as reason:
            return [self._drop(str(reason))]
        if isinstance(parsed, Datagram):
            return [self._icmp.receive(parsed, now, to_service=hook is Hook.PREROUTING), *self._sends()]
        source, destination = (parsed.src, parsed.sport), (parsed.dst, parsed.dport)
        if hook is not Hook.PREROUTING:
            return self._from_server(parsed, source, destination, checksum, now)
        service = self._services.get(destination)
        if service is not None and self._nat.is_client(parsed.src):
            return self._from_client(parsed, service, checksum, now)
        if source in self._mirrors and (parsed.dst in self._sources or self._nat.is_client(parsed.dst)):
            return self._from_mirror(parsed, checksum, now)
        return [Accept()]

    def study(self, now: float, most: int | None = None) -> list[Action]:
        """Read what connections that somebody reads have sent since: after the verdicts of the packets that brought it,
        so that nothing there delays or costs a packet. About ``most`` bytes of it, all by default: while there is more,
        next_own_timer() is due at once."""
        self._shadowing.study(now, most)
        return self._sends()

    def shard_of(self, packet: bytes, hook: Hook) -> int:
        """Whose packet it is: nearly always this engine's own. Only errors about what this host or a service has sent
        are not dealt out by the address of the client."""
        if self._shard.count == 1 or hook is not Hook.PREROUTING or packet[9:10] == _TCP:
            return self._shard.number
        try:
            parsed = parse(packet)
        except Malformed:
            return self._shard.number
        owner = self._icmp.shard_of(parsed, self._shard.count) if isinstance(parsed, Datagram) else None
        return self._shard.number if owner is None else owner

    @property
    def gear(self) -> Any:
        """The C gear, for the loop that drives it: what it leaves to Python goes through decide()."""
        return self._gear.handle

    def next_timer(self) -> float | None:
        """When handle_timer() is due, on the clock of ``now``; None when nothing is."""
        due = min(self._gear.legs.next_due(), self._gear.flows.next_due())
        timer = self.next_own_timer()
        return (None if due == fastpath.NEVER else due) if timer is None else min(timer, due)

    def next_own_timer(self) -> float | None:
        """The same for what the C gear does not know of: a loop in C that drives the gear looks after the rest."""
        return AT_ONCE if self._reading.has_more else self._timers.next()

    def handle_timer(self, now: float, most: int | None = None) -> list[Action]:
        """Do what is due: retransmissions, expiry, windows that clients are to hear of; and read what waits, as
        study() does. Not all at once: while there is more, next_timer() stays where it is."""
        for _ in range(_MAX_LEGS_DUE):
            if self._fast:
                self._legs.send(self._gear.acknowledge(now))
            leg_id = self._gear.legs.take_due(now)
            if leg_id is None:
                break
            self._legs.handle_timer(leg_id, now)
        self._nat.expire(now, _MAX_EXPIRED)
        for what, of in self._timers.due(now):
            if what == "window":
                self._mirroring.tell_window(of)
            else:
                self._shadowing.handle_timer(of, now)
        return self.study(now, most)

    def set_path_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """The way to a mirror takes packets of at most ``mtu`` bytes, as this host's routes say: for legs to come."""
        self._legs.set_path_mtu(mirror, mtu)

    def close(self) -> list[Action]:
        """End all legs, so that no mirror waits for us."""
        self._legs.close()
        return self._sends()

    @property
    def directory(self) -> Directory:
        """What is known of OpenFlow switches, to be kept over a restart."""
        return self._shadowing.directory

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        return self._mirroring.take_events()

    def take_failed_syns(self) -> list[tuple[str, str, bool]]:
        """Since the last call: service and backend of each client's SYN that was left unanswered, or refused (True)."""
        failed = self._nat.failed_syns[:]
        self._nat.failed_syns.clear()
        return failed

    def take_orders(self) -> list[Ordered]:
        """What masters that are recorded would have done since the last call."""
        return self._shadowing.take_orders()

    # Packets of the client

    def _from_client(self, segment: Segment, service: Service, checksum: Checksum, now: float) -> list[Action]:
        client = (segment.src, segment.sport)
        flow = self._nat.find_orig(client, endpoint_of(service))
        if flow is not None and flow.row.flags & fastpath.KILLED:
            if segment.flags & (SYN | ACK | RST) != SYN:
                self._nat.touch(flow, now, moved=False)
                return self._failover.tell_again(segment)
            self._nat.forget(flow)
            flow = None
        if not segment_checksum_ok(segment, checksum):
            self._stats.count("bad_checksums")
            return [self._to_backend(segment, service, flow, checksum)]
        if segment.flags & (SYN | ACK | RST) == SYN:
            return self._client_syn(segment, service, flow, checksum, now)
        if flow is None and segment.payload_len and not segment.flags & (SYN | RST):
            backend = None if service.pool is None else self._nat.derived_backend(service, client)
            flow = self._pick_up(service, client, backend, now)
        if flow is None:
            self._stats.count("unbound_packets")
            self._count_untracked(segment, service)
            return [self._to_backend(segment, service, None, checksum)]
        event = tcp.track(flow.row, segment, from_client=True, loose=flow.picked_up)
        self._nat.touch(flow, now, moved=event is not None)
        verdict = self._to_backend(segment, service, flow, checksum)
        if event is tcp.Event.HANDSHAKE and service.mirrors:
            self._mirroring.open(
                self._nat.know(flow), endpoint_of(service if flow.backend is None else flow.backend), now
            )
        if segment.seq_len:  # a bare acknowledgement is the C gear's, and may change nothing here that it does not
            self._mirroring.feed(flow, segment, now)
        self._tell_legs(flow, event, now)
        return [verdict, *self._sends()]

    def _client_syn(
        self, segment: Segment, service: Service, flow: Flow | None, checksum: Checksum, now: float
    ) -> list[Action]:
        if flow is not None and self._nat.await_new_syn(flow, segment, now):
            # Not ours to believe: the backend will challenge it (RFC 5961 §4) or accept it, and then we follow.
            flow.row.orig.packets += 1
            return [self._to_backend(segment, service, flow, checksum)]
        if flow is not None and flow.is_first_syn(segment) and flow.state in (State.SYN_SENT, State.SYN_RECEIVED):
            if not self._nat.is_unanswered(flow, now):
                tcp.track(flow.row, segment, from_client=True, loose=False)
                self._nat.touch(flow, now)
                return [self._to_backend(segment, service, flow, checksum)]
            self._stats.count("syns_unanswered")
        backend = self._nat.choose(service, (segment.src, segment.sport), now)
        if backend is None and service.pool is not None:
            return self._failover.turn_away(segment, service.pool)
        flow = self._nat.open(service, backend, segment, now)
        self._stats.count("flows_opened" if flow else "flows_refused")
        if flow is None:
            self._count_untracked(segment, service)
        return [self._to_backend(segment, service, flow, checksum), *self._sends()]

    def _count_untracked(self, segment: Segment, service: Service) -> None:
        """What a client sends on a connection that has found no room in the flow table reaches no mirror."""
        if segment.payload_len and not segment.flags & RST:
            self._mirroring.untracked(service, segment.payload_len)

    def _to_backend(self, segment: Segment, service: Service, flow: Flow | None, checksum: Checksum) -> Action:
        """The packet on its way to the flow's backend, or without a flow to the one that the rules alone give."""
        if service.pool is None:
            return Accept()
        backend = flow.backend if flow is not None else None
        backend = backend or self._nat.derived_backend(service, (segment.src, segment.sport))
        return Accept(rewrite(segment, checksum, destination=endpoint_of(backend)))

    def _pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        flow = self._failover.pick_up(service, client, backend, now)
        self._stats.count("flows_picked_up" if flow else "flows_refused")
        return flow

    # Packets of the backend

    def _from_server(
        self, segment: Segment, source: Endpoint, client: Endpoint, checksum: Checksum, now: float
    ) -> list[Action]:
        flow = self._nat.find_reply(source, client)
        if flow is None:
            return self._unbound_reply(segment, source, client, checksum, now)
        if flow.row.flags & fastpath.KILLED:
            return self._failover.tell_again(segment)
        if flow.direct:
            self._nat.direct_reply(flow, segment, now)
            return [Accept()]
        window = None
        if segment_checksum_ok(segment, checksum):
            flow = self._follow_new_syn(flow, segment, now)
            refused = flow.state is State.SYN_SENT
            event = tcp.track(flow.row, segment, from_client=False, loose=flow.picked_up)
            self._nat.touch(flow, now, moved=event is not None)
            if event is tcp.Event.SYN_ACK:
                self._nat.answered(flow)
                if flow.service.throttles:
                    self._mirroring.accepted(self._nat.know(flow))
            elif event is tcp.Event.RST and refused:
                self._nat.refused(flow, now)
                self._stats.count("syns_refused")
            if flow.row.flags & fastpath.WAITING:
                self._mirroring.window_moved(flow, now)
            if flow.row.flags & fastpath.READ and segment.seq_len:
                self._mirroring.feed_replies(flow, segment)
            self._tell_legs(flow, event, now)
            window = self._mirroring.throttled_window(flow, segment)
        else:
            self._stats.count("bad_checksums")
        return [self._to_client(segment, flow.service, checksum, window), *self._sends()]

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
    ) -> list[Action]:
        services = self._nat.services_of(source)
        if not services or not self._nat.is_client(client[0]):
            return [Accept()]
        is_answer = segment.flags & (SYN | ACK | RST) == SYN | ACK and len(services) == 1
        if is_answer and self._nat.is_crowded and not self._nat.find_orig(client, endpoint_of(services[0])):
            # Most likely of a flow that had to go, and no other backend is to answer in its place.
            self._stats.count("unbound_packets")
            return [self._to_client(segment, services[0], checksum)]
        if segment.flags & (SYN | ACK) == SYN | ACK:
            # Nobody came to this backend through us: the client called it itself.
            self._stats.count("direct_connections")
            self._nat.open_direct(services[0], source, client, now)
            return [Accept()]
        if len(services) > 1:
            return [self._drop("ambiguous-reply")]
        service = services[0]
        bound = self._nat.find_orig(client, endpoint_of(service))
        if bound is not None and (not bound.picked_up or bound.row.reply.packets):
            # An older connection of this client port; what it still sends is not the client's any more.
            return [self._drop("stale-backend")]
        if segment.payload_len and not segment.flags & RST and segment_checksum_ok(segment, checksum):
            # The backend itself is the best witness of where the connection belongs.
            flow = self._pick_up(service, client, self._nat.backend_at(service, source), now)
            if flow is not None:
                event = tcp.track(flow.row, segment, from_client=False, loose=True)
                self._nat.touch(flow, now, moved=event is not None)
                if flow.row.flags & fastpath.READ:
                    self._mirroring.feed_replies(flow, segment)
        else:
            self._stats.count("unbound_packets")
        return [self._to_client(segment, service, checksum)]

    def _to_client(self, segment: Segment, service: Service, checksum: Checksum, window: int | None = None) -> Action:
        if service.pool is None:
            return Accept()
        return Accept(rewrite(segment, checksum, source=endpoint_of(service), window=window))

    def _tell_legs(self, flow: Flow, event: tcp.Event | None, now: float) -> None:
        if event is tcp.Event.RST:
            self._mirroring.flow_reset(flow, now)
        elif event is tcp.Event.LAST_ACK:
            self._mirroring.flow_closed(flow, now)

    # Backends that come and go

    def set_share(self, service: str, backend: str, share: float) -> None:
        """How much of its part a backend takes of the new connections from now on, from 0, none, to 1; ValueError where
        there is none of that name."""
        self._nat.set_share(*self._nat.backend_named(service, backend), share)

    def kill(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Action]:
        """Reset those of these flows that are a backend's; ValueError where there is none of that name."""
        self._failover.kill(self._nat.backend_named(service, backend), ids, now)
        return self.study(now)

    def stand_down(self, ids: Iterable[int], now: float) -> list[Action]:
        """Another host passes the packets of these flows from now on: their legs end, and should they come here again,
        they are met in their middle."""
        self._failover.stand_down(ids, now)
        return self.study(now)

    # Packets of mirrors

    def _from_mirror(self, segment: Segment, checksum: Checksum, now: float) -> list[Action]:
        mirror, local = (segment.src, segment.sport), (segment.dst, segment.dport)
        if not self._legs.has(mirror, local):
            if self._nat.services_of(mirror) or self._mirrors[mirror].direct or segment.dst in self._sources:
                return [Accept()]
            if segment.flags & RST or not segment_checksum_ok(segment, checksum):
                return [self._drop("mirror-without-leg")]
            return [self._drop("mirror-without-leg"), Send(build_reset(segment))]
        if not segment_checksum_ok(segment, checksum):
            return [self._drop("mirror-bad-checksum")]
        self._stats.count("mirror_packets")
        self._legs.receive(segment, now)
        return [Drop("consumed"), *self._sends()]

    # The rest

    def _is_bound(self, backend: Endpoint, client: Endpoint) -> bool:
        return self._nat.find_reply(backend, client) is not None

    def _sends(self) -> list[Action]:
        return list(self._legs.take_sends())

    def _drop(self, reason: str) -> Drop:
        self._stats.drop(reason)
        return Drop(reason)

    def snapshot(self, now: float) -> dict[str, Any]:
        """The engine's sums as plain values: counters, drops by reason, backends, mirrors with their ledgers."""
        counters = dict(sorted(self._stats.counters.items()))
        in_c = self._gear.counters
        counters["fast_packets"] = in_c.fast_packets
        counters["flows_evicted"] = self._nat.evicted
        for name in ("bad_checksums", "mirror_packets", "unbound_packets", "flows_opened", "flows_evicted"):
            counters[name] = counters.get(name, 0) + getattr(in_c, name)
        return {
            "counters": counters,
            "drops": dict(sorted(self._stats.drops.items())),
            "punts": {reason: count for reason, count in self._gear.punts().items() if count},
            "flows": len(self._nat),
            "backends": self._nat.backends(),
            "mirrors": self._mirroring.mirrors(now),
            "mirror_memory": self._mirroring.memory(),
            "session_errors": self._shadowing.internal_errors,
        }

    def flow_ids(self) -> list[int]:
        """The numbers of the flows, for flows() in slices."""
        return self._nat.ids()

    def flows(self, now: float, ids: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """The flows with these numbers, or all, as plain values, each with its legs; those that are gone are left
        out."""
        flows = self._nat.by_ids(self._nat.ids() if ids is None else ids)
        return [self._show(flow, now) for flow in flows if not flow.direct]

    def decisions(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """What backend and masters have decided for the switches behind the flows with these numbers, as plain values,
        with times on the clock of ``now``."""
        found = []
        for flow in self._nat.by_ids(ids):
            decisions = self._shadowing.decisions_of(flow.row.id)
            if decisions is not None:
                found.append({"client": show(flow.client), "service": flow.service.name, **decisions.plain()})
        return found

    def lingering(self, now: float) -> list[dict[str, Any]]:
        """The legs that have outlived their flow, each below a flow whose state is ``gone``."""
        return self._mirroring.lingering(now)

    def _show(self, flow: Flow, now: float) -> dict[str, Any]:
        row = flow.row
        legs = self._mirroring.legs_of(flow, now)
        return {
            "service": flow.service.name,
            "client": show(flow.client),
            "backend": flow.backend.name if flow.backend else None,
            "state": flow.state.name.lower().replace("_", "-"),
            "idle_seconds": round(now - row.seen_at, 3),
            "mirrored": bool(legs),
            "client_bytes": row.orig.bytes,
            "server_bytes": row.reply.bytes,
            "legs": legs,
        }
