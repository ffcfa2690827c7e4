"""``natmirror doctor --send`` to real OpenFlow controllers: what it proves, faults that no look finds, and each way of
ending."""

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from natmirror.findings import SendCode
from natmirror.lab.controllers.programs import OsKen, OvsTestController
from natmirror.lab.process import Program, wait_for
from natmirror.linux.interfaces import DOCTORS_PORT
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

CLIENT = "10.10.0.77"
RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13, protocol: PROTOCOL}]
"""
# Filters of tc in classic BPF, behind 14 bytes of Ethernet: drop packets of more than 600 bytes (total length, at 2),
# and those to 10.20.0.13 (destination, at 16)
LARGE = "4,40 0 0 16,37 0 1 600,6 0 0 2,6 0 0 4294967295"
TO_MASTER = "4,32 0 0 30,21 0 1 169082893,6 0 0 2,6 0 0 4294967295"


class Doctor:
    """Runs doctor beside a natmirror, a backend and a master that are real controllers."""

    def __init__(self, scene: Scene, protocol: str) -> None:
        self.scene, self.lab = scene, scene.lab
        self.backend = OsKen(scene.lab, "c1", "1.3")
        self.master = OvsTestController(scene.lab, "m", "1.3")
        self.balancer = scene.balance(scene.rules(RULES.replace("PROTOCOL", protocol)))
        self.looking = [sys.executable, "-m", "natmirror", "doctor", "--api", str(self.balancer.api), "--json"]
        self.sending = [*self.looking, "--send", "--client", CLIENT]

    def checks(self, words: list[str]) -> dict[str, dict[str, Any]]:
        answer = json.loads(self.lab.run("lb", words, check=False))
        return {one["name"]: one for one in answer["checks"]}

    def looked(self) -> list[str]:
        """Return the codes that it finds by looking."""
        return [finding["code"] for one in self.checks(self.looking).values() for finding in one["findings"]]

    def has_no_legs(self) -> bool:
        """Return whether all copies have ended: one that still waits for the mirror shows the fault before."""
        [mirror] = self.balancer.status()["mirrors"]
        return bool(mirror["legs"] == 0)

    def sent(self) -> tuple[list[str], list[str]]:
        """Return what it finds about the service and about the mirror, or the states without findings. It is asked
        again while it finds this machine too busy to connect in time."""
        found: tuple[list[str], list[str]] = ([], [])

        def is_in_time() -> bool:
            nonlocal found
            checks = self.checks(self.sending)
            service, mirror = (checks[name] for name in ("send-openflow", "send-openflow-master"))
            found = _found(service), _found(mirror)
            return SendCode.SENT_LATE not in found[0]

        wait_for(is_in_time, "a connection in time")
        return found

    def start(self) -> Program:
        """Start a doctor, and wait until its connection is open."""
        program = self.scene.start("lb", *self.sending, name="doctor")
        wait_for(lambda: "established" in self.states(), "doctor's connection")
        return program

    def states(self) -> list[str]:
        flows = self.balancer.status()["flows"]
        return [one["state"] for one in flows if one["client"].startswith(f"{CLIENT}:")]

    def wait_until_nothing_is_left(self) -> None:
        wait_for(lambda: not {*self.states()} & {"established", "half-closed", "closing"}, "the connection's end")
        wait_for(lambda: DOCTORS_PORT not in self.lab.run("lb", ["ip", "link"]), "the interface's end")
        assert CLIENT not in self.lab.run("lb", ["ip", "route"])


def _found(check: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in check["findings"]] or [check["state"]]


@pytest.mark.parametrize("protocol", ["openflow", "raw"])
def test_faults_that_no_look_finds(alone: Scene, protocol: str) -> None:
    doctor = Doctor(alone, protocol)
    lab = alone.lab

    def on_link(host: str, link: str, filter_of: str) -> tuple[Callable[[], object], Callable[[], object]]:
        add = f"tc qdisc add dev {link} clsact; tc filter add dev {link} egress bpf da bytecode '{filter_of}'"
        return (
            lambda: lab.run(host, ["sh", "-c", add]),
            lambda: lab.run(host, ["tc", "qdisc", "del", "dev", link, "clsact"]),
        )

    def frozen(program: Program) -> tuple[Callable[[], object], Callable[[], object]]:
        return lambda: program.send_signal(signal.SIGSTOP), lambda: program.send_signal(signal.SIGCONT)

    assert doctor.sent() == (["ok"], ["ok"])
    of_copies = (
        ("large packets to the mirror vanish", on_link("net", "m-eth0", LARGE), (["ok"], ["copy-not-taken"])),
        ("the backend accepts and never answers", frozen(doctor.backend.program), (["sent-no-reply"], ["ok"])),
    )
    of_sessions = (
        ("tc drops all to the master", on_link("lb", "pl0", TO_MASTER), (["ok"], ["copy-unanswered"])),
        ("the backend accepts and never answers", frozen(doctor.backend.program), (["sent-no-reply"], ["unknown"])),
        ("large packets to the backend vanish", on_link("net", "c1-eth0", LARGE), (["sent-lost"], ["unknown"])),
        ("the master accepts and never answers", frozen(doctor.master.program), (["ok"], ["master-silent"])),
    )
    faults = of_sessions if protocol == "openflow" else of_copies
    for name, (plant, mend), expected in faults:
        plant()
        assert doctor.looked() == [], name
        assert doctor.sent() == expected, name
        mend()
        wait_for(doctor.has_no_legs, f"the last leg's end after {name}", 30.0)
        wait_for(lambda: not doctor.looked(), f"doctor to find nothing after {name}")
    assert doctor.sent() == (["ok"], ["ok"])
    assert not doctor.master.knows(1) and not doctor.backend.knows(1), "doctor is no switch"


def test_each_way_of_ending_leaves_nothing_behind(alone: Scene) -> None:
    doctor = Doctor(alone, "openflow")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        doctor.backend.program.send_signal(signal.SIGSTOP)  # so that doctor waits for its answer
        program = doctor.start()
        program.end(number)
        doctor.backend.program.send_signal(signal.SIGCONT)
        doctor.wait_until_nothing_is_left()
    assert doctor.sent() == (["ok"], ["ok"])

    # A second doctor leaves the first one alone
    doctor.backend.program.send_signal(signal.SIGSTOP)
    first = doctor.start()
    second = doctor.checks([*doctor.sending[:-1], "10.10.0.78"])["send"]
    assert (second["state"], "wait until another doctor ends" in second["why"]) == ("unknown", True)
    assert DOCTORS_PORT in alone.lab.run("lb", ["ip", "link"])
    doctor.backend.program.send_signal(signal.SIGCONT)
    wait_for(lambda: not first.running(), "the first doctor's end")
    assert first.popen.returncode in (0, 5), first.text
    doctor.wait_until_nothing_is_left()

    # natmirror stops meanwhile
    doctor.backend.program.send_signal(signal.SIGSTOP)
    program = doctor.start()
    doctor.balancer.stop()
    wait_for(lambda: not program.running(), "doctor's end", 30.0)
    assert program.popen.returncode in (3, 5), program.text
    assert json.loads(program.text)["checks"][-1]["name"].startswith("send")
    wait_for(lambda: DOCTORS_PORT not in alone.lab.run("lb", ["ip", "link"]), "the interface's end")
    doctor.backend.program.send_signal(signal.SIGCONT)

    # Nothing runs
    sent = doctor.checks([*doctor.sending, "--rules", str(alone.rules(RULES.replace("PROTOCOL", "raw")))])["send"]
    assert (sent["state"], sent["why"].partition(":")[0]) == ("unknown", "natmirror does not run")
