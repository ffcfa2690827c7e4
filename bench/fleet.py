"""A fleet of hosts behind routes of equal cost, simulated: which host has a connection, and which records it needs.

Hosts and backends come and go while connections live. natmirror's own code decides for each host: Maglev and
round-robin with their tables (schedulers.py), and the shares of backends that are down or drained (admission.py).
Simulated are the routers, the time, and the records that the hosts share. The simulation runs once, with hosts that
share pinned bindings. It also counts each connection that would have broken without that, once.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heapify, heappop, heappush
from ipaddress import IPv4Address

from bench.ecmp import Router
from natmirror.backends.admission import Admission, AdmissionChange, Kill, Share
from natmirror.nat.schedulers import Maglev, RoundRobin
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Backend, Balance, HashInput, Override, OverrideKind, Overrides, Rules, Service, Timeouts
from natmirror.rules import Pool as PoolRules

_ANY_CLIENT: Endpoint = (bytes(4), 0)  # round-robin gives any client the next backend
_REOPEN_AFTER = 1.0  # seconds after which a client whose connection was reset opens another
_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that a client is going to open."""

    at: float
    """The time when the client opens it, in seconds."""
    seconds: float
    """How long it lives."""
    slot: int
    """Its entry in Maglev's table."""
    hash: int
    """The router's hash of it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A host ``leaves`` or ``returns``; a backend goes ``down`` or ``up``; the operator gives the command ``drain`` or
    ``undrain``; the rules ``add`` or ``remove`` a backend."""

    at: float
    what: str
    number: int
    """The host's, or the backend's."""


@dataclass(slots=True, eq=False)
class Flow:
    """A connection that is open, with its host and its backend."""

    connection: Connection
    ends_at: float
    host: int
    backend: str
    recorded_at: float | None = None
    """When its record was written; None: its binding is derived, so it needs none."""
    has_moved: bool = False
    is_broken: bool = False
    """Whether it would have broken without shared records."""


@dataclass(slots=True)
class Outcome:
    """The results of a simulation, over all connections."""

    flows: int = 0
    moved: int = 0
    """Connections that changed their host."""
    moves: list[float] = field(default_factory=list)
    """For each change of hosts, the part of the open connections that changed their host."""
    broken_alone: int = 0
    """Connections that break without shared records, because the new host derives another backend."""
    broken: int = 0
    """Connections that broke because their record had not reached the new host yet."""
    record_changes: int = 0
    """Records that all hosts wrote or removed."""
    burst: int = 0
    """The most records that one host wrote or removed at one change of the pool."""
    max_records: int = 0
    """The most records that existed at once."""
    record_seconds: float = 0.0
    """The number of records, integrated over time."""
    rows: int = 0
    """The most flows in one host's table, including flows that have moved to another host."""


