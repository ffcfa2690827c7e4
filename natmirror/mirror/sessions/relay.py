"""The relay between observed connections and their masters: it passes messages to the sessions that they concern.

The methods that read or write are generators: they work in steps of about one message, and yield after each.
"""

from collections.abc import Iterable, Iterator

from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.sessions.judges import Judges
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.open_sessions import OpenSessions
from natmirror.mirror.sessions.read_queue import READ, ReadEvent
from natmirror.mirror.sessions.session_states import IS_OPEN, SessionEvent
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.observer import MessageClass
from natmirror.openflow.session import ORDERS, SwitchSession
from natmirror.reasons import EndReason

_MAX_LAG_FRACTION = 2  # a master that lags by 1/2 of its buffer gets no PACKET_INs
_PIECE_LEN = 128 << 10  # bytes that a leg is given in one step
_MASTERS_FAULTS = {
    EndReason.TLS: EndReason.MIRROR_TLS,
    EndReason.NOT_OPENFLOW: EndReason.MIRROR_NOT_OPENFLOW,
    EndReason.BAD_LENGTH: EndReason.MIRROR_BAD_LENGTH,
    EndReason.BAD_VERSION: EndReason.MIRROR_BAD_VERSION,
    EndReason.MIRROR_ASKS_TOO_MUCH: EndReason.MIRROR_ASKS_TOO_MUCH,
}
"""Why a session ends, by the error in the master's stream."""
_MESSAGES = frozenset((ReadEvent.ORIG, ReadEvent.REPLY, ReadEvent.REPLY_LOST))
"""The entries from which a session, its judge and the directory learn."""
_WHY_MISSING = {ReadEvent.ORIG_LOST: EndReason.HOLE, ReadEvent.ORIG_AMBIGUOUS: EndReason.AMBIGUOUS}
"""Why a session ends, by the entry that stands for missing bytes of its switch."""


