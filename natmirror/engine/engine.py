"""The engine: packets and a clock value go in, decisions and packets to send come out.

It puts NAT and mirroring together and does no I/O: the same engine runs live behind NFQUEUE, offline over a capture,
and in tests. It has two gears. The C gear decides on most packets, and punts the others to Python, where forwarding.py
decides. With the C gear off the decisions are the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from ipaddress import IPv4Network

from natmirror import fastpath
from natmirror.actions import FOR_LEG, Accept, Decision, Drop, Hook, LegEnded, Order, Send
from natmirror.engine.counters import Counters
from natmirror.engine.explanation import EngineExplanation
from natmirror.engine.failover import Failover
from natmirror.engine.forwarding import Forwarding
from natmirror.engine.icmp_errors import IcmpErrors
from natmirror.engine.mirror_endpoints import MirrorEndpoints
from natmirror.engine.mirror_packets import MirrorPackets
from natmirror.engine.replicated_bindings import ReplicatedBindings
from natmirror.engine.replicated_legs import ReplicatedLegs
from natmirror.engine.report import EngineReport, KeptDecisions
from natmirror.engine.shown import Snapshot
from natmirror.fastpath import NO_FLOW, ConnectionCounts, GearRow, Look, Memory, Refusals, ServiceLook
from natmirror.fastpath.flow_states import timeouts_by_state
from natmirror.fastpath.gear import Behind
from natmirror.mirror.explanation import MirrorExplanation
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.report import MirrorReport
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.mirror.shown import FlowEntry
from natmirror.nat.flows import Nat
from natmirror.nat.new_connections import NewConnections
from natmirror.nat.services import ServiceTable
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import Datagram, Malformed, parse
from natmirror.net.prefixes import ClientNetworks
from natmirror.openflow.directory import Directory
from natmirror.openflow.tables.statistics import Bodies
from natmirror.rules import Reconnect, Rules
from natmirror.rules.reload import Kept
from natmirror.rules.shards import ALL, Shard
from natmirror.tcp.following import follow_in_c, follow_in_python
from natmirror.tcp.initial_numbers import InitialNumbers, Numbers
from natmirror.tcp.record_masks import masks

_TCP = b"\x06"  # IPv4's protocol field
_MAX_LEGS_DUE = 64  # legs handled in one call, so that packets do not wait longer
_MAX_EXPIRED = 256  # the same for flows


def _never() -> bool:
    return False


class Engine:
    """NAT and mirroring of one thread, by the rules.

    ``key`` is 16 secret random bytes. It keys the flow table's hash and the legs' initial sequence numbers, which are
    those of RFC 6528 unless ``numbers`` gives others. ``fast`` switches the C gear on. Each of several engines has its
    ``shard`` of the clients. Engines share ``memory``, by default the rules' ``mirror-memory``; ``connection_counts``,
    by which backends' limits work; and ``switch_claims``, by which a switch has one session with each master.
    Everywhere ``now`` is in seconds, on a clock that does not go backwards. No packet makes a method raise.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        key: bytes,
        fast: bool = True,
        shard: Shard = ALL,
        memory: Memory | None = None,
        connection_counts: ConnectionCounts | None = None,
        switch_claims: SwitchClaims | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self._fast = fast
        self._shard = shard
        counters = Counters()
        memory = memory or Memory(rules.mirror_memory)
        self._gear = fastpath.Gear(max(1, rules.max_flows // shard.count), memory, key)
        parts = MirrorParts(
            *(rules, self._gear, self._is_bound, shard.leg_ports),
            *(numbers or InitialNumbers(key), switch_claims or SwitchClaims()),
        )
        self.statements = parts.statements
        """What the process of the judges gets to know of masters that are compared with production."""
        self.faults = parts.faults
        """The faults in mirroring, and the work that is switched off because of them."""
        self._outgoing, self._timers, self._legs, self._ledger = parts.outgoing, parts.timers, parts.legs, parts.ledger
        self._sessions, self._leg_outcomes = parts.sessions, parts.outcomes
        self._mirroring = GuardedMirroring(parts, lambda flow: self._nat.has_object(flow))
        self._services = ServiceTable(rules, self._gear, connection_counts or ConnectionCounts())
        self._nat = Nat(
            *(self._services, self._gear, self._mirroring.end_between),
            *(self._mirroring.flow_forgotten, self._mirroring.is_copied),
        )
        self._set_timeouts(rules)
        self._mirrors = MirrorEndpoints(rules, self._services.put_mirrors)
        self.bindings = ReplicatedBindings(self._services, self._nat, self._mirroring)
        """Bindings that are shared with other hosts."""
        self.replicated_legs = ReplicatedLegs(
            *(shard, self._services, self._nat, self._mirroring, counters, self.faults), masks(rules.ha)
        )
        """Legs that another host may take over, or this host from it. read_sessions() returns the packets that they
        send."""
        self._failover = Failover(self._nat, self._mirroring, self._outgoing, counters)
        self._icmp_errors = IcmpErrors(self._services, self._mirrors, self._nat, self._mirroring, counters)
        mirror_packets = MirrorPackets(
            *(self._services, self._mirrors, self._mirroring, self.replicated_legs, self._outgoing, counters)
        )
        new_connections = NewConnections(self._services, self._nat, self._gear.clients)
        self.decide = Forwarding(
            *(self._services, self._nat, new_connections, mirror_packets, self._mirroring),
            *(self._failover, self._icmp_errors, self._outgoing, counters),
            follow_in_c if fast else follow_in_python,
        ).decide
        """Return the decision on a packet that the C gear has punted: see Forwarding.decide()."""
        self._report = EngineReport(
            *(shard.number, self._gear, self._services, self._nat, self._sessions),
            *(MirrorReport(parts), self.faults, self.statements, counters),
        )
        table = self._nat.table
        self.flow_ids, self.flow_ids_from, self.flow_ids_of = table.ids, table.ids_from, table.ids_of
        """The numbers of flows, for work in slices."""
        self.counts, self.services, self.mirrors = self._report.counts, self._report.services, self._report.mirrors
        """The parts of snapshot()."""
        self.note_flows, self.note_lingering = self._report.flows, self._report.lingering
        """What flows() and lingering() show, in slices, and by another thread."""
        self.explanation = EngineExplanation(
            self._services, self._nat, new_connections, self._report, MirrorExplanation(parts)
        )
        """Why connections are where they are, and where one would go."""

    def receive(self, packet: bytes, hook: Hook, now: float, checksum: Checksum = Checksum.UNVERIFIED) -> Decision:
        """Return the decision on a packet, given from its IP header on."""
        if self._fast:
            buffer = bytearray(packet)
            decided = self._gear.process(buffer, hook, checksum, now)
            if decided == fastpath.MODIFIED:
                return Decision(Accept(bytes(buffer)), [*self._gear.take_sends(), *self.read_sessions(now)])
            if decided == fastpath.ACCEPT:
                return Decision(Accept(), [*self._gear.take_sends(), *self.read_sessions(now)])
            if decided == fastpath.CONSUMED:
                return Decision(FOR_LEG, [*self._gear.take_sends(), *self.read_sessions(now)])
            if (reason := fastpath.DROPS.get(decided)) is not None:
                return Decision(Drop(reason), self.read_sessions(now))
        decision = self.decide(packet, hook, now, checksum)
        decision.sends += self.read_sessions(now)
        return decision

    def read_sessions(self, now: float, is_spent: Callable[[], bool] | None = None) -> list[Send]:
        """Read the data that waits for OpenFlow sessions, and return the packets to send because of it.

        Call it after the verdicts of the packets that brought the data, so that OpenFlow delays and loses no packet. It
        calls ``is_spent`` after each message and stops once that returns True; then next_own_timer() is due at once.
        """
        self._mirroring.set_time(now)
        self._mirroring.read_sessions(now, is_spent)
        return self._outgoing.drain()

    def shard_of(self, packet: bytes, hook: Hook) -> int:
        """Return the number of the engine that has the packet's client. That is another engine than this one only if
        the packet is an ICMP error about a packet of a service or of this host: iptables cannot choose the queue of
        such an error by the client's address."""
        if self._shard.count == 1 or hook is not Hook.PREROUTING or packet[9:10] == _TCP:
            return self._shard.number
        try:
            parsed = parse(packet)
        except Malformed:
            return self._shard.number
        owner = self._icmp_errors.shard_of(parsed, self._shard.count) if isinstance(parsed, Datagram) else None
        return self._shard.number if owner is None else owner

    @property
    def gear(self) -> GearRow:
        """The C gear, for the loop that drives it and passes to decide() the packets that it punts."""
        return self._gear.handle

    def next_timer(self) -> float | None:
        """Return the time at which handle_timer() is due, on the clock of ``now``, or None."""
        due = min(self._gear.legs.next_due(), self._gear.flows.next_due())
        timer = self.next_own_timer()
        return (None if due == fastpath.NEVER else due) if timer is None else min(timer, due)

    def next_own_timer(self) -> float | None:
        """Return the time at which Python's own timers are due, or None. The loop in C, which drives the gear, knows
        the other times."""
        work_at, timer = self._mirroring.next_work_at(), self._timers.next()
        return timer if work_at is None else work_at if timer is None else min(work_at, timer)

    def handle_timer(self, now: float, is_spent: Callable[[], bool] | None = None) -> list[Send]:
        """Do what is due (retransmit, expire flows, update clients' windows), then read_sessions(); return the packets
        to send.

        One call does a bounded part of each, and stops early once ``is_spent`` returns True. As long as something is
        left, next_timer() stays due.
        """
        self._mirroring.set_time(now)
        is_spent = is_spent or _never
        for _ in range(_MAX_LEGS_DUE):
            if self._fast:
                self._outgoing.add(self._gear.acknowledge(now))
            leg_id = self._gear.legs.take_due(now)
            if leg_id is None:
                break
            self._mirroring.handle_leg_timer(leg_id, now)
            if is_spent():
                break
        self._nat.expire(now, _MAX_EXPIRED, is_spent)
        for what, of in self._timers.due(now):
            self._mirroring.handle_timer(what, of, now)
            if is_spent():
                break
        return self.read_sessions(now, is_spent)

    def set_path_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """Set the path MTU to a mirror, in bytes, as this host's routes give it, for new legs."""
        self._legs.paths.set_mtu(mirror, mtu)

    def close(self) -> list[Send]:
        """End all legs; return the RSTs for the mirrors."""
        self._mirroring.close()
        return self._outgoing.drain()

    @property
    def directory(self) -> Directory:
        """The known OpenFlow switches, which outlive a restart."""
        return self._sessions.directory

    def take_events(self) -> list[LegEnded]:
        """Return the legs that have ended since the last call."""
        return self._leg_outcomes.take_ended()

    def take_failed_syns(self) -> list[tuple[str, str]]:
        """Return service and backend of each SYN that was refused or left unanswered since the last call."""
        failed = self._nat.failed_syns[:]
        self._nat.failed_syns.clear()
        return failed

    def take_refusals(self) -> Refusals | None:
        """Return the clients and other peers that have had no turn left since the last call, or None."""
        return self._gear.take_refusals()

    def take_orders(self) -> list[Order]:
        """Return the orders since the last call, of masters whose orders are recorded."""
        return self._sessions.take_orders()

    # Changes of rules and backends

    def reload(self, rules: Rules) -> None:
        """Apply these rules. Connections and their legs stay where they are. Before it, expel() resets connections of
        removed clients; after it, bindings.sweep() renews flows' deadlines, end_removed() ends legs of removed mirrors,
        and follow_mirrors() has flows follow."""
        self._services.reload(rules)
        self._ledger.reload(rules.services)
        self._mirrors.reload(rules)
        self._set_timeouts(rules)

    def _set_timeouts(self, rules: Rules) -> None:
        self._gear.flows.set_timeouts(timeouts_by_state(**asdict(rules.timeouts)))

    def expel(self, switches: Iterable[IPv4Network], ids: Iterable[int], now: float) -> list[Send]:
        """Reset each flow, of those with these numbers, whose client is in none of the networks."""
        clients, flows = ClientNetworks(switches), self._nat.by_ids(ids)
        self._failover.expel([flow for flow in flows if not flow.is_direct and flow.client[0] not in clients], now)
        return self.read_sessions(now)

    def leg_ids(self) -> list[int]:
        """Return the numbers of all legs, for end_removed() and lingering() in slices."""
        return self._legs.ids()

    def legs_behind(self, then: float, after: Behind | None, most: int) -> list[Behind]:
        """Return what Gear.legs_behind() returns."""
        return self._gear.legs_behind(then, after, most)

    def flow_of_leg(self, leg_id: int) -> int | None:
        """Return the number of the flow of an open leg; None where the leg has ended or has outlived its flow."""
        owners = self._legs.owners([leg_id])
        number = owners[0][1].row.flow_id if owners else NO_FLOW
        return None if number == NO_FLOW else int(number)

    def end_removed(self, leg_ids: Iterable[int], now: float) -> list[Send]:
        """End each leg, of those with these numbers, whose mirror is paused, or no longer in the rules."""
        self._mirroring.end_removed(leg_ids)
        return self.read_sessions(now)

    def follow_mirrors(self, ids: Iterable[int], now: float) -> list[Send]:
        """Have each flow, of those with these numbers, follow a change of its service's mirrors. Return no packets."""
        self._mirroring.set_time(now)
        for flow in self._nat.by_ids(ids):
            service = self._services.service(flow.row.service_id)
            if flow not in self._mirroring.streams:
                begin_late = any(mirror.reconnect is not Reconnect.NEVER for mirror in service.mirrors)
                if not begin_late or not self._nat.may_be_mirrored(flow):
                    continue
                self._nat.begin_mirrored(flow, service)
            backend = None if flow.backend is None else endpoint_of(flow.backend)
            self._mirroring.follow_rules(flow, service, backend)
        return []

    # The judges of masters, in another process

    def judge(self, ids: Iterable[int], now: float) -> list[Send]:
        """Have the connection of each flow, of those with these numbers, judged by a process that has just begun.
        Return no packets."""
        self._mirroring.set_time(now)
        for flow in self._nat.by_ids(ids):
            self._mirroring.judge(flow)
        return []

    def take_statistics(self, session: int, question: int, bodies: Bodies | None, now: float) -> list[Send]:
        """Take the answer to a master's question about its own rules, by the numbers of its session and of the
        question (MasterSessions.answered()); return the packets to send."""
        self._mirroring.set_time(now)
        self._mirroring.take_statistics(session, question, bodies, now)
        return self.read_sessions(now)

    def prune(self) -> list[Kept]:
        """Forget removed mirrors, and removed services and backends without connections; return the removed services
        and backends that still have some."""
        self._mirrors.prune()
        return self._services.prune()

    @property
    def unlisted_backends(self) -> int:
        """The number of backends that were added, since the start, for connections that another host reported. The
        rules do not name them; they are treated like removed ones."""
        return self._services.unlisted_backends

    def set_share(self, service: str, backend: str, share: float, weight: int | None = None) -> None:
        """Set a backend's share: the fraction, 0 to 1, of its normal part of new connections; and its weight, or None
        for that of the rules. Raise ValueError if there is no such backend."""
        self._services.set_share(*self._services.backend_named(service, backend), share, weight)

    def set_marks(self, marks: Mapping[tuple[Endpoint, Endpoint], int]) -> None:
        """Set the kernel's mark for each pair of a service and one of its backends: with a mark the loop may leave the
        translation to the kernel. receive() always translates."""
        self._services.set_marks(marks)

    def kill(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Send]:
        """Reset each flow, of those with these numbers, that is bound to a backend. Raise ValueError if there is no
        such backend."""
        self._failover.kill(self._nat.of_backend(*self._services.backend_named(service, backend), ids), now)
        return self.read_sessions(now)

    def repeat_resets(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Send]:
        """Send the RSTs of kill() again, for each flow, of those with these numbers, that is bound to the backend."""
        self._failover.repeat_resets(self._nat.of_backend(*self._services.backend_named(service, backend), ids))
        return self.read_sessions(now)

    def release_flows(self, ids: Iterable[int], now: float) -> list[Send]:
        """Release these flows to another host, which forwards their packets from now on: end their legs. A packet that
        still arrives here has its connection picked up."""
        self._failover.release(ids, now)
        return self.read_sessions(now)

    # Whether backends answer

    def begin_look(self, number: int) -> Look:
        """Begin a look at all flows; ``number`` counts looks from 1 on."""
        return self._gear.look(number, len(self._services.names()))

    def end_look(self, look: Look) -> dict[str, ServiceLook]:
        """Return what a look shows of the services that the rules name, by name."""
        return {name: look.of(number) for name, number in self._services.listed().items() if number < look.services}

    # Reports, as plain values

    def snapshot(self, now: float) -> Snapshot:
        return {**self.counts(now), "services": self.services(), "mirrors": self.mirrors(now)}

    def clients(self, most: int) -> tuple[dict[bytes, bool], bool]:
        """Return the addresses of at most ``most`` clients that have flows, each with whether it has certainly got a
        backend's answer; and whether these are all."""
        return self._nat.table.clients(most)

    def flows(self, now: float) -> list[FlowEntry]:
        return [flow.show() for flow in self.note_flows(now)]

    def decisions(self, ids: Iterable[int]) -> list[KeptDecisions]:
        return self._report.decisions(ids)

    def lingering(self, now: float) -> list[FlowEntry]:
        return [gone.show() for gone in self.note_lingering(now)]

    def _is_bound(self, backend: Endpoint, client: Endpoint) -> bool:
        return self._nat.find_reply(backend, client) is not None
