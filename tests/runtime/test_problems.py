"""The condition with which the status begins: what is a problem, what stands there only once, and the order."""

from typing import Any

import pytest

from natmirror.findings import Findings, HostCode, OwnCode, PathCode
from natmirror.ha.exit_codes import FIT, HOST_FAILS, NOT_READY, STUCK
from natmirror.mirror.shown import MirrorState
from natmirror.reasons import EndReason
from natmirror.runtime.condition import ConditionEntry
from natmirror.runtime.problems import Observed, condition
from tests.helpers.declared import assert_declared

NOW = 1_000_000.0
FORWARDING = HostCode.NO_FORWARDING.found(interfaces="sw0", settings="x=1")
REPAIRED = OwnCode.RULES_REPAIRED.found(name="raw", difference="gone", program="nft")
UNREADABLE = OwnCode.RULES_UNREADABLE.found(name="raw", error="no memory", command="iptables-save")
SILENT = PathCode.BACKEND_SILENT.found(name="c1", service="web", address="10.20.0.11:80", host="10.20.0.11", count=3)
NONE_UP = PathCode.NO_BACKEND_UP.found(pool="web", fate="are refused", reasons="c1: refused", host="10.20.0.11")
MIRROR_SILENT = PathCode.MIRROR_SILENT.found(
    name="m1", service="web", address="10.20.0.13:80", host="10.20.0.13", count=3
)
CHORE = {"name": "path MTUs to mirrors", "error": "no memory", "failing_seconds": 72.5}


def backend(state: str = "up", **more: Any) -> Any:
    shown = {"service": "web", "name": "c1", "address": "10.20.0.11:80", "reason": "", "state_seconds": 12.0}
    return {**shown, "state": state, **more}


def mirror(state: str = "up", **more: Any) -> Any:
    shown = {"service": "web", "name": "m1", "address": "10.20.0.13:80", "reason": None, "state_seconds": 30.0}
    return {**shown, "lag_seconds": 0.0, "connections_not_copied": {}, "state": MirrorState(state), **more}


def judge(
    *found: Any, health: tuple[int, str] = (FIT, ""), chores: Any = (), error: str | None = None, **sums: Any
) -> ConditionEntry:
    findings = Findings(lambda: "2026-01-02T03:04:05.000+00:00")
    findings.replace("test", found)
    whole: Any = {"backends": [backend()], "mirrors": [mirror()], "faults": {"off": []}, **sums}
    rules: Any = {"file_error": error}
    shown = condition(Observed(NOW, whole, findings.show(), chores, rules, health))
    assert_declared(ConditionEntry, shown)
    return shown


def codes(shown: ConditionEntry) -> list[str]:
    return [one["code"] for one in shown["problems"]]


def test_without_a_problem_all_is_well() -> None:
    shown = judge()
    assert (shown["state"], shown["unfit_because"], shown["problems"]) == ("ok", "", [])


@pytest.mark.parametrize("state", ["up", "unchecked", "draining", "removed", "sorry"])
def test_what_the_operator_wants_is_no_problem(state: str) -> None:
    uncopied = {EndReason.MIRROR_ADDED: 3, EndReason.NEWER_CONNECTION: 1}
    mirrors = [mirror("untried", connections_not_copied=uncopied)]
    mirrors += [mirror("paused", connections_not_copied={EndReason.MIRROR_PAUSED: 2})]
    shown = judge(backends=[backend(state)], mirrors=mirrors)
    assert shown["state"] == "ok"


@pytest.mark.parametrize("state", ["down", "panic"])
def test_a_backend_that_is_down_is_a_problem(state: str) -> None:
    shown = judge(backends=[backend(state, reason="connection refused")])
    [one] = shown["problems"]
    assert shown["state"] == "degraded"
    assert (one["code"], one["subject"], one["severity"]) == ("backend-down", "web/c1", "warning")
    assert one["problem"] == "backend web/c1 (10.20.0.11:80) is down: connection refused"
    assert one["since"] == "1970-01-12T13:46:28.000+00:00"


