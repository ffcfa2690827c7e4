"""The judges of an engine's observed connections: what they get to know, when they work, and what ends them.

Theory. Relay and sessions report each message here. A judge only keeps it, and works DELAY later, in settle(), on all
that has come until then. So comparing takes less time, and takes it when no session waits. If a thread has so much
to do that judges fall behind, what they have not read is dropped, and they say so.

A judge that is made later than its connection (``verdict: on`` in a reload, a mirror that was added) begins as for one
that was picked up. What a master has ordered before, in a session that is open, is not known: its tables count as
production's then.

An exception in a judge, or a lack of memory, ends the judgement of one connection and nothing else: the collectors get
the reason. The next session with one of its masters begins another one.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from math import ceil, floor

from natmirror.fastpath import ClientMemory
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.ledger import EXCLUDED, Ledger
from natmirror.mirror.sessions.judged import JudgeAccount, Judged, JudgesMemory
from natmirror.mirror.sessions.judged_session import ECHOES, JudgedSession
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.net.endpoint import show
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.results import Collector, ComparedTables
from natmirror.openflow.comparison.sums import Comparisons, SwitchResults
from natmirror.openflow.messages import Message
from natmirror.openflow.session import SwitchSession
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.state import NotFollowed
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

DELAY = 0.25
"""Seconds from a judge's first message until it works, at most, if its thread has a pause then."""
_GRID = 1 / 16  # seconds between the times at which judges become due, so that several work in one pause
_SHORTEST_PAUSE = 0.001  # seconds until a judge works again
_MAX_WAITING_LEN = 64 << 10  # bytes of messages after which a judge works at once
_MAX_ALL_WAITING_LEN = 4 << 20  # the same of all judges, after which one drops what it has not read
_MAX_DUE = 256  # judges that are due, while others wait for a pause
_MESSAGE_COST = 400  # bytes that Python needs for a message besides its bytes

_FAULTS = frozenset(
    (
        *(EndReason.CLOSED, EndReason.MIRROR_RESET, EndReason.STALLED, EndReason.BUFFER_FULL),
        *(EndReason.MIRROR_TLS, EndReason.MIRROR_NOT_OPENFLOW, EndReason.MIRROR_BAD_LENGTH),
        *(EndReason.MIRROR_BAD_VERSION, EndReason.MIRROR_ASKS_TOO_MUCH),
    )
)
"""The ends of sessions that are the master's fault, or that of the network to it, while the switch is connected."""


