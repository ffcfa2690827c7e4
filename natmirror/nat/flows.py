"""Flows: the backend that a client's connection is bound to, and the service that a backend's reply belongs to.

Wherever possible the binding is derived: a pure function of the rules and the client (Maglev for requests, the
backend's endpoint for replies), so that a connection continues on a host that picks it up. A flow stores its binding
nevertheless, because another scheduler may have chosen the backend, and the pool may change while the connection is
open.
"""

from collections.abc import Callable, Iterable, Iterator

from natmirror.fastpath import NO_BACKEND, SYN_ANSWER_TIMEOUT, FlowRow, FlowTable, Gear
from natmirror.fastpath.flow_flags import (
    has_python_state,
    is_direct,
    is_guest,
    is_loose,
    is_service_mirrored,
    is_unanswered,
    is_unconfirmed,
    set_ambiguous,
    set_python_state,
    set_unanswered,
    vouch_for,
)
from natmirror.fastpath.flow_states import IS_OPEN, State
from natmirror.nat.client_syn import ClientSyn, client_syn
from natmirror.nat.failed_attempts import FailedAttempts
from natmirror.nat.flow import Flow
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import RST, SYN, Segment
from natmirror.rules import Backend, Service
from natmirror.tcp import tracker

_MAX_FAILED_SYNS = 64  # that wait for Engine.take_failed_syns()


