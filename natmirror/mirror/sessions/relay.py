"""What production's two ends and the masters say, given to the sessions that it concerns.

Each method that reads or speaks goes on in steps of about one message: it is a generator that yields between them.
"""

from collections.abc import Iterable, Iterator

from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.sessions.calls import Calls
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.read_queue import ReadEvent
from natmirror.mirror.sessions.session_states import IS_OPEN, SessionEvent
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.decisions import By
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.observer import MessageClass
from natmirror.openflow.session import ORDERS, SwitchSession
from natmirror.reasons import EndReason

_ROOM_SHARE = 2  # a master that owes this part of its buffer gets no PACKET_INs
_PIECE_LEN = 128 << 10  # bytes that a leg is given in one step
_MASTERS_FAULTS = {
    EndReason.TLS: EndReason.MIRROR_TLS,
    EndReason.NOT_OPENFLOW: EndReason.MIRROR_NOT_OPENFLOW,
    EndReason.BAD_LENGTH: EndReason.MIRROR_BAD_LENGTH,
    EndReason.BAD_VERSION: EndReason.MIRROR_BAD_VERSION,
    EndReason.MIRROR_ASKS_TOO_MUCH: EndReason.MIRROR_ASKS_TOO_MUCH,
}
"""Why a session ends, by what is wrong with the master's stream."""


