"""Questions: one at a time, and fewer where an answer takes long."""

import threading
from collections.abc import Iterator
from typing import Any

from natmirror.errors import NoAnswerError, RefusedError
from natmirror.top.asking import Answer, Asker, Trouble, pause_after


def test_a_quick_answer_keeps_the_pace_and_a_slow_one_has_the_next_wait() -> None:
    assert pause_after(1.0, 0.1) == 0.9
    assert pause_after(1.0, 3.0) == 12.0


class Asked:
    """Each question waits for ``answer``."""

    def __init__(self) -> None:
        self.answer = threading.Semaphore(0)
        self.came = threading.Semaphore(0)
        self.under_way = self.most = 0
        self.results: list[Answer | Trouble] = []
        self.errors: list[Exception] = []

    def ask(self, question: dict[str, Any]) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.came.release()
        assert self.answer.acquire(timeout=10)
        self.under_way -= 1
        if self.errors:
            raise self.errors.pop()
        return question


def test_there_is_never_more_than_one_question_under_way() -> None:
    asked = Asked()
    asker = Asker("test", lambda: {"limit": 1}, asked.ask, asked.results.append, lambda: 1000.0)
    asker.start()
    for count in (1, 2):
        assert asked.came.acquire(timeout=10)
        for _ in range(3):
            asker.hurry()
        assert not asked.came.acquire(blocking=False)
        if count == 2:
            asker.stop()
        asked.answer.release()
    asker._thread.join(10)
    assert not asker._thread.is_alive()
    assert asked.most == 1
    assert [one.value for one in asked.results if isinstance(one, Answer)] == [{"limit": 1}]  # none after stop()


def test_troubles_are_reported_and_nothing_is_asked_while_there_is_no_question() -> None:
    asked = Asked()
    questions: Iterator[dict[str, Any] | None] = iter([None, {}, {}])
    reported = threading.Semaphore(0)

    def report(result: Answer | Trouble) -> None:
        asked.results.append(result)
        reported.release()

    asked.errors = [NoAnswerError("no natmirror\nanswers"), RefusedError("there is no mirror m")]
    asker = Asker("test", lambda: next(questions, None), asked.ask, report, lambda: 0.001)
    asker.start()
    for _ in range(2):
        asked.answer.release()
        assert reported.acquire(timeout=10)
    asker.stop()
    assert asked.results == [Trouble("there is no mirror m", True), Trouble("no natmirror answers", False)]
