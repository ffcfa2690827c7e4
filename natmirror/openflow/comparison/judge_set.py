"""The judges of one packet thread's connections: they get statements, and work in small steps.

A judge only keeps what it gets, and works DELAY later on all that has come until then: to work once costs less than to
work at each message. A master's question is answered with all of its orders before it and none after it, so the
statements behind it wait until then.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count
from math import ceil, floor, inf

from natmirror.openflow.comparison.judge_memory import JudgeMemory
from natmirror.openflow.comparison.judged_connection import JudgedConnection
from natmirror.openflow.comparison.statements import Statement, StatementKind, StatementReader, asked_of
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.tables.statistics import Bodies
from natmirror.reasons import EndReason

DELAY = 0.25
"""Seconds from a judge's first message until it works."""
_GRID = 1 / 16  # seconds between the times at which judges become due, so that several work one after the other
_SHORTEST_PAUSE = 0.001  # seconds until a judge works again
_MIN_STALE = 64  # former times of judges, after which they are removed
_MAX_WAITING_LEN = 64 << 10  # bytes of messages after which a judge works at once
_MAX_ALL_WAITING_LEN = 4 << 20  # the same of all judges, after which they work before they get more
_MAX_UNREAD_LEN = 1 << 20  # bytes of statements that were pushed and not read

OnAnswer = Callable[[int, int, Bodies | None], None]
"""Takes an answer: the number of the session, that of the question in it, and the bodies; None: there are none."""
OnFault = Callable[[str, Exception], None]
"""Takes an exception in a judge, and the client of its connection."""


class JudgeSet:
    """The judges of a packet thread's connections. ``now`` and all times are the engine's."""

    def __init__(self, memory: JudgeMemory, comparisons: Comparisons, on_answer: OnAnswer, on_fault: OnFault) -> None:
        self._memory = memory
        self._comparisons = comparisons
        self._on_answer = on_answer
        self._on_fault = on_fault
        self._reader = StatementReader()
        self._connections: dict[int, JudgedConnection] = {}
        self._due: list[tuple[float, int, JudgedConnection]] = []
        self._order = count()
        self._said: Statement | None = None  # the next statement
        self._work: Iterator[None] | None = None  # the work in progress
        self._waiting_len = 0  # bytes of messages that judges got since they worked
        self.heard_at = -inf
        """The time of the latest statement."""

    def push(self, pieces: Sequence[bytes]) -> None:
        """Take the next bytes of the packet thread's statements."""
        self._reader.push(pieces)

    @property
    def is_full(self) -> bool:
        """Return whether no more is to be pushed now."""
        return self.is_behind or self._reader.unread_len > _MAX_UNREAD_LEN

    @property
    def is_behind(self) -> bool:
        """Whether judges have to work before they get more."""
        return self._waiting_len > _MAX_ALL_WAITING_LEN

    def prune(self, compared: Collection[tuple[str, str, str]]) -> None:
        """Forget what was found about masters that are not compared any more: ``compared`` has service, name and
        address of all others."""
        for key, sums in list(self._comparisons):
            if (*key, sums.address) not in compared and not sums.has_switches:
                self._comparisons.forget(*key)

    def next_due(self) -> float | None:
        """Return when the next judge has to work; None where none has."""
        while self._due and self._due[0][2].due_at != self._due[0][0]:
            heapq.heappop(self._due)  # it has another time now, or has ended
        return self._due[0][0] if self._due else None

    def step(self, now: float) -> bool:
        """Do a step of the work that is due: take a statement, or let a judge work. Return False if there is none.
        ``now``: all statements until then have been pushed."""
        if self._work is not None:
            if next(self._work, True):  # steps yield None: the work is done
                self._work = None
            return True
        if self._said is None:
            self._said = self._reader.next()
        said, due_at = self._said, self.next_due()
        # A judge works on time by the statements, however late it is: then its result does not depend on that.
        if due_at is not None and (due_at <= (now if said is None else said.at) or self.is_behind):
            self._work = self._settle(self._due[0][2], self.heard_at if self.is_behind else max(due_at, self.heard_at))
            return True
        self._said = None
        if said is not None:
            self._take(said)
        return said is not None

    def _take(self, said: Statement) -> None:
        self.heard_at = max(self.heard_at, said.at)
        if said.kind is StatementKind.OPENED:
            self._open(said)
            return
        judged = self._connections.get(said.number)
        if judged is None:  # of an earlier process
            return
        if said.kind is StatementKind.ASKED:
            self._work = self._answer(judged, said)
        elif said.kind is StatementKind.CLOSED:
            self._work = self._close(said, judged, settles=said.flag)
        else:
            self._waiting_len -= judged.waiting_len
            try:
                judged.take(said)
            except Exception as error:
                self._failed(judged, error)
            self._waiting_len += judged.waiting_len
            self._schedule(judged, said.at)

    def _open(self, said: Statement) -> None:
        values = said.values()
        judged = self._connections[said.number] = JudgedConnection(
            *(values["service"], values["client"], values["holder"], values["version"]),
            *(self._memory, self._comparisons, self._failed),
        )
        try:
            judged.begin(said.at, is_late=values["is_late"])
        except Exception as error:
            self._failed(judged, error)

    def _schedule(self, judged: JudgedConnection, now: float) -> None:
        """Have a judge work soon that has got something; at once if it is much."""
        if judged.judge is None:
            return
        due_at = now if judged.waiting_len > _MAX_WAITING_LEN else _GRID * floor((now + DELAY) / _GRID)
        if judged.due_at is None or judged.due_at > due_at:
            self._work_at(judged, due_at)

    def _work_at(self, judged: JudgedConnection, due_at: float) -> None:
        judged.due_at = due_at
        if len(self._due) > 2 * len(self._connections) + _MIN_STALE:
            latest = {one[2]: one for one in self._due if one[2].due_at == one[0]}
            self._due = sorted(latest.values())
        heapq.heappush(self._due, (due_at, next(self._order), judged))

    def _settle(self, judged: JudgedConnection, now: float) -> Iterator[None]:
        judged.due_at = None
        self._waiting_len -= judged.waiting_len
        yield from judged.settle(now)
        if judged.due_at is not None:
            self._work_at(judged, _GRID * ceil(max(judged.due_at, now + _SHORTEST_PAUSE) / _GRID))

    def _answer(self, judged: JudgedConnection, said: Statement) -> Iterator[None]:
        asked = asked_of(said.data)
        judged.due_at = None
        self._waiting_len -= judged.waiting_len
        bodies = yield from judged.answer(asked, said.mirror, said.at)
        if judged.due_at is not None:
            self._work_at(judged, judged.due_at)
        self._on_answer(asked.session, asked.number, bodies)

    def _close(self, said: Statement, judged: JudgedConnection, *, settles: bool) -> Iterator[None]:
        self._waiting_len -= judged.waiting_len
        if settles:
            yield from judged.settle(said.at)
        self._connections.pop(said.number, None)
        judged.close(said.at)
        yield from ()

    def _failed(self, judged: JudgedConnection, error: Exception) -> None:
        """Report a fault, and end the judgement in which it occurred."""
        self._on_fault(judged.client, error)
        judged.stop(EndReason.INTERNAL_ERROR, self.heard_at)
