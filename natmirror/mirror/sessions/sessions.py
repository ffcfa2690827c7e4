"""Between production and OpenFlow masters: connections are read along, and each master has a session of its own.

All of it comes after the verdicts: what is said waits in its order (read_queue.py), and read() takes it from there. So
whatever is said, production has passed. It is read in steps of about one message, between which read() may stop:
no step takes long, whatever a peer says. What comes of it does not depend on where read() stops.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from natmirror.actions import Order
from natmirror.fastpath import Memory
from natmirror.fastpath.flow_flags import remove_reader
from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.calls import Calls
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.relay import Relay
from natmirror.mirror.sessions.session_states import SessionEvent
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.shown import MirrorSessions
from natmirror.mirror.timers import Timers
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.openflow.decisions import Decisions
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.observer import Observer
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Reconnect

_MAX_UNFLUSHED_LEN = 64 << 10  # bytes that are read before sessions are flushed, however much waits
_MAX_UNFLUSHED = 64  # the same for sessions


class MasterSessions:
    """All OpenFlow sessions of an engine."""

    def __init__(
        self,
        read_queue: ReadQueue,
        memory: Memory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        outcomes: LegOutcomes,
        calls: Calls,
        totals: SessionTotals,
        faults: Faults,
    ) -> None:
        self._faults = faults
        self._read_queue = read_queue
        self._legs = legs
        self._outcomes = outcomes
        self._calls = calls
        self._totals = totals
        self.directory = Directory(memory)
        """What is known of switches."""
        self._relay = Relay(timers, legs, ledger, outcomes, calls, totals, self.directory)
        self._opened: deque[Connection] = deque()
        self._of_flows: dict[MirroredFlow, Connection] = {}
        self._connections: dict[int, Connection] = {}  # by the flow's number
        # What is being done: the rest of an entry, or of a session's flush
        self._steps: Iterator[None] | None = None
        self._current: Callable[[], Connection | None] = lambda: None
        self._read_len = 0  # bytes that have been read since sessions were flushed

    def opened(self, flow: MirroredFlow, backend: Endpoint | None) -> bool:
        """Take a client's connection that is established, or was picked up. Return whether a master wants a session."""
        reasons = [(mirror, self._why_not(mirror, flow, backend)) for mirror in flow.service.sessions]
        if not reasons:
            return False
        observer = Observer(self.directory, in_middle=flow.is_picked_up)
        connection = Connection(flow, flow.client, flow.service.name, flow.is_picked_up, observer)
        connection.masters = tuple(MasterSession(mirror, connection) for mirror, _ in reasons)
        for master, (_, why_not) in zip(connection.masters, reasons, strict=True):
            if why_not is not None:
                master.give_up(why_not)
        self._read_queue.add(ReadEvent.OPENED, flow.row.id)
        self._opened.append(connection)
        self._of_flows[flow] = connection
        return any(why_not is None for _, why_not in reasons)

    def forgotten(self, flow: MirroredFlow, *, continues: bool) -> None:
        """The flow leaves the table, or begins again there."""
        if (connection := self._of_flows.pop(flow, None)) is not None:
            connection.is_forgotten, connection.continues = True, continues
            self._read_queue.add(ReadEvent.FORGOTTEN, flow.row.id)

    def leave(self) -> None:
        """Another host passes all connections from now on."""
        self.directory.lend(self._calls.now)

    def _why_not(self, mirror: Mirror, flow: MirroredFlow, backend: Endpoint | None) -> EndReason | None:
        if Work.SESSION in self._faults.off:
            return EndReason.MIRRORING_OFF
        if endpoint_of(mirror) == backend:
            return EndReason.MIRROR_IS_BACKEND
        if flow.is_picked_up and mirror.reconnect is Reconnect.NEVER:
            return EndReason.PICKED_UP
        return why_not_mirrored(mirror, flow.client[0])

    # Studying

    @property
    def has_more(self) -> bool:
        """Whether read() has something to do."""
        return self._steps is not None or bool(self._relay.unflushed) or self._read_queue.has_more

    def read(self, now: float, is_spent: Callable[[], bool] | None = None) -> None:
        """All that waits to be read, or step by step until ``is_spent`` says that there is no more time; one step in
        any case."""
        self._calls.now = now
        while self.has_more:
            self._step()
            if is_spent is not None and is_spent():
                break

    def _step(self) -> None:
        """Read a message, or flush a session."""
        if self._steps is None:
            self._steps = self._next_steps()
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except Exception as error:  # a fault of ours costs this connection's sessions alone
            self._steps = None
            self._failed(self._current(), error)

    def _next_steps(self) -> Iterator[None]:
        """Return what is to be done next: read the first entry that waits, unless sessions are to be flushed first."""
        is_time = self._read_len >= _MAX_UNFLUSHED_LEN or len(self._relay.unflushed) >= _MAX_UNFLUSHED
        is_time = is_time or not self._read_queue.has_more
        if is_time and self._relay.unflushed:
            master = next(iter(self._relay.unflushed))
            self._current = lambda: master.connection
            return self._relay.flush(master)
        if is_time:
            self._read_len = 0
        kind, of, data = self._read_queue.take()
        self._read_len += len(data)
        self._current = lambda: self._connection_of(kind, of)
        return self._read_entry(kind, of, data)

    def _failed(self, connection: Connection | None, error: Exception) -> None:
        """Count a fault of ours, and end the sessions of the connection that it came up with."""
        self._faults.note(Work.SESSION, None if connection is None else show(connection.client), error)
        if connection is not None:
            self.fail(connection, EndReason.INTERNAL_ERROR)

    def fail(self, connection: Connection, reason: EndReason) -> None:
        """End a connection's sessions, whatever state a fault has left them in and whatever was still to be said to
        their masters; never raises."""
        for master in connection.masters:
            self._relay.unflushed.pop(master, None)
            if master.why_absent is None:
                master.give_up(reason)
            if master.leg is not None:
                self._outcomes.cut(master, master.leg, reason)
            master.move(SessionEvent.FAILED)
        if not connection.is_forgotten:
            remove_reader(connection.flow.row)
        with suppress(Exception):
            self._calls.stop_reading_if_over(connection)

    def end_flow(self, flow: MirroredFlow, reason: EndReason) -> None:
        """The same for the connection of a flow."""
        if (connection := self._of_flows.get(flow)) is not None:
            self.fail(connection, reason)

    def discard(self) -> None:
        """Throw away all that waits to be read. Sessions have holes then: their work has to be off."""
        self._read_queue.clear()
        self._opened.clear()
        self._relay.unflushed.clear()
        self._steps = None
        # What is over may have waited to be told of that: its flow's number is going to be another's.
        self._connections = {of: one for of, one in self._connections.items() if not one.is_forgotten}
        self._calls.by_number = {of: found for of, found in self._calls.by_number.items() if found[0].lives}

    def _connection_of(self, kind: ReadEvent, of: int) -> Connection | None:
        if kind in (ReadEvent.MASTER, ReadEvent.MASTER_LOST, ReadEvent.ENDED):
            return self._calls.by_number[of][0].connection if of in self._calls.by_number else None
        return self._connections.get(of)

    def _read_entry(self, kind: ReadEvent, of: int, data: bytes) -> Iterator[None]:
        if kind is ReadEvent.OPENED:
            self._begin(of)
        elif kind is ReadEvent.MASTER:
            if (found := self._calls.by_number.get(of)) is not None:
                yield from self._relay.from_master(*found, data, self._calls.now)
        elif kind is ReadEvent.MASTER_LOST:
            master = self._calls.by_number[of][0] if of in self._calls.by_number else None
            if master is not None and master.number == of and master.leg is not None:
                self._outcomes.apply(self._legs.settle(master, master.leg, master.leg.abort(EndReason.HOLE)))
        elif kind is ReadEvent.ENDED:
            self._release(self._calls.retire(of))
        elif (connection := self._connections.get(of)) is not None:
            try:
                yield from self._relay.from_production(connection, kind, data, self._calls.now)
            except Broken as broken:
                yield from self._relay.give_up(connection, broken.reason)
            finally:
                if kind is ReadEvent.FORGOTTEN:
                    del self._connections[of]
                    self._release(connection)

    def _begin(self, flow_id: int) -> None:
        connection = self._opened.popleft()
        self._connections[flow_id] = connection
        if not connection.is_picked_up:
            self.directory.leave(connection.name)  # an earlier connection was of the same name
        elif (datapath := self.directory.behind(connection.name)) is not None:
            connection.observer.restore(datapath)
        for master in connection.masters:
            if master.why_absent is not None:
                self._totals.count_not_opened(master, master.why_absent)

    def handle_timer(self, master: MasterSession, now: float) -> None:
        """Settle a question of a master's that has waited long enough. read() sends the answer."""
        self._calls.now = now
        try:
            if master.session is not None:
                master.session.settle(now)
                self._relay.unflushed[master] = None
        except Exception as error:
            self._failed(master.connection, error)

    def _release(self, connection: Connection) -> None:
        """No circle is left for a collector of garbage."""
        if connection.is_forgotten and not any(master.lives for master in connection.masters):
            for master in connection.masters:
                self._calls.give_up_place(master)
            connection.masters = ()

    def end_if_removed(self, master: MasterSession) -> None:
        """End a session whose master the rules do not name any more."""
        self._relay.end_if_removed(master)

    def take_orders(self) -> list[Order]:
        """Return what masters that are recorded have ordered since the last call."""
        return self._calls.take_orders()

    # Reporting

    def decisions_of(self, flow_id: int) -> Decisions | None:
        """What backend and masters have decided for the switch behind a flow."""
        connection = self._connections.get(flow_id)
        return None if connection is None else connection.decisions

    def masters_of(self, flow_id: int) -> tuple[MasterSession, ...]:
        """The sessions of a flow."""
        connection = self._connections.get(flow_id)
        return () if connection is None else connection.masters

    def sums(self) -> dict[tuple[str, str], MirrorSessions]:
        """Return what all sessions with each master have counted, by service and master."""
        return self._totals.sums(self._calls.by_number.values())
