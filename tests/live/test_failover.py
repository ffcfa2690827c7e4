"""A controller of many switches dies: the other one serves them all, and only its own switches were disturbed."""

import signal
import statistics
import time
from collections.abc import Iterator

import pytest
from pyroute2 import NetNS

from natmirror.lab.controllers.programs import PORT, OsKen
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE, Lab
from tests.live.scene import Scene

pytestmark = pytest.mark.live

SWITCHES = 4
RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      when-down: {when_down}
      health: {{check: openflow, interval: 500ms, timeout: 300ms, rise: 2, fall: 2}}
      backends:
        - {{name: c1, address: 10.20.0.11}}
        - {{name: c2, address: 10.20.0.12}}
"""


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Lab(switches=getattr(request, "param", SWITCHES)) as lab:
        scene = Scene(lab)
        yield scene
        scene.close()


def fail_over(scene: Scene, count: int, end: str, when_down: str) -> list[float]:
    """Return the seconds from c1's end until c2 knows each of its switches."""
    c1, c2 = OsKen(scene.lab, "c1"), OsKen(scene.lab, "c2")
    balancer = scene.balance(scene.rules(RULES.format(when_down=when_down)))
    switches = [OpenVSwitch(scene.lab, number) for number in range(1, count + 1)]
    for switch in switches:
        switch.connect(f"tcp:{SERVICE}:{PORT}")
    wait_for(lambda: all(c1.knows(one.datapath_id) or c2.knows(one.datapath_id) for one in switches), "sessions", 30.0)
    its_own = [one.datapath_id for one in switches if c1.knows(one.datapath_id)]
    others = [one.datapath_id for one in switches if c2.knows(one.datapath_id)]
    assert its_own and others
    began_at = time.monotonic()
    if end == "kill":
        c1.program.end(signal.SIGKILL)
    elif end == "freeze":
        c1.program.send_signal(signal.SIGSTOP)
    else:
        with NetNS(scene.lab.ns("c1")) as host:
            host.link("set", index=host.link_lookup(ifname="eth0")[0], state="down")
    waits = []
    left = list(its_own)

    def served() -> bool:
        for datapath in [one for one in left if c2.knows(one)]:
            left.remove(datapath)
            waits.append(time.monotonic() - began_at)
        return not left

    wait_for(served, "all switches to be served by c2", 60.0)
    assert all(c2.ended_sessions(datapath) == 0 for datapath in others), "c2's own were disturbed"
    states = {backend["name"]: backend["state"] for backend in balancer.status()["backends"]}
    assert states == {"c1": "down", "c2": "up"}
    if end == "freeze":
        c1.program.send_signal(signal.SIGCONT)
        balancer.wait_for_status(
            lambda status: all(backend["state"] == "up" for backend in status["backends"]), "c1 to be up again", 20.0
        )
    print(
        f"{end}, {when_down}: {len(waits)} of {count} switches, median {statistics.median(waits):.2f} s,"
        f" worst {max(waits):.2f} s"
    )
    return waits


@pytest.mark.parametrize("end", ["kill", "freeze", "cable"])
def test_switches_of_a_dead_controller_are_served_by_the_other(fresh: Scene, end: str) -> None:
    waits = fail_over(fresh, SWITCHES, end, "reset")
    assert max(waits) < 10.0, "what a switch needs by itself to find out that a silent controller is dead"


@pytest.mark.soak
@pytest.mark.parametrize("fresh", [20], indirect=True)
@pytest.mark.parametrize("when_down", ["reset", "keep"])
@pytest.mark.parametrize("end", ["kill", "freeze", "cable"])
def test_twenty_switches_change_over(fresh: Scene, end: str, when_down: str) -> None:
    fail_over(fresh, 20, end, when_down)
