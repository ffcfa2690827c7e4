"""What the judges get to know of an engine's observed connections.

Theory. Relay and sessions report here what happens, and it becomes statements (statement_queue.py) for the process of
the judges, which decodes and compares. This thread frames messages anyway; it does no more for judges than to pass
these bytes on.

A judge that is made later than its connection (``verdict: on`` in a reload, a mirror that was added, a process of
judges that was started again) begins as for one that was picked up. What a master has ordered before, in a session that
is open, is not known: its tables count as production's then.
"""

from functools import partial

from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.ledger import EXCLUDED, Ledger
from natmirror.mirror.sessions.judged import Judged, MirrorKey, key_of
from natmirror.mirror.sessions.judged_session import JudgedSession
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.statement_queue import StatementQueue
from natmirror.net.endpoint import show
from natmirror.openflow.comparison.side import is_order, is_report
from natmirror.openflow.comparison.statements import Asked, StatementKind, ask, encode
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.session import SwitchSession
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

_FAULTS = frozenset(
    (
        *(EndReason.CLOSED, EndReason.MIRROR_RESET, EndReason.STALLED, EndReason.BUFFER_FULL),
        *(EndReason.MIRROR_TLS, EndReason.MIRROR_NOT_OPENFLOW, EndReason.MIRROR_BAD_LENGTH),
        *(EndReason.MIRROR_BAD_VERSION, EndReason.MIRROR_ASKS_TOO_MUCH),
    )
)
"""The ends of sessions that are the master's fault, or that of the network to it, while the switch is connected."""


