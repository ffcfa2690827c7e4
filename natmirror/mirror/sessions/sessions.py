"""OpenFlow sessions with masters: natmirror observes production's connections, and each master has its own session.

All of this comes after the verdicts: the bytes wait in their order (read_queue.py), and read() reads them
when production's packets have passed. It reads in steps of about one message, and may stop after each: no step takes
long, whatever a peer sends. The results do not depend on where it stops.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from natmirror.actions import Order
from natmirror.fastpath import ClientMemory
from natmirror.fastpath.flow_flags import has_reader, remove_reader
from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.sessions.choice import Choice, Chosen
from natmirror.mirror.sessions.judges import Judges
from natmirror.mirror.sessions.master_session import Connection, MasterSession, connection_name, made
from natmirror.mirror.sessions.open_sessions import OpenSessions
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.relay import Relay
from natmirror.mirror.sessions.session_states import SessionEvent
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.shown import MirrorSessions
from natmirror.mirror.timers import AT_ONCE, Timers
from natmirror.net.endpoint import Endpoint, show
from natmirror.openflow.decisions import Decisions
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.observer import Observer
from natmirror.openflow.tables.statistics import Bodies
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

_MAX_UNFLUSHED_LEN = 64 << 10  # limit on the bytes that are read before sessions are flushed
_MAX_UNFLUSHED = 64  # limit on the sessions that get messages before they are flushed


class MasterSessions:
    """The OpenFlow sessions of an engine."""

    def __init__(
        self,
        read_queue: ReadQueue,
        memory: ClientMemory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        outcomes: LegOutcomes,
        open_sessions: OpenSessions,
        totals: SessionTotals,
        judges: Judges,
        faults: Faults,
    ) -> None:
        self._faults = faults
        self._choice = Choice(ledger, faults)
        self._read_queue = read_queue
        self._legs = legs
        self._ledger = ledger
        self._outcomes = outcomes
        self._open_sessions = open_sessions
        self._totals = totals
        self._judges = judges
        self._memory = memory
        self.directory = Directory(memory)
        self._relay = Relay(timers, legs, ledger, outcomes, open_sessions, totals, self.directory, judges)
        self._opened: deque[Connection] = deque()
        self._of_flows: dict[MirroredFlow, Connection] = {}
        self._connections: dict[int, Connection] = {}  # by the flow's number
        # The work in progress: the rest of an entry, or of a session's flush
        self._steps: Iterator[None] | None = None
        self._current: Callable[[], Connection | None] = lambda: None
        self._read_len = 0  # bytes that have been read since sessions were flushed

    def opened(self, flow: MirroredFlow, backend: Endpoint | None) -> bool:
        """Observe a client's connection that is established or was picked up. Return whether a master gets a
        session."""
        chosen = self._choice.of_new(flow, backend)
        return bool(chosen) and self._observe(flow, chosen, is_picked_up=flow.is_picked_up)

    def _observe(self, flow: MirroredFlow, chosen: Sequence[Chosen], *, is_picked_up: bool) -> bool:
        """Observe a connection for these masters; return whether one gets a session. ``is_picked_up``: the connection's
        beginning was not read."""
        name, holder = connection_name(flow.service.name, flow.client), flow.row.held.holder
        observer = Observer(self.directory, name, is_picked_up=is_picked_up)
        connection = Connection(
            *(flow, flow.client, flow.service.name, is_picked_up, observer), self._memory, holder, self._drop
        )
        connection.masters = made(connection, chosen)
        if not connection.begin_counting():
            connection.masters = ()  # breaks a reference cycle
            self.directory.remove(name)  # an earlier connection was of the same name
            self.refuse(flow, EndReason.MEMORY_FULL)
            return False
        self._read_queue.add(ReadEvent.OPENED, flow.row.id)
        self._opened.append(connection)
        self._of_flows[flow] = connection
        return connection.is_read

    def refuse(self, flow: MirroredFlow, reason: EndReason) -> None:
        """Count that no master gets a session for a connection."""
        for mirror in flow.service.sessions:
            self._totals.count_not_opened(flow.service.name, mirror.name, reason)

    def forgotten(self, flow: MirroredFlow, *, continues: bool) -> None:
        """Note that the flow leaves the table, or (``continues``) begins again in it."""
        if (connection := self._of_flows.pop(flow, None)) is not None:
            connection.is_forgotten, connection.continues = True, continues
            self._read_queue.add(ReadEvent.FORGOTTEN, flow.row.id)

    def release(self) -> None:
        """Note that another host passes all connections from now on."""
        self.directory.release(self._open_sessions.now)

    # Reading

    def next_work_at(self) -> float | None:
        """Return when read() has something to do; None where it has not."""
        return AT_ONCE if self._has_work else None

    @property
    def _has_work(self) -> bool:
        return self._steps is not None or bool(self._relay.unflushed) or self._read_queue.has_more

    def read(self, now: float, is_spent: Callable[[], bool] | None = None) -> None:
        """Read the queue and flush the sessions, until nothing waits or ``is_spent`` returns True; do at least one
        step."""
        self._set_time(now)
        while self._has_work:
            self._step()
            if is_spent is not None and is_spent():
                return

    def _set_time(self, now: float) -> None:
        self._open_sessions.now = self._judges.now = now

    def _step(self) -> None:
        """Read a message, or flush a session."""
        if self._steps is None:
            self._steps = self._next_steps()
        try:
            if next(self._steps, True):  # steps yield None: the work is done
                self._steps = None
                self._count(self._current())
        except Exception as error:  # a fault costs only this connection's sessions
            self._steps = None
            self._failed(self._current(), error)

    def _next_steps(self) -> Iterator[None]:
        """Return the next work: read the first entry of the queue, unless sessions have to be flushed first."""
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

    def _count(self, connection: Connection | None) -> None:
        """Count what a connection holds now; if its client may not hold that, end its sessions."""
        if connection is None:
            return
        if not connection.is_read:
            connection.observer.stop()
            self._judges.end(connection)
        if not connection.count():
            self.fail(connection, EndReason.MEMORY_FULL)
            connection.observer.stop()
            connection.count()

    def _failed(self, connection: Connection | None, error: Exception) -> None:
        """Count a fault, and end the sessions of the connection on which it occurred."""
        self._faults.note(Work.SESSION, None if connection is None else show(connection.client), error)
        if connection is not None:
            self.fail(connection, EndReason.INTERNAL_ERROR)

    def fail(self, connection: Connection, reason: EndReason) -> None:
        """End a connection's sessions, in whatever state a fault has left them, without their unsent
        messages; never raises."""
        for master in connection.masters:
            self._relay.unflushed.pop(master, None)
            if master.why_absent is None:
                master.give_up(reason)
            if master.leg is not None:
                self._outcomes.cut(master, master.leg, reason)
            master.move(SessionEvent.FAILED)
        self._judges.end(connection)
        if not connection.is_forgotten:
            remove_reader(connection.flow.row)
        with suppress(Exception):
            self._open_sessions.stop_reading_if_ended(connection)

    def _drop(self, connection: Connection) -> None:
        """Give up an unconfirmed connection: no session of it has begun, and none will."""
        flow = connection.flow
        self.fail(connection, EndReason.MEMORY_FULL)
        self.refuse(flow, EndReason.MEMORY_FULL)
        self._of_flows.pop(flow, None)
        if self._connections.get(flow.row.id) is connection:
            del self._connections[flow.row.id]
        connection.masters = ()  # breaks a reference cycle
        connection.end_counting()

    def end_judgement(self, flow: MirroredFlow) -> None:
        """Compare no master of a flow's connection any more."""
        if (connection := self._of_flows.get(flow)) is not None:
            self._judges.end(connection)

    def end_flow(self, flow: MirroredFlow, reason: EndReason) -> None:
        """End the sessions of a flow's connection, as fail() does."""
        if (connection := self._of_flows.get(flow)) is not None:
            self.fail(connection, reason)

    def discard(self) -> None:
        """Empty the read queue. The sessions then have holes: their work has to be switched off."""
        self._read_queue.clear()
        for connection in self._opened:
            connection.end_counting()
        self._opened.clear()
        self._relay.unflushed.clear()
        self._steps = None
        # The entries that would have removed ended connections are lost; their flows' numbers will be used again.
        lost = [connection for connection in self._connections.values() if connection.is_forgotten]
        for connection in lost:
            self._unclaim(connection)
            if connection.has_ended:
                continue
            if connection.continues:
                self.directory.begin_again(connection.name, self._open_sessions.now)
            else:
                self.directory.remove(connection.name)
        self._connections = {of: one for of, one in self._connections.items() if not one.is_forgotten}
        lost += self._open_sessions.drop_ended()
        for connection in lost:
            self._break_cycle(connection)

    def _connection_of(self, kind: ReadEvent, of: int) -> Connection | None:
        if kind in (ReadEvent.MASTER, ReadEvent.MASTER_LOST, ReadEvent.ENDED):
            return self._open_sessions.by_number[of][0].connection if of in self._open_sessions.by_number else None
        return self._connections.get(of)

    def _read_entry(self, kind: ReadEvent, of: int, data: bytes) -> Iterator[None]:
        if kind is ReadEvent.OPENED:
            self._begin(of)
        elif kind is ReadEvent.MASTER:
            if (found := self._open_sessions.by_number.get(of)) is not None:
                yield from self._relay.from_master(*found, data, self._open_sessions.now)
        elif kind is ReadEvent.MASTER_LOST:
            master = self._open_sessions.by_number[of][0] if of in self._open_sessions.by_number else None
            if master is not None and master.number == of and master.leg is not None:
                self._outcomes.apply(self._legs.collect(master, master.leg, master.leg.abort(EndReason.HOLE)))
        elif kind is ReadEvent.ENDED:
            ended = self._open_sessions.retire(of)
            self._count(ended)
            self._break_cycle(ended)
        elif (connection := self._connections.get(of)) is not None:
            try:
                yield from self._relay.from_production(connection, kind, data, self._open_sessions.now)
            except Broken as broken:
                yield from self._relay.give_up(connection, broken.reason)
            finally:
                if kind is ReadEvent.FORGOTTEN:
                    del self._connections[of]
                    self._break_cycle(connection)

    def _begin(self, flow_id: int) -> None:
        connection = self._opened.popleft()
        if not connection.is_picked_up:
            self.directory.remove(connection.name)  # an earlier connection was of the same name
        if not connection.is_forgotten and self._of_flows.get(connection.flow) is not connection:
            return  # it was dropped meanwhile, and its flow's end will not be read
        self._connections[flow_id] = connection
        if connection.is_picked_up and (datapath := self.directory.switch_of(connection.name)) is not None:
            connection.observer.restore(datapath)
        self._count_not_opened(connection, connection.masters)

    def _count_not_opened(self, connection: Connection, masters: Iterable[MasterSession]) -> None:
        for master in masters:
            if master.why_absent is not None:
                self._totals.count_not_opened(connection.service_name, master.mirror.name, master.why_absent)

    def handle_timer(self, master: MasterSession, now: float) -> None:
        """Answer or refuse a question that has waited for ANSWER_TIMEOUT; read() sends the answer."""
        self._set_time(now)
        try:
            if master.session is not None:
                master.session.settle(now)
                self._relay.unflushed[master] = None
        except Exception as error:
            self._failed(master.connection, error)

    def answered(self, number: int, question: int, bodies: Bodies | None, now: float) -> None:
        """Take the bodies of the answer to a master's question about its own rules, by the numbers of its session and
        of the question; read() sends them. See SwitchSession.statistics_answered()."""
        self._set_time(now)
        master, session = self._open_sessions.by_number.get(number, (None, None))
        if master is None or session is None or master.session is not session:
            return
        try:
            session.statistics_answered(question, bodies, now)
            self._relay.unflushed[master] = None
        except Exception as error:
            self._failed(master.connection, error)

    def judge(self, flow: MirroredFlow) -> None:
        """Have a flow's connection judged, if a master of it is compared and the present process of the judges does not
        know it."""
        if (connection := self._of_flows.get(flow)) is not None:
            self._set_time(self._legs.now)
            self._judges.begin_again(connection)

    def _break_cycle(self, connection: Connection) -> None:
        """Break the reference cycle of an ended connection, which only the garbage collector would free."""
        if connection.is_forgotten and not any(master.has_leg for master in connection.masters):
            self._judges.end(connection)
            self._unclaim(connection)
            connection.masters = ()
            connection.end_counting()

    def _unclaim(self, connection: Connection) -> None:
        for master in connection.masters:
            self._open_sessions.unclaim_switch(master)

    def end_if_removed(self, master: MasterSession) -> None:
        """End a session whose master is paused, or no longer in the rules."""
        self._relay.end_if_removed(master)

    def follow_rules(self, flow: MirroredFlow, mirrors: Sequence[Mirror], backend: Endpoint | None) -> bool:
        """Follow a reload or a pause, after end_if_removed(), for the sessions of a flow that have none now.
        ``mirrors``: the masters with which the flow may have sessions by the present rules. Return whether one that
        has been added may get a session, so that the flow has to be read."""
        self._set_time(self._legs.now)
        connection = self._of_flows.get(flow)
        here = () if connection is None else connection.masters
        kept = [master for master in here if self._choice.is_current(master)]
        added = self._choice.of_added(flow, kept, mirrors, backend)
        may_begin = any(why_not is None for _, why_not in added)
        if connection is None:
            if may_begin and not flow.is_picked_up:  # an earlier connection was of the same name
                self.directory.remove(connection_name(flow.service.name, flow.client))
            return may_begin and self._observe(flow, added, is_picked_up=True)
        for master in set(here) - set(kept):
            self._relay.unflushed.pop(master, None)
            self._open_sessions.unclaim_switch(master)
        connection.masters = (*kept, *made(connection, added))
        if self._connections.get(flow.row.id) is connection:  # else _begin() counts them
            self._count_not_opened(connection, connection.masters[len(kept) :])
        for master in connection.masters:
            master.is_paused = self._ledger.why_ended_by_rules(master) is EndReason.MIRROR_PAUSED
        if may_begin and not has_reader(flow.row):  # a judge lacks what was not read: the session begins another one
            self._judges.end(connection)
            connection.is_past_beginning = True
        else:
            self._judges.follow_rules(connection)
        self._open_sessions.stop_reading_if_ended(connection)
        return may_begin

    def take_orders(self) -> list[Order]:
        """Return the orders that recorded masters have sent since the last call."""
        return self._open_sessions.take_orders()

    # Reporting

    def decisions_of(self, flow_id: int) -> Decisions | None:
        """Return the decisions of backend and masters for the switch of a flow."""
        connection = self._connections.get(flow_id)
        return None if connection is None else connection.decisions

    def masters_of(self, flow_id: int) -> tuple[MasterSession, ...]:
        connection = self._connections.get(flow_id)
        return () if connection is None else connection.masters

    def without_leg(self) -> Counter[tuple[str, str, EndReason]]:
        """Return the number of open connections without a session, by service, master and reason. A session that has
        not begun yet misses nothing."""
        found: Counter[tuple[str, str, EndReason]] = Counter()
        for connection in self._connections.values():
            if connection.has_ended or connection.is_forgotten:
                continue
            for master in connection.masters:
                if not master.has_leg and (reason := master.why_without_leg) is not None:
                    found[master.service_name, master.mirror.name, reason] += 1
        return found

    def sums(self) -> dict[tuple[str, str], MirrorSessions]:
        """Return the counters of all sessions with each master, by service and master."""
        return self._totals.sums(self._open_sessions.by_number.values())
