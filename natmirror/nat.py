"""Bindings: which backend a client's connection belongs to, and which service a backend's reply must seem to come from.

The mapping is a pure function of the rules and the client wherever it can be (Maglev for requests, the backend's
address and port for replies), so that a connection met in its middle goes on; a binding is kept because other
schedulers, and backends that did not answer, make the function's answer change under a living flow.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from natmirror import tcp
from natmirror.attempts import ANSWER_TIMEOUT, Attempts
from natmirror.balance import Maglev, RoundRobin, Scheduler
from natmirror.fastpath import DIRECT, LOOSE, TAPPED, WATCHED, FlowTable
from natmirror.packet import Endpoint, Segment, endpoint_of, show
from natmirror.rules import Backend, Rules, Service
from natmirror.tcp import State


@dataclass(slots=True, eq=False)
class Flow:
    """A client's connection: its numbers in ``row`` (the C gear's struct), and what only Python knows of it."""

    row: Any
    client: Endpoint
    service: Service
    backend: Backend | None
    """None for a service without a pool, and for a client that talks to a backend directly."""
    syn: Segment | None = None
    """The client's first SYN; None where the connection was met in its middle."""
    syn_at: float = 0.0
    new_syn: Segment | None = None
    """A SYN inside a living connection, until the backend says what it makes of it."""
    new_syn_at: float = 0.0

    @property
    def picked_up(self) -> bool:
        """Whether the connection was met in its middle."""
        return self.syn is None

    @property
    def state(self) -> State:
        """The tracker's state."""
        return State(self.row.state)

    @property
    def direct(self) -> bool:
        """Whether the client talks to the backend itself, and we only let it pass."""
        return bool(self.row.flags & DIRECT)


