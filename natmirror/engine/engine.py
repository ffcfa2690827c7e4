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

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any

from natmirror import fastpath
from natmirror.actions import Accept, Decision, Drop, Hook, LegEnded, Ordered, Send
from natmirror.engine.counters import Counters
from natmirror.engine.failover import Failover
from natmirror.engine.forwarding import Forwarding
from natmirror.engine.icmp_errors import IcmpErrors
from natmirror.engine.replicated_bindings import ReplicatedBindings
from natmirror.engine.replicated_legs import ReplicatedLegs
from natmirror.fastpath import ConnectionCounts, GearRow, Memory
from natmirror.fastpath.flow_flags import is_foreign
from natmirror.mirror.faults import Faults
from natmirror.mirror.guard import Guard
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import Legs
from natmirror.mirror.mirroring import Mirroring
from natmirror.mirror.sessions.read_queue import ReadQueue
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.teardown import Teardown
from natmirror.mirror.timers import AT_ONCE, Timers
from natmirror.nat.flows import Flow, Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.packet import (
    RST,
    Checksum,
    Datagram,
    Endpoint,
    Malformed,
    Segment,
    build_reset,
    endpoint_of,
    parse,
    segment_checksum_ok,
    show,
)
from natmirror.openflow.directory import Directory
from natmirror.rules import Mirror, Rules
from natmirror.rules.reload import Kept
from natmirror.rules.shards import ALL, Shard
from natmirror.tcp.initial_numbers import InitialNumbers, Numbers
from natmirror.tcp.record_masks import masks

_TCP = b"\x06"  # IPv4's protocol field
_MAX_LEGS_DUE = 64  # in one call, so that packets need not wait for more
_MAX_EXPIRED = 256  # the same for flows


def _never() -> bool:
    return False


