"""What a run says of itself where it cannot answer."""

from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.ha.exit_codes import FIT, STUCK
from natmirror.runtime.run_status import RunStatus


@pytest.mark.parametrize(
    ("health", "chores", "text"),
    [
        (
            *((STUCK, "packet thread 1 has not run for 3 s"), [{"name": "events", "error": "hangs"}]),
            "packet thread 1 has not run for 3 s; restart it if that lasts",
        ),
        ((FIT, ""), [{"name": "iptables rules", "error": "hangs"}], "iptables rules hangs; see natmirror's log"),
        ((FIT, ""), [{"name": "iptables rules", "error": "no such file"}], "too busy to answer: try again"),
    ],
)
def test_the_cause_and_what_to_do_are_named(health: tuple[int, str], chores: list[Any], text: str) -> None:
    nothing: Any = None
    member: Any = SimpleNamespace(health=lambda: health)
    status = RunStatus(
        *("rules.yaml", [], nothing, nothing, member, nothing, None),
        log=nothing,
        failing_chores=lambda: chores,
        findings=nothing,
        loaded_rules=nothing,
        costs=nothing,
    )
    assert text in status.why_busy()
