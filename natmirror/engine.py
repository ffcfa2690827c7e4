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
from ipaddress import IPv4Network
from typing import Any

from natmirror import fastpath, tcp
from natmirror.actions import Accept, Action, Drop, LegEnded, Ordered, Send
from natmirror.bindings import Bindings
from natmirror.failover import Failover
from natmirror.fastpath import Loads, Memory
from natmirror.handover import HandOver
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
from natmirror.registry import Registry
from natmirror.reloading import Kept
from natmirror.rules import Backend, Mirror, Rules, Service
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
    ``memory``, by default as much as the rules say, and ``loads``, which backends' limits go by. No packet makes a
    method raise.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        key: bytes,
        fast: bool = True,
        shard: Shard = ALL,
        memory: Memory | None = None,
        loads: Loads | None = None,
    ) -> None:
        self._fast = fast
        self._shard = shard
        self._stats = Stats()
        self._timers = Timers()
        memory = memory or Memory(rules.mirror_memory)
        self._gear = fastpath.Gear(max(1, rules.max_flows // shard.count), memory, key)
        self._legs = Legs(self._gear.legs, self._is_bound, shard.leg_ports)
        self._ledger = Ledger(rules.services)
        self._reading = Reading(self._gear)
        self._shadowing = Shadowing(
            self._reading, memory, self._timers, self._legs, self._ledger, lambda flow: self._mirroring.unread(flow)
        )
        self._mirroring = Mirroring(
            self._gear, memory, self._timers, self._legs, self._ledger, self._shadowing, self._reading
        )
        self._registry = Registry(rules, self._gear, loads or Loads())
        self._nat = Nat(self._registry, self._gear, self._legs.make_way, self._mirroring.flow_forgotten)
        self._bindings = Bindings(self._registry, self._nat, self._mirroring)
        self._mirrors: dict[Endpoint, Mirror] = {}
        self._sources: set[bytes] = set()
        self._take_mirrors(rules)
        self._failover = Failover(self._nat, self._legs, self._mirroring, self._stats)
        self._handover = HandOver(shard, self._registry, self._nat, self._mirroring, self._stats)
        self._icmp = IcmpErrors(self._registry, self._mirrors, self._sources, self._nat, self._legs, self._stats)

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
        service = self._registry.at(destination)
        if service is not None and self._registry.is_client(parsed.src):
            return self._from_client(parsed, service, checksum, now)
        if source in self._mirrors and (parsed.dst in self._sources or self._registry.is_client(parsed.dst)):
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
                self._mirroring.holding.tell_window(of)
            elif what == "heard":
                self._mirroring.heard(of, now)
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

    @property
    def bindings(self) -> Bindings:
        """What other hosts have to know of connections, and tell of them."""
        return self._bindings

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        return self._mirroring.take_events()

    def take_failed_syns(self) -> list[tuple[str, str]]:
        """Since the last call: service and backend of each client's SYN that was refused, or left unanswered."""
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
            backend = None if service.pool is None else self._registry.derived_backend(service, client)
            flow = self._pick_up(service, client, backend, now)
        if flow is None:
            self._stats.count("unbound_packets")
            self._count_untracked(segment, service)
            return [self._to_backend(segment, service, None, checksum)]
        event = tcp.track(flow.row, segment, from_client=True, loose=flow.picked_up)
        self._nat.touch(flow, now, moved=event is not None)
        verdict = self._to_backend(segment, service, flow, checksum)
        if event is tcp.Event.HANDSHAKE and flow.row.flags & fastpath.TAPPED:
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
        if self._registry.is_removed(service):
            return [Accept()]
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
        backend = backend or self._registry.derived_backend(service, (segment.src, segment.sport))
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
                    self._mirroring.holding.accepted(self._nat.know(flow))
            elif event is tcp.Event.RST and refused:
                self._nat.refused(flow, now)
                self._stats.count("syns_refused")
            if flow.row.flags & fastpath.WAITING:
                self._mirroring.window_moved(flow, now)
            if flow.row.flags & fastpath.READ and segment.seq_len:
                self._mirroring.feed_replies(flow, segment)
            self._tell_legs(flow, event, now)
            window = self._mirroring.holding.throttled_window(flow, segment)
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
        services = self._registry.services_of(source)
        if not services or not self._registry.is_client(client[0]):
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
            flow = self._pick_up(service, client, self._registry.backend_at(service, source), now)
            if flow is not None:
                tcp.track(flow.row, segment, from_client=False, loose=True)
                self._nat.touch(flow, now)  # its backend has spoken: so it is not half open any more
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

    # Rules and backends that come and go

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on. Connections stay where they are, and legs with them: those of mirrors that the
        rules do not name any more go with end_removed(), connections of clients that they do not name with expel(),
        which comes before."""
        self._registry.reload(rules)
        self._ledger.reload(rules.services)
        self._take_mirrors(rules)

    def _take_mirrors(self, rules: Rules) -> None:
        mirrors = [mirror for service in rules.services for mirror in service.mirrors]
        self._mirrors.clear()
        self._mirrors.update((endpoint_of(mirror), mirror) for mirror in mirrors)
        self._sources.clear()
        self._sources.update(mirror.source.packed for mirror in mirrors if mirror.source is not None)

    def expel(self, switches: Iterable[IPv4Network], ids: Iterable[int], now: float) -> list[Action]:
        """Reset those of the flows with these numbers whose clients are in none of these networks."""
        networks = [(int(network.network_address), int(network.netmask)) for network in switches]

        def is_outside(flow: Flow) -> bool:
            client = int.from_bytes(flow.client[0], "big")
            return not any(client & mask == network for network, mask in networks)

        self._failover.expel([flow for flow in self._nat.by_ids(ids) if not flow.direct and is_outside(flow)], now)
        return self.study(now)

    def leg_ids(self) -> list[int]:
        """The numbers of the legs, for end_removed() in slices."""
        return self._legs.ids()

    def end_removed(self, leg_ids: Iterable[int], now: float) -> list[Action]:
        """End those of these legs whose mirrors the rules do not name any more."""
        self._mirroring.end_removed(leg_ids)
        return self.study(now)

    def prune(self) -> list[Kept]:
        """Forget services and backends that the rules do not name any more and that have no connections left; gives
        those that have some."""
        return self._registry.prune()

    @property
    def strangers(self) -> int:
        """How many backends have become known by another host's connections alone, ever: they are like those that the
        rules do not name any more."""
        return self._registry.strangers

    def set_share(self, service: str, backend: str, share: float) -> None:
        """How much of its part a backend takes of the new connections from now on, from 0, none, to 1; ValueError where
        there is none of that name."""
        self._registry.set_share(*self._registry.backend_named(service, backend), share)

    def kill(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Action]:
        """Reset those of these flows that are a backend's; ValueError where there is none of that name."""
        self._failover.kill(self._nat.of_backend(self._registry.backend_named(service, backend), ids), now)
        return self.study(now)

    def reset_again(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Action]:
        """Send the RSTs of those of these flows once more that kill() has reset, and that are a backend's."""
        self._failover.reset_again(self._nat.of_backend(self._registry.backend_named(service, backend), ids))
        return self.study(now)

    def stand_down(self, ids: Iterable[int], now: float) -> list[Action]:
        """Another host passes the packets of these flows from now on: their legs end, and should they come here again,
        they are met in their middle."""
        self._failover.stand_down(ids, now)
        return self.study(now)

    # Legs that pass from one host to another

    def mirrored_ids(self) -> list[int]:
        """The numbers of the flows with living legs of raw bytes, for leg_records() in slices."""
        return self._handover.ids()

    def leg_records(self, ids: Iterable[int], *, everything: bool = False) -> list[dict[str, Any]]:
        """For each of these flows with established legs of raw bytes what another host needs to go on with them: plain
        values, small, that JSON can hold. Of flows on which nothing has moved since they were told last only where
        ``everything`` is asked for. Keys and values: takeover.FlowRecord.

        Positions are as old as the record, which does no harm: adopt() asks the mirror. Nothing is kept of what was
        told but its numbers; packets do not notice.
        """
        return self._handover.records(ids, everything=everything)

    def take_gone_records(self) -> list[tuple[str, str]]:
        """Service and client, as in the records, of those that hold no more: a leg has ended, or the connection is
        closing. Those since the last call, each found by the next round of mirrored_ids() and leg_records(), and told
        before a later record of the same key."""
        return self._handover.take_gone()

    def hand_over(self) -> None:
        """Another host passes the packets, from now on or from the start: all legs end without a word to the mirrors,
        as ``handed-over``. From then on adopted legs wait, and what mirrors send to no leg is answered with nothing."""
        self._handover.leave()

    def take_over(self, now: float) -> None:
        """This host passes the packets from now on: adopted legs go on, each mirror is asked by handle_timer(). To be
        called when everything is adopted that there is: mirrors whose legs are not known here are reset again."""
        self._handover.take_over(now)

    def adopt(self, record: dict[str, Any], now: float) -> list[Action]:
        """Know a connection and its legs from another host's record, of its leg_records(), in place of what is known of
        them here, if not legs that live; by the engine whose client it is (shards.shard_of_client()).

        The flow is bound to the record's backend; its legs are ``resuming``. After hand_over() they wait until
        take_over(), or until a packet of theirs comes, and a later record of the same connection takes the place of the
        one before; else they go on at once, and handle_timer() is due to ask their mirrors. Gives what is to be sent.
        ValueError where the record is nonsense, does not fit the rules, or is about an older connection than the one
        that is known here; then nothing has changed.
        """
        self._handover.adopt(record, now)
        return self._sends()

    def disown(self, service: str, client: str) -> None:
        """Forget an adopted connection that still waits: its record holds no more. ValueError where there is no such
        service, or ``client`` is no address with a port."""
        self._handover.disown(service, client)

    # Packets of mirrors

    def _from_mirror(self, segment: Segment, checksum: Checksum, now: float) -> list[Action]:
        mirror, local = (segment.src, segment.sport), (segment.dst, segment.dport)
        if not self._legs.has(mirror, local):
            if self._registry.services_of(mirror) or self._mirrors[mirror].direct or segment.dst in self._sources:
                return [Accept()]
            if segment.flags & RST or not segment_checksum_ok(segment, checksum):
                return [self._drop("mirror-without-leg")]
            is_known_elsewhere = not self._handover.is_active
            return [self._drop("mirror-without-leg"), *([] if is_known_elsewhere else [Send(build_reset(segment))])]
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
            "flows": self._registry.flow_count(),
            "flows_not_derivable": self._nat.table.shared(),
            "backends": self._registry.backends(),
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
        is_guest = bool(row.sharing & fastpath.GUEST)
        legs = self._mirroring.legs_of(flow, now)
        return {
            "service": flow.service.name,
            "client": show(flow.client),
            "backend": flow.backend.name if flow.backend else None,
            "state": flow.state.name.lower().replace("_", "-"),
            "idle_seconds": None if is_guest and not row.seen_at else round(now - row.seen_at, 3),
            "guest": is_guest,
            "mirrored": bool(legs),
            "client_bytes": row.orig.bytes,
            "server_bytes": row.reply.bytes,
            "legs": legs,
        }
