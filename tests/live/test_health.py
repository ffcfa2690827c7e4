"""Health checks of real controllers beside a running natmirror: healthy, frozen, healthy again, dead."""

import json
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.lab.controllers.programs import Controller, Faucet, OsKen, OvsTestController, StrictHub
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import CONTROLLER_SIDE, SERVICE, SWITCH_SIDE, Lab
from tests.live.scene import PORT, RULES, Scene

pytestmark = pytest.mark.live

INTERVAL, RISE, FALL = 0.6, 2, 3
PATIENT = 1.5  # seconds: one lost SYN is sent again within it, and no busy machine makes such a check fail
SPEAKS: list[tuple[type[Controller], str]] = [
    *((kind, version) for kind in (OsKen, OvsTestController) for version in kind.VERSIONS),
    (Faucet, "1.3"),
    (StrictHub, "1.3"),
]
TRACES = re.compile("^(switch|ports|gone) |FEATURES_REPLY|DPID", re.MULTILINE)
"""The text in a controller's log once it knows a datapath."""
COMPLAINTS = re.compile("Traceback|WARN|error", re.IGNORECASE)


class Watch:
    """The health checks, run on the load-balancer host."""

    def __init__(self, scene: Scene, check: str, interval: float = PATIENT, **replaced: str) -> None:
        times = f"interval: {interval * 1000:g}ms, timeout: {interval * 1000:g}ms, rise: {RISE}, fall: {FALL}"
        text = RULES.read_text().replace("backends:\n", f"health: {{check: {check}, {times}}}\n      backends:\n")
        for old, new in replaced.items():
            text = text.replace(f"{old}:\n", f"{old}:\n{new}\n")
        self.rules = scene.rules(text)
        self._program = scene.app("lb", "monitor", self.rules)
        self._program.wait_for_text("status")

    def wait_for(self, backend: str, *, up: bool) -> dict[str, Any]:
        """Wait until the latest report of a backend is this one."""

        def last() -> dict[str, Any]:
            told = [entry for entry in self._lines() if entry.get("backend") == backend]
            return told[-1] if told else {}

        wait_for(lambda: last().get("up") is up, f"{backend} to be told {'up' if up else 'down'}")
        return last()

    def status(self, backend: str) -> dict[str, Any]:
        """Return the latest report."""
        *_, last = [entry["status"] for entry in self._lines() if "status" in entry]
        [found] = [entry for entry in last if entry["backend"] == backend]
        return dict(found)

    def wait_for_state(self, backend: str, state: str) -> dict[str, Any]:
        """Wait until the latest report has this state; return the report."""
        wait_for(lambda: self.status(backend)["state"] == state, f"{backend} to be {state}")
        return self.status(backend)

    def wait_for_checks(self, backend: str, count: int) -> None:
        """Wait for this number of further reports."""
        enough = self.status(backend)["checks"] + count
        wait_for(lambda: self.status(backend)["checks"] >= enough, f"{count} checks of {backend}")

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self._program.text.splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


@pytest.mark.parametrize(("kind", "version"), SPEAKS)
def test_an_openflow_check_distinguishes_a_frozen_controller_from_a_live_one(
    alone: Scene, kind: type[Controller], version: str
) -> None:
    controller = kind(alone.lab, "c1", version)
    alone.balance()
    before = controller.program.text
    watch = Watch(alone, "openflow", INTERVAL)
    watch.wait_for_checks("c1", 3)
    first = watch.wait_for_state("c1", "up")
    assert watch.wait_for("c2", up=False)["reason"] == "connection refused"
    log = controller.program.text.removeprefix(before)
    assert not TRACES.search(log), log
    assert not COMPLAINTS.search(log), log

    controller.program.send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    down = watch.wait_for("c1", up=False)
    assert down["reason"] == "no HELLO within 600 ms"

    controller.program.send_signal(signal.SIGCONT)
    thawed_at = time.monotonic()
    up = watch.wait_for("c1", up=True)
    watch.wait_for_checks("c1", 2)
    log = controller.program.text.removeprefix(before)
    assert not TRACES.search(log), log

    controller.end()
    ended_at = time.monotonic()
    dead = watch.wait_for("c1", up=False)
    assert dead["reason"] == "connection refused"
    print(
        f"{kind.__name__} {version}: check {1000 * first['last_check_seconds']:.1f} ms,"
        f" down after {down['at'] - frozen_at:.2f} s, up"
        f" after {up['at'] - thawed_at:.2f} s, dead after {dead['at'] - ended_at:.2f} s"
    )


@pytest.mark.parametrize("kind", [OsKen, OvsTestController])
def test_a_controllers_program_never_sees_a_tcp_check(alone: Scene, kind: type[Controller]) -> None:
    controller = kind(alone.lab, "c1")
    log = controller.program.text
    watch = Watch(alone, "tcp")
    watch.wait_for("c2", up=False)
    watch.wait_for_checks("c1", 3)
    assert (watch.status("c1")["state"], watch.status("c1")["failed_checks"]) == ("up", 0)
    assert controller.program.text == log


def test_natmirror_and_its_clients_do_not_see_the_checks(alone: Scene) -> None:
    for host in ("c1", "c2", "m"):
        OsKen(alone.lab, host)
    balancer = alone.balance()
    watch = Watch(alone, "openflow")
    switch = OpenVSwitch(alone.lab, 1)
    switch.connect(f"tcp:{SERVICE}:{PORT}")
    balancer.wait_for_status(lambda status: any(flow["client_bytes"] >= 48 for flow in status["flows"]), "a session")
    watch.wait_for_checks("c1", 3)
    assert switch.ping()
    assert len(balancer.status()["flows"]) == 1
    for host in ("c1", "c2"):
        assert watch.status(host)["failed_checks"] == 0


def test_answers_to_the_checks_pass_where_our_hooks_see_them(alone: Scene) -> None:
    """The host's own address lies in the clients' network, and the backend is a mirror of another service."""
    lab = alone.lab
    OsKen(lab, "c1")
    lab.run("lb", ["ip", "route", "replace", f"{CONTROLLER_SIDE}.0/24", "dev", "pl0", "src", f"{SWITCH_SIDE}.1"])
    other = (
        f"  - {{name: other, address: {SERVICE}, port: 6633, mirrors: [{{name: c1, address: {CONTROLLER_SIDE}.11,"
        f" port: {PORT}}}]}}"
    )
    watch = Watch(alone, "openflow", services=other)
    alone.balance(rules=watch.rules)
    before = queued(lab)
    failures = watch.status("c1")["failed_checks"]
    watch.wait_for_checks("c1", 3)
    assert watch.status("c1")["failed_checks"] == failures
    assert queued(lab) >= before + 3, "the hooks have caught the answers"


def queued(lab: Lab) -> int:
    """Return the number of packets in natmirror's queues so far: the last packet id of each."""
    lines = lab.run("lb", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).splitlines()
    return sum(int(line.split()[7]) for line in lines)
