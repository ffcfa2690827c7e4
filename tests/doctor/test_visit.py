"""What doctor finds, shows, mends and returns, with a host and a running natmirror that the test makes up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from natmirror import __version__
from natmirror.doctor import COPIES_FAIL, PRODUCTION_FAILS, WARNED
from natmirror.doctor import subject as subjects
from natmirror.doctor.checks import CHECKS
from natmirror.doctor.outcome import CheckState, DoctorAnswer, Visit
from natmirror.doctor.screen import listing, screen
from natmirror.doctor.subject import Subject
from natmirror.doctor.visit import visit
from natmirror.errors import HostError, NoAnswerError
from natmirror.findings import ALL_CODES, Finding, HostCode, OwnCode, PathCode, SetupCode
from natmirror.linux import commands, instance, iptables, nftables, preflight
from natmirror.linux.host_state import Features
from natmirror.linux.iptables import Firewall
from tests.helpers.declared import assert_declared

RULES = Path(__file__).parents[2] / "rules" / "lb.yaml"
NO_FORWARDING = HostCode.NO_FORWARDING.found(interfaces="sw0", settings="net.ipv4.conf.a.forwarding=1 x=1")
NO_ROUTE = PathCode.NO_ROUTE_TO_MIRROR.found(name="master", address="10.20.0.13", service="openflow")
STRICT = HostCode.STRICT_REVERSE_PATH.found(interface="sw0.5", setting="net.ipv4.conf.sw0/5.rp_filter")
RUN: dict[str, Any] = {
    "version": __version__,
    "pid": 7,
    "rules": str(RULES),
    "findings": [],
    "failing_chores": [],
    "backends": [],
    "mirrors": [],
    "machine": {"ended_threads": {}, "kernel_translation_off_because": None, "kept": []},
}


class Host:
    """A host on which all is well, but for ``found``."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.owner: str | None = None
        self.status: dict[str, Any] | None = None
        self.missing: list[str] = []
        self.said: list[str] = []
        self.ran: list[tuple[str, ...]] = []
        self.mended_by: Callable[[Sequence[str]], None] = lambda command: self.found.clear()

    def ask(self, resource: str, path: Path) -> Any:
        if self.status is None:
            raise NoAnswerError("no natmirror answers")
        return self.status

    def run(self, command: Sequence[str], **_: Any) -> str:
        self.ran.append(tuple(command))
        self.mended_by(command)
        return ""

    def visit(self, rules: Path | None = RULES, *, api: Path = RULES, mends: bool = False) -> Visit:
        return visit(lambda: Subject(rules, api), mends=mends, say=self.said.append)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(instance, "running", lambda: host.owner)
    monkeypatch.setattr(subjects, "ask", host.ask)
    monkeypatch.setattr(subjects, "taken_addresses", dict)
    monkeypatch.setattr(subjects, "missing_capabilities", lambda: host.missing)
    monkeypatch.setattr("natmirror.linux.setup.missing_capabilities", lambda: host.missing)
    monkeypatch.setattr(subjects, "read_features", lambda *_: Features())
    monkeypatch.setattr(preflight, "check", lambda *_: list(host.found))
    monkeypatch.setattr(iptables, "left_behind", list)
    monkeypatch.setattr(nftables, "is_left_behind", lambda: False)
    monkeypatch.setattr(nftables, "test", lambda rules: None)
    monkeypatch.setattr(Firewall, "unsupported", lambda *_: "")
    monkeypatch.setattr("natmirror.linux.iptables._default_backend", lambda: "nft")
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("natmirror.linux.setup.open_tun", lambda: None)
    monkeypatch.setattr("natmirror.doctor.machine_checks.taken_queues", lambda numbers: set())
    monkeypatch.setattr("natmirror.doctor.run_checks.send_command", lambda *_: {"changes": []})
    monkeypatch.setattr("natmirror.linux.setup.descriptor_limit", lambda pid: 1024)
    monkeypatch.setattr(commands, "run", host.run)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return host


def states(found: Visit) -> dict[str, CheckState]:
    return {one.name: one.state for one in found.outcomes}


def shown(found: Visit) -> str:
    return "\n".join(click.unstyle(line) for line in screen(found))


def test_each_kind_of_finding_of_a_run_belongs_to_one_check() -> None:
    of_checks = [code for check in CHECKS for code in check.codes]
    assert sorted(of_checks) == sorted({*HostCode, *PathCode, *OwnCode, SetupCode.REPORTED})
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_only_commands_that_loosen_nothing_and_end_nothing_mend_by_themselves() -> None:
    fixes = [code.fix for code in ALL_CODES if code.fix]
    assert {fix[0] for fix in fixes} == {"sysctl", "modprobe"}
    assert not [fix for fix in fixes if "rp_filter" in str(fix)]