class Balancing:
    """A service's pool, the same on each host except for round-robin's turns."""

    def __init__(self, backends: int, balance: Balance, hosts: int) -> None:
        self._balance = balance
        self._hosts = hosts
        self._members = set(range(backends))
        self._closed: dict[int, set[str]] = {}
        """Why a backend takes no new connections: ``down``, ``drained`` or both."""
        self._load_rules(0.0)

    def pick(self, host: int, slot: int) -> str | None:
        """Return the backend of a new connection on a host; None where all backends are closed."""
        if self._balance is Balance.MAGLEV:
            return self._names[self._open[slot]] if self._open else None
        chosen = self._turns[host].pick(_ANY_CLIENT)
        return None if chosen is None else chosen.name

    def derive(self, slot: int) -> str:
        """Return the backend that the rules alone give."""
        return self._names[self._whole[slot]]

    def apply(self, event: Event) -> list[str]:
        """Apply an event; return the backends whose connections it resets."""
        name, closed = _name(event.number), self._closed.setdefault(event.number, set())
        match event.what:
            case "down":
                closed.add("down")
                return self._update(self._pool.set_health(_SERVICE, name, is_up=False, reason="dead", now=event.at))
            case "up":
                closed.discard("down")
                return self._update(self._pool.set_health(_SERVICE, name, is_up=True, reason="", now=event.at))
            case "drain":
                closed.add("drained")
                return self._update(self._follow(event.at))
            case "undrain":
                closed.discard("drained")
                return self._update(self._follow(event.at))
            case "add":
                self._members.add(event.number)
                return self._load_rules(event.at)
            case "remove":
                self._members.discard(event.number)
                return [*self._load_rules(event.at), name]
        raise ValueError(f"no event of a backend is called {event.what}")

    def _follow(self, now: float) -> list[AdmissionChange]:
        drained = (_name(number) for number in self._members if "drained" in self._closed.get(number, ()))
        drains = [Override(OverrideKind.DRAIN, _SERVICE, name, "", now) for name in drained]
        return self._pool.follow(Overrides({one.key: one for one in drains}), now, now)

    def _load_rules(self, now: float) -> list[str]:
        """Load rules with the present members; return the backends whose connections that resets."""
        members = tuple(
            Backend(_name(number), IPv4Address("10.20.0.1") + number, 6653) for number in sorted(self._members)
        )
        pool = PoolRules(self._balance, HashInput.ADDRESS, members)
        service = Service(_SERVICE, IPv4Address("192.0.2.100"), 6653, pool, ())
        self._pool = Admission(Rules("", (), (service,)), now)
        self._backends = {backend.name: backend for backend in members}
        self._names = [backend.name for backend in members]
        self._rules = pool
        self._whole = Maglev(pool).table
        self._shares = dict.fromkeys(members, 1.0)
        self._turns = [RoundRobin(pool) for _ in range(self._hosts)]
        killed = self._update([])
        for number in sorted(self._members):
            for why in sorted(self._closed.get(number, ())):
                killed += self.apply(Event(now, "drain" if why == "drained" else "down", number))
        return killed

    def _update(self, changes: Iterable[AdmissionChange]) -> list[str]:
        """Update the tables of all hosts; return the backends whose connections are reset."""
        killed = []
        for change in changes:
            if isinstance(change, Share):
                self._shares[self._backends[change.backend]] = change.share
            elif isinstance(change, Kill):
                killed.append(change.backend)
        self._open = _table(self._rules, tuple(self._shares.values()))
        for turns in self._turns:
            turns.set_shares(self._shares)
        return killed


