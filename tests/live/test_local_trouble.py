"""This host's own network fails while clients are connected: their backends are not blamed, and no connection ends."""

from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.lab.topology import CONTROLLER_SIDE, Lab, leftovers
from tests.live.scene import Scene

pytestmark = pytest.mark.live

RULES = """
switches: [10.10.0.0/24]
services:
  - name: of
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      health: {check: tcp, interval: 500ms, timeout: 300ms, fall: 2}
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
    mirrors:
      - {name: m, address: 10.20.0.13}
"""
CLIENT = "10.10.0.11"
POOL = f"{CONTROLLER_SIDE}.0/24"
OUTPUT = ["iptables", "-I", "OUTPUT", "-d", POOL, "-p", "tcp", "-j"]
SILENT = ["iptables", "-I", "INPUT", "-j", "DROP"]


@pytest.fixture
def fresh() -> Iterator[Scene]:
    with Lab() as lab:
        scene = Scene(lab)
        yield scene
        scene.close()
    assert leftovers() == []


def findings(status: dict[str, Any]) -> dict[str, str]:
    return {f"{one['code']} {one['subject']}": one["problem"] for one in status["findings"]}


def states(status: dict[str, Any]) -> set[str]:
    return {one["state"] for one in status["backends"]}


def undo(command: list[str]) -> list[str]:
    return ["-D" if word == "-I" else word for word in command]


def test_the_hosts_own_trouble_is_not_the_backends(fresh: Scene) -> None:
    lab, until = fresh.lab, fresh.file("until")
    fresh.record("c1", "c2", "m")
    balancer = fresh.balance(fresh.rules(RULES))
    client, records = fresh.client(connections=4, until=until, sources=CLIENT)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 4, "four connections")
    balancer.wait_for_status(
        lambda status: min(one["checks"] for one in status["health"]) >= 4, "checks that have found the second target"
    )

    both = {"check-says-nothing of/c1", "check-says-nothing of/c2"}
    for begin, end, words in (
        ([*OUTPUT, "DROP"], undo([*OUTPUT, "DROP"]), "firewall"),
        ([*OUTPUT, "REJECT"], undo([*OUTPUT, "REJECT"]), "firewall"),
        (
            ["ip", "route", "del", POOL],
            ["ip", "route", "add", POOL, "dev", "pl0", "src", f"{CONTROLLER_SIDE}.1"],
            "network is unreachable",
        ),
    ):
        lab.run("lb", begin)
        balancer.wait_for_status(lambda status: both <= findings(status).keys(), f"findings after {begin}")
        told = balancer.status()
        assert all(words in findings(told)[one] for one in both), findings(told)
        assert states(told) == {"up"}
        lab.run("lb", end)
        balancer.wait_for_status(lambda status: not both & findings(status).keys(), f"none after {end}")

    for host in ("c1", "c2", "m"):
        lab.run(host, SILENT)
    balancer.wait_for_status(lambda status: states(status) == {"panic"}, "a panic")
    assert "pool-in-panic of" in findings(balancer.status())
    for host in ("c1", "c2", "m"):
        lab.run(host, undo(SILENT))
    balancer.wait_for_status(lambda status: states(status) == {"up"}, "its end")
    until.touch()
    fresh.finish(client)
    assert [line["error"] for line in records.lines()] == [None] * 4
    assert balancer.status()["counters"].get("flows_reset", 0) == 0
