"""Several natmirrors behind routes of equal cost, simulated: who is where, who is known, what has to be told.

Hosts and backends come and go while connections live. What each host would decide is natmirror's own code: Maglev and
round-robin with their tables (schedulers.py), who is down or drained (admission.py). What is played is the rest:
routers, time, and the records that hosts share. There is one world, in which hosts share what cannot be derived; what
would have broken without that is counted beside it, each connection once.
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
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.nat.schedulers import Maglev, RoundRobin
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Backend, Balance, HashInput, Rules, Service
from natmirror.rules import Pool as PoolRules

_ANYBODY: Endpoint = (bytes(4), 0)  # whose turn it is does not depend on who asks
_AGAIN = 1.0  # seconds after which a client whose connection was reset opens another
_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client means to do: when it opens, how long it stays, and what it is hashed to."""

    at: float
    seconds: float
    slot: int
    """Its entry in Maglev's table."""
    hash: int
    """The router's."""


@dataclass(frozen=True, slots=True)
class Event:
    """A host ``leaves`` or ``returns``; a backend goes ``down`` or ``up``, has to ``drain`` or is to
    ``undrain``; the rules ``add`` or ``remove`` it."""

    at: float
    what: str
    who: int


@dataclass(slots=True, eq=False)
class Flow:
    """A living connection: where it is, whose it is, and since when the others have been told."""

    plan: Connection
    ends_at: float
    host: int
    backend: str
    told_at: float | None = None
    has_moved: bool = False
    is_broken: bool = False
    """It would not have lived without shared state."""


@dataclass(slots=True)
class Outcome:
    """What became of all connections."""

    flows: int = 0
    moved: int = 0
    """That changed their host while they lived."""
    moves: list[float] = field(default_factory=list)
    """Of each change of hosts: its share of the living."""
    broken_alone: int = 0
    """Without shared state: the new host would have sent them to another backend."""
    broken: int = 0
    """With it: the record had not arrived yet."""
    records: int = 0
    """Written and taken back, by all hosts."""
    burst: int = 0
    """The most by one host at one change."""
    held: int = 0
    """The most that there were at once."""
    held_seconds: float = 0.0
    """How many there were, summed up over time."""
    rows: int = 0
    """The most connections that one host had in its table, those that have gone elsewhere too."""