class Judges:
    """The judges of an engine. MasterSessions sets ``now``, in seconds, before it calls anything."""

    def __init__(
        self, memory: ClientMemory, timers: Timers, ledger: Ledger, faults: Faults, comparisons: Comparisons
    ) -> None:
        self.now = float("-inf")
        self.due: dict[Connection, None] = {}
        """The connections whose judges have to work now, in the order in which they are due."""
        self._work: Iterator[None] | None = None  # the work in progress
        self._waiting_len = 0  # bytes of messages that judges got since they worked
        self._memory = JudgesMemory(memory)
        self._timers = timers
        self._ledger = ledger
        self._faults = faults
        self._comparisons = comparisons
        self._sessions: dict[int, JudgedSession] = {}  # by number, until all bytes of their masters have been read
        self._collecting: Counter[tuple[str, str]] = Counter()  # connections, by service and mirror

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
        if connection.judged is None or connection.judged.judge is None:
            self._begin(connection, session.version, is_late=connection.is_past_beginning)
            connection.is_past_beginning = True
        if connection.judged is not None:
            self._listen(master, session)

    def _listen(self, master: MasterSession, session: SwitchSession) -> None:
        session.listener = self._sessions[master.number] = JudgedSession(self.report, master)
        session.answer_statistics_from(partial(self._tables_of, master, session.listener))

    def _begin(self, connection: Connection, version: int, *, is_late: bool) -> None:
        if Work.VERDICT in self._faults.off or not any(map(self._rule_of, connection.masters)):
            return
        account = JudgeAccount(self._memory, connection.holder, partial(self._stop, connection, NotFollowed.NO_MEMORY))
        judged = Judged(None, account)
        if connection.judged is not None:
            judged.collectors = connection.judged.collectors
        why_not: str | None = NotFollowed.NO_MEMORY
        if judged.count():
            try:
                judged.judge = Judge(version, account, self.now, is_picked_up=connection.is_picked_up or is_late)
                why_not = None
            except Exception as error:
                account.close()
                self._faults.note(Work.VERDICT, show(connection.client), error)
                why_not = EndReason.INTERNAL_ERROR
        connection.judged = judged
        for master in connection.masters:
            if self._rule_of(master) is not None and master.why_absent not in EXCLUDED:
                self._collector_of(master, judged)
        if why_not is not None:  # the verdict has to say that the switch is not compared
            self._stop(connection, why_not)

    def _collector_of(self, master: MasterSession, judged: Judged) -> SwitchResults:
        """Return what collects a master's results. It begins before the session, so that a master that has none with a
        switch is seen to lack it."""
        name = master.mirror.name
        if name not in judged.collectors:
            sums = self._comparisons.of_master(master.service_name, name, self.now)
            judged.collectors[name] = sums.of_switch(show(master.connection.client))
            self._collecting[master.service_name, name] += 1
        return judged.collectors[name]

    def _rule_of(self, master: MasterSession) -> Mirror | None:
        """Return a master's mirror as the rules have it now; None if it is not compared."""
        mirror = self._ledger.present_mirror(master)
        return mirror if mirror is not None and mirror.is_compared else None

    # What judges get to know

    def report(self, connection: Connection, do: Callable[[Judge, float], None], length: int = 0) -> None:
        """Report something to a connection's judge, if it has one."""
        judged = connection.judged
        if judged is None or judged.judge is None:
            return
        judged.waiting_len += length + _MESSAGE_COST
        self._waiting_len += length + _MESSAGE_COST
        try:
            do(judged.judge, self.now)
            if self._waiting_len > _MAX_ALL_WAITING_LEN:
                judged.judge.give_up(self.now)
                self._note_read(judged)
        except Exception as error:
            self._failed(connection, error)
            return
        if judged.waiting_len > _MAX_WAITING_LEN:
            self.due[connection] = None
        elif judged.due_at is None or judged.due_at > self.now + DELAY:
            self._work_at(connection, judged, _GRID * floor((self.now + DELAY) / _GRID))

    def _work_at(self, connection: Connection, judged: Judged, when: float | None) -> None:
        judged.due_at = when
        self._timers.set((TimerKind.VERDICT, connection), when)

    def _note_read(self, judged: Judged) -> None:
        self._waiting_len -= judged.waiting_len
        judged.waiting_len = 0

    def from_switch(self, connection: Connection, message: Message) -> None:
        """Report a message of a switch, before any session gets it."""
        if not connection.is_past_beginning:
            self.follow(connection)
        if connection.judged is not None and message.kind not in ECHOES:
            self.report(connection, lambda judge, now: judge.from_switch(message, now), len(message.raw))

    def from_controller(self, connection: Connection, message: Message) -> None:
        """Report a message of production's controller."""
        if not connection.is_past_beginning:
            self.follow(connection)
        if connection.judged is not None and message.kind not in ECHOES:
            self.report(connection, lambda judge, now: judge.from_controller(message, now), len(message.raw))

    def missed(self, connection: Connection) -> None:
        """Report that bytes of the switch or of its controller are missing."""
        self.report(connection, Judge.missed)

    def withheld(self, master: MasterSession, message: Message) -> None:
        """Report that a master without an open session does not get a message of the switch."""
        judged, name = master.connection.judged, master.mirror.name
        if judged is not None and name in judged.collectors:
            self.report(master.connection, lambda judge, now: judge.withheld(name, message, now, is_wanted=True))

    def heard(self, master: MasterSession, *, is_open: bool = False) -> None:
        """Report a session's beginning, if these are the first bytes of its master. ``is_open``: the first ones that
        are judged; the session has begun before."""
        session = self._sessions.get(master.number)
        if session is None or session.has_joined:
            return
        session.has_joined = True
        rule, connection = self._rule_of(master), master.connection
        judged, name = session.judged, master.mirror.name
        if rule is None or judged is None or connection.judged is not judged:
            return
        collector = self._collector_of(master, judged)
        collector.has_session = session.end is None
        if judged.why_stopped is not None:
            self._report_stopped(collector, judged.why_stopped)
        self.switch_known(connection)
        self.report(
            connection,
            lambda judge, now: judge.joined(name, collector, now, warm_up=rule.warm_up, is_open=is_open),
        )

    def switch_known(self, connection: Connection) -> None:
        """Note the switch's datapath id, if it is known, for what is found out about it."""
        if connection.judged is not None and connection.datapath is not None:
            for collector in connection.judged.collectors.values():
                collector.datapath_id = connection.datapath.identity.datapath_id

    def leg_ended(self, master: MasterSession, reason: EndReason) -> None:
        """Note why a session's leg has ended; session_ended() reports it, after the rest of the master's bytes."""
        if (session := self._sessions.get(master.number)) is not None:
            session.end = reason, not master.connection.has_ended
            self._note_end(session)

    def _note_end(self, session: JudgedSession) -> None:
        """Note for what is found out that the master has no session now."""
        if session.judged is not None and (collector := session.judged.collectors.get(session.name)) is not None:
            collector.has_session = False

    def session_ended(self, connection: Connection, number: int) -> None:
        """Report the end of a session, after all bytes of its master."""
        session = self._sessions.pop(number, None)
        if session is None or session.end is None or not session.is_judged:
            return
        reason, was_connected = session.end
        name, is_fault = session.name, was_connected and reason in _FAULTS
        self.report(connection, lambda judge, now: judge.ended(name, reason, now, is_fault=is_fault))

    # Working

    @property
    def has_work(self) -> bool:
        """Whether step() has something to do."""
        return self._work is not None or bool(self.due)

    @property
    def are_behind(self) -> bool:
        """Whether so much waits that judges have to work even while messages come."""
        return len(self.due) + (self._work is not None) > _MAX_DUE or self._waiting_len > _MAX_ALL_WAITING_LEN // 2

    def step(self) -> None:
        """Do a step of the work that is due."""
        if self._work is None:
            self._work = self.settle(next(iter(self.due)))
        if next(self._work, True):  # steps yield None: the work is done
            self._work = None

    def settle(self, connection: Connection) -> Iterator[None]:
        """Have a connection's judge do what it has to do, in steps."""
        self.due.pop(connection, None)
        judged = connection.judged
        if judged is None or judged.judge is None:
            return
        self._note_read(judged)
        try:
            for _ in judged.judge.settle(self.now):
                yield
                if judged.judge is None:  # its memory was needed, or the rules have changed
                    return
            due = judged.judge.next_deadline()
            self._work_at(connection, judged, due and _GRID * ceil(max(due, self.now + _SHORTEST_PAUSE) / _GRID))
            if not judged.count():
                judged.judge.give_up(self.now)
                for collector in judged.collectors.values():
                    collector.lacked_memory_at = self.now
                if not judged.count():
                    self._stop(connection, NotFollowed.NO_MEMORY)
        except Exception as error:
            self._failed(connection, error)

    def _tables_of(self, master: MasterSession, session: JudgedSession) -> Generator[None, None, Model | None]:
        """Return the flow tables by a master's own orders, after all orders so far; None if they are not known."""
        yield from self.settle(master.connection)
        judged = master.connection.judged
        if judged is None or judged.judge is None or not session.is_judged:
            return None
        try:
            return judged.judge.model_of(session.name)
        except Exception as error:
            self._failed(master.connection, error)
            return None

    # Ending

    def finish(self, connection: Connection) -> Iterator[None]:
        """End the judgement of a connection that has ended, in steps."""
        yield from self.settle(connection)
        self.end(connection)

    def end(self, connection: Connection) -> None:
        """End the judgement of a connection in whatever state; never raises."""
        self._close(connection)
        judged, connection.judged = connection.judged, None
        if judged is not None:
            for name in list(judged.collectors):
                self._end_collector(connection, judged, name)

    def _stop(self, connection: Connection, reason: str) -> None:
        """End the judgement of a connection that goes on: it is not followed any more."""
        self._close(connection)
        if connection.judged is not None:
            connection.judged.why_stopped = reason
            for collector in connection.judged.collectors.values():
                self._report_stopped(collector, reason)

    def _report_stopped(self, collector: Collector, reason: str) -> None:
        with suppress(Exception):
            collector.compared_tables(ComparedTables(self.now, 0.0, 0.0, (), 0, 0, reason))

    def _close(self, connection: Connection) -> None:
        self.due.pop(connection, None)
        self._timers.set((TimerKind.VERDICT, connection), None)
        judged = connection.judged
        if judged is None or judged.judge is None:
            return
        self._note_read(judged)
        judge, judged.judge = judged.judge, None
        with suppress(Exception):
            judge.close(self.now)
        judged.account.close()

    def _end_collector(self, connection: Connection, judged: Judged, name: str) -> None:
        collector = judged.collectors.pop(name)
        self._collecting[connection.service_name, name] -= 1
        with suppress(Exception):
            collector.close(self.now)

    def _failed(self, connection: Connection, error: Exception) -> None:
        """Count a fault, and end the judgement in which it occurred."""
        self._faults.note(Work.VERDICT, show(connection.client), error)
        self._stop(connection, EndReason.INTERNAL_ERROR)

    def forget_session(self, number: int) -> None:
        """Forget a session whose end is not reported, because entries of the read queue are lost."""
        if (session := self._sessions.pop(number, None)) is not None:
            self._note_end(session)

    # Rules

    def follow_rules(self, connection: Connection) -> None:
        """Follow a reload: judge no master any more that is not compared, and all that are from now on."""
        compared = [master for master in connection.masters if self._rule_of(master) is not None]
        names = {master.mirror.name for master in compared}
        if (judged := connection.judged) is not None:
            for name in judged.collectors.keys() - names:
                self.report(connection, partial(_remove, name))
                self._end_collector(connection, judged, name)
            for master in connection.masters:
                if master.mirror.name not in names:
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
        self._collector_of(master, judged)
        known = self._sessions.get(master.number)
        if session is None or not master.has_leg or (known is not None and known.judged is judged):
            return
        self._listen(master, session)
        if session.has_sent_features:
            self.heard(master, is_open=True)

    def prune(self) -> None:
        """Forget what was found about masters that are not compared any more."""
        compared = self._ledger.compared()
        for key in [key for key, _ in self._comparisons if key not in compared and not self._collecting[key]]:
            self._comparisons.forget(*key)


def _remove(name: str, judge: Judge, now: float) -> None:
    judge.removed(name, now)