class Judges:
    """Reports an engine's connections to their judges. MasterSessions sets ``now``, in seconds, before it calls
    anything."""

    def __init__(self, ledger: Ledger, faults: Faults, queue: StatementQueue) -> None:
        self.now = float("-inf")
        self._ledger = ledger
        self._faults = faults
        self._queue = queue
        self._sessions: dict[int, JudgedSession] = {}  # by number, until all bytes of their masters have been read

    # Beginning

    def follow(self, connection: Connection) -> None:
        """Begin to judge a connection whose version has become known, if a master of it is compared. Call it before
        the connection's next message is reported."""
        if not connection.is_past_beginning and connection.observer.version is not None:
            connection.is_past_beginning = True
            self._begin(connection, connection.observer.version, is_late=False)

    def session_opened(self, master: MasterSession, session: SwitchSession) -> None:
        """Follow a session that has just been opened, if its master is compared."""
        connection = master.connection
        if self._rule_of(master) is None:
            return
        if connection.judged is None:
            self._begin(connection, session.version, is_late=connection.is_past_beginning)
            connection.is_past_beginning = True
        if (judged := connection.judged) is not None:
            self._mirror_of(master, judged)
            self._say_of_mirror(StatementKind.SESSION_OPENED, judged, key_of(master.mirror))
            self._listen(master, session)

    def _listen(self, master: MasterSession, session: SwitchSession) -> None:
        session.listener = self._sessions[master.number] = JudgedSession(self.report_message, master)
        session.ask_statistics_from(partial(self._ask, master, session.listener))

    def _begin(self, connection: Connection, version: int, *, is_late: bool) -> None:
        if not self._queue.is_open or Work.VERDICT in self._faults.off:
            return
        if not any(map(self._rule_of, connection.masters)):
            return
        judged = connection.judged = Judged(self._queue.new_number())
        beginning = {
            "service": connection.service_name,
            "client": show(connection.client),
            "holder": show(connection.client).rpartition(":")[0],
            "version": version,
            "is_late": connection.is_picked_up or is_late,
        }
        self._say(StatementKind.OPENED, judged, encode(beginning))
        # Each master is named before it has a session, so that one that has none with a switch is seen to lack it.
        for master in connection.masters:
            if self._rule_of(master) is not None and master.why_absent not in EXCLUDED:
                self._mirror_of(master, judged)

    def _mirror_of(self, master: MasterSession, judged: Judged) -> int:
        """Return the index of a master's mirror in statements, after naming it."""
        key = key_of(master.mirror)
        if key not in judged.mirrors:
            if key not in judged.keys:
                judged.keys.append(key)
            judged.mirrors[key] = index = judged.keys.index(key)
            name, endpoint = key
            self._say(StatementKind.NAMED, judged, encode({"mirror": name, "address": show(endpoint)}), index)
        return judged.mirrors[key]

    def _rule_of(self, master: MasterSession) -> Mirror | None:
        """Return a master's mirror as the rules have it now; None if it is not compared."""
        mirror = self._ledger.present_mirror(master)
        return mirror if mirror is not None and mirror.is_compared else None

    # What judges get to know

    def _say(
        self, kind: StatementKind, judged: Judged, data: bytes = b"", mirror: int = 0, *, flag: bool = False
    ) -> None:
        """Report something that cannot be left out."""
        self._queue.add(kind, judged.number, self.now, data, mirror, flag=flag)

    def _say_of_mirror(self, kind: StatementKind, judged: Judged, key: MirrorKey, data: bytes = b"") -> None:
        self._say(kind, judged, data, judged.mirrors[key])

    def report_message(
        self, connection: Connection, kind: StatementKind, message: Message, mirror: int = 0, flag: bool = False
    ) -> None:
        """Report a message. If it has no room, its connection's judge follows no tables from there on."""
        judged, holder = connection.judged, connection.holder
        if judged is None:
            return
        said = self._queue.add(
            kind, judged.number, self.now, message.raw, mirror, flag=flag, holder=holder, is_message=True
        )
        if said:
            judged.is_lost = False
        elif not judged.is_lost:
            judged.is_lost = True
            self._say(StatementKind.LOST, judged, flag=self._queue.is_behind)

    def from_switch(self, connection: Connection, message: Message) -> None:
        """Report a message of a switch, before any session gets it."""
        if not connection.is_past_beginning:
            self.follow(connection)
        if connection.judged is not None and is_report(message):
            self.report_message(connection, StatementKind.FROM_SWITCH, message)

    def from_controller(self, connection: Connection, message: Message) -> None:
        """Report a message of production's controller."""
        if not connection.is_past_beginning:
            self.follow(connection)
        if connection.judged is not None and is_order(message):
            self.report_message(connection, StatementKind.FROM_CONTROLLER, message)

    def missed(self, connection: Connection) -> None:
        """Report that bytes of the switch or of its controller are missing."""
        if connection.judged is not None:
            self._say(StatementKind.MISSED, connection.judged)

    def withheld(self, master: MasterSession, message: Message) -> None:
        """Report that a master without an open session does not get a message of the switch."""
        judged, key = master.connection.judged, key_of(master.mirror)
        if judged is not None and key in judged.mirrors and message.kind is Type.PACKET_IN:
            self.report_message(master.connection, StatementKind.WITHHELD, message, judged.mirrors[key], flag=True)

    def heard(self, master: MasterSession, *, is_open: bool = False) -> None:
        """Report a session's beginning, if these are the first bytes of its master. ``is_open``: the first ones that
        are judged; the session has begun before."""
        session = self._sessions.get(master.number)
        if session is None or session.has_joined:
            return
        session.has_joined = True
        rule, connection = self._rule_of(master), master.connection
        judged = session.judged
        if rule is None or judged is None or connection.judged is not judged:
            return
        index = self._mirror_of(master, judged)
        self.switch_known(connection)
        beginning = {"warm_up": rule.warm_up, "is_open": is_open, "has_session": session.end is None}
        self._say(StatementKind.JOINED, judged, encode(beginning), index)

    def switch_known(self, connection: Connection) -> None:
        """Report the switch's datapath id, if it is known, for what is found out about it."""
        if connection.judged is not None and connection.datapath is not None:
            known = {"datapath_id": connection.datapath.identity.datapath_id}
            self._say(StatementKind.SWITCH_KNOWN, connection.judged, encode(known))

    def leg_ended(self, master: MasterSession, reason: EndReason) -> None:
        """Note why a session's leg has ended; session_ended() reports it, after the rest of the master's bytes."""
        if (session := self._sessions.get(master.number)) is not None:
            session.end = reason, not master.connection.has_ended
            self._report_end_of_leg(session)

    def _report_end_of_leg(self, session: JudgedSession) -> None:
        if session.judged is not None and session.key in session.judged.mirrors:
            self._say_of_mirror(StatementKind.LEG_ENDED, session.judged, session.key)

    def session_ended(self, number: int) -> None:
        """Report the end of a session, after all bytes of its master."""
        session = self._sessions.pop(number, None)
        if session is None or session.end is None or not session.is_judged or session.judged is None:
            return
        reason, was_connected = session.end
        end = {"reason": reason, "is_fault": was_connected and reason in _FAULTS}
        self._say_of_mirror(StatementKind.ENDED, session.judged, session.key, encode(end))

    def _ask(
        self,
        master: MasterSession,
        session: JudgedSession,
        number: int,
        question: bytes,
        tables: tuple[bytes, ...],
        n_tables: int,
    ) -> bool:
        """Ask for statistics of a master's own rules, after all its orders so far; return False if nothing knows
        them. Question ``number`` of the session is answered by MasterSessions.answered()."""
        judged = session.judged
        if judged is None or not session.is_judged:
            return False
        asked = ask(Asked(master.number, number, n_tables, question, tables))
        return self._queue.add(
            *(StatementKind.ASKED, judged.number, self.now, asked, judged.mirrors[session.key]),
            holder=master.connection.holder,
            is_message=True,
        )

    # Ending

    def finish(self, connection: Connection) -> None:
        """End the judgement of a connection that has ended, after what is due has been reported."""
        self._close(connection, settles=True)

    def end(self, connection: Connection) -> None:
        """End the judgement of a connection in whatever state."""
        self._close(connection, settles=False)

    def _close(self, connection: Connection, *, settles: bool) -> None:
        judged, connection.judged = connection.judged, None
        if judged is not None:
            self._say(StatementKind.CLOSED, judged, flag=settles)

    def forget_session(self, number: int) -> None:
        """Forget a session whose end is not reported, because entries of the read queue are lost."""
        if (session := self._sessions.pop(number, None)) is not None:
            self._report_end_of_leg(session)

    # Rules

    def begin_again(self, connection: Connection) -> None:
        """Judge a connection that another process has judged before, or none."""
        judged = connection.judged
        if judged is not None and judged.number < self._queue.first_number:
            connection.judged = judged = None
            for master in connection.masters:
                self._sessions.pop(master.number, None)
        if judged is None:
            self.follow_rules(connection)

    def follow_rules(self, connection: Connection) -> None:
        """Follow a reload: judge no master any more that is not compared, and all that are from now on."""
        compared = [master for master in connection.masters if self._rule_of(master) is not None]
        keys = {key_of(master.mirror) for master in compared}
        if (judged := connection.judged) is not None:
            for key in judged.mirrors.keys() - keys:
                self._say(StatementKind.REMOVED, judged, mirror=judged.mirrors.pop(key))
            for master in connection.masters:
                if key_of(master.mirror) not in keys:
                    self._sessions.pop(master.number, None)
        if not compared or connection.has_ended or not connection.is_read:
            self.end(connection)
            return
        if judged is None and connection.is_past_beginning and connection.observer.version is not None:
            self._begin(connection, connection.observer.version, is_late=True)
        for master in compared:
            self._judge_now(master)

    def _judge_now(self, master: MasterSession) -> None:
        """Judge a master from now on that was not compared before, also in a session that is open."""
        judged, session = master.connection.judged, master.session
        if judged is None or master.why_absent in EXCLUDED:
            return
        self._mirror_of(master, judged)
        known = self._sessions.get(master.number)
        if session is None or not master.has_leg or (known is not None and known.judged is judged):
            return
        self._listen(master, session)
        if session.has_sent_features:
            self.heard(master, is_open=True)