def test_a_host_on_which_all_is_well_before_the_first_start(host: Host) -> None:
    found = host.visit()
    assert {state for state in states(found).values()} == {CheckState.OK, CheckState.SKIPPED}
    assert found.exit_code == 0
    assert shown(found).endswith("\nthe running natmirror: nothing to check: natmirror does not run\nno problem found")
    assert_declared(DoctorAnswer, found.show())


def test_a_failure_of_production_is_shown_with_its_remedy_and_its_document(host: Host) -> None:
    host.found = [NO_FORWARDING, STRICT]
    found = host.visit()
    assert (found.exit_code, found.show()["state"]) == (PRODUCTION_FAILS, "failure")
    assert (states(found)["forwarding"], states(found)["reverse-path"]) == ("failure", "warning")
    assert "  [FAIL] the kernel forwards packets of clients and backends\n" in shown(found)
    assert "-> run: sysctl -w net.ipv4.conf.a.forwarding=1 x=1\n" in shown(found)
    assert "where they are not, run: sysctl -w net.ipv4.conf.sw0/5.rp_filter=2\n" in shown(found)
    assert "see docs/reference/findings.md#no-forwarding\n" in shown(found)
    assert shown(found).endswith("\n1 failure, 1 warning")
    assert_declared(DoctorAnswer, found.show())


@pytest.mark.parametrize(("finding", "code"), [(NO_ROUTE, COPIES_FAIL), (STRICT, WARNED)])
def test_the_exit_code_grows_with_the_severity(host: Host, finding: Finding, code: int) -> None:
    host.found = [finding]
    assert host.visit().exit_code == code


def test_what_cannot_be_checked_is_never_ok(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.missing = ["CAP_NET_ADMIN"]
    found = host.visit()
    assert {states(found)[name] for name in ("rights", "queues", "iptables", "forwarding", "leftovers")} == {"unknown"}
    assert found.exit_code == WARNED
    assert "\nthis host: not checked: run natmirror doctor as root\n" in shown(found)
    assert "checks could not be made" in shown(found)


def test_root_without_its_capabilities_is_a_failure(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    host.missing = ["CAP_NET_RAW"]
    assert "no-rights (failure): root lacks CAP_NET_RAW here" in shown(host.visit())


def test_a_host_that_cannot_be_read_is_not_checked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[Finding]:
        raise HostError("iptables-nft-save failed: it refuses")

    monkeypatch.setattr(preflight, "check", fail)
    assert "this host: not checked: iptables-nft-save failed: it refuses\n" in shown(host.visit())


def test_wrong_rules_are_a_finding_and_the_checks_that_need_none_are_made(host: Host, tmp_path: Path) -> None:
    wrong = tmp_path / "rules.yaml"
    wrong.write_text(RULES.read_text().replace("port: 6653\n", "port: 70000\n", 1))
    found = host.visit(wrong)
    assert found.exit_code == PRODUCTION_FAILS
    assert "rules-wrong (failure): natmirror cannot use the rules: " in shown(found)
    assert (states(found)["tun"], states(found)["forwarding"]) == ("ok", "unknown")


def test_without_a_rules_file_doctor_asks_for_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "DEFAULT_RULES", Path("/nowhere/rules.yaml"))
    found = host.visit(None)
    assert "[?]    the rules file can be used: not checked: there is no /nowhere/rules.yaml: name the" in shown(found)
    assert found.exit_code == WARNED


def test_a_fix_is_printed_before_it_runs_once_and_checked_afterwards(host: Host) -> None:
    host.found = [NO_FORWARDING, NO_FORWARDING, NO_ROUTE]
    host.mended_by = lambda command: host.found.__delitem__(slice(2))
    found = host.visit(mends=True)
    assert host.said == ["$ sysctl -w net.ipv4.conf.a.forwarding=1 x=1"]
    assert host.ran == [("sysctl", "-w", "net.ipv4.conf.a.forwarding=1", "x=1")]
    assert (states(found)["forwarding"], states(found)["copies-paths"]) == ("ok", "failure")
    assert found.show()["fixes"] == [
        {"command": ["sysctl", "-w", "net.ipv4.conf.a.forwarding=1", "x=1"], "error": None}
    ]


def test_a_fix_that_fails_is_reported_and_its_finding_stays(host: Host) -> None:
    def refuse(command: Sequence[str]) -> None:
        raise HostError("sysctl failed: it refuses")

    host.found, host.mended_by = [NO_FORWARDING], refuse
    found = host.visit(mends=True)
    assert host.said == ["$ sysctl -w net.ipv4.conf.a.forwarding=1 x=1", "  sysctl failed: it refuses"]
    assert states(found)["forwarding"] == "failure"


def test_nothing_is_run_without_fix(host: Host) -> None:
    host.found = [NO_FORWARDING]
    host.visit()
    assert host.ran == []


def test_leftovers_are_found_only_while_no_natmirror_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "left_behind", lambda: ["nft: NATMIRROR-PRE"])
    assert "left-behind (failure)" in shown(host.visit(mends=True))
    assert host.ran == []  # a start of natmirror goes on with the connections
    host.owner, host.status = "pid 7", RUN
    assert "left-behind" not in shown(host.visit())


