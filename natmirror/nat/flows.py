"""Bindings: which backend a client's connection belongs to, and which service a backend's reply must seem to come from.

The mapping is a pure function of the rules and the client wherever it can be (Maglev for requests, the backend's
address and port for replies), so that a connection that is picked up goes on; a binding is kept because other
schedulers, and backends that did not answer, make the function's answer change under a living flow.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from natmirror.fastpath import NO_BACKEND, SYN_ANSWER_TIMEOUT, FlowRow, FlowTable, Gear
from natmirror.fastpath.flow_flags import (
    has_python_state,
    is_direct,
    is_guest,
    is_picked_up,
    is_unanswered,
    set_picked_up,
    set_python_state,
    set_unanswered,
)
from natmirror.fastpath.flow_states import State
from natmirror.nat.failed_attempts import FailedAttempts
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import RST, SYN, Segment
from natmirror.rules import Backend, Service
from natmirror.tcp import tracker

_MAX_FAILED_SYNS = 64  # that wait to be read


@dataclass(slots=True, eq=False)
class Flow:
    """A client's connection: its numbers in ``row`` (the C gear's struct), and what only Python knows of it."""

    row: FlowRow
    client: Endpoint
    service: Service
    backend: Backend | None
    """None for a service without a pool, and for a client that talks to a backend directly."""
    syn_data: bytes = b""
    """What came with the client's SYN."""
    new_syn: Segment | None = None
    """A SYN inside a living connection, until the backend says what it makes of it."""
    new_syn_at: float = 0.0

    @property
    def is_picked_up(self) -> bool:
        """Whether the flow began in mid-connection: its SYN did not pass here."""
        return is_picked_up(self.row)

    @property
    def state(self) -> State:
        """The tracker's state."""
        return State(self.row.state)

    @property
    def is_direct(self) -> bool:
        """Whether the client talks to the backend itself, and we only let it pass."""
        return is_direct(self.row)

    def is_first_syn(self, syn: Segment) -> bool:
        """Whether a SYN of the client's is the connection's own, late or repeated."""
        return not is_picked_up(self.row) and not is_direct(self.row) and self.row.iss == syn.seq


