"""A backend that takes its route or carrier with it is down while another one answers. tests/live/faults has the
faults of this host's own network, for which no backend is blamed."""

from functools import partial
from typing import Any

import pytest

from natmirror.lab.topology import CONTROLLER_SIDE
from tests.live.scene import Scene

pytestmark = pytest.mark.live

CLIENT = "10.10.0.11"


def findings(status: dict[str, Any]) -> dict[str, str]:
    return {f"{one['code']} {one['subject']}": one["problem"] for one in status["findings"]}


def backend(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in status["backends"] if one["name"] == name)


def is_down(name: str, status: dict[str, Any]) -> bool:
    return bool(backend(status, name)["state"] == "down")


PRIVATE, ANNOUNCED = "10.21.0.11", "10.30.0.1"
APART = f"""
switches: [10.10.0.0/24]
services:
  - name: of
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      health: {{check: tcp, interval: 500ms, timeout: 300ms, fall: 2}}
      backends:
        - {{name: near, address: {CONTROLLER_SIDE}.11}}
        - {{name: cabled, address: {PRIVATE}}}
        - {{name: routed, address: {ANNOUNCED}}}
"""


def test_a_backend_that_takes_its_carrier_or_its_route_with_it_goes_down(alone: Scene) -> None:
    lab, until = alone.lab, alone.file("until")
    lab.add_host("c3")
    lab.cable("lb", "own0", "c3", "eth0")
    lab.address("lb", "own0", "10.21.0.1")
    lab.address("c3", "eth0", PRIVATE)
    lab.sysctl("lb", conf__own0__rp_filter=0)
    lab.run("c3", ["ip", "route", "add", "default", "via", "10.21.0.1"])
    lab.run("c2", ["ip", "address", "add", ANNOUNCED, "dev", "lo"])
    lab.run("lb", ["ip", "route", "add", ANNOUNCED, "via", f"{CONTROLLER_SIDE}.12"])
    alone.record("c1", "c2", "c3")
    balancer = alone.balance(alone.rules(APART))
    client, records = alone.client(connections=6, until=until, sources=CLIENT)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 6, "six connections")

    for name, host, dies, problem in (
        ("cabled", "c3", ["ip", "link", "set", "eth0", "down"], "the interface own0 has no carrier"),
        ("routed", "lb", ["ip", "route", "del", ANNOUNCED], "this host cannot send to it: network is unreachable"),
    ):
        lab.run(host, dies)
        balancer.wait_for_status(partial(is_down, name), f"{name} down")
        reason = backend(balancer.status(), name)["reason"]
        assert reason.startswith(f"{problem}, while ") and reason.endswith(" answers"), reason
        assert backend(balancer.status(), "near")["state"] == "up"
    assert not {one for one in findings(balancer.status()) if "check-says-nothing" in one}

    assert [line["error"] for line in alone.run_client(connections=3, sources=CLIENT).lines()] == [None] * 3
    until.touch()
    alone.finish(client)
    assert sorted(line["error"] is None for line in records.lines()) == [False] * 4 + [True] * 2