class Nat:
    """All flows, and the mapping of those that have none.

    ``opening`` is told of a backend and a client before there is a connection between them, ``forgotten`` of a flow
    before its numbers go.
    """

    def __init__(
        self,
        rules: Rules,
        table: FlowTable,
        opening: Callable[[Endpoint, Endpoint], None],
        forgotten: Callable[[Flow], None],
    ) -> None:
        self._opening = opening
        self._forgotten = forgotten
        self._rules = rules
        self._table = table
        self._flows: dict[int, Flow] = {}
        table.set_timeouts([tcp.TIMEOUTS[state] for state in State])
        self._attempts = Attempts()
        self._connections: Counter[tuple[str, str]] = Counter()
        self._services_of: dict[Endpoint, list[Service]] = {}
        self._schedulers: dict[str, Scheduler] = {}
        self._maglev: dict[str, Maglev] = {}
        for service in rules.services:
            if service.pool is None:
                continue
            self._maglev[service.name] = Maglev(service.pool)
            round_robin = service.pool.balance == "round-robin"
            self._schedulers[service.name] = RoundRobin(service.pool) if round_robin else self._maglev[service.name]
            for backend in service.pool.backends:
                self._services_of.setdefault(endpoint_of(backend), []).append(service)

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._flows.values())

    def ids(self) -> list[int]:
        """The numbers of all flows; a number is given anew when its flow is gone."""
        return list(self._flows)

    def by_ids(self, ids: Iterable[int]) -> Iterator[Flow]:
        """The flows with these numbers that are still there."""
        return (self._flows[number] for number in ids if number in self._flows)

    def backends(self) -> list[dict[str, Any]]:
        """Each backend with its flows now and its connections ever, for a snapshot."""
        now = Counter((flow.service.name, flow.backend.name) for flow in self if flow.backend is not None)
        return [
            {
                "service": service.name,
                "name": backend.name,
                "address": show(endpoint_of(backend)),
                "flows": now[service.name, backend.name],
                "connections": self._connections[service.name, backend.name],
            }
            for service in self._rules.services
            if service.pool is not None
            for backend in service.pool.backends
        ]

    # Finding

    def find_orig(self, client: Endpoint, service: Endpoint) -> Flow | None:
        """The flow of a packet from the client to the service."""
        row = self._table.find_orig(client, service)
        return None if row is None else self._flows[row.id]

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Flow | None:
        """The flow of a packet from the backend to the client."""
        row = self._table.find_reply(backend, client)
        return None if row is None else self._flows[row.id]

    def services_of(self, backend: Endpoint) -> list[Service]:
        """The services in whose pool ``backend`` is: more than one makes unbound replies ambiguous."""
        return self._services_of.get(backend, [])

    def derived_backend(self, service: Service, client: Endpoint) -> Backend:
        """The backend that Maglev gives for a client, whatever the pool's scheduler: the answer that needs no state."""
        return self._maglev[service.name].pick(client)

    # Opening

    def open(self, service: Service, syn: Segment, now: float) -> Flow | None:
        """A new flow for the client's SYN, in place of any older one of its ports; None when the table is full."""
        client = (syn.src, syn.sport)
        return self._begin(client, service, self._choose(service, client, now), syn, now)

    def pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        """A flow for a connection that is met in its middle; None when the table is full."""
        flow = self._insert(client, service, backend)
        if flow is not None:
            tcp.begin_loose(flow.row)
            flow.row.flags |= LOOSE
            self.touch(flow, now)
        return flow

    def open_direct(self, service: Service, backend: Endpoint, client: Endpoint, now: float) -> None:
        """Remember that the client talks to the backend itself, so that what follows passes unchanged too."""
        self._opening(backend, client)
        self._discard_twins(client, backend, backend)
        row = self._table.insert(client, backend, backend)
        if row is not None:
            row.flags = DIRECT
            row.state = State.ESTABLISHED
            self.touch(self._keep(Flow(row, client, service, None)), now)

    def reopen(self, flow: Flow, syn: Segment, now: float) -> Flow:
        """The backend has accepted a new connection of the same ports: the flow begins anew, where it was."""
        fresh = self._begin(flow.client, flow.service, flow.backend, syn, now)
        assert fresh is not None, "the row that the old flow has left"
        return fresh

    def await_new_syn(self, flow: Flow, syn: Segment, now: float) -> bool:
        """Whether a SYN on a living connection is to go to its backend: yes, until that has left it unanswered."""
        if flow.state not in (State.ESTABLISHED, State.CLOSING):
            return False
        if flow.syn is not None and flow.syn.seq == syn.seq:
            return True  # the connection's own, late or repeated
        if flow.new_syn is None or flow.new_syn.seq != syn.seq:
            flow.new_syn, flow.new_syn_at = syn, now
        return now - flow.new_syn_at < ANSWER_TIMEOUT

    def is_unanswered(self, flow: Flow, now: float) -> bool:
        """Whether the backend has left the client's SYN without an answer for longer than it should."""
        return flow.state is State.SYN_SENT and now - flow.syn_at >= ANSWER_TIMEOUT

    def hear(self, answered: Iterable[int]) -> None:
        """Backends have accepted the flows with these numbers while Python was not asked."""
        for flow in self.by_ids(answered):
            self.answered(flow)

    def answered(self, flow: Flow) -> None:
        """The backend has accepted the connection."""
        if flow.backend is not None:
            self._connections[flow.service.name, flow.backend.name] += 1
            self._attempts.answered(self._attempts_key(flow), flow.backend)

    def refused(self, flow: Flow, now: float) -> None:
        """The backend has refused the connection: the client's next SYN goes to another."""
        if flow.backend is not None:
            self._attempts.refused(self._attempts_key(flow), flow.backend, now)

    def _choose(self, service: Service, client: Endpoint, now: float) -> Backend | None:
        if service.pool is None:
            return None
        key = (service.name, client[0])
        avoid = self._attempts.to_avoid(key, now)
        if len(avoid) >= len(service.pool.backends):
            self._attempts.forget(key)
            avoid = []
        backend = self._schedulers[service.name].pick(client, avoid)
        self._attempts.tried(key, backend, now)
        return backend

    def _begin(
        self, client: Endpoint, service: Service, backend: Backend | None, syn: Segment, now: float
    ) -> Flow | None:
        flow = self._insert(client, service, backend)
        if flow is not None:
            flow.syn, flow.syn_at = syn, now
            tcp.begin(flow.row, syn)
            self.touch(flow, now)
        return flow

    def _insert(self, client: Endpoint, service: Service, backend: Backend | None) -> Flow | None:
        here = endpoint_of(service)
        there = here if backend is None else endpoint_of(backend)
        self._opening(there, client)
        self._discard_twins(client, here, there)
        row = self._table.insert(client, here, there)
        if row is None:
            return None
        row.flags = (WATCHED if service.pool is None else 0) | (TAPPED if service.mirrors else 0)
        return self._keep(Flow(row, client, service, backend))

    def _discard_twins(self, client: Endpoint, here: Endpoint, there: Endpoint) -> None:
        """Make room: whatever else holds one of the two tuples is older than what comes."""
        for flow in (self.find_orig(client, here), self.find_reply(there, client)):
            if flow is not None and flow.row.id in self._flows:
                self.forget(flow)

    def _keep(self, flow: Flow) -> Flow:
        self._flows[flow.row.id] = flow
        return flow

    def _attempts_key(self, flow: Flow) -> tuple[str, bytes]:
        return flow.service.name, flow.client[0]

    # Ageing

    def touch(self, flow: Flow, now: float, *, moved: bool = True) -> None:
        """A packet of the flow has passed; ``moved`` says that it changed the flow's state, and so its timeout."""
        self._table.touch(flow.row, now, moved=moved)

    def expire(self, flow_id: int, now: float) -> None:
        """The flow's deadline has come: it is forgotten."""
        flow = self._flows[flow_id]
        if flow.state is State.SYN_SENT:
            self.refused(flow, now)
        self.forget(flow)

    def forget(self, flow: Flow) -> None:
        """Take the flow out of the table."""
        self._forgotten(flow)
        del self._flows[flow.row.id]
        self._table.remove(flow.row)