class Relay:
    """Between connections that are read along and the sessions with their masters."""

    def __init__(
        self,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        outcomes: LegOutcomes,
        calls: Calls,
        totals: SessionTotals,
        directory: Directory,
    ) -> None:
        self.unflushed: dict[MasterSession, None] = {}
        """The sessions that may have something to say to their masters, in the order in which it came up."""
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._outcomes = outcomes
        self._calls = calls
        self._totals = totals
        self._directory = directory

    # Production

    def from_production(self, connection: Connection, kind: ReadEvent, data: bytes, now: float) -> Iterator[None]:
        """Read what has come of a connection: an entry of the queue that is about a flow."""
        if kind is ReadEvent.ORIG:
            yield from self._from_switch(connection, connection.observer.from_switch(data, now), now)
        elif kind is ReadEvent.REPLY:
            yield from self._from_controller(connection, connection.observer.from_controller(data), now)
        elif kind in (ReadEvent.ORIG_LOST, ReadEvent.REPLY_LOST):
            connection.observer.lose_place(of_switch=kind is ReadEvent.ORIG_LOST)
            if kind is ReadEvent.ORIG_LOST:
                yield from self._end_all(connection, EndReason.HOLE)
        elif kind in (ReadEvent.FINISHED, ReadEvent.RESET, ReadEvent.FORGOTTEN) and not connection.is_over:
            yield from self._production_over(connection, kind)

    def _production_over(self, connection: Connection, kind: ReadEvent) -> Iterator[None]:
        connection.is_over = True
        if not connection.continues:
            self._directory.leave(connection.name)
        yield from self._flush_all(connection)
        for master in connection.masters:
            if (leg := master.leg) is None or leg.ended is not None:
                continue
            master.move(SessionEvent.CLOSED)
            leg.client_gone(self._calls.now)
            if kind is ReadEvent.FORGOTTEN:
                packets = leg.abort(EndReason.FLOW_EXPIRED)
            else:
                packets = leg.reset(self._calls.now) if kind is ReadEvent.RESET else leg.finish(self._calls.now)
            self._outcomes.apply(self._legs.settle(master, leg, packets))

    def _from_switch(
        self, connection: Connection, messages: Iterable[tuple[MessageClass, Message]], now: float
    ) -> Iterator[None]:
        has_answers = False
        for what, message in messages:
            has_answers |= what is MessageClass.ANSWER
            if message.kind is Type.PACKET_IN:
                connection.decisions.saw(message, now)
            yield from self._switch_known(connection, now)
            for master in connection.masters:
                if master.why_absent is not None:
                    continue
                if not master.lives and what is not MessageClass.OPENING:
                    self._call(master)
                if master.state in IS_OPEN and master.session is not None:
                    master.session.from_switch(what, message, has_room=_has_room(master))
                    self.unflushed[master] = None
                elif what is MessageClass.UNASKED:
                    master.messages_missed += 1
            yield
        if has_answers:
            for master in connection.masters:
                if master.state in IS_OPEN and master.session is not None:
                    master.session.settle(now)
        self._call_all(connection)

    def _from_controller(self, connection: Connection, messages: Iterable[Message], now: float) -> Iterator[None]:
        for message in messages:
            if message.kind in ORDERS:
                connection.decisions.decided(By.BACKEND, message, now)
            yield
        self._call_all(connection)

    def _switch_known(self, connection: Connection, now: float) -> Iterator[None]:
        """The switch has told who it is: no other connection of it has a session with these masters any more."""
        datapath = connection.observer.datapath
        if datapath is None or connection.datapath is datapath:
            return
        is_another = connection.datapath is not None and connection.datapath.identity != datapath.identity
        connection.datapath = datapath
        self._directory.stands_behind(connection.name, datapath)
        if is_another:  # what was known from before was wrong
            yield from self._end_all(connection, EndReason.ANOTHER_SWITCH)
        for master in connection.masters:
            if master.why_absent is None:
                self._supersede(master, datapath)
            if master.state in IS_OPEN and master.session is not None:
                yield from master.session.switch_known(now)
                self.unflushed[master] = None

    def _supersede(self, master: MasterSession, datapath: Datapath) -> None:
        older = self._calls.take_place(master, datapath)
        if older is None:
            return
        older.give_up(EndReason.NEWER_CONNECTION)
        if older.leg is not None and older.leg.ended is None:
            self._outcomes.end(older, older.leg, EndReason.NEWER_CONNECTION)
        self._calls.stop_reading_if_over(older.connection)

    # Calling masters

    def _call_all(self, connection: Connection) -> None:
        """As soon as it is known what is spoken, each master is called for the first time."""
        for master in connection.masters:
            if master.leg is None and master.why_absent is None:
                self._call(master)

    def _call(self, master: MasterSession) -> None:
        """Call a master, unless it is too early for that or the rules do not name it any more."""
        if not self._calls.is_due(master):
            return
        if not self._ledger.is_current(master):
            self.end_if_removed(master)
            return
        self._calls.note_attempt(master)
        self._outcomes.end_left_over(master.mirror, master.connection.client)
        if (outcome := self._calls.call(master)) is not None:
            self._outcomes.apply(outcome)
            self.unflushed[master] = None

    # Ending

    def give_up(self, connection: Connection, reason: EndReason) -> Iterator[None]:
        """The connection cannot be followed: its sessions are over, and production goes on."""
        for master in connection.masters:
            if master.why_absent is None:
                master.give_up(reason)
                if not master.lives:
                    self._totals.count_not_opened(master, reason)
        yield from self._end_all(connection, reason)
        self._calls.stop_reading_if_over(connection)

    def end_if_removed(self, master: MasterSession) -> None:
        """End a session whose master the rules do not name any more: none will follow it."""
        if self._ledger.is_current(master):
            return
        if master.why_absent is None:
            master.give_up(EndReason.MIRROR_REMOVED)
        self._abort(master, EndReason.MIRROR_REMOVED)
        self._calls.stop_reading_if_over(master.connection)

    def _end_all(self, connection: Connection, reason: EndReason) -> Iterator[None]:
        """End the connection's legs, after what was said before."""
        yield from self._flush_all(connection)
        for master in connection.masters:
            self._abort(master, reason)

    def _abort(self, master: MasterSession, reason: EndReason) -> None:
        if master.leg is not None and master.leg.ended is None:
            self._outcomes.apply(self._legs.settle(master, master.leg, master.leg.abort(reason)))

    # Masters

    def from_master(self, master: MasterSession, session: SwitchSession, data: bytes, now: float) -> Iterator[None]:
        """Read what a master has said; no bytes mean that it has closed its side."""
        leg = master.leg
        if leg is None or master.session is not session:
            return
        if not data:
            yield from self.flush(master)
            if master.lives:
                master.move(SessionEvent.CLOSED)
            self._outcomes.apply(self._legs.settle(master, leg, leg.finish(self._calls.now)))
            return
        try:
            for message in session.from_master(data, now):
                if message.kind in ORDERS:
                    master.connection.decisions.decided(By.MASTER, message, now)
                    if master.mirror.record is not None:
                        self._calls.record(master, message)
                yield
        except Broken as broken:
            yield from self.flush(master)
            self._outcomes.apply(self._legs.settle(master, leg, leg.abort(_MASTERS_FAULTS[broken.reason])))
            return
        self.unflushed[master] = None

    def _flush_all(self, connection: Connection) -> Iterator[None]:
        """What a connection's sessions have to say goes to their legs."""
        for master in connection.masters:
            yield from self.flush(master)

    def flush(self, master: MasterSession) -> Iterator[None]:
        """What a session has to say goes to its leg, which has room for all of it, or for nothing."""
        self.unflushed.pop(master, None)
        leg, session = master.leg, master.session
        if master.state not in IS_OPEN or leg is None or session is None:
            return
        self._timers.set((TimerKind.SETTLE_SESSION, master), session.next_settling())
        counted = 0
        while session.unsent_len and leg.ended is None:
            fresh = session.unsent_len - counted  # all, and then what a timer has added between two pieces
            leg.row.client_bytes += fresh
            wanted = session.unsent_len if fresh else 0
            data = session.take(_PIECE_LEN)
            counted = session.unsent_len
            self._outcomes.apply(self._legs.settle(master, leg, leg.write(data, self._calls.now, wanted=wanted)))
            yield


def _has_room(master: MasterSession) -> bool:
    """Whether the master keeps up so far that it may be asked what to do with a packet."""
    return master.leg is not None and master.leg.lag_bytes < master.mirror.buffer // _ROOM_SHARE
