"""What an engine's thread does for what others ask."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from natmirror.rules import parse_rules
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.selection import Selection
from tests.helpers.support import RULES


class _Thread:
    """A packet thread that does at once what it is asked."""

    is_asked = False

    def ask(self, question: Callable[[], Any], timeout: float | None) -> Any:
        self.is_asked = True
        try:
            return question()
        finally:
            self.is_asked = False


def test_to_save_the_switches_takes_none_of_the_time_for_answers() -> None:
    clients = [f"10.10.{number // 200}.{number % 200}:6653" for number in range(1000)]
    directory = SimpleNamespace(connections=lambda now: clients, plain=lambda client, now: {"client": client})
    engine = cast(Any, SimpleNamespace(directory=directory))
    proxy = EngineProxy(engine, cast(Any, SimpleNamespace()), cast(Any, _Thread()), parse_rules(RULES))
    assert [entry["client"] for entry in proxy.known_switches()] == clients
    assert proxy.answering_seconds == 0.0, "a busy thread's answers have a tenth of a second until the next time"


def test_packets_pass_between_the_parts_of_the_counters() -> None:
    thread, parts = _Thread(), list[str]()

    def part(name: str, value: Any) -> Callable[..., Any]:
        def make(*_: float) -> Any:
            assert thread.is_asked
            parts.append(name)
            thread.is_asked = False  # another part would be made in the same question
            return value

        return make

    engine = SimpleNamespace(
        counts=part("counts", {"flows": 7}), services=part("services", ["s"]), mirrors=part("mirrors", ["m"])
    )
    proxy = EngineProxy(cast(Any, engine), cast(Any, SimpleNamespace()), cast(Any, thread), parse_rules(RULES))
    assert dict(proxy.snapshot()) == {"flows": 7, "services": ["s"], "mirrors": ["m"]}
    assert parts == ["counts", "services", "mirrors"]


def test_a_question_for_few_flows_among_many_looks_at_a_bounded_number() -> None:
    flows, at_once, looked_at = 40_000, 2048, list[int]()

    def ids_of(_: object, first: int, most: int) -> tuple[list[int], int | None]:
        """Find one flow in each part of the table that C looks at in one call."""
        looked_at[-1] += at_once
        after = first + at_once
        return [first], after if after < flows else None

    class Thread(_Thread):
        def ask(self, question: Callable[[], Any], timeout: float | None) -> Any:
            looked_at.append(0)
            return super().ask(question, timeout)

    engine = SimpleNamespace(flow_ids_of=ids_of, note_flows=lambda *_: [], leg_ids=list)
    proxy = EngineProxy(cast(Any, engine), cast(Any, SimpleNamespace()), cast(Any, Thread()), parse_rules(RULES))
    wanted = Selection({"client": "10.10.0.0/24", "state": "half-closed"}, of_legs=False)
    assert [flow for part in proxy.flows(wanted) for flow in part] == []
    assert sum(looked_at) >= flows
    assert max(looked_at) <= 2 * at_once
