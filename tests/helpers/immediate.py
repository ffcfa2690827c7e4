"""An engine's thread that does everything at once, for tests without threads."""

from collections.abc import Callable
from typing import Any, cast

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import Rules
from natmirror.runtime.engine_proxy import EngineProxy


class ImmediateThread:
    """Calls each function at once, and counts the questions."""

    def __init__(self) -> None:
        self.questions = 0

    def post(self, do: Callable[[], None]) -> None:
        do()

    def ask(self, question: Callable[[], Any], timeout: float | None) -> Any:
        self.questions += 1
        return question()

    def send(self, sends: list[Send]) -> None:
        raise AssertionError("nothing sends here")


def proxy(engine: Engine, thread: ImmediateThread | None = None) -> EngineProxy:
    """Return a proxy of an engine that shows its state; it does not take part in replication."""
    return EngineProxy(engine, cast(EngineAdapter, None), thread or ImmediateThread(), cast(Rules, None))
