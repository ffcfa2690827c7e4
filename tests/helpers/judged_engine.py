"""An engine whose judges work in this process: it has their statements taken after each of its calls, as a packet
thread sends them, and gets their answers at once."""

from collections.abc import Callable
from typing import Any

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.fastpath.constants import CLIENT_SHARE
from natmirror.mirror.faults import Work
from natmirror.openflow.comparison.court import Court
from natmirror.openflow.comparison.court_memory import CourtMemory
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.tables.statistics import Bodies


class JudgedEngine(Engine):
    """An engine with its judges, whose memory is a quarter of ``mirror-memory``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begin_court()

    def begin_court(self) -> None:
        """Begin with judges that know nothing, as a process does."""
        most = self._gear.memory.limit // 4
        self.court_memory = CourtMemory(most, most // CLIENT_SHARE)
        self.comparisons = Comparisons(self.court_memory)
        self.court = Court(
            self.court_memory,
            self.comparisons,
            self._answer,
            lambda client, error: self.faults.note(Work.VERDICT, client, error),
        )
        self._answers: list[tuple[int, int, Bodies | None]] = []
        self.statements.open()

    def _answer(self, session: int, question: int, bodies: Bodies | None) -> None:
        self._answers.append((session, question, bodies))

    def read_sessions(self, now: float, is_spent: Callable[[], bool] | None = None) -> list[Send]:
        sends = super().read_sessions(now, is_spent)
        self.judge_until(now)
        answers, self._answers = self._answers, []
        for session, question, bodies in answers:
            sends += self.take_statistics(session, question, bodies, now)
        return sends

    def judge_until(self, now: float) -> None:
        """Let the judges do what is due."""
        queue = self.statements
        while queue.due_at() is not None:
            parts = queue.parts()
            self.court.push(parts)
            queue.sent(sum(map(len, parts)))
        while self.court.step(now):
            pass