def test_the_findings_of_a_running_natmirror_are_shown_with_doctors_own(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = PathCode.BACKEND_SILENT.found(name="c1", address="10.20.0.11", service="of", count=3, host="10.20.0.11")
    entries = [
        {"code": str(one.code), "subject": one.subject, "problem": one.problem, "mend": one.mend, "fix": ["rm", "-r"]}
        for one in (silent, STRICT)
    ]
    strange = {"code": "new-kind", "subject": "", "problem": "something new", "mend": "look"}
    host.owner, host.status = "pid 7", {**RUN, "findings": [*entries, strange]}
    host.found = [STRICT, NO_FORWARDING]
    found = host.visit(mends=True)
    assert found.show()["pid"] == 7
    assert shown(found).count("backend-silent (warning)") == 1
    assert "reported (warning): the running natmirror, of another version, reports new-kind: something new" in shown(
        found
    )
    assert [command[0] for command in host.ran] == ["sysctl"]  # no command comes from the socket


def test_a_natmirror_of_another_version_is_not_asked_further(host: Host) -> None:
    host.owner, host.status = "pid 7", {"version": "0.0.1"}
    found = host.visit()
    assert f"does not answer doctor: it is natmirror 0.0.1, and this doctor is of {__version__}" in shown(found)
    assert states(found)["kernel-state"] == "unknown"


def test_an_error_of_doctors_own_costs_one_check(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("strange")

    monkeypatch.setattr("natmirror.linux.setup.open_tun", fail)
    found = host.visit()
    assert "internal error of doctor, report it: RuntimeError('strange')" in shown(found)
    assert (states(found)["tun"], states(found)["iptables"], found.exit_code) == ("unknown", "ok", WARNED)


def test_a_natmirror_that_does_not_answer_is_a_warning_and_its_checks_are_not_made(host: Host) -> None:
    host.owner = "pid 7"
    found = host.visit()
    assert "api-silent (warning): natmirror runs here, pid 7, and does not answer doctor" in shown(found)
    assert states(found)["kernel-state"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"failing_chores": [{"name": "iptables rules", "error": "hangs"}]}, "chore-fails (warning)"),
        (
            {"machine": {**RUN["machine"], "ended_threads": {"1": "no memory"}}},
            "thread-ended (failure): packet thread 1",
        ),
        ({"rules": "/etc/other.yaml"}, "other-rules-in-use (warning)"),
        (
            {"mirrors": [{"name": "m", "service": "of", "connections_not_copied": {"picked-up": 2}}]},
            "connections-not-copied (warning): 2 open connections of service of are not copied to mirror m (picked-up:",
        ),
    ],
)
def test_what_the_state_of_a_run_shows(host: Host, changes: dict[str, Any], expected: str) -> None:
    host.owner, host.status = "pid 7", {**RUN, **changes}
    assert expected in shown(host.visit())


def test_an_api_that_each_user_may_command_is_a_warning(host: Host, tmp_path: Path) -> None:
    host.owner, host.status = "pid 7", RUN
    api = tmp_path / "api.sock"
    api.touch()
    api.chmod(0o666)
    found = host.visit(api=api)
    assert f"api-open (warning): {api} lets each user of this host command natmirror (mode 666)" in shown(found)


def test_a_rules_file_that_is_not_in_use_yet_is_a_warning(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.doctor.run_checks.send_command", lambda *_: {"changes": ["+ backend c3"]})
    host.owner, host.status = "pid 7", RUN
    assert "as it is now (- is in use, + is new): + backend c3\n" in shown(host.visit())


def test_the_listing_names_each_check() -> None:
    text = "\n".join(listing())
    assert all(check.name in text and check.title in text for check in CHECKS)
