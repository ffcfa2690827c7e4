"""One judged connection of a switch: its judge, the judge's memory, and the collectors of what it finds out.

An exception in a judge, or a lack of memory, ends the judgement of one connection and nothing else: the collectors get
the reason. The next session with one of its masters begins another one, as for a connection whose beginning was not
seen.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.judge_memory import JudgeAccount, JudgeMemory
from natmirror.openflow.comparison.results import Collector, ComparedTables
from natmirror.openflow.comparison.statements import Asked, Statement, StatementKind
from natmirror.openflow.comparison.sums import Comparisons, SwitchResults
from natmirror.openflow.messages import parse
from natmirror.openflow.tables.state import NotFollowed
from natmirror.openflow.tables.statistics import MALFORMED, Bodies, bodies_of

JUDGE_COST, PAIR_COST = 8000, 9000  # bytes that Python needs for a judge's own objects, and those of each master
_MESSAGE_COST = 400  # bytes that Python needs for a message besides its bytes


@dataclass(slots=True, eq=False)
class JudgedConnection:
    """A judged connection. ``fail`` gets an exception in its judge."""

    service: str
    client: str
    """The switch's address and port."""
    holder: str
    """Whose memory the judge takes."""
    version: int
    memory: JudgeMemory
    comparisons: Comparisons
    fail: Callable[["JudgedConnection", Exception], None]
    judge: Judge | None = None
    """None while the connection is not followed."""
    account: JudgeAccount = field(init=False)
    why_stopped: str | None = None
    """Why the connection is not followed any more; None while it is."""
    waiting_len: int = 0
    """Bytes of messages that the judge got since it worked."""
    due_at: float | None = None
    """When the judge is to work; None where it has nothing to do."""
    collectors: dict[str, SwitchResults] = field(default_factory=dict)
    """Those of the masters that are, or were, judged, by name."""
    names: list[str] = field(default_factory=list)
    """The mirrors, by their indexes."""
    joined: set[str] = field(default_factory=set)
    """The mirrors with a session that the present judge has followed from its beginning."""
    datapath_id: int | None = None

    def __post_init__(self) -> None:
        self.account = JudgeAccount(self.memory, self.holder)

    def begin(self, now: float, *, is_late: bool) -> None:
        """Begin a judge. ``is_late``: the connection's beginning was not seen."""
        self.account = JudgeAccount(self.memory, self.holder)
        self.why_stopped, self.judge = None, None
        self.joined.clear()
        if not self.count():
            self.stop(NotFollowed.NO_MEMORY, now)
            return
        self.judge = Judge(self.version, self.account, now, is_picked_up=is_late)

    def count(self) -> bool:
        """Take or give back memory for what the judge keeps besides rules; return False if there is no more."""
        held = 0 if self.judge is None else self.judge.held
        return self.account.keep(JUDGE_COST + PAIR_COST * len(self.collectors) + held)

    # What statements say

    def take(self, said: Statement) -> None:
        """Take a statement about the connection or one of its mirrors."""
        do = _TAKERS.get(said.kind)
        if do is not None:
            do(self, said)

    def _named(self, said: Statement) -> None:
        values = said.values()
        name = values["mirror"]
        self.names += [""] * (said.mirror + 1 - len(self.names))
        self.names[said.mirror] = name
        if name not in self.collectors:
            sums = self.comparisons.of_master(self.service, name, values["address"], said.at)
            collector = self.collectors[name] = sums.of_switch(self.client)
            collector.datapath_id = self.datapath_id
        if self.why_stopped is not None:
            self._report_stopped(self.collectors[name], self.why_stopped, said.at)

    def _session_opened(self, said: Statement) -> None:
        if self.judge is None:
            self.begin(said.at, is_late=True)

    def _joined(self, said: Statement) -> None:
        name, values = self.names[said.mirror], said.values()
        collector = self.collectors[name]
        collector.has_session = values["has_session"]
        if self.why_stopped is not None:
            self._report_stopped(collector, self.why_stopped, said.at)
        if self.judge is not None:
            self.joined.add(name)
            self.judge.joined(name, collector, said.at, warm_up=values["warm_up"], is_open=values["is_open"])

    def _from_switch(self, said: Statement) -> None:
        if self.judge is not None:
            self._count_message(said)
            self.judge.from_switch(parse(said.data), said.at)

    def _from_controller(self, said: Statement) -> None:
        if self.judge is not None:
            self._count_message(said)
            self.judge.from_controller(parse(said.data), said.at)

    def _from_master(self, said: Statement) -> None:
        if self.judge is not None and (name := self.names[said.mirror]) in self.joined:
            self._count_message(said)
            self.judge.from_master(name, parse(said.data), said.at)

    def _told(self, said: Statement) -> None:
        if self.judge is not None and (name := self.names[said.mirror]) in self.joined:
            self.waiting_len += _MESSAGE_COST
            self.judge.told(name, parse(said.data), said.at)

    def _withheld(self, said: Statement) -> None:
        if self.judge is not None and (name := self.names[said.mirror]) in self.collectors:
            self.waiting_len += _MESSAGE_COST
            self.judge.withheld(name, parse(said.data), said.at, is_wanted=said.flag)

    def _count_message(self, said: Statement) -> None:
        self.waiting_len += len(said.data) + _MESSAGE_COST

    def _missed(self, said: Statement) -> None:
        if self.judge is not None:
            self.judge.missed(said.at)

    def _lost(self, said: Statement) -> None:
        if self.judge is not None:
            self.judge.lost(said.at)
        for collector in self.collectors.values():
            if said.flag:
                collector.left_out_at = said.at
            else:
                collector.lacked_memory_at = said.at

    def _leg_ended(self, said: Statement) -> None:
        if (collector := self.collectors.get(self.names[said.mirror])) is not None:
            collector.has_session = False

    def _ended(self, said: Statement) -> None:
        name, values = self.names[said.mirror], said.values()
        if self.judge is not None and name in self.joined:
            self.judge.ended(name, values["reason"], said.at, is_fault=values["is_fault"])

    def _removed(self, said: Statement) -> None:
        name = self.names[said.mirror]
        self.joined.discard(name)
        if self.judge is not None:
            self.judge.removed(name, said.at)
        if name in self.collectors:
            self._end_collector(name, said.at)

    def _switch_known(self, said: Statement) -> None:
        self.datapath_id = said.values()["datapath_id"]
        for collector in self.collectors.values():
            collector.datapath_id = self.datapath_id

    # Working

    def settle(self, now: float) -> Iterator[None]:
        """Have the judge do what it has to do, in steps."""
        judge = self.judge
        if judge is None:
            return
        self.waiting_len = 0
        try:
            for _ in judge.settle(now):
                yield
                if self.judge is not judge:
                    return
            self.due_at = judge.next_deadline()
            if not self.count():
                judge.give_up(now)
                for collector in self.collectors.values():
                    collector.lacked_memory_at = now
                if not self.count():
                    self.stop(NotFollowed.NO_MEMORY, now)
        except Exception as error:
            self.fail(self, error)

    def answer(self, asked: Asked, mirror: int, at: float) -> Generator[None, None, Bodies | None]:
        """Return the bodies of the answer to a master's question about its own tables, as the generator's value; None
        if they are not known, MALFORMED if the question is."""
        yield from self.settle(at)
        name = self.names[mirror]
        if self.judge is None or name not in self.joined:
            return None
        try:
            model = self.judge.model_of(name)
            if model is None:
                return None
            question = parse(asked.question)
            return (yield from bodies_of(model, question, at, tables=asked.tables, n_tables=asked.n_tables))
        except MalformedBody:
            return MALFORMED
        except Exception as error:
            self.fail(self, error)
            return None

    # Ending

    def stop(self, reason: str, now: float) -> None:
        """End the judgement of a connection that goes on: it is not followed any more. The verdict has to say so."""
        self._close_judge(now)
        self.why_stopped = reason
        for collector in self.collectors.values():
            self._report_stopped(collector, reason, now)

    def _report_stopped(self, collector: Collector, reason: str, now: float) -> None:
        with suppress(Exception):
            collector.compared_tables(ComparedTables(now, 0.0, 0.0, (), 0, 0, reason))

    def close(self, now: float) -> None:
        """End the judgement in whatever state; never raises."""
        self._close_judge(now)
        for name in list(self.collectors):
            self._end_collector(name, now)

    def _close_judge(self, now: float) -> None:
        self.due_at, self.waiting_len = None, 0
        judge, self.judge = self.judge, None
        if judge is not None:
            with suppress(Exception):
                judge.close(now)
        self.account.close()

    def _end_collector(self, name: str, now: float) -> None:
        collector = self.collectors.pop(name)
        with suppress(Exception):
            collector.close(now)


_TAKERS: dict[StatementKind, Callable[[JudgedConnection, Statement], Any]] = {
    StatementKind.NAMED: JudgedConnection._named,
    StatementKind.SESSION_OPENED: JudgedConnection._session_opened,
    StatementKind.JOINED: JudgedConnection._joined,
    StatementKind.FROM_SWITCH: JudgedConnection._from_switch,
    StatementKind.FROM_CONTROLLER: JudgedConnection._from_controller,
    StatementKind.FROM_MASTER: JudgedConnection._from_master,
    StatementKind.TOLD: JudgedConnection._told,
    StatementKind.WITHHELD: JudgedConnection._withheld,
    StatementKind.MISSED: JudgedConnection._missed,
    StatementKind.LOST: JudgedConnection._lost,
    StatementKind.LEG_ENDED: JudgedConnection._leg_ended,
    StatementKind.ENDED: JudgedConnection._ended,
    StatementKind.REMOVED: JudgedConnection._removed,
    StatementKind.SWITCH_KNOWN: JudgedConnection._switch_known,
}
