"""A judged connection as its packet thread knows it, and what its judge gets to know of a session with a master."""

from collections.abc import Callable

from natmirror.mirror.sessions.judged import key_of
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.openflow.comparison.side import is_order
from natmirror.openflow.comparison.statements import StatementKind
from natmirror.openflow.messages import Message, Type
from natmirror.reasons import EndReason, WithheldReason

Report = Callable[[Connection, StatementKind, Message, int, bool], None]
"""Reports a message: the connection, the kind of statement, the message, the index of its mirror, and the flag."""


class JudgedSession:
    """Reports the messages of one session with a master to its connection's judge."""

    def __init__(self, report: Report, master: MasterSession) -> None:
        """``report`` is Judges.report_message()."""
        self.judged = master.connection.judged
        """The judgement to which the session belongs."""
        self.key = key_of(master.mirror)
        self.has_joined = False
        self.end: tuple[EndReason, bool] | None = None
        """Why the session's leg has ended, and whether the switch was still connected; None before."""
        self._report = report
        self._master = master

    @property
    def is_judged(self) -> bool:
        """Whether the connection's present judge has followed the session from its beginning."""
        judged = self._master.connection.judged
        return self.has_joined and judged is not None and judged is self.judged and self.key in judged.mirrors

    def passed(self, message: Message) -> None:
        if message.kind is Type.PACKET_IN and self.is_judged:
            self._say(StatementKind.TOLD, message)

    def withheld(self, message: Message, reason: WithheldReason) -> None:
        if message.kind is Type.PACKET_IN and self.is_judged:
            self._say(StatementKind.WITHHELD, message, flag=reason is not WithheldReason.NOT_WANTED)

    def took(self, message: Message) -> None:
        if is_order(message) and self.is_judged:
            self._say(StatementKind.FROM_MASTER, message)

    def _say(self, kind: StatementKind, message: Message, *, flag: bool = False) -> None:
        assert self.judged is not None
        self._report(self._master.connection, kind, message, self.judged.mirrors[self.key], flag)
