"""What a judge gets to know of one session with a master."""

from collections.abc import Callable

from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.messages import Message, Type
from natmirror.reasons import EndReason, WithheldReason

Report = Callable[[Connection, Callable[[Judge, float], None], int], None]
"""Reports something to a connection's judge, with its bytes."""

ECHOES = frozenset((Type.ECHO_REQUEST, Type.ECHO_REPLY))
"""Messages that come again and again, and that no judge needs: none has to work because of them."""


class JudgedSession:
    """Reports the messages of one session with a master to its connection's judge."""

    def __init__(self, report: Report, master: MasterSession) -> None:
        """``report`` is Judges.report()."""
        self.judged = master.connection.judged
        """The judgement to which the session belongs."""
        self.has_joined = False
        self.end: tuple[EndReason, bool] | None = None
        """Why the session's leg has ended, and whether the switch was still connected; None before."""
        self._report_to_judge = report
        self._master = master

    @property
    def is_judged(self) -> bool:
        """Whether the connection's present judge has followed the session from its beginning."""
        judged = self._master.connection.judged
        return self.has_joined and judged is not None and judged is self.judged and self.name in judged.collectors

    @property
    def name(self) -> str:
        return self._master.mirror.name

    def passed(self, message: Message) -> None:
        self._report(message, lambda judge, name, now: judge.told(name, message, now))

    def withheld(self, message: Message, reason: WithheldReason) -> None:
        is_wanted = reason is not WithheldReason.NOT_WANTED
        self._report(message, lambda judge, name, now: judge.withheld(name, message, now, is_wanted=is_wanted))

    def took(self, message: Message) -> None:
        self._report(message, lambda judge, name, now: judge.from_master(name, message, now), len(message.raw))

    def _report(self, message: Message, take: Callable[[Judge, str, float], None], length: int = 0) -> None:
        if message.kind not in ECHOES and self.is_judged:
            name = self.name
            self._report_to_judge(self._master.connection, lambda judge, now: take(judge, name, now), length)