class Balancing:
    """A service's pool, as each host keeps it."""

    def __init__(self, backends: int, balance: Balance, hosts: int) -> None:
        self._balance = balance
        self._hosts = hosts
        self._members = set(range(backends))
        self._out: dict[int, set[str]] = {}
        """Who is down, or drained, or both."""
        self._begin(0.0)

    def pick(self, host: int, slot: int) -> str | None:
        """The backend of a new connection at a host; None where nobody is open."""
        if self._balance is Balance.MAGLEV:
            return self._names[self._open[slot]] if self._open else None
        chosen = self._turns[host].pick(_ANYBODY)
        return None if chosen is None else chosen.name

    def derive(self, slot: int) -> str:
        """The backend that the rules alone give."""
        return self._names[self._whole[slot]]

    def take(self, event: Event) -> list[str]:
        """The backends whose connections are reset by what happens to one."""
        name, out = _name(event.who), self._out.setdefault(event.who, set())
        match event.what:
            case "down":
                out.add("down")
                return self._told(self._pool.set_health(_SERVICE, name, is_up=False, reason="dead", now=event.at))
            case "up":
                out.discard("down")
                return self._told(self._pool.set_health(_SERVICE, name, is_up=True, reason="", now=event.at))
            case "drain":
                out.add("drained")
                return self._told(self._pool.drain(_SERVICE, name, None, event.at))
            case "undrain":
                out.discard("drained")
                return self._told(self._pool.undrain(_SERVICE, name, event.at))
            case "add":
                self._members.add(event.who)
                return self._begin(event.at)
            case "remove":
                self._members.discard(event.who)
                return [*self._begin(event.at), name]
        raise ValueError(f"no backend does that: {event.what}")

    def _begin(self, now: float) -> list[str]:
        """The rules as they are now."""
        members = tuple(Backend(_name(who), IPv4Address("10.20.0.1") + who, 6653) for who in sorted(self._members))
        pool = PoolRules(self._balance, HashInput.ADDRESS, members)
        service = Service(_SERVICE, IPv4Address("192.0.2.100"), 6653, pool, ())
        self._pool = Admission(Rules("", (), (service,)), now)
        self._backends = {backend.name: backend for backend in members}
        self._names = [backend.name for backend in members]
        self._rules = pool
        self._whole = Maglev(pool).table
        self._shares = dict.fromkeys(members, 1.0)
        self._turns = [RoundRobin(pool) for _ in range(self._hosts)]
        killed = self._told([])
        for who in sorted(self._members):
            for why in sorted(self._out.get(who, ())):
                killed += self.take(Event(now, "drain" if why == "drained" else "down", who))
        return killed

    def _told(self, changes: Iterable[AdmissionChange]) -> list[str]:
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
    """Hosts, what they know, and all living connections. A record is on every host ``lag`` seconds after it was
    written."""

    def __init__(self, hosts: int, router: Router, balancing: Balancing, lag: float) -> None:
        self.outcome = Outcome()
        self._hosts = set(range(hosts))
        self._router = router
        self._balancing = balancing
        self._lag = lag
        self._living: dict[Flow, None] = {}
        """In the order of their opening."""
        self._at = Counter(dict.fromkeys(range(hosts), 0))
        self._left: list[dict[Flow, float]] = [{} for _ in range(hosts)]
        """Of each host: connections that have gone elsewhere, and until when it knows them still."""
        self._held = 0
        self._counted_at = 0.0

    def run(self, connections: Sequence[Connection], events: Sequence[Event], until: float) -> Outcome:
        """Play everything that happens until then, in the order of time."""
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
                coming = [(again.at, again) for again in self._happen(item)]
            for at, what in coming:
                number += 1
                heappush(agenda, (at, number, what))
        self._count(0, until)
        return self.outcome

    def underivable(self) -> int:
        """How many living connections the rules alone would send elsewhere, counted anew."""
        return sum(self._balancing.derive(flow.plan.slot) != flow.backend for flow in self._living)

    @property
    def held(self) -> int:
        """How many records there are."""
        return self._held

    def _open(self, plan: Connection, now: float) -> list[Flow]:
        host = self._router.host_of(plan.hash)
        backend = self._balancing.pick(host, plan.slot)
        if backend is None:
            return []
        flow = Flow(plan, now + plan.seconds, host, backend)
        self._living[flow] = None
        self._at[host] += 1
        self.outcome.flows += 1
        self._tell(flow, now)
        return [flow]

    def _close(self, flow: Flow, now: float) -> None:
        if flow not in self._living:
            return  # it was reset before
        del self._living[flow]
        self._at[flow.host] -= 1
        if flow.told_at is not None:
            self._count(-1, now)

    def _tell(self, flow: Flow, now: float) -> bool:
        """Write the connection's record where it has become necessary, or take it back; gives whether either."""
        is_needed = self._balancing.derive(flow.plan.slot) != flow.backend
        if is_needed == (flow.told_at is not None):
            return False
        flow.told_at = now if is_needed else None
        self._count(1 if is_needed else -1, now)
        return True

    def _count(self, by: int, now: float) -> None:
        """One record more or less."""
        outcome = self.outcome
        outcome.held_seconds += self._held * (now - self._counted_at)
        self._held, self._counted_at = self._held + by, now
        outcome.held = max(outcome.held, self._held)
        outcome.records += abs(by)

    def _happen(self, event: Event) -> list[Connection]:
        """What comes of an event: connections that were reset are opened again."""
        if event.what in ("leaves", "returns"):
            return self._reopen(self._rehash(event), event.at)
        killed = self._balancing.take(event)
        lost = [flow for flow in self._living if flow.backend in killed]
        again = self._reopen(lost, event.at)
        if event.what in ("add", "remove"):
            told = Counter(flow.host for flow in self._living if self._tell(flow, event.at))
            self.outcome.burst = max(self.outcome.burst, *told.values(), 0)
        return again

    def _reopen(self, lost: Iterable[Flow], now: float) -> list[Connection]:
        again = []
        for flow in lost:
            self._close(flow, now)
            left = flow.ends_at - now - _AGAIN
            if left > 0:
                again.append(Connection(now + _AGAIN, left, flow.plan.slot, flow.plan.hash))
        return sorted(again, key=lambda one: (one.slot, one.hash))

    def _rehash(self, event: Event) -> list[Flow]:
        """A host has left or is back, and the router spreads the living anew; gives those that did not live."""
        if event.what == "leaves":
            self._hosts.discard(event.who)
            self._left[event.who].clear()  # it comes back as one that has just been started
        else:
            self._hosts.add(event.who)
        self._router.change(sorted(self._hosts))
        moved = [flow for flow in self._living if self._router.host_of(flow.plan.hash) != flow.host]
        lost = [flow for flow in moved if not self._move(flow, event.at)]
        self.outcome.moves.append(len(moved) / max(1, len(self._living)))
        for host in self._hosts:
            left = self._left[host] = {flow: until for flow, until in self._left[host].items() if until > event.at}
            self.outcome.rows = max(self.outcome.rows, self._at[host] + len(left))
        return lost

    def _move(self, flow: Flow, now: float) -> bool:
        """A connection comes to the host that the router has for it now; gives whether it lives on."""
        outcome, host = self.outcome, self._router.host_of(flow.plan.hash)
        if flow.host in self._hosts:
            self._left[flow.host][flow] = now + TIMEOUTS[State.ESTABLISHED]
        self._at[flow.host] -= 1
        self._at[host] += 1
        flow.host = host
        outcome.moved += not flow.has_moved
        flow.has_moved = True
        is_known = self._left[host].pop(flow, now) > now
        if is_known or flow.told_at is None:
            return True
        outcome.broken_alone += not flow.is_broken
        flow.is_broken = True
        if now - flow.told_at >= self._lag:
            return True
        outcome.broken += 1
        return False


@lru_cache(maxsize=256)
def _table(pool: PoolRules, shares: tuple[float, ...]) -> "array[int]":
    """Maglev's table for its backends' shares."""
    maglev = Maglev(pool)
    maglev.set_shares(dict(zip(pool.backends, shares, strict=True)))
    return maglev.table


def _name(who: int) -> str:
    return f"c{who + 1}"
