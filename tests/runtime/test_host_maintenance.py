"""The maintenance of a host that refuses every call; the test runs no thread."""

import errno
import os
import socket
import subprocess
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.events import EventRing
from natmirror.fastpath import Memory
from natmirror.findings import Finding, Findings, HostCode, PathCode
from natmirror.ha.member import PairMember
from natmirror.linux.iptables import Firewall
from natmirror.linux.iptables_rules import PRE
from natmirror.linux.tun import TunDevice
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import parse_rules
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.progress_watch import ProgressWatch
from tests.helpers.clock import Clock
from tests.helpers.support import RULES

WATCHED = "  - {name: w, address: 10.10.0.9, port: 80, mirrors: [{name: n, address: 10.20.0.14}]}\n"


class Worker:
    """A worker whose bypass process has ended, and cannot be started again."""

    unlisted_backends = 1

    @property
    def engine(self) -> "Worker":
        return self

    def prune(self) -> list[Any]:
        return []

    def set_path_mtu(self, mirror: tuple[bytes, int], mtu: int) -> None:
        pass

    def snapshot(self) -> Any:
        raise TimeoutError

    def clients(self, most: int) -> Any:
        raise TimeoutError

    def mend_bypass(self) -> None:
        subprocess.Popen(["true"])


@pytest.fixture
def maintenance(monkeypatch: pytest.MonkeyPatch) -> HostMaintenance:
    rules = parse_rules(RULES + WATCHED)
    workers: Any = [Worker()]
    firewall = Firewall("nft")
    firewall._filled[PRE] = ["-s 10.20.0.13/32 -d 10.10.0.0/24 -p tcp --sport 6653 -j DROP"]
    kernel_rules = KernelRules(rules, firewall, workers)
    kernel_rules.why_not_translated = None
    member = PairMember(None, 1, lambda: [0])
    member.readiness.rules_are_in_place = True

    mailbox = Mailbox(lambda: None)
    ring = EventRing(lambda: 0.0)
    tun = TunDevice(ProductionVrf())
    given = mailbox, Findings(), ring, Memory(1 << 20), tun, set, ProgressWatch()
    return HostMaintenance(rules, workers, kernel_rules, member, *given, None, 0.0)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_every_chore_that_the_host_refuses_is_tried_again_and_logged_once(
    maintenance: HostMaintenance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    clock, chores = Clock(), [*maintenance.thread._chores, *maintenance.checks._chores]
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        patched.setattr(socket, "socket", refuse)
        patched.setattr("natmirror.linux.tun.IPRoute", refuse)
        patched.setattr("shutil.which", lambda name: name)
        for _ in range(3):
            for chore in chores:
                chore.run_if_due(clock)
            clock.now += 20.0
    failing = {chore.name: chore.failure.error for chore in chores if chore.failure is not None}
    assert set(failing) == {
        "unused kernel rules",
        "forged packets",
        "path MTUs to mirrors",
        "bypass of services without a pool",
        "this host's settings",
    }
    assert all(os.strerror(number) in error for error in failing.values())
    assert maintenance._member.readiness.rules_are_in_place, "a failed check proves nothing"
    unreadable = [str(one.code) for one in maintenance._findings.all()]
    assert set(unreadable) == {"rules-unreadable", "tun-unreadable"}
    assert len(caplog.records) == len(failing) + len(unreadable), "one report each"
    assert "Traceback" not in caplog.text


def test_health_knows_of_missing_rules_also_where_the_other_iptables_cannot_be_read(
    maintenance: HostMaintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(firewall: Firewall, table: str, *, timeout: float) -> list[str]:
        return []

    def refuse(*arguments: Any) -> list[str]:
        raise HostError("no")

    monkeypatch.setattr(Firewall, "_saved", saved)
    monkeypatch.setattr(Firewall, "_restore", refuse)
    monkeypatch.setattr(Firewall, "_readable", refuse)
    maintenance._keep_rules()
    assert not maintenance._member.readiness.rules_are_in_place


@pytest.fixture
def clock(maintenance: HostMaintenance) -> Clock:
    """A clock of the checks' thread, whose first check, at the start, finds nothing."""
    maintenance.checks._clock = clock = Clock()
    return clock


@pytest.fixture
def found(maintenance: HostMaintenance, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What each check finds."""
    found: list[Finding] = []
    monkeypatch.setattr("natmirror.linux.host_state.read_features", lambda rules, firewall: None)
    monkeypatch.setattr("natmirror.linux.preflight.check", lambda *arguments: list(found))
    return found


def codes_at(maintenance: HostMaintenance, clock: Clock, now: float) -> list[str]:
    """Return what is reported at a time, after the checks that are due."""
    clock.now = now
    for chore in maintenance.checks._chores:
        if "settings" in chore.name:
            chore.run_if_due(clock)
    return [str(one.code) for one in maintenance._findings.all()]


CUT = HostCode.NO_FORWARDING.found(interfaces="eth0", settings="x=1")
WARNED = HostCode.STRICT_REVERSE_PATH.found(interface="eth0", setting="x")


def test_a_failure_counts_at_once_at_the_start_and_later_when_a_second_look_finds_it_too(
    maintenance: HostMaintenance, clock: Clock, found: list[Finding]
) -> None:
    found[:] = [CUT]
    maintenance.check_host()
    assert [one.code for one in maintenance._findings.all()] == ["no-forwarding"]
    found[:] = []
    assert codes_at(maintenance, clock, 3.0) == []
    found[:] = [CUT, WARNED]
    assert codes_at(maintenance, clock, 6.0) == ["strict-reverse-path"]
    assert codes_at(maintenance, clock, 6.4) == ["strict-reverse-path"]
    assert codes_at(maintenance, clock, 6.5) == ["no-forwarding", "strict-reverse-path"]
    found[:] = [HostCode.NO_FORWARDING.found(interfaces="eth0 and eth1", settings="x=1"), WARNED]
    assert codes_at(maintenance, clock, 9.0) == ["no-forwarding", "strict-reverse-path"], "it lasts"


def test_what_a_check_finds_only_while_a_program_changes_the_host_is_no_failure(
    maintenance: HostMaintenance, clock: Clock, found: list[Finding], caplog: pytest.LogCaptureFixture
) -> None:
    maintenance.check_host()
    for begins in (3.0, 6.0):
        found[:] = [CUT]
        assert codes_at(maintenance, clock, begins) == []
        found[:] = [HostCode.NO_HASHLIMIT.found()]
        assert codes_at(maintenance, clock, begins + 0.5) == [], "another failure each time"
        found[:] = []
        assert codes_at(maintenance, clock, begins + 1.0) == []
    assert not caplog.records


def test_a_failure_that_takes_long_to_find_is_looked_for_again_without_a_pause(
    maintenance: HostMaintenance, clock: Clock, found: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    maintenance.check_host()
    found[:] = [CUT]

    def check(*arguments: Any) -> list[Finding]:
        clock.now += 0.5
        return found

    monkeypatch.setattr("natmirror.linux.preflight.check", check)
    assert codes_at(maintenance, clock, 3.0) == []
    assert codes_at(maintenance, clock, 4.0) == ["no-forwarding"]


def test_a_reload_waits_for_no_look_at_the_host(
    maintenance: HostMaintenance, clock: Clock, found: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert codes_at(maintenance, clock, 3.0) == []
    found[:] = [WARNED]
    monkeypatch.setattr(KernelRules, "set_configured", lambda self, rules: False)
    maintenance.reload(maintenance._rules, others_may_lag=False)
    assert not maintenance._findings.all()
    maintenance.checks._mailbox.read()
    assert codes_at(maintenance, clock, 3.1) == ["strict-reverse-path"]


def test_a_backend_that_its_checks_have_taken_down_is_silent_too(
    maintenance: HostMaintenance, found: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def check(*arguments: Any) -> list[Finding]:
        asked.append(arguments[4])
        return found

    monkeypatch.setattr("natmirror.linux.preflight.check", check)
    maintenance.check_host()
    maintenance._silent_by_checks = lambda: {"openflow/c1"}
    values = {"address": "10.20.0.12:6653", "host": "10.20.0.12", "count": 2}
    maintenance._findings.replace("answers", [PathCode.BACKEND_SILENT.found(name="c2", service="openflow", **values)])
    maintenance.check_host()
    assert asked == [set(), {"openflow/c1", "openflow/c2"}]


def test_a_stop_of_production_is_looked_into_at_once_and_its_cause_needs_no_second_look(
    maintenance: HostMaintenance, clock: Clock, found: list[Finding]
) -> None:
    assert codes_at(maintenance, clock, 3.0) == []
    found.append(HostCode.PRODUCTION_STOPPED.found(interface="sw0", what="an XDP program", removal="ip link"))
    for second in range(6):
        maintenance._progress.look(second, 3.0 + second / 2)
    assert codes_at(maintenance, clock, 5.6) == []
    maintenance._progress.look(5, 8.1)
    assert maintenance._progress.stopped_at == 5.5
    maintenance.checks._mailbox.read()
    assert codes_at(maintenance, clock, 5.7) == ["production-stopped"]
