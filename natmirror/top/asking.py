"""Asks a running natmirror again and again, with never more than one question of a kind under way."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from natmirror.errors import NatmirrorError, RefusedError
from natmirror.threads import NamedThread

_MOST_OF_TIME = 0.2
"""The part of the time in which a question may be under way: what takes natmirror long is asked for less often."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What natmirror has answered, to which question, and when it came (monotonic seconds)."""

    question: dict[str, Any]
    value: Any
    came_at: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer; ``is_refused``: natmirror runs, and refuses the question."""

    text: str
    is_refused: bool


def pause_after(interval: float, taken: float) -> float:
    """Return the seconds from an answer that took ``taken`` seconds to the next question."""
    return max(interval - taken, taken * (1 / _MOST_OF_TIME - 1) if taken > _MOST_OF_TIME * interval else 0.0)


class Asker:
    """Asks from start() to stop(), in a thread of its own. ``question`` returns the parameters of the next question, or
    None while nothing is to be asked; ``ask`` has the answer, or raises one of natmirror's errors; ``report`` gets each
    result, in that thread. ``interval`` returns the seconds from one question to the next."""

    def __init__(
        self,
        name: str,
        question: Callable[[], dict[str, Any] | None],
        ask: Callable[[dict[str, Any]], Any],
        report: Callable[[Answer | Trouble], None],
        interval: Callable[[], float],
    ) -> None:
        self._question = question
        self._ask = ask
        self._report = report
        self._interval = interval
        self._hurry = threading.Event()
        self._is_stopped = False
        self._thread = NamedThread(self._run, name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and report nothing more. A question that is under way ends by itself, in a daemon thread."""
        self._is_stopped = True
        self._hurry.set()

    def hurry(self) -> None:
        """Ask the next question now, unless one is under way: then right after its answer."""
        self._hurry.set()

    def _run(self) -> None:
        while not self._is_stopped:
            self._hurry.clear()
            self._hurry.wait(self._ask_once())

    def _ask_once(self) -> float:
        """Ask, and return the seconds until the next question."""
        if (question := self._question()) is None:
            return self._interval()
        began_at = time.monotonic()
        try:
            result: Answer | Trouble = Answer(question, self._ask(question), time.monotonic())
        except NatmirrorError as error:
            result = Trouble(" ".join(error.lines), is_refused=isinstance(error, RefusedError))
        if not self._is_stopped:
            self._report(result)
        return pause_after(self._interval(), time.monotonic() - began_at)
