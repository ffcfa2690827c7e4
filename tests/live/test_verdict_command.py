"""``natmirror verdict`` beside real controllers: its exit codes, and what the status and the events say."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from natmirror.api.client import send_command
from natmirror.cli import exit_codes
from natmirror.lab.controllers.programs import OsKen
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE, Lab
from tests.live.scene import PORT, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

RULES = """
switches: [10.10.0.0/24]
known-switches: {known}
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends: [{{name: c1, address: 10.20.0.11}}]
    mirrors:
      - {{name: master, address: 10.20.0.13, protocol: openflow, reconnect: next-message, verdict: on, warm-up: 0s}}
      - {{name: other, address: 10.20.0.12, protocol: openflow}}
"""


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A lab for one switch."""
    with Lab() as lab:
        made = Scene(lab)
        yield made
        made.close()


def verdict(api: Path, *words: str) -> tuple[int, str]:
    """Run the command; return its exit code and output."""
    argv = [sys.executable, "-m", "natmirror", "verdict", *words, "--api", str(api)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def known_switch(scene: Scene) -> tuple[LoadBalancer, OpenVSwitch, OsKen]:
    """Return natmirror, a switch whose first packets have passed, and the master that knows it."""
    lab = scene.lab
    OsKen(lab, "c1")
    master = OsKen(lab, "m")
    balancer = scene.balance(scene.rules(RULES.format(known=lab.directory / "known.json")))
    switch = OpenVSwitch(lab, 1)
    switch.connect(f"tcp:{SERVICE}:{PORT}")
    master.wait_until_known(1)
    assert switch.ping()
    return balancer, switch, master


def test_the_exit_code_is_the_verdict_on_a_real_master(scene: Scene) -> None:
    balancer, _, master = known_switch(scene)
    code, text = verdict(balancer.api, "openflow/master", "--since", "1h", "--wait", "40s", "--at-least", "2")
    assert code == exit_codes.AGREES, text
    assert text.startswith("AGREES  openflow/master, since ")
    code, text = verdict(balancer.api, "openflow/master")
    assert code == exit_codes.TOO_LITTLE, text
    assert "comparable answers, of 100 that are needed" in text
    code, text = verdict(balancer.api, "openflow/other")
    assert code == exit_codes.MISUSED_VERDICT, text
    assert "write verdict: on below it in the rules" in text
    master.program.end(signal.SIGKILL)
    wait_for(lambda: verdict(balancer.api)[0] == exit_codes.DIFFERS, "the end of the session")
    assert "the session ended: " in verdict(balancer.api, "openflow/master")[1]
    wait_for(lambda: "differs" in words(balancer), "the status to have the verdict")
    assert balancer.stop() == 0
    assert verdict(balancer.api)[0] == exit_codes.NO_ANSWER


def words(balancer: LoadBalancer) -> list[str]:
    """Return the verdicts that the status has."""
    mirrors = balancer.status()["mirrors"]
    return [mirror["verdict"]["verdict"] for mirror in mirrors if mirror["verdict"] is not None]


ADDED = """      - name: added
        address: 10.20.0.12
        protocol: openflow
        reconnect: next-message
        verdict: on
        warm-up: 0s
"""


def test_a_master_that_a_reload_adds_is_judged_without_a_new_connection(scene: Scene) -> None:
    lab = scene.lab
    OsKen(lab, "c1")
    masters = {"master": OsKen(lab, "m"), "added": OsKen(lab, "c2")}
    text = RULES.format(known=lab.directory / "known.json").replace(", verdict: on, warm-up: 0s", "")
    rules = scene.rules("".join(line for line in text.splitlines(keepends=True) if "other" not in line))
    balancer = scene.balance(rules)
    switch = OpenVSwitch(lab, 1)
    switch.connect(f"tcp:{SERVICE}:{PORT}")
    masters["master"].wait_until_known(1)
    connected = [flow["client"] for flow in balancer.status()["flows"]]
    rules.write_text(rules.read_text() + ADDED)
    send_command("reload", {}, balancer.api)
    masters["added"].wait_until_known(1)  # the switch's next ECHO at the latest
    assert switch.ping()
    code, said = verdict(balancer.api, "openflow/added", "--since", "1h", "--wait", "40s", "--at-least", "1")
    assert code == exit_codes.AGREES, said
    send_command("pause", {"service": "openflow", "mirror": "added"}, balancer.api)
    assert "paused the mirror: natmirror mirror resume openflow/added" in verdict(balancer.api, "openflow/added")[1]
    send_command("resume", {"service": "openflow", "mirror": "added"}, balancer.api)
    rules.write_text(rules.read_text().replace("10.20.0.13", "10.20.0.99").replace("10.20.0.12", "10.20.0.13"))
    send_command("reload", {}, balancer.api)
    wait_for(lambda: _open_sessions(balancer, "added") == 1, "the session at the other address")
    assert [flow["client"] for flow in balancer.status()["flows"]] == connected, "production has not noticed"


def _open_sessions(balancer: LoadBalancer, name: str) -> int:
    [mirror] = [one for one in balancer.status()["mirrors"] if one["name"] == name]
    return int(mirror["legs"]) - int(mirror["legs_unanswered"])


def test_a_process_of_the_judges_that_is_killed_costs_what_it_had_found_and_nothing_else(scene: Scene) -> None:
    balancer, switch, _ = known_switch(scene)
    wait_for(lambda: _answers(balancer) > 0, "answers to be compared")
    before = [(flow["client"], flow["legs"][0]["state"]) for flow in balancer.status()["flows"]]
    [killed] = judges_of(balancer)
    os.kill(killed, signal.SIGKILL)
    assert switch.ping()
    wait_for(lambda: judges_of(balancer) not in ([], [killed]), "another process")
    assert [(flow["client"], flow["legs"][0]["state"]) for flow in balancer.status()["flows"]] == before
    wait_for(lambda: "verdicts-lost" in [one["code"] for one in balancer.status()["findings"]], "the finding")
    wait_for(lambda: "sessions  1 open" in verdict(balancer.api, "openflow/master")[1], "the session")
    assert verdict(balancer.api)[0] == exit_codes.TOO_LITTLE
    switch.forget_flows()
    assert switch.ping()
    wait_for(lambda: _answers(balancer) > 0, "answers to be compared again")
    [process] = judges_of(balancer)
    balancer.stop()
    assert not Path(f"/proc/{process}").exists()


def judges_of(balancer: LoadBalancer) -> list[int]:
    """Return the ids of the processes of natmirror's judges."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(balancer.program.pid) and b"natmirror.judging" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def _answers(balancer: LoadBalancer) -> int:
    comparison = balancer.status()["mirrors"][0]["comparison"]
    return 0 if comparison is None else int(comparison["answers"]["equal"])
