"""What stops and reloads cost connections."""

from typing import Any, cast

import pytest

from natmirror.mirror.shown import FlowEntry
from natmirror.rules import parse_rules
from natmirror.runtime.costs import Loss, ReloadCost, cost_of_stop
from natmirror.runtime.shown import RunSums
from tests.helpers.support import RULES

MASTER = "{name: master, address: 10.20.0.13}"
C2 = "        - {name: c2, address: 10.20.0.12}\n"


def sums(pinned: int, *flows: int) -> RunSums:
    return cast(RunSums, {"backends": [{"flows": count} for count in flows], "pinned_flows": pinned})


def test_a_stop_counts_the_connections_that_it_cuts_or_leaves_waiting() -> None:
    assert cost_of_stop(sums(0, 0, 0), keeps_rules=False) is None
    assert str(cost_of_stop(sums(0, 1, 0), keeps_rules=False)).startswith("1 connection to services with a pool will")
    cut = cost_of_stop(sums(7, 300, 10), keeps_rules=False)
    assert cut is not None and "310 connections" in cut and "with --on-stop keep they would wait" in cut
    assert cost_of_stop(sums(0, 300, 10), keeps_rules=True) == (
        "310 connections to services with a pool will wait for the next start"
    )
    assert "; 7 of them are pinned and may be reset then" in str(cost_of_stop(sums(7, 310), keeps_rules=True))


def losses(new: str, *, legs: dict[str, str | None]) -> list[Loss]:
    """Return what a connection with these legs, by mirror with the reason of their end, loses by other rules."""
    flow: dict[str, Any] = {"service": "openflow", "client": "10.10.0.11:40001", "backend": "c2"}
    flow["legs"] = [{"mirror": name, "reason": reason} for name, reason in legs.items()]
    return sorted(ReloadCost(parse_rules(RULES), parse_rules(new)).losses(cast(FlowEntry, flow)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("", "", [], id="nothing"),
        pytest.param(f"    mirrors:\n      - {MASTER}\n", "", ["lose their copy to master"], id="no mirror"),
        pytest.param("10.20.0.13}", "10.20.0.14}", ["lose their copy to master"], id="another address"),
        pytest.param("10.20.0.13}", "10.20.0.13, buffer: 1MiB}", [], id="another buffer"),
        pytest.param(
            MASTER,
            f"{MASTER}\n      - {{name: audit, address: 10.20.0.14, reconnect: next-segment}}",
            [],
            id="another mirror that begins in the middle",
        ),
        pytest.param(
            MASTER,
            f"{MASTER}\n      - {{name: audit, address: 10.20.0.14}}",
            ["get no copy to audit, because they began before it"],
            id="another mirror",
        ),
        pytest.param(C2, "", ["go on until they end, without their backend c2"], id="no backend"),
        pytest.param("name: c2", "name: c9", [], id="another name of the backend"),
        pytest.param("10.10.0.100", "10.10.0.101", ["go on until they end, without their service"], id="no service"),
        pytest.param(
            "10.10.0.0/24", "10.11.0.0/24", ["are reset, because switches no longer has their clients"], id="no client"
        ),
    ],
)
def test_what_a_reload_costs_a_connection(old: str, new: str, expected: list[str]) -> None:
    text = RULES.replace(old, new) if old else RULES
    found = losses(text, legs={"master": None})
    assert [(loss.service, loss.several) for loss in found] == [("openflow", loss) for loss in expected]
    assert all(loss.one != loss.several for loss in found)


def test_a_copy_that_has_ended_is_not_lost_again() -> None:
    assert losses(RULES.replace("10.20.0.13}", "10.20.0.14}"), legs={"master": "refused"}) == []