class Fleet:
    """The hosts, their tables, and all open connections. A record reaches every host ``lag`` seconds after it was
    written."""

    def __init__(self, hosts: int, router: Router, balancing: Balancing, lag: float) -> None:
        self.outcome = Outcome()
        self._hosts = set(range(hosts))
        self._router = router
        self._balancing = balancing
        self._lag = lag
        self._living: dict[Flow, None] = {}
        """The open connections, in the order of their opening."""
        self._at = Counter(dict.fromkeys(range(hosts), 0))
        """The number of open connections on each host."""
        self._left: list[dict[Flow, float]] = [{} for _ in range(hosts)]
        """For each host, the flows that have moved to another host, and when they expire in its table."""
        self._records = 0
        self._counted_at = 0.0

    def run(self, connections: Sequence[Connection], events: Sequence[Event], until: float) -> Outcome:
        """Simulate everything up to a time, in order."""
        first: list[Connection | Event] = [*events, *connections]
        agenda: list[tuple[float, int, Connection | Event | Flow]] = [
            (one.at, number, one) for number, one in enumerate(first)
        ]
        heapify(agenda)
        number = len(agenda)
        while agenda and agenda[0][0] < until:
            now, _, item = heappop(agenda)
            if isinstance(item, Flow):
                self._close(item, now)
                continue
            coming: list[tuple[float, Connection | Flow]]
            if isinstance(item, Connection):
                coming = [(flow.ends_at, flow) for flow in self._open(item, now)]
            else:
                coming = [(again.at, again) for again in self._handle(item)]
            for at, what in coming:
                number += 1
                heappush(agenda, (at, number, what))
        self._count(0, until)
        return self.outcome

    def count_pinned(self) -> int:
        """Return the number of open connections whose binding is pinned."""
        return sum(self._is_pinned(flow) for flow in self._living)

    @property
    def records(self) -> int:
        """The number of records that exist."""
        return self._records

    def _is_pinned(self, flow: Flow) -> bool:
        return self._balancing.derive(flow.connection.slot) != flow.backend

    def _open(self, connection: Connection, now: float) -> list[Flow]:
        host = self._router.host_of(connection.hash)
        backend = self._balancing.pick(host, connection.slot)
        if backend is None:
            return []
        flow = Flow(connection, now + connection.seconds, host, backend)
        self._living[flow] = None
        self._at[host] += 1
        self.outcome.flows += 1
        self._update_record(flow, now)
        return [flow]

    def _close(self, flow: Flow, now: float) -> None:
        if flow not in self._living:
            return  # it was reset before
        del self._living[flow]
        self._at[flow.host] -= 1
        if flow.recorded_at is not None:
            self._count(-1, now)

    def _update_record(self, flow: Flow, now: float) -> bool:
        """Write the flow's record if it needs one now, or remove it; return whether either was done."""
        is_pinned = self._is_pinned(flow)
        if is_pinned == (flow.recorded_at is not None):
            return False
        flow.recorded_at = now if is_pinned else None
        self._count(1 if is_pinned else -1, now)
        return True

    def _count(self, by: int, now: float) -> None:
        """Count a record that was written (1) or removed (-1)."""
        outcome = self.outcome
        outcome.record_seconds += self._records * (now - self._counted_at)
        self._records, self._counted_at = self._records + by, now
        outcome.max_records = max(outcome.max_records, self._records)
        outcome.record_changes += abs(by)

    def _handle(self, event: Event) -> list[Connection]:
        """Apply an event; return the connections that clients open because theirs were reset."""
        if event.what in ("leaves", "returns"):
            return self._reopen(self._rehash(event), event.at)
        killed = self._balancing.apply(event)
        lost = [flow for flow in self._living if flow.backend in killed]
        again = self._reopen(lost, event.at)
        if event.what in ("add", "remove"):
            written = Counter(flow.host for flow in self._living if self._update_record(flow, event.at))
            self.outcome.burst = max(self.outcome.burst, *written.values(), 0)
        return again

    def _reopen(self, lost: Iterable[Flow], now: float) -> list[Connection]:
        again = []
        for flow in lost:
            self._close(flow, now)
            left = flow.ends_at - now - _REOPEN_AFTER
            if left > 0:
                again.append(Connection(now + _REOPEN_AFTER, left, flow.connection.slot, flow.connection.hash))
        return sorted(again, key=lambda one: (one.slot, one.hash))

    def _rehash(self, event: Event) -> list[Flow]:
        """Have the router spread the open connections again after a change of hosts; return those that broke."""
        if event.what == "leaves":
            self._hosts.discard(event.number)
            self._left[event.number].clear()  # it returns freshly started
        else:
            self._hosts.add(event.number)
        self._router.change(sorted(self._hosts))
        moved = [flow for flow in self._living if self._router.host_of(flow.connection.hash) != flow.host]
        lost = [flow for flow in moved if not self._move(flow, event.at)]
        self.outcome.moves.append(len(moved) / max(1, len(self._living)))
        for host in self._hosts:
            left = self._left[host] = {flow: until for flow, until in self._left[host].items() if until > event.at}
            self.outcome.rows = max(self.outcome.rows, self._at[host] + len(left))
        return lost

    def _move(self, flow: Flow, now: float) -> bool:
        """Move a connection to the host that the router chooses now; return whether it survives."""
        outcome, host = self.outcome, self._router.host_of(flow.connection.hash)
        if flow.host in self._hosts:
            self._left[flow.host][flow] = now + Timeouts().established
        self._at[flow.host] -= 1
        self._at[host] += 1
        flow.host = host
        outcome.moved += not flow.has_moved
        flow.has_moved = True
        is_known = self._left[host].pop(flow, now) > now
        if is_known or flow.recorded_at is None:
            return True
        outcome.broken_alone += not flow.is_broken
        flow.is_broken = True
        if now - flow.recorded_at >= self._lag:
            return True
        outcome.broken += 1
        return False


@lru_cache(maxsize=256)
def _table(pool: PoolRules, shares: tuple[float, ...]) -> "array[int]":
    """Return Maglev's table for its backends' shares."""
    maglev = Maglev(pool)
    maglev.set_shares(dict(zip(pool.backends, shares, strict=True)))
    return maglev.table


def _name(number: int) -> str:
    return f"c{number + 1}"