class Nat:
    """The flows of one engine.

    A flow is a row in C. Python keeps an object for it only where it has more to remember: for a service with mirrors,
    or a SYN inside an established connection. For other flows a method makes an object when it needs one.

    Nat calls ``before_open`` with a backend and a client before it adds a flow between them, and ``before_forget`` with
    a flow that has a kept object before it removes the flow's row. It keeps a silent flow that ``is_copied`` says has
    copies, as long as there is room: they could not be made again.
    """

    def __init__(
        self,
        services: ServiceTable,
        gear: Gear,
        before_open: Callable[[Endpoint, Endpoint], None],
        before_forget: Callable[[Flow], None],
        is_copied: Callable[[Flow], bool],
    ) -> None:
        self._is_copied = is_copied
        self._before_open = before_open
        self._before_forget = before_forget
        self.table: FlowTable = gear.flows
        """The rows of all flows."""
        self._memory = gear.memory
        self._objects: dict[int, Flow] = {}
        self.failed_syns: list[tuple[str, str]] = []
        """Service and backend of each SYN that was refused or left unanswered; Engine.take_failed_syns() empties it."""
        self.evicted = 0
        """The number of flows, closed, half open or idle, that were evicted."""
        self._services = services
        self.attempts = FailedAttempts(services.suspect)
        """The backends that lately failed a client."""

    def of_backend(self, service: Service, backend: Backend, ids: Iterable[int]) -> list[Flow]:
        """Return each flow, of those with these numbers, that is bound to a backend."""
        number = self._services.backend_number(service, endpoint_of(backend))
        return [self._view(row) for row in self.rows(ids) if row.backend_id == number]

    def by_ids(self, ids: Iterable[int]) -> Iterator[Flow]:
        """Yield the flows with these numbers; skip those that no longer exist."""
        return map(self._view, self.rows(ids))

    def rows(self, ids: Iterable[int]) -> Iterator[FlowRow]:
        """Yield the rows of the flows with these numbers; skip those that no longer exist."""
        return (row for number in ids if (row := self.table.row(number)) is not None)

    # Finding

    def find_orig(self, client: Endpoint, service: Endpoint) -> Flow | None:
        """Return the flow of a packet from the client to the service."""
        return self._flow(self.table.find_orig(client, service))

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Flow | None:
        """Return the flow of a packet from the backend to the client."""
        return self._flow(self.table.find_reply(backend, client))

    def is_past_service(self, backend: Endpoint, client: Endpoint, *, may_pick_up: bool = False) -> bool:
        """Return whether a client's packet without a flow to a backend comes past the service of a flow between them:
        the backend may take it for that flow's next, though no copy has it. After a RST too, because the backend may
        not have taken that. An unconfirmed flow gives way to data that may be picked up."""
        row = self.table.find_reply(backend, client)
        if row is None or is_direct(row) or (may_pick_up and is_unconfirmed(row)):
            return False
        return row.state != State.TIME_WAIT or row.held_len > 0

    def is_open_elsewhere(self, service: Service, backend: Endpoint, client: Endpoint) -> bool:
        """Return whether a client has a confirmed open connection to a backend of this service through another one: a
        SYN, which anyone may have sent, does not end it. A flow in any other state gives way."""
        flow = self.find_reply(backend, client)
        return flow is not None and flow.is_of_other(service) and flow.state in IS_OPEN and not is_unconfirmed(flow.row)

    def _flow(self, row: FlowRow | None) -> Flow | None:
        return None if row is None else self._view(row)

    def _view(self, row: FlowRow) -> Flow:
        """Return the flow of a row: the object that is kept, or else a new one."""
        kept = self.kept(row)
        if kept is not None:
            return kept
        client = (bytes(row.client[0:4]), row.client_port)
        return Flow(row, client, *self.ends_of(row), self._memory)

    def kept(self, row: FlowRow) -> Flow | None:
        """Return the object that is kept for a row, or None."""
        if not has_python_state(row):
            return None
        flow = self._objects[row.id]
        if row.state <= State.SYN_RECEIVED:  # afterwards the flow keeps the service of its handshake
            flow.service = self._services.service(row.service_id)
        return flow

    def ends_of(self, row: FlowRow) -> tuple[Service, Backend | None]:
        """Return the service and the backend of a row for which no object is kept."""
        backend = None if row.backend_id == NO_BACKEND else self._services.backend(row.backend_id)
        return self._services.service(row.service_id), backend

    def keep_object(self, flow: Flow) -> Flow:
        """Keep the flow's object from now on: mirroring, or a new SYN, refers to it. Return the flow."""
        set_python_state(flow.row)
        self._objects[flow.row.id] = flow
        return flow

    def has_object(self, flow: object) -> bool:
        """Return whether this object is the one kept for a flow that is still in the table."""
        return isinstance(flow, Flow) and self._objects.get(flow.row.id) is flow

    @staticmethod
    def may_be_mirrored(flow: Flow) -> bool:
        """Return whether an open flow of a service without mirrors may become one of a service with mirrors."""
        row = flow.row
        return row.state in IS_OPEN and not (is_direct(row) or is_guest(row) or is_service_mirrored(row))

    def begin_mirrored(self, flow: Flow, service: Service) -> None:
        """Make such a flow one of its service as it is now, with mirrors."""
        tracker.begin_mirrored(flow.row)
        self.keep_object(flow).service = service

    # Opening

    def open(self, service: Service, backend: Backend | None, syn: Segment, now: float) -> Flow | None:
        """Return a new flow for a client's SYN, in place of an older one with the same endpoints; None if the table is
        full."""
        kept = client_syn(syn, keeps_data=bool(service.mirrors))
        return self._begin((syn.src, syn.sport), service, backend, kept, now)

    def pick_up(self, service: Service, client: Endpoint, backend: Backend | None, now: float) -> Flow | None:
        """Return a flow for a connection that is picked up, unconfirmed; None if the table is full."""
        flow = self._insert(client, service, backend, now, for_half_open=True)
        if flow is not None:
            tracker.begin_picked_up(flow.row)
            self.touch(flow, now)
        return flow

    def renew(self, flow: Flow, now: float) -> None:
        """Note that the other host has reported the flow again. A flow that is no guest gets a new deadline, because
        the other host may not report its end."""
        if not is_guest(flow.row):
            self.release(flow)  # makes it one, if rules have changed and its backend cannot be derived any more
        if not is_guest(flow.row):
            self.touch(flow, now)

    def release(self, flow: Flow) -> None:
        """Release an established flow to the other host, which has reported that it forwards its packets."""
        if flow.state is State.ESTABLISHED:
            vouch_for(flow.row)
            self.table.release(flow.row)

    def adopt(
        self, service: Service, client: Endpoint, backend: Backend | None, now: float, *, is_ours: bool
    ) -> Flow | None:
        """Return a flow for another host's connection, which replaces one with the same endpoints; None if the table is
        full. ``is_ours``: its packets pass here from now on."""
        flow = self._insert(client, service, backend, now, for_half_open=False, is_end=is_ours)
        if flow is not None:
            self.adopt_existing(flow, now, is_ours=is_ours)
        return flow

    def adopt_existing(self, flow: Flow, now: float, *, is_ours: bool) -> None:
        """Restart a flow that this host already has, because another host's record of it is newer. ``is_ours``: its
        packets pass here from now on."""
        if flow.row.orig.packets and not is_loose(flow.row):
            flow.passed_to = flow.row.orig.end
        tracker.begin_picked_up(flow.row)
        vouch_for(flow.row)
        flow.forget_syns()
        if is_ours:
            self.touch(flow, now)
        else:
            self.release(flow)
            self.renew(flow, now)

    def open_direct(self, service: Service, backend: Endpoint, client: Endpoint, now: float) -> None:
        """Add a flow for a client that is connected to the backend's own endpoint, so that later packets pass
        unchanged."""
        self._before_open(backend, client)
        self._forget_conflicting(client, backend, backend)
        backend_id = self._services.backend_number(service, backend)
        row = self.table.insert(client, self._services.number(service), backend_id, direct=True)
        if row is not None:
            row.state = State.SYN_RECEIVED
            self.table.touch(row, now, moved=True)

    def track_direct_reply(self, flow: Flow, segment: Segment, now: float) -> None:
        """Track a reply of a direct connection. One after the SYN-ACK shows that the handshake is complete."""
        is_established = flow.state is State.SYN_RECEIVED and not segment.flags & (SYN | RST)
        if is_established:
            flow.row.state = State.ESTABLISHED
        flow.row.reply.packets += 1
        self.touch(flow, now, moved=is_established)

    def is_crowded(self, now: float) -> bool:
        """Return whether the next new flow evicts another one or finds no room."""
        return self.table.is_crowded(now)

    def reopen(self, flow: Flow, syn: ClientSyn, now: float) -> Flow:
        """Return a new flow in place of an old one with the same endpoints: the backend has accepted a new
        connection."""
        new = self._begin(flow.client, flow.service, flow.backend, syn, now)
        assert new is not None, "the old flow's row is free"
        return new

    def await_new_syn(self, flow: Flow, syn: ClientSyn, now: float) -> bool:
        """Return whether to forward a SYN inside an open connection to its backend, which decides.

        The SYN may be forged. A backend that has the connection challenges it, or is silent: it drops SYNs with an MD5
        signature (RFC 2385), for example. So silence shows that the connection has ended only if an end that lives
        would have sent something."""
        if flow.state not in {State.SYN_SENT, State.SYN_RECEIVED, *IS_OPEN}:
            return False
        if flow.is_first_syn(syn.header):
            return flow.state in IS_OPEN
        if flow.state is State.SYN_SENT and now - flow.row.created_at >= SYN_ANSWER_TIMEOUT:
            return False
        replies, earlier = flow.row.reply.packets, flow.new_syn
        if now - flow.new_syn_at >= SYN_ANSWER_TIMEOUT:
            flow.former_new_syns = b""
        self.keep_object(flow).note_new_syn(syn)
        is_noted = flow.new_syn is syn
        if is_noted and (earlier is None or earlier.seq != syn.seq or flow.new_syn_replies != replies):
            flow.new_syn_at, flow.new_syn_replies = now, replies
        if now - flow.new_syn_at < SYN_ANSWER_TIMEOUT:
            return True
        is_silent = now - flow.row.seen_at >= tracker.LONGEST_PAUSE and not tracker.may_be_alive(flow.row)
        return flow.state is not State.SYN_SENT and not is_silent

    def note_repeated_syn(self, flow: Flow, syn: Segment) -> None:
        """Note another SYN with the number of the flow's, which the backend may not have answered."""
        if flow.state is State.SYN_SENT and syn.payload_len and is_service_mirrored(flow.row):
            self.keep_object(flow).note_syn(client_syn(syn, keeps_data=True))

    def is_unanswered(self, flow: Flow, now: float) -> bool:
        """Return whether the backend has left the client's SYN unanswered for too long, and note that failure."""
        if flow.state is not State.SYN_SENT or now - flow.row.created_at < SYN_ANSWER_TIMEOUT:
            return False
        self._note_unanswered(flow)
        return True

    def note_accepted(self, flow: Flow) -> None:
        """Note that the backend has accepted the connection."""
        flow.note_syn_ack()
        if flow.backend is not None:
            self._services.count_connection(flow.row.backend_id)
            self.attempts.remove(self._attempts_key(flow), flow.backend)

    def note_refused(self, flow: Flow, now: float) -> None:
        """Note that the backend has refused the connection: the client's next SYN goes to another backend."""
        self._note_failure(flow, now, None)

    def _note_unanswered(self, flow: Flow) -> None:
        accepted = None if flow.backend is None else self._services.accepted(flow.service, flow.backend)
        self._note_failure(flow, flow.row.created_at, accepted)

    def _note_failure(self, flow: Flow, at: float, accepted: int | None) -> None:
        if flow.backend is not None:
            self._services.count_failed_syn(flow.service, flow.backend, is_refused=accepted is None)
            if len(self.failed_syns) < _MAX_FAILED_SYNS:
                self.failed_syns.append((flow.service.name, flow.backend.name))
            self.attempts.add(self._attempts_key(flow), flow.backend, at, accepted)

    def has_room(self, service: Service, client: Endpoint, now: float) -> bool:
        """Return whether there is room in the table for a client's new connection."""
        is_known = self.find_orig(client, endpoint_of(service)) is not None
        return is_known or self.table.has_room(now)

    def _begin(
        self, client: Endpoint, service: Service, backend: Backend | None, syn: ClientSyn, now: float
    ) -> Flow | None:
        former = self.find_reply(endpoint_of(backend or service), client)
        has_rival = former is not None and former.has_rival_of(syn, service)
        former_irs = None if former is None else former.irs_beside(syn)
        flow = self._insert(client, service, backend, now, for_half_open=True)
        if flow is not None:
            flow.row.created_at = now
            tracker.begin(flow.row, syn.header, data_len=syn.size)
            if has_rival:
                set_ambiguous(flow.row)
            if is_service_mirrored(flow.row) and (syn.size or former_irs is not None):
                self.keep_object(flow).syn_data, flow.former_irs = syn.data, former_irs
                flow.count_syn_data()
            self.touch(flow, now)
        return flow

    def _insert(
        self,
        client: Endpoint,
        service: Service,
        backend: Backend | None,
        now: float,
        *,
        for_half_open: bool,
        is_end: bool = True,
    ) -> Flow | None:
        here = endpoint_of(service)
        there = here if backend is None else endpoint_of(backend)
        self._before_open(there, client)
        self._forget_conflicting(client, here, there, is_end=is_end)
        victim = self.table.victim(now, for_half_open=for_half_open)
        if victim is not None:
            self.forget(self._view(victim))
            self.evicted += 1
        backend_id = NO_BACKEND if backend is None else self._services.backend_number(service, there)
        return self._flow(self.table.insert(client, self._services.number(service), backend_id))

    def _forget_conflicting(self, client: Endpoint, here: Endpoint, there: Endpoint, *, is_end: bool = True) -> None:
        """Forget flows that have the endpoints of a new one, in either index. ``is_end``: their connections have
        ended."""
        for find, ends in ((self.table.find_orig, (client, here)), (self.table.find_reply, (there, client))):
            row = find(*ends)
            if row is not None:
                if is_end:
                    self.table.end(row)
                self.forget(self._view(row))

    def _attempts_key(self, flow: Flow) -> tuple[int, bytes]:
        return flow.row.service_id, flow.client[0]

    # Expiring

    def touch(self, flow: Flow, now: float, *, moved: bool = True) -> None:
        """Note that a packet of the flow has passed. ``moved``: it changed the flow's state, and so its timeout."""
        self.table.touch(flow.row, now, moved=moved)

    def expire(self, now: float, at_most: int, is_spent: Callable[[], bool]) -> None:
        """Forget up to ``at_most`` flows that have expired, or keep them for their copies. Stop early once ``is_spent``
        returns True."""
        for _ in range(at_most):
            row = self.table.due(now)
            if row is None:
                return
            try:
                self._expire(row, now)
            except Exception:
                # Give it a new deadline, or it would stay the first to expire and block all others.
                self.table.touch(row, now, moved=True)
                raise
            if is_spent():
                return

    def _expire(self, row: FlowRow, now: float) -> None:
        flow = self._view(row)
        if flow.state is not State.SYN_SENT:
            if has_python_state(row) and self._is_copied(flow) and tracker.may_be_alive(row):
                self.table.keep(row, now)
            else:
                self.forget(flow)
        elif is_unanswered(row):
            self.forget(flow)
        else:
            self._note_unanswered(flow)
            set_unanswered(row)
            self.table.touch(row, row.seen_at, moved=True)

    def forget(self, flow: Flow) -> None:
        """Remove the flow from the table."""
        if has_python_state(flow.row):
            self._before_forget(flow)
            self._objects.pop(flow.row.id).forget_syns()
        self.table.remove(flow.row)