class Nat:
    """All flows.

    A flow lives in its row; Python has an object for it only where there is more to know: of a service with mirrors, or
    with a SYN to be watched. ``opening`` is called with a backend and a client before there is a connection between
    them, ``forgotten`` with a flow that has an object before its row goes.
    """

    def __init__(
        self,
        services: ServiceTable,
        gear: Gear,
        opening: Callable[[Endpoint, Endpoint], None],
        forgotten: Callable[[Flow], None],
    ) -> None:
        self._opening = opening
        self._forgotten = forgotten
        self.table: FlowTable = gear.flows
        """The rows of all flows."""
        self._objects: dict[int, Flow] = {}
        self.failed_syns: list[tuple[str, str]] = []
        """Services and backends that have refused a SYN, or left it unanswered; the reader empties it."""
        self.evicted = 0
        """Flows that had to go because others needed their room: over, or half open."""
        self._services = services
        self._attempts = FailedAttempts(services.suspect)

    def of_backend(self, place: tuple[Service, Backend], ids: Iterable[int]) -> list[Flow]:
        """Return the flows with these numbers that are a backend's."""
        number = self._services.backend_number(place[0], endpoint_of(place[1]))
        rows = (self.table.row(flow_id) for flow_id in ids)
        return [self._view(row) for row in rows if row is not None and row.backend_id == number]

    def ids(self) -> list[int]:
        """Return the numbers of all flows; the number of a flow that is gone is used again."""
        return self.table.ids()

    def by_ids(self, ids: Iterable[int]) -> Iterator[Flow]:
        """Yield the flows with these numbers that are still there."""
        return (self._view(row) for number in ids if (row := self.table.row(number)) is not None)

    # Finding

    def find_orig(self, client: Endpoint, service: Endpoint) -> Flow | None:
        """Return the flow of a packet from the client to the service."""
        return self._flow(self.table.find_orig(client, service))

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Flow | None:
        """Return the flow of a packet from the backend to the client."""
        return self._flow(self.table.find_reply(backend, client))

    def _flow(self, row: FlowRow | None) -> Flow | None:
        return None if row is None else self._view(row)

    def _view(self, row: FlowRow) -> Flow:
        """Return the flow of a row: always the same object if it is kept, else one for this call."""
        if has_python_state(row):
            flow = self._objects[row.id]
            if row.state <= State.SYN_RECEIVED:  # from then on it goes by the rules of that moment
                flow.service = self._services.service(row.service_id)
            return flow
        client = (bytes(row.client[0:4]), row.client_port)
        backend = None if row.backend_id == NO_BACKEND else self._services.backend(row.backend_id)
        return Flow(row, client, self._services.service(row.service_id), backend)

    def keep_object(self, flow: Flow) -> Flow:
        """Keep the flow's object: mirroring, or a SYN that is watched, refers to it from now on."""
        set_python_state(flow.row)
        self._objects[flow.row.id] = flow
        return flow

    def has_object(self, flow: object) -> bool:
        """Whether a flow whose object is kept is still in the table."""
        return isinstance(flow, Flow) and self._objects.get(flow.row.id) is flow

    # Opening

    def open(self, service: Service, backend: Backend | None, syn: Segment, now: float) -> Flow | None:
        """Return a new flow for a client's SYN, in place of an older one of its ports; None when the table is full."""
        return self._begin((syn.src, syn.sport), service, backend, syn, now)

    def pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        """Return a flow for a connection that is picked up; None when the table is full."""
        flow = self._insert(client, service, backend, for_half_open=False)
        if flow is not None:
            tracker.begin_picked_up(flow.row)
            set_picked_up(flow.row)
            self.touch(flow, now)
        return flow

    def renew(self, flow: Flow, now: float) -> None:
        """The other host has reported the flow again. Unless it is a guest it expires: its end may not be reported."""
        if not is_guest(flow.row):
            self.release(flow)  # other rules may have made it one
        if not is_guest(flow.row):
            self.touch(flow, now)

    def release(self, flow: Flow) -> None:
        """Another host forwards the flow's packets from now on, if they have ever passed here."""
        if flow.state is State.ESTABLISHED:
            self.table.release(flow.row)

    def adopt(
        self, service: Service, client: Endpoint, backend: Backend | None, now: float, *, is_ours: bool
    ) -> Flow | None:
        """Return a flow for a connection that another host knows, with this backend, in place of any of its ports; None
        when the table is full. ``is_ours``: its packets pass here from now on."""
        flow = self._insert(client, service, backend, for_half_open=False, is_end=is_ours)
        if flow is not None:
            self.adopt_existing(flow, now, is_ours=is_ours)
        return flow

    def adopt_existing(self, flow: Flow, now: float, *, is_ours: bool) -> None:
        """Start a flow afresh that is known here: another host's record is newer. ``is_ours``: its packets pass here
        from now on."""
        tracker.begin_picked_up(flow.row)
        flow.row.reply.packets = 1  # its backend has spoken there: it is neither half open nor another backend's
        set_picked_up(flow.row)
        flow.syn_data, flow.new_syn = b"", None
        if is_ours:
            self.touch(flow, now)
        else:
            self.release(flow)
            self.renew(flow, now)

    def open_direct(self, service: Service, backend: Endpoint, client: Endpoint, now: float) -> None:
        """Note that the client talks to the backend itself, so that what follows passes unchanged too."""
        self._opening(backend, client)
        self._discard_twins(client, backend, backend)
        backend_id = self._services.backend_number(service, backend)
        row = self.table.insert(client, self._services.number(service), backend_id, direct=True)
        if row is not None:
            row.state = State.SYN_RECEIVED
            self.table.touch(row, now, moved=True)

    def direct_reply(self, flow: Flow, segment: Segment, now: float) -> None:
        """The backend goes on talking to a client that talks to it itself: so it has been answered."""
        begun = flow.state is State.SYN_RECEIVED and not segment.flags & (SYN | RST)
        if begun:
            flow.row.state = State.ESTABLISHED
        flow.row.reply.packets += 1
        self.touch(flow, now, moved=begun)

    @property
    def is_crowded(self) -> bool:
        """Whether flows are evicted before their handshakes are complete."""
        return self.table.victim(for_half_open=True) is not None

    def reopen(self, flow: Flow, syn: Segment, now: float) -> Flow:
        """The backend has accepted a new connection of the same ports: return its flow, in the row of the old one."""
        fresh = self._begin(flow.client, flow.service, flow.backend, syn, now)
        assert fresh is not None, "the row that the old flow has left"
        return fresh

    def await_new_syn(self, flow: Flow, syn: Segment, now: float) -> bool:
        """Return whether a SYN on a living connection goes to its backend: yes, until that has left it unanswered."""
        if flow.state not in (State.ESTABLISHED, State.CLOSING):
            return False
        if flow.is_first_syn(syn):
            return True
        if flow.new_syn is None or flow.new_syn.seq != syn.seq:
            self.keep_object(flow)
            flow.new_syn, flow.new_syn_at = syn, now
        return now - flow.new_syn_at < SYN_ANSWER_TIMEOUT

    def is_unanswered(self, flow: Flow, now: float) -> bool:
        """Return whether the backend has left the client's SYN unanswered for too long; if so, count it as failed."""
        if flow.state is not State.SYN_SENT or now - flow.row.created_at < SYN_ANSWER_TIMEOUT:
            return False
        self._failed(flow, flow.row.created_at)
        return True

    def answered(self, flow: Flow) -> None:
        """The backend has accepted the connection."""
        if flow.backend is not None:
            self._services.connected(flow.row.backend_id)
            self._attempts.answered(self._attempts_key(flow), flow.backend)

    def refused(self, flow: Flow, now: float) -> None:
        """The backend has refused the connection: the client's next SYN goes to another."""
        self._failed(flow, now)

    def _failed(self, flow: Flow, at: float) -> None:
        if flow.backend is not None:
            if len(self.failed_syns) < _MAX_FAILED_SYNS:
                self.failed_syns.append((flow.service.name, flow.backend.name))
            self._attempts.failed(self._attempts_key(flow), flow.backend, at)

    def choose(self, service: Service, client: Endpoint, now: float) -> Backend | None:
        """Return the backend for a client's new connection; None without a pool, or where no backend is left."""
        if service.pool is None:
            return None
        key = (self._services.number(service), client[0])
        candidates, full = self._services.candidates(service, service.pool)
        if not candidates:
            return service.pool.sorry
        avoid = self._attempts.to_avoid(key, now)
        if all(backend in avoid for backend in candidates):
            self._attempts.forget(key)
            avoid = []
        return self._services.scheduler(service).pick(client, [*avoid, *full])

    def _begin(
        self, client: Endpoint, service: Service, backend: Backend | None, syn: Segment, now: float
    ) -> Flow | None:
        flow = self._insert(client, service, backend, for_half_open=True)
        if flow is not None:
            tracker.begin(flow.row, syn)
            flow.row.created_at = now
            if syn.payload_len:
                self.keep_object(flow).syn_data = syn.payload
            self.touch(flow, now)
        return flow

    def _insert(
        self,
        client: Endpoint,
        service: Service,
        backend: Backend | None,
        *,
        for_half_open: bool,
        is_end: bool = True,
    ) -> Flow | None:
        here = endpoint_of(service)
        there = here if backend is None else endpoint_of(backend)
        self._opening(there, client)
        self._discard_twins(client, here, there, is_end=is_end)
        victim = self.table.victim(for_half_open=for_half_open)
        if victim is not None:
            self.forget(self._view(victim))
            self.evicted += 1
        backend_id = NO_BACKEND if backend is None else self._services.backend_number(service, there)
        return self._flow(self.table.insert(client, self._services.number(service), backend_id))

    def _discard_twins(self, client: Endpoint, here: Endpoint, there: Endpoint, *, is_end: bool = True) -> None:
        """Forget older flows that hold one of the two tuples. ``is_end``: their connections are over."""
        for find, ends in ((self.table.find_orig, (client, here)), (self.table.find_reply, (there, client))):
            row = find(*ends)
            if row is not None:
                if is_end:
                    self.table.end(row)
                self.forget(self._view(row))

    def _attempts_key(self, flow: Flow) -> tuple[int, bytes]:
        return flow.row.service_id, flow.client[0]

    # Ageing

    def touch(self, flow: Flow, now: float, *, moved: bool = True) -> None:
        """Note that a packet of the flow has passed; ``moved``: it changed the flow's state, and so its timeout."""
        self.table.touch(flow.row, now, moved=moved)

    def expire(self, now: float, at_most: int, is_spent: Callable[[], bool]) -> None:
        """Forget flows whose deadline has come, up to ``at_most``, until ``is_spent`` says that the time is over."""
        for _ in range(at_most):
            row = self.table.due(now)
            if row is None:
                return
            try:
                self._expire(row, now)
            except Exception:
                self.table.touch(
                    row, now, moved=True
                )  # else it stays first in the order of deadlines for ever, and hides all others
                raise
            if is_spent():
                return

    def _expire(self, row: FlowRow, now: float) -> None:
        flow = self._view(row)
        if flow.state is not State.SYN_SENT:
            self.forget(flow)
        elif is_unanswered(row):
            self._failed(flow, now)
            self.forget(flow)
        else:
            self._failed(flow, row.created_at)
            set_unanswered(row)
            self.table.touch(row, row.seen_at, moved=True)

    def forget(self, flow: Flow) -> None:
        """Take the flow out of the table."""
        if has_python_state(flow.row):
            self._forgotten(flow)
            del self._objects[flow.row.id]
        self.table.remove(flow.row)