class Relay:
    """Passes messages between observed connections and the sessions with masters."""

    def __init__(
        self,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        outcomes: LegOutcomes,
        open_sessions: OpenSessions,
        totals: SessionTotals,
        directory: Directory,
        judges: Judges,
    ) -> None:
        self.unflushed: dict[MasterSession, None] = {}
        """The sessions that may have messages for their masters, in the order in which they got them."""
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._outcomes = outcomes
        self._open_sessions = open_sessions
        self._totals = totals
        self._directory = directory
        self._judges = judges

    # Production

    def from_production(self, connection: Connection, kind: ReadEvent, data: bytes, now: float) -> Iterator[None]:
        """Process an entry of the read queue that is about a flow."""
        if kind in READ and not connection.is_read:
            return
        if kind in _MESSAGES and connection.has_ended:  # its controller may go on, but the switch is gone
            return
        if kind is ReadEvent.ORIG:
            connection.echo_asked_at = None
            yield from self._from_switch(connection, connection.observer.from_switch(data, now), now)
        elif kind is ReadEvent.REPLY:
            yield from self._from_controller(connection, connection.observer.from_controller(data), now)
        elif kind is ReadEvent.REPLY_LOST:
            connection.observer.note_gap(of_switch=False)
            self._judges.missed(connection)
        elif kind in _WHY_MISSING:
            connection.observer.note_gap(of_switch=True)
            self._judges.missed(connection)
            yield from self._end_all(connection, _WHY_MISSING[kind])
        elif kind in (ReadEvent.FINISHED, ReadEvent.RESET, ReadEvent.FORGOTTEN) and not connection.has_ended:
            yield from self._production_ended(connection, kind)

    def _production_ended(self, connection: Connection, kind: ReadEvent) -> Iterator[None]:
        connection.has_ended = True
        if connection.continues:
            self._directory.begin_again(connection.name, self._open_sessions.now)
        else:
            self._directory.remove(connection.name)
        self._judges.finish(connection)
        yield from self._flush_all(connection)
        for master in connection.masters:
            if (leg := master.leg) is None or leg.ended is not None:
                continue
            master.move(SessionEvent.CLOSED)
            leg.client_gone(self._open_sessions.now)
            if kind is ReadEvent.FORGOTTEN:
                packets = leg.abort(EndReason.FLOW_EXPIRED)
            else:
                packets = (
                    leg.reset(self._open_sessions.now)
                    if kind is ReadEvent.RESET
                    else leg.finish(self._open_sessions.now)
                )
            self._outcomes.apply(self._legs.collect(master, leg, packets))

    def _from_switch(
        self, connection: Connection, messages: Iterable[tuple[MessageClass, Message]], now: float
    ) -> Iterator[None]:
        has_answers = False
        for what, message in messages:
            has_answers |= what is MessageClass.ANSWER
            if message.kind is Type.PACKET_IN:
                connection.decisions.saw(message, now)
            self._judges.from_switch(connection, message)
            yield from self._switch_known(connection, now)
            for master in connection.masters:
                if master.why_absent is not None:
                    continue
                if connection.datapath is not None and not self._open_sessions.has_switch(master):
                    self._claim(master, connection.datapath)
                if not master.has_leg and what is not MessageClass.HANDSHAKE:
                    self._open(master)
                if master.state in IS_OPEN and master.session is not None:
                    master.session.from_switch(what, message, has_room=_has_room(master))
                    self.unflushed[master] = None
                elif what is MessageClass.ASYNCHRONOUS:
                    master.messages_missed += 1
                    self._judges.withheld(master, message)
            yield
        if has_answers:
            for master in connection.masters:
                if master.state in IS_OPEN and master.session is not None:
                    master.session.settle(now)
        self._open_all(connection)

    def _from_controller(self, connection: Connection, messages: Iterable[Message], now: float) -> Iterator[None]:
        for message in messages:
            if message.kind is Type.ECHO_REQUEST and connection.echo_asked_at is None:
                connection.echo_asked_at = now
            if message.kind in ORDERS:
                connection.decisions.decided(None, message, now)
            self._judges.from_controller(connection, message)
            yield
        yield from self._switch_known(connection, now)
        self._open_all(connection)

    def _switch_known(self, connection: Connection, now: float) -> Iterator[None]:
        """If the switch has become known, claim it for the connection's sessions."""
        datapath = connection.observer.datapath
        if datapath is None or connection.datapath is datapath:
            return
        is_another = connection.datapath is not None and connection.datapath.identity != datapath.identity
        connection.datapath = datapath
        self._directory.set_switch(connection.name, datapath)
        self._judges.switch_known(connection)
        if is_another:  # the connection's earlier switch was wrong
            yield from self._end_all(connection, EndReason.ANOTHER_SWITCH)
        for master in connection.masters:
            if master.why_absent is None:
                self._claim(master, datapath)
            if master.state in IS_OPEN and master.session is not None:
                yield from master.session.switch_known(now)
                self.unflushed[master] = None

    def _claim(self, master: MasterSession, datapath: Datapath) -> None:
        """Claim the switch for a session: end the client's older session, or this one if the switch is another's."""
        older = self._open_sessions.claim_switch(master, datapath)
        was_refused, master.is_refused = master.is_refused, not self._open_sessions.has_switch(master)
        if older is not None:
            older.give_up(EndReason.NEWER_CONNECTION)
            if older.leg is not None and older.leg.ended is None:
                self._outcomes.end(older, older.leg, EndReason.NEWER_CONNECTION)
            self._open_sessions.stop_reading_if_ended(older.connection)
        if not master.is_refused:
            return
        if master.leg is not None and master.leg.ended is None:
            self._outcomes.end(master, master.leg, EndReason.DATAPATH_IN_USE)
        elif not was_refused:
            self._totals.count_not_opened(master.service_name, master.mirror.name, EndReason.DATAPATH_IN_USE)

    # Opening sessions

    def _open_all(self, connection: Connection) -> None:
        """Open the connection's first session with each master, if it may be opened yet."""
        for master in connection.masters:
            if master.leg is None and master.why_absent is None:
                self._open(master)

    def _open(self, master: MasterSession) -> None:
        """Open a session with a master, unless it is too early, or the master is paused or no longer in the rules."""
        if not self._open_sessions.may_open(master):
            return
        if self._ledger.why_ended_by_rules(master) is not None:
            self.end_if_removed(master)
            return
        self._open_sessions.note_attempt(master)
        self._outcomes.end_left_over(master.mirror, master.connection.client)
        if (outcome := self._open_sessions.open(master)) is not None:
            self._outcomes.apply(outcome)
            self.unflushed[master] = None

    # Ending

    def give_up(self, connection: Connection, reason: EndReason) -> Iterator[None]:
        """End the sessions of a connection that natmirror cannot read any more. The connection itself continues."""
        for master in connection.masters:
            if master.why_absent is None:
                master.give_up(reason)
                if not master.has_leg:
                    self._totals.count_not_opened(master.service_name, master.mirror.name, reason)
        yield from self._end_all(connection, reason)
        self._open_sessions.stop_reading_if_ended(connection)

    def end_if_removed(self, master: MasterSession) -> None:
        """End a session whose master is paused, or no longer in the rules: then no session will follow."""
        reason = self._ledger.why_ended_by_rules(master)
        if reason is None:
            return
        if master.why_absent is None and reason is EndReason.MIRROR_REMOVED:
            master.give_up(reason)
        self._abort(master, reason)
        self._open_sessions.stop_reading_if_ended(master.connection)

    def _end_all(self, connection: Connection, reason: EndReason) -> Iterator[None]:
        """End the connection's legs, after all earlier messages."""
        yield from self._flush_all(connection)
        for master in connection.masters:
            self._abort(master, reason)

    def _abort(self, master: MasterSession, reason: EndReason) -> None:
        if master.leg is not None and master.leg.ended is None:
            self._outcomes.apply(self._legs.collect(master, master.leg, master.leg.abort(reason)))

    # Masters

    def from_master(self, master: MasterSession, session: SwitchSession, data: bytes, now: float) -> Iterator[None]:
        """Read a master's bytes; no bytes mean that it has closed its side."""
        leg = master.leg
        if leg is None or master.session is not session:
            return
        if not data:
            yield from self.flush(master)
            if master.has_leg:
                master.move(SessionEvent.CLOSED)
            self._outcomes.apply(self._legs.collect(master, leg, leg.finish(self._open_sessions.now)))
            return
        self._judges.heard(master)
        try:
            for message in session.from_master(data, now):
                if message.kind in ORDERS:
                    master.connection.decisions.decided(master.mirror.name, message, now)
                    if master.mirror.record is not None:
                        self._open_sessions.keep_order(master, message)
                yield
        except Broken as broken:
            yield from self.flush(master)
            self._outcomes.apply(self._legs.collect(master, leg, leg.abort(_MASTERS_FAULTS[broken.reason])))
            return
        self.unflushed[master] = None

    def _flush_all(self, connection: Connection) -> Iterator[None]:
        """Write the unsent messages of all sessions of a connection to their legs."""
        for master in connection.masters:
            yield from self.flush(master)

    def flush(self, master: MasterSession) -> Iterator[None]:
        """Write a session's unsent messages to its leg. The leg needs room for all of them, and otherwise ends."""
        self.unflushed.pop(master, None)
        leg, session = master.leg, master.session
        if master.state not in IS_OPEN or leg is None or session is None:
            return
        self._timers.set((TimerKind.QUESTION_TIMEOUT, master), session.next_deadline())
        counted = 0
        while session.unsent_len and leg.ended is None:
            fresh = session.unsent_len - counted  # first all, then those that a timer has added between two pieces
            leg.row.client_bytes += fresh
            wanted = session.unsent_len if fresh else 0
            data = session.take(_PIECE_LEN)
            counted = session.unsent_len
            self._outcomes.apply(
                self._legs.collect(master, leg, leg.write(data, self._open_sessions.now, wanted=wanted))
            )
            yield


def _has_room(master: MasterSession) -> bool:
    """Return whether the master keeps up well enough to get PACKET_INs."""
    return master.leg is not None and master.leg.lag_bytes < master.mirror.buffer // _MAX_LAG_FRACTION