@pytest.mark.parametrize("found", [SILENT, NONE_UP])
def test_a_backend_that_a_finding_tells_of_is_told_once(found: Any) -> None:
    assert codes(judge(found, backends=[backend("down")])) == [found.code]


def test_a_mirror_that_is_down_has_one_line() -> None:
    down = mirror("down", reason=EndReason.REFUSED, connections_not_copied={EndReason.REFUSED: 2})
    [one] = judge(mirrors=[down])["problems"]
    assert (one["code"], one["severity"], one["affects"]) == ("mirror-down", "failure", "copies")
    assert one["problem"] == (
        "mirror web/m1 (10.20.0.13:80) is down (refused), and lacks 2 open connections (refused 2)"
    )
    assert one["mend"] == "see whether its program listens there"
    assert codes(judge(MIRROR_SILENT, mirrors=[down])) == ["mirror-silent"]


def test_connections_that_are_not_copied_are_a_problem_with_the_reasons_remedy() -> None:
    uncopied = {EndReason.STALLED: 1, EndReason.PICKED_UP: 2, EndReason.MIRROR_ADDED: 9}
    [one] = judge(mirrors=[mirror(connections_not_copied=uncopied)])["problems"]
    assert (one["code"], one["since"]) == ("not-copied", None)
    assert one["problem"].endswith("does not get 3 open connections (stalled 1, picked-up 2)")
    assert one["mend"].startswith("The client has to connect again.")


def test_a_mirror_that_is_behind_is_a_problem() -> None:
    [one] = judge(mirrors=[mirror("behind", lag_seconds=7.25)])["problems"]
    assert one["code"] == "mirror-behind"
    assert "is 7.2 s behind" in one["problem"]


def test_a_file_that_cannot_be_written_is_told_once() -> None:
    failing: Any = {"name": "events", "error": "/e: No space left on device", "failing_seconds": 1.0}
    assert codes(judge(chores=[failing])) == ["chore-fails"]
    found = OwnCode.EVENTS_NOT_SAVED.found(path="/e", error="No space left on device")
    assert codes(judge(found, chores=[failing])) == ["events-not-saved"]


def test_the_worst_comes_first_and_what_is_mended_last() -> None:
    down = mirror("down", reason=EndReason.REFUSED)
    off: Any = {"thread": 1, "work": "copies", "on_again_seconds": 60.0}
    shown = judge(
        *(REPAIRED, UNREADABLE, FORWARDING),
        chores=[CHORE],
        error="lb.yaml:3: bad",
        backends=[backend("down")],
        mirrors=[down],
        faults={"off": [off]},
    )
    assert codes(shown) == [
        *("no-forwarding", "mirror-down", "backend-down", "mirroring-off", "chore-fails", "rules-file"),
        *("rules-unreadable", "rules-repaired"),
    ]
    assert [one["mended"] for one in shown["problems"]] == [False] * 7 + [True]


def test_repairs_alone_leave_all_well() -> None:
    assert judge(REPAIRED)["state"] == "ok"


def test_an_unfit_host_says_why() -> None:
    shown = judge(health=(STUCK, "packet thread 0 has not run for 3 s"), backends=[backend("down")])
    assert (shown["state"], shown["unfit_because"]) == ("not-fit", "packet thread 0 has not run for 3 s")
    assert codes(shown) == ["host-not-fit", "backend-down"]


def test_a_finding_that_makes_the_host_unfit_is_told_once() -> None:
    shown = judge(FORWARDING, health=(HOST_FAILS, str(FORWARDING)))
    assert (shown["state"], codes(shown)) == ("not-fit", ["no-forwarding"])
    starting = judge(FORWARDING, health=(NOT_READY, "natmirror is starting"))
    assert codes(starting) == ["host-not-fit", "no-forwarding"]
