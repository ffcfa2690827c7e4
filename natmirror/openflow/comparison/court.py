"""The judges of one packet thread's connections: they get statements, and work in small steps.

A judge only keeps what it gets, and works DELAY later on all that has come until then: to work once costs less than to
work at each message. A master's question is answered with all of its orders before it and none after it, so the
statements behind it wait until then.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count
from math import ceil, floor, inf

from natmirror.openflow.comparison.court_memory import CourtMemory
from natmirror.openflow.comparison.docket import Docket
from natmirror.openflow.comparison.statements import Statement, StatementKind, StatementReader, asked_of
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.tables.statistics import Bodies
from natmirror.reasons import EndReason

DELAY = 0.25
"""Seconds from a judge's first message until it works."""
_GRID = 1 / 16  # seconds between the times at which judges become due, so that several work one after the other
_SHORTEST_PAUSE = 0.001  # seconds until a judge works again
_MAX_WAITING_LEN = 64 << 10  # bytes of messages after which a judge works at once
_MAX_ALL_WAITING_LEN = 4 << 20  # the same of all judges, after which they work before they get more
_MAX_UNREAD_LEN = 1 << 20  # bytes of statements that were pushed and not read

OnAnswer = Callable[[int, int, Bodies | None], None]
"""Takes an answer: the number of the session, that of the question in it, and the bodies; None: there are none."""
OnFault = Callable[[str, Exception], None]
"""Takes an exception in a judge, and the client of its connection."""


class Court:
    """The judges of a packet thread's connections. ``now`` and all times are the engine's."""

    def __init__(self, memory: CourtMemory, comparisons: Comparisons, on_answer: OnAnswer, on_fault: OnFault) -> None:
        self._memory = memory
        self._comparisons = comparisons
        self._on_answer = on_answer
        self._on_fault = on_fault
        self._reader = StatementReader()
        self._dockets: dict[int, Docket] = {}
        self._due: list[tuple[float, int, Docket]] = []
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

    def prune(self, compared: Collection[tuple[str, str]]) -> None:
        """Forget what was found about masters that are not compared any more: ``compared`` has service and name of all
        others."""
        for key in [key for key, _ in self._comparisons if key not in compared]:
            service, mirror = key
            if not any(one.service == service and mirror in one.collectors for one in self._dockets.values()):
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
        docket = self._dockets.get(said.number)
        if docket is None:  # of an earlier process
            return
        if said.kind is StatementKind.ASKED:
            self._work = self._answer(docket, said)
        elif said.kind is StatementKind.CLOSED:
            self._work = self._close(said, docket, settles=said.flag)
        else:
            before = docket.waiting_len
            try:
                docket.take(said)
            except Exception as error:
                self._failed(docket, error)
            self._waiting_len += docket.waiting_len - before
            self._schedule(docket, said.at)

    def _open(self, said: Statement) -> None:
        values = said.values()
        docket = self._dockets[said.number] = Docket(
            *(values["service"], values["client"], values["holder"], values["version"]),
            *(self._memory, self._comparisons, self._failed),
        )
        try:
            docket.begin(said.at, is_late=values["is_late"])
        except Exception as error:
            self._failed(docket, error)

    def _schedule(self, docket: Docket, now: float) -> None:
        """Have a judge work soon that has got something; at once if it is much."""
        if docket.judge is None:
            return
        due_at = now if docket.waiting_len > _MAX_WAITING_LEN else _GRID * floor((now + DELAY) / _GRID)
        if docket.due_at is None or docket.due_at > due_at:
            self._work_at(docket, due_at)

    def _work_at(self, docket: Docket, due_at: float) -> None:
        docket.due_at = due_at
        heapq.heappush(self._due, (due_at, next(self._order), docket))

    def _settle(self, docket: Docket, now: float) -> Iterator[None]:
        docket.due_at = None
        self._waiting_len -= docket.waiting_len
        yield from docket.settle(now)
        if docket.due_at is not None:
            self._work_at(docket, _GRID * ceil(max(docket.due_at, now + _SHORTEST_PAUSE) / _GRID))

    def _answer(self, docket: Docket, said: Statement) -> Iterator[None]:
        asked = asked_of(said.data)
        docket.due_at = None
        self._waiting_len -= docket.waiting_len
        bodies = yield from docket.answer(asked, said.mirror, said.at)
        if docket.due_at is not None:
            self._work_at(docket, docket.due_at)
        self._on_answer(asked.session, asked.number, bodies)

    def _close(self, said: Statement, docket: Docket, *, settles: bool) -> Iterator[None]:
        self._waiting_len -= docket.waiting_len
        if settles:
            yield from docket.settle(said.at)
        self._dockets.pop(said.number, None)
        docket.close(said.at)
        yield from ()

    def _failed(self, docket: Docket, error: Exception) -> None:
        """Report a fault, and end the judgement in which it occurred."""
        self._on_fault(docket.client, error)
        self._waiting_len -= docket.waiting_len
        docket.stop(EndReason.INTERNAL_ERROR, self.heard_at)