class Engine:
    """NAT and mirroring by the rules.

    ``key``, 16 secret random bytes, keys the flow table's hash and the legs' initial sequence numbers, which RFC 6528
    gives where ``numbers`` does not. ``fast`` switches the C gear on. ``now`` is in seconds, of any clock that does not
    go backwards. Of several engines each has its ``shard`` of the clients, and they share ``memory``, by default as
    much as the rules say, and ``loads``, which backends' limits go by. No packet makes a method raise.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        key: bytes,
        fast: bool = True,
        shard: Shard = ALL,
        memory: Memory | None = None,
        loads: ConnectionCounts | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self._fast = fast
        self._shard = shard
        self._stats = Counters()
        self._timers = Timers()
        memory = memory or Memory(rules.mirror_memory)
        self._gear = fastpath.Gear(max(1, rules.max_flows // shard.count), memory, key)
        self._legs = Legs(self._gear.legs, self._is_bound, shard.leg_ports, numbers or InitialNumbers(key))
        self._ledger = Ledger(rules.services)
        self._read_queue = ReadQueue(self._gear)
        self.faults = Faults()
        """What has failed in mirroring, and what is off because of it."""
        guard = Guard(self.faults)
        self._sessions = MasterSessions(
            *(self._read_queue, memory, self._timers, self._legs, self._ledger),
            lambda flow: self._mirroring.unread(flow),
            self.faults,
        )
        self._mirroring = Mirroring(
            *(self._gear, memory, self._timers, self._legs, self._ledger, self._sessions, self._read_queue, guard),
            shares_state=rules.ha is not None and rules.ha.state is not None,
        )
        teardown = Teardown(
            *(self._gear, self._legs, self._ledger, self._mirroring, self._sessions),
            lambda flow: self._nat.is_known(flow),
        )
        guard.end = teardown.end
        self._guarded = GuardedMirroring(
            *(self._mirroring, self._sessions, self._legs, self._timers),
            *(guard, self.faults, teardown),
        )
        self._registry = ServiceTable(rules, self._gear, loads or ConnectionCounts())
        self._nat = Nat(self._registry, self._gear, self._guarded.make_way, self._guarded.flow_forgotten)
        self.bindings = ReplicatedBindings(self._registry, self._nat, self._guarded)
        """What other hosts have to know of connections, and tell of them."""
        self._mirrors: dict[Endpoint, Mirror] = {}
        self._sources: set[bytes] = set()
        self._take_mirrors(rules)
        self._failover = Failover(self._nat, self._guarded, self._stats)
        self._forwarding = Forwarding(self._registry, self._nat, self._guarded, self._failover, self._stats)
        self.handover = ReplicatedLegs(
            *(shard, self._registry, self._nat, self._guarded, self._stats, self.faults), masks(rules.ha)
        )
        """Legs that pass from one host to another. What they send because of it is given by study()."""
        self._icmp = IcmpErrors(self._registry, self._mirrors, self._sources, self._nat, self._guarded, self._stats)

    def receive(self, packet: bytes, hook: Hook, now: float, checksum: Checksum = Checksum.UNVERIFIED) -> Decision:
        """Decide one packet, given from its IP header on."""
        if self._fast:
            buffer = bytearray(packet)
            decided = self._gear.process(buffer, hook, checksum, now)
            if decided == fastpath.MODIFIED:
                return Decision(Accept(bytes(buffer)), [*self._gear.take_sends(), *self.study(now)])
            if decided == fastpath.ACCEPT:
                return Decision(Accept(), [*self._gear.take_sends(), *self.study(now)])
            if decided == fastpath.CONSUMED:
                return Decision(Drop("consumed"), [*self._gear.take_sends(), *self.study(now)])
        decision = self.decide(packet, hook, now, checksum)
        decision.sends += self.study(now)
        return decision

    def decide(self, packet: bytes, hook: Hook, now: float, checksum: Checksum) -> Decision:
        """What receive() gives for a packet that the C gear leaves to Python."""
        self.faults.now = self._legs.now = now
        try:
            parsed = parse(packet)
        except Malformed as reason:
            return Decision(self._drop(str(reason)), [])
        if isinstance(parsed, Datagram):
            verdict = self._icmp.receive(parsed, now, to_service=hook is Hook.PREROUTING)
            return Decision(verdict, self._guarded.take_sends())
        source, destination = (parsed.src, parsed.sport), (parsed.dst, parsed.dport)
        if hook is not Hook.PREROUTING:
            decision = self._forwarding.from_backend(parsed, source, destination, checksum, now)
        elif (service := self._registry.at(destination)) is not None and self._registry.is_client(parsed.src):
            decision = self._forwarding.from_client(parsed, service, checksum, now)
        elif source in self._mirrors and (parsed.dst in self._sources or self._registry.is_client(parsed.dst)):
            return self._from_mirror(parsed, checksum, now)
        else:
            return Decision(Accept(), [])
        decision.sends += self._guarded.take_sends()
        return decision

    def study(self, now: float, is_spent: Callable[[], bool] | None = None) -> list[Send]:
        """Read what connections that somebody reads have sent since: after the verdicts of the packets that brought it,
        so that nothing there delays or costs a packet. All of it, or some until ``is_spent``, which is asked after each
        message, says that there is no more time: while there is more, next_own_timer() is due at once."""
        self.faults.now = self._legs.now = now
        self._guarded.study(now, is_spent)
        return self._guarded.take_sends()

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
    def gear(self) -> GearRow:
        """The C gear, for the loop that drives it: what it leaves to Python goes through decide()."""
        return self._gear.handle

    def next_timer(self) -> float | None:
        """When handle_timer() is due, on the clock of ``now``; None when nothing is."""
        due = min(self._gear.legs.next_due(), self._gear.flows.next_due())
        timer = self.next_own_timer()
        return (None if due == fastpath.NEVER else due) if timer is None else min(timer, due)

    def next_own_timer(self) -> float | None:
        """The same for what the C gear does not know of: a loop in C that drives the gear looks after the rest."""
        return AT_ONCE if self._guarded.has_more else self._timers.next()

    def handle_timer(self, now: float, is_spent: Callable[[], bool] | None = None) -> list[Send]:
        """Do what is due: retransmissions, expiry, windows that clients are to hear of; and read what waits, as
        study() does. Not all at once, but some of each, until ``is_spent`` says that there is no more time: while there
        is more, next_timer() stays where it is."""
        self.faults.now = self._legs.now = now
        is_spent = is_spent or _never
        for _ in range(_MAX_LEGS_DUE):
            if self._fast:
                self._guarded.send(self._gear.acknowledge(now))
            leg_id = self._gear.legs.take_due(now)
            if leg_id is None:
                break
            self._guarded.leg_due(leg_id, now)
            if is_spent():
                break
        self._nat.expire(now, _MAX_EXPIRED, is_spent)
        for what, of in self._timers.due(now):
            self._guarded.timer(what, of, now)
            if is_spent():
                break
        return self.study(now, is_spent)

    def set_path_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """The way to a mirror takes packets of at most ``mtu`` bytes, as this host's routes say: for legs to come."""
        self._legs.set_path_mtu(mirror, mtu)

    def close(self) -> list[Send]:
        """End all legs, so that no mirror waits for us."""
        self._guarded.close()
        return self._guarded.take_sends()

    @property
    def directory(self) -> Directory:
        """What is known of OpenFlow switches, to be kept over a restart."""
        return self._sessions.directory

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
        return self._sessions.take_orders()

    # Rules and backends that come and go

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on. Connections stay where they are, and legs with them: those of mirrors that the
        rules do not name any more go with end_removed(), connections of clients that they do not name with expel(),
        which comes before."""
        self._registry.reload(rules)
        self._ledger.reload(rules.services)
        self._take_mirrors(rules)

    def _take_mirrors(self, rules: Rules) -> None:
        """Those of before are known until prune(): what they have sent is still under way, and is not for clients."""
        self._wanted = [mirror for service in rules.services for mirror in service.mirrors]
        self._know_mirrors()

    def _know_mirrors(self) -> None:
        self._mirrors.update((endpoint_of(mirror), mirror) for mirror in self._wanted)
        self._sources.update(mirror.source.packed for mirror in self._wanted if mirror.source is not None)

    def expel(self, switches: Iterable[IPv4Network], ids: Iterable[int], now: float) -> list[Send]:
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

    def end_removed(self, leg_ids: Iterable[int], now: float) -> list[Send]:
        """End those of these legs whose mirrors the rules do not name any more."""
        self._guarded.end_removed(leg_ids)
        return self.study(now)

    def prune(self) -> list[Kept]:
        """Forget mirrors that the rules do not name any more, and services and backends that have no connections left
        either; gives those that have some."""
        self._mirrors.clear()
        self._sources.clear()
        self._know_mirrors()
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

    def set_marks(self, marks: Mapping[tuple[Endpoint, Endpoint], int]) -> None:
        """The loop may leave it to the kernel to translate packets of these services and backends: it knows them by
        these marks. What receive() gives is translated."""
        self._registry.set_marks(marks)

    def kill(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Send]:
        """Reset those of these flows that are a backend's; ValueError where there is none of that name."""
        self._failover.kill(self._nat.of_backend(self._registry.backend_named(service, backend), ids), now)
        return self.study(now)

    def reset_again(self, service: str, backend: str, ids: Iterable[int], now: float) -> list[Send]:
        """Send the RSTs of those of these flows once more that kill() has reset, and that are a backend's."""
        self._failover.reset_again(self._nat.of_backend(self._registry.backend_named(service, backend), ids))
        return self.study(now)

    def stand_down(self, ids: Iterable[int], now: float) -> list[Send]:
        """Another host passes the packets of these flows from now on: their legs end, and should they come here again,
        they are met in their middle."""
        self._failover.stand_down(ids, now)
        return self.study(now)

    # Packets of mirrors

    def _from_mirror(self, segment: Segment, checksum: Checksum, now: float) -> Decision:
        mirror, local = (segment.src, segment.sport), (segment.dst, segment.dport)
        if not self._guarded.has_leg(mirror, local, otherwise=True):
            if self._registry.services_of(mirror) or self._mirrors[mirror].direct or segment.dst in self._sources:
                return Decision(Accept(), [])
            verdict = self._drop("mirror-without-leg")
            is_known_elsewhere = not self.handover.is_active
            if is_known_elsewhere or segment.flags & RST or not segment_checksum_ok(segment, checksum):
                return Decision(verdict, [])
            return Decision(verdict, [Send(build_reset(segment))])
        if not segment_checksum_ok(segment, checksum):
            return Decision(self._drop("mirror-bad-checksum"), [])
        self._stats.count("mirror_packets")
        self._guarded.from_mirror(segment, now)
        return Decision(Drop("consumed"), self._guarded.take_sends())

    # The rest

    def _is_bound(self, backend: Endpoint, client: Endpoint) -> bool:
        return self._nat.find_reply(backend, client) is not None

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
            "faults": self.faults.show(self._shard.number),
            "answers_left_out": dict(sorted(self.directory.left_out.items())),
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
            decisions = self._sessions.decisions_of(flow.row.id)
            if decisions is not None:
                found.append({"client": show(flow.client), "service": flow.service.name, **decisions.plain()})
        return found

    def lingering(self, now: float) -> list[dict[str, Any]]:
        """The legs that have outlived their flow, each below a flow whose state is ``gone``."""
        return self._mirroring.lingering(now)

    def _show(self, flow: Flow, now: float) -> dict[str, Any]:
        row = flow.row
        is_guest = is_foreign(row)
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
