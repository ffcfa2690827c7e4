"""The command line: its output and its exit codes, and no traceback."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

from natmirror import __version__
from natmirror.cli.commands import main
from natmirror.cli.shown import CheckedRules, KernelRules, ListedCheck
from natmirror.errors import HostError
from natmirror.linux import instance, iptables, nftables
from natmirror.linux.iptables import Firewall
from natmirror.linux.systemd import Notifier
from natmirror.replay.replay import ReplayAnswer
from natmirror.rules import Rules
from tests.helpers.api import served
from tests.helpers.declared import assert_declared

RULES = Path(__file__).parents[2] / "rules" / "lb.yaml"


@pytest.fixture(autouse=True)
def rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find CAP_NET_ADMIN, also if the tests run without root."""
    monkeypatch.setattr("natmirror.linux.rights.has_net_admin", lambda: True)


def run(*words: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False, env=env)


def test_check_prints_the_rules_with_their_defaults() -> None:
    result = run("--rules", RULES, "--check")
    assert result.exit_code == 0
    assert "backend c2 10.20.0.12:6653 weight 1" in result.output
    assert "mirror  master 10.20.0.13:6653 buffer 16MiB" in result.output


def test_dry_run_prints_the_iptables_changes() -> None:
    result = run("--rules", RULES, "--dry-run")
    assert result.exit_code == 0
    assert "-A NATMIRROR-GUARD -s 10.10.0.0/24 -d 10.10.0.100/32 -p tcp --dport 6653 -j DROP" in result.output


def test_check_and_dry_run_print_json() -> None:
    checked = json.loads(run("--rules", RULES, "--check", "--json").output)
    assert_declared(CheckedRules, checked)
    assert "  backend c2 10.20.0.12:6653 weight 1" in checked["rules"]
    planned = json.loads(run("--rules", RULES, "--dry-run", "--json").output)
    assert_declared(KernelRules, planned)
    assert "-A NATMIRROR-GUARD" in planned["iptables"] and "table ip natmirror" in planned["nftables"]
    refused = run("--rules", RULES, "--json")
    assert (refused.exit_code, "--json goes with --check or --dry-run" in refused.output) == (2, True)


@pytest.mark.parametrize(
    "words", [("--json", "status"), ("--api", "/nowhere", "status"), ("--rules", RULES, "doctor"), ("--check", "rules")]
)
def test_an_option_before_a_command_that_would_not_see_it_is_refused(words: tuple[object, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert f"{words[0]} belongs to a run, not to {words[-1]}: put it behind it" in result.output


def test_an_option_of_a_run_in_the_environment_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "running", lambda: None)
    result = run("doctor", "--list-checks", "--json", env={"NATMIRROR_API": "/nowhere", "NATMIRROR_LOG_LEVEL": "debug"})
    assert result.exit_code == 0
    for one in json.loads(result.output):
        assert_declared(ListedCheck, one)


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/usr/sbin:/usr/bin", ""])
def test_programs_of_root_are_found_by_users_and_in_cron(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("PATH", path)
    run("doctor", "--list-checks")
    found = os.environ["PATH"].split(":")
    assert found[: len(path.split(":")) if path else 0] == (path.split(":") if path else [])
    assert found.count("/usr/sbin") == 1


def test_an_answer_of_another_version_that_cannot_be_shown_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natmirror.api.client._other_versions", set())
    monkeypatch.setattr("natmirror.api.client._OWN_SERVER", "natmirror/9.0.0")
    path = tmp_path / "api.sock"
    with served(path, {"status": lambda: {"version": __version__}}):
        result = run("status", "--api", path)
        assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
        assert f"natmirror {__version__} runs, and this command is of" in result.output
        assert json.loads(run("status", "--api", path, "--json").output) == {"version": __version__}


@pytest.mark.parametrize("words", [[], ["--check"], ["--dry-run"]])
def test_bad_rules_are_one_line_and_exit_code_2(tmp_path: Path, words: list[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(RULES.read_text().replace("port: 6653\n", "port: 70000\n", 1))
    result = run("--rules", bad, *words)
    assert result.exit_code == 2
    assert result.output == f"natmirror: {bad}:13: services[0].port: expected 1..65535, found 70000\n"


def test_a_missing_rules_file_is_one_line_and_exit_code_2() -> None:
    result = run("--rules", "/nowhere.yaml")
    assert (result.exit_code, result.output) == (2, "natmirror: /nowhere.yaml: No such file or directory\n")


def test_explain_answers_from_a_rules_file() -> None:
    result = run("explain", "10.10.0.11", "openflow", "--rules", RULES)
    assert result.exit_code == 0
    assert "openflow 10.10.0.100:6653: a new connection goes to c" in result.output
    result = run("explain", "10.10.0.11", "--rules", RULES, "--json")
    assert '"in_switches": true' in result.output
    for wrong, why in (("10.10.0", "expected an IPv4 address"), ("10.10.0.11 web", "there is no service web")):
        result = run("explain", *wrong.split(), "--rules", RULES)
        assert result.exit_code == 2 and why in result.output


def test_neither_rules_nor_a_command_is_a_usage_error() -> None:
    result = run()
    assert result.exit_code == 2
    assert "--rules FILE" in result.output


def test_a_replay_prints_its_report(tmp_path: Path) -> None:
    capture = RULES.parent.parent / "pcaps" / "redis.pcap"
    rules = capture.with_suffix(".yaml")
    result = run("replay", "--rules", rules, capture, "-o", tmp_path / "out.pcap", "--streams", tmp_path / "streams")
    assert result.exit_code == 0
    assert result.output.count("leg ended:") == 4
    assert len(list((tmp_path / "streams").iterdir())) == 4


def test_a_broken_capture_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(b"no capture")
    result = run("replay", "--rules", RULES, broken, "-o", tmp_path / "out.pcap")
    assert result.exit_code == 1
    assert result.output.startswith(f"natmirror: {broken}: ")
    assert result.output.count("\n") == 1


def test_a_truncated_capture_is_reported_up_to_its_end(tmp_path: Path) -> None:
    capture = RULES.parent.parent / "pcaps" / "redis.pcap"
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(capture.read_bytes()[:-10])
    result = run("replay", "--rules", capture.with_suffix(".yaml"), broken, "-o", tmp_path / "out.pcap")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("packets read: ")
    assert lines[-1].startswith(f"natmirror: {broken}: truncated dump file")
    result = run("replay", "--rules", capture.with_suffix(".yaml"), broken, "-o", tmp_path / "out.pcap", "--json")
    text, _, error = result.output.rpartition("natmirror: ")
    assert_declared(ReplayAnswer, json.loads(text))
    assert error.startswith(f"{broken}: truncated dump file")


def test_cleanup_goes_on_with_iptables_where_nftables_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise HostError("nft failed: it refuses")

    monkeypatch.setattr(nftables, "remove", refuse)
    monkeypatch.setattr(iptables, "cleanup", lambda: ["legacy: NATMIRROR-PRE"])
    result = run("cleanup")
    assert result.exit_code == 1
    assert result.output == "legacy: NATMIRROR-PRE\nnatmirror: nft failed: it refuses\n"


@pytest.mark.parametrize(
    ("owner", "left", "expected"),
    [
        ("pid 7", [], "natmirror runs in this network namespace, pid 7: is it busy, or does it have another --api?"),
        (None, [], "natmirror does not run: start it with systemctl start natmirror, or natmirror --rules FILE\n"),
        (None, ["nft: NATMIRROR-PRE"], "its iptables rules are still there (nft: NATMIRROR-PRE), so the kernel drops"),
        (None, None, "If it was killed, its iptables rules still hold the traffic: start it again, or remove the"),
    ],
)
def test_without_an_answer_the_error_says_what_holds_the_traffic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: str | None, left: list[str] | None, expected: str
) -> None:
    def left_behind() -> list[str]:
        if left is None:
            raise HostError("no root")
        return left

    monkeypatch.setattr(instance, "running", lambda: owner)
    monkeypatch.setattr(iptables, "left_behind", left_behind)
    for words in (["status"], ["drain", "openflow/c1"], ["reload", "--dry-run"]):
        result = run(*words, "--api", tmp_path / "api.sock")
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert expected in result.output


def test_no_color_switches_doctors_colours_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.doctor.visit.visit", lambda *_, **__: SimpleNamespace(exit_code=0))
    monkeypatch.setattr("natmirror.doctor.screen.screen", lambda _: [click.style("rules", bold=True)])
    assert "\x1b[" in CliRunner().invoke(main, ["doctor"], color=True, env={"NO_COLOR": ""}).output
    assert CliRunner().invoke(main, ["doctor"], color=True, env={"NO_COLOR": "1"}).output == "rules\n"


def test_doctor_lists_its_checks() -> None:
    result = run("doctor", "--list-checks")
    assert result.exit_code == 0
    assert "  forwarding        the kernel forwards packets of clients and backends\n" in result.output


SERVICE = {"NOTIFY_SOCKET": "@natmirror-test-manager", "WATCHDOG_USEC": "4000000"}


class _Runner:
    """A run that starts one program, and keeps what the program inherits."""

    hangs = False
    found = ""
    keeps_rules = False

    def __init__(self, rules: Rules, firewall: Firewall, notifier: Notifier, *_: object, **more: object) -> None:
        self._notifier = notifier
        type(self).keeps_rules = bool(more["keep_rules"])

    def run(self) -> str:
        assert self._notifier.has_manager
        assert self._notifier.watchdog_interval == 1.0
        type(self).found = inherited()
        return ""


def inherited() -> str:
    """The environment of a program that this process starts."""
    return subprocess.run(["env"], capture_output=True, text=True, check=True).stdout


def test_no_program_that_a_run_starts_can_notify_its_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.runtime.runner.Runner", _Runner)
    monkeypatch.setattr("natmirror.linux.iptables.Firewall", lambda backend: None)
    assert run("--rules", RULES, env=SERVICE).exit_code == 0
    assert "PATH=" in _Runner.found
    assert _Runner.keeps_rules, "under a service manager they are kept"
    assert run("--rules", RULES, "--on-stop", "remove", env=SERVICE).exit_code == 0
    assert not _Runner.keeps_rules
    assert not [name for name in SERVICE if name in _Runner.found]


def test_no_program_that_a_command_starts_can_notify_its_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "running", lambda: None)
    monkeypatch.setattr(nftables, "remove", lambda: inherited().splitlines())
    monkeypatch.setattr(iptables, "cleanup", lambda: [])
    result = run("cleanup", env=SERVICE)
    assert (result.exit_code, "PATH=" in result.output) == (0, True)
    assert not [name for name in SERVICE if name in result.output]


@pytest.mark.parametrize("words", [["--rules", RULES], ["cleanup"]])
def test_without_rights_the_line_names_them(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("natmirror.linux.rights.has_net_admin", lambda: False)
    result = run(*words)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "needs root or CAP_NET_ADMIN: run it with sudo, or start the service natmirror" in result.output
