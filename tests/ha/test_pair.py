"""A host of a pair: its role, its readiness, keepalived's configuration, and the commands that keepalived runs."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from click.testing import CliRunner

from natmirror.cli.commands import main
from natmirror.errors import HostError
from natmirror.ha import exit_codes, keepalived_conf, keepalived_hooks
from natmirror.ha.health_server import HealthServer
from natmirror.ha.member import PairMember
from natmirror.ha.readiness import STALLED_AFTER, Readiness
from natmirror.ha.role import CurrentRole, HostRole
from natmirror.ha.role_server import RoleServer
from natmirror.rules import Pair, load_rules

EXAMPLE = Path(__file__).parents[2] / "rules/pair.yaml"


@pytest.fixture
def pair() -> Pair:
    found = load_rules(EXAMPLE).ha
    assert found is not None
    return found


@pytest.fixture
def api(tmp_path: Path) -> str:
    return str(tmp_path / "api.sock")


class Clock:
    def __init__(self) -> None:
        self.hours = 0

    def __call__(self) -> str:
        self.hours += 1
        return f"{self.hours}:00"


# Roles


def test_a_listener_gets_the_role_now_and_at_each_change() -> None:
    current_role, roles = CurrentRole(Clock()), list[HostRole]()
    current_role.on_role(roles.append)
    assert current_role.set_by_keepalived(HostRole.MASTER, 1)
    assert not current_role.set_by_keepalived(HostRole.MASTER, 2)
    assert current_role.set_by_keepalived(HostRole.FAULT, 3)
    assert roles == [HostRole.BACKUP, HostRole.MASTER, HostRole.FAULT]
    assert current_role.show() == {"role": "fault", "since": "3:00", "source": "keepalived"}


def test_a_report_that_was_overtaken_is_ignored() -> None:
    current_role = CurrentRole(Clock())
    assert current_role.set_by_keepalived(HostRole.MASTER, 20)
    assert not current_role.set_by_keepalived(HostRole.BACKUP, 19)
    assert current_role.role is HostRole.MASTER


def test_the_role_comes_from_the_addresses_until_keepalived_reports_it() -> None:
    current_role = CurrentRole(Clock())
    current_role.set_by_addresses(HostRole.MASTER)
    assert current_role.show() == {"role": "master", "since": "2:00", "source": "addresses"}
    assert not current_role.set_by_keepalived(HostRole.MASTER)
    assert current_role.show()["source"] == "keepalived"


# Readiness


def fit(threads: int = 2) -> Readiness:
    readiness = Readiness(threads)
    readiness.not_ready, readiness.rules_are_in_place = None, True
    return readiness


def test_a_natmirror_that_is_starting_is_not_ready() -> None:
    assert Readiness(2).check([0, 0], 0.0) == (exit_codes.NOT_READY, "natmirror is starting")


def test_a_natmirror_whose_threads_run_is_fit() -> None:
    readiness = fit()
    for second in range(10):
        assert readiness.check([second, 7 * second], float(second)) == (exit_codes.FIT, "")


def test_a_thread_that_does_not_run_makes_it_unfit_and_is_named() -> None:
    readiness = fit()
    assert readiness.check([5, 5], 100.0)[0] == exit_codes.FIT, "seen for the first time"
    assert readiness.check([6, 5], 100.0 + STALLED_AFTER)[0] == exit_codes.FIT
    code, reason = readiness.check([7, 5], 100.1 + STALLED_AFTER)
    assert (code, reason) == (exit_codes.STUCK, "packet thread 1 has not run for 3 s")
    assert readiness.check([8, 6], 101.0 + STALLED_AFTER)[0] == exit_codes.FIT


def test_a_queue_that_does_not_work_makes_it_unfit() -> None:
    readiness = fit()
    problem: str | None = "queue 7: the kernel has refused verdicts for 3 s"
    readiness.queue_problem = lambda: problem
    assert readiness.check([1, 1], 0.0) == (exit_codes.STUCK, problem)
    problem = None
    assert readiness.check([2, 2], 1.0)[0] == exit_codes.FIT


def test_missing_iptables_rules_make_it_unfit() -> None:
    readiness = fit()
    readiness.rules_are_in_place = False
    assert readiness.check([1, 1], 0.0)[0] == exit_codes.RULES_MISSING


def test_a_host_that_does_not_let_production_pass_makes_it_unfit() -> None:
    readiness = fit()
    why = "no-forwarding: this host does not forward packets"
    readiness.why_host_fails = lambda: why
    assert readiness.check([1, 1], 0.0) == (exit_codes.HOST_FAILS, why)
    why = ""
    assert readiness.check([2, 2], 1.0)[0] == exit_codes.FIT


def test_a_natmirror_that_has_not_read_the_shared_state_is_not_ready() -> None:
    readiness = fit()
    missing: str | None = "3 of 4 flows"
    readiness.why_incomplete = lambda: missing
    assert readiness.check([1, 1], 0.0) == (exit_codes.NOT_READY, "3 of 4 flows")
    missing = None
    assert readiness.check([2, 2], 1.0)[0] == exit_codes.FIT


# What keepalived runs


def test_the_command_exits_with_the_code_and_prints_its_meaning_and_the_reason(
    api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, meaning in exit_codes.MEANINGS.items():
        answering = HealthServer(Path(keepalived_hooks.health_socket(api)), lambda code=code: (code, "for a reason"))  # type: ignore[misc]
        assert keepalived_hooks.main("health", ["--api", api]) == code
        answering.close()
        assert capsys.readouterr().out == f"{meaning}: for a reason\n"


def test_without_a_health_socket_natmirror_is_not_running(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert keepalived_hooks.main("health", [f"--api={api}"]) == exit_codes.NOT_RUNNING
    missing = f"not running, or not to be reached: {api}.health: No such file or directory\n"
    assert capsys.readouterr().out == missing


def test_a_natmirror_that_does_not_answer_is_stuck(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalived_hooks, "_TIMEOUT", 0.05)
    answering = HealthServer(Path(keepalived_hooks.health_socket(api)), lambda: time.sleep(0.2) or (0, ""))  # type: ignore[func-returns-value]
    assert keepalived_hooks.main("health", ["--api", api]) == exit_codes.STUCK
    answering.close()


def test_a_client_that_disconnects_or_sends_data_does_no_harm(api: str) -> None:
    import socket

    answering = HealthServer(Path(keepalived_hooks.health_socket(api)), lambda: (0, "x" * 10))
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(keepalived_hooks.health_socket(api))
            with suppress(BrokenPipeError):  # the server has answered and closed the connection
                rude.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert keepalived_hooks.main("health", ["--api", api]) == exit_codes.FIT
    answering.close()


def test_any_user_may_ask_for_the_health(api: str) -> None:
    path = Path(keepalived_hooks.health_socket(api))
    with socket.socket(socket.AF_UNIX) as left:  # by a killed run
        left.bind(str(path))
    answering = HealthServer(path, lambda: (0, ""))
    assert path.stat().st_mode & 0o777 == 0o666
    answering.close()
    assert not path.exists()


@pytest.fixture
def reports(api: str) -> Iterator[list[tuple[str, int]]]:
    """The roles that are reported, each with its number."""
    reports: list[tuple[str, int]] = []
    server = RoleServer(Path(keepalived_hooks.role_socket(api)), lambda role, number: reports.append((role, number)))
    yield reports
    server.close()
    assert not Path(keepalived_hooks.role_socket(api)).exists()


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        (["master"], "master"),
        (["GROUP", "natmirror", "MASTER", "110"], "master"),
        (["INSTANCE", "switch_side", "BACKUP", "100"], "backup"),
        (["GROUP", "natmirror", "FAULT", "100"], "fault"),
        (["INSTANCE", "switch_side", "STOP", "100"], "fault"),
    ],
)
def test_a_role_is_reported_by_name_or_with_keepalived_s_arguments(
    api: str, reports: list[tuple[str, int]], arguments: list[str], role: str
) -> None:
    assert keepalived_hooks.main("role", ["--api", api, *arguments]) == 0
    assert [found for found, _ in reports] == [role]


def test_later_processes_have_higher_sequence_numbers(api: str, reports: list[tuple[str, int]]) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-m", "natmirror", "role", "--api", api, "backup"], check=True)
    numbers = [number for _, number in reports]
    assert len(numbers) == 3
    assert numbers == sorted(set(numbers))
    assert 0 < numbers[-1] < keepalived_hooks.newest_sequence()


def test_a_role_that_natmirror_does_not_accept_is_an_error(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert keepalived_hooks.main("role", ["--api", api, "master"]) == 1
    assert capsys.readouterr().err.startswith(f"natmirror: no natmirror answers on {api}.role: ")

    def refuse(role: HostRole, number: int) -> None:
        raise ValueError("it does not")

    server = RoleServer(Path(keepalived_hooks.role_socket(api)), refuse)
    assert keepalived_hooks.main("role", ["--api", api, "master"]) == 1
    assert capsys.readouterr().err == f"natmirror: {api}.role refuses the role master: it does not\n"
    server.close()


def test_nonsense_on_the_role_socket_is_refused_and_delays_no_report(api: str, reports: list[tuple[str, int]]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(5.0)
        sender.bind("")
        sender.connect(keepalived_hooks.role_socket(api))
        for nonsense in (
            b"",
            b"master",
            b"master -1",
            b"king 1",
            b"\xff\xff 1",
            b"master 1 2",
            b"master " + b"9" * 200,
        ):
            sender.send(nonsense)
            assert sender.recv(4096), nonsense
        for _ in range(9):
            sender.send(b"nonsense")  # and its answers are not read
    assert keepalived_hooks.main("role", ["--api", api, "backup"]) == 0
    assert [role for role, _ in reports] == ["backup"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("health", ["now"]), ("health", ["--api"]), ("role", []), ("role", ["king"]), ("role", ["a", "b"])],
)
def test_wrong_arguments_are_an_error(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert keepalived_hooks.main(command, arguments) == exit_codes.MISUSED
    assert capsys.readouterr().err.startswith(f"usage: natmirror {command} ")


def test_the_health_command_imports_next_to_nothing(api: str) -> None:
    """Apart from the modules that Python itself imports at its start."""
    code = (
        "import sys; before = set(sys.modules); import natmirror.cli.entry;"
        f" sys.argv = ['natmirror', 'health', '--api', {api!r}]; natmirror.cli.entry.main();"
        " print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert {name for name in imported if name.startswith("natmirror")} == {
        "natmirror",
        "natmirror.cli",
        "natmirror.ha",
        "natmirror.ha.keepalived_hooks",
        "natmirror.cli.entry",
        "natmirror.ha.exit_codes",
    }
    assert not imported & {"click", "json", "re", "typing", "pathlib", "subprocess", "http", "httpx", "logging"}


# A host of a pair


@pytest.fixture
def member(pair: Pair, api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PairMember]:
    monkeypatch.setattr(
        "natmirror.ha.member.own_addresses", lambda: {IPv4Address("10.10.0.1"), IPv4Address("10.20.0.1")}
    )
    with ExitStack() as held:
        member = PairMember(pair, 1, lambda: [time.monotonic_ns()])
        member.open(held, Path(api), lambda do: do())
        yield member


def test_a_host_is_backup_without_the_addresses_and_master_with_them(
    member: PairMember, pair: Pair, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = member.show()
    assert shown is not None
    assert (shown["role"], shown["source"], shown["hosts"]) == ("backup", "addresses", ["lb1", "lb2"])
    monkeypatch.setattr("natmirror.ha.member.own_addresses", lambda: {address.ip for address in pair.addresses})
    roles: list[HostRole] = []
    with ExitStack() as held:
        again = PairMember(pair, 1, lambda: [1])
        again.on_role(roles.append)
        again.open(held, Path(f"{api}.again"), lambda do: do())
    assert roles == [HostRole.BACKUP, HostRole.MASTER]


def test_the_addresses_correct_the_role_after_a_lost_report(
    member: PairMember, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> tuple[str, str]:
        pair = member.show()
        assert pair is not None
        return pair["role"], pair["source"]

    own = {address.ip for address in pair.addresses}
    monkeypatch.setattr("natmirror.ha.member.own_addresses", lambda: own)
    member.set_role(HostRole.BACKUP, 1)
    member.compare(member.role_by_addresses())
    assert shown() == ("backup", "keepalived"), "keepalived may be about to report it"
    member.compare(member.role_by_addresses())
    assert shown() == ("master", "addresses")
    member.set_role(HostRole.MASTER, 2)
    own.pop()
    for _ in range(3):
        member.compare(member.role_by_addresses())
    assert shown() == ("master", "keepalived"), "some of the addresses show no role"
    own.clear()
    member.compare(member.role_by_addresses())
    member.set_role(HostRole.FAULT, 3)
    member.compare(member.role_by_addresses())
    assert shown() == ("fault", "keepalived")
    member.set_role(HostRole.MASTER, 4)
    member.compare(member.role_by_addresses())
    member.compare(member.role_by_addresses())
    assert shown() == ("backup", "addresses")


def test_the_health_socket_answers_as_soon_as_the_host_is_open(member: PairMember, api: str) -> None:
    assert keepalived_hooks.main("health", ["--api", api]) == exit_codes.NOT_READY
    member.readiness.not_ready, member.readiness.rules_are_in_place = None, True
    assert keepalived_hooks.main("health", ["--api", api]) == exit_codes.FIT


def test_a_stop_of_the_active_host_waits_for_the_other_host(member: PairMember, api: str) -> None:
    member.set_role(HostRole.MASTER, 1)
    member.begin_release(100.0)
    assert keepalived_hooks.main("health", ["--api", api]) == exit_codes.NOT_READY
    until = member.release_deadline(100.0)
    assert until is not None and member.release_deadline(until) is None, "the wait is bounded"
    member.set_role(HostRole.FAULT, 2)
    assert member.release_deadline(101.0) is None


def test_a_stop_of_a_backup_does_not_wait(member: PairMember) -> None:
    member.begin_release(100.0)
    assert member.release_deadline(100.0) is None


def test_a_report_without_a_sequence_number_is_the_latest(member: PairMember) -> None:
    member.set_role(HostRole.MASTER, 5)
    member.set_role(HostRole.BACKUP, 0)
    shown = member.show()
    assert shown is not None and shown["role"] == "backup"
    member.set_role(HostRole.MASTER, 4)
    assert member.show() == shown, "it was overtaken"


def test_a_report_from_the_future_is_refused(member: PairMember) -> None:
    """All reports after it would be ignored."""
    for number in (-1, keepalived_hooks.newest_sequence() + (60 * 100 << 22), 1 << 63, 10**30):
        with pytest.raises(ValueError, match="is not possible yet"):
            member.set_role(HostRole.FAULT, number)
    member.set_role(HostRole.MASTER, 1)
    shown = member.show()
    assert shown is not None and shown["role"] == "master"


def test_a_host_without_a_pair_has_no_role(api: str) -> None:
    member = PairMember(None, 1, lambda: [1])
    assert member.show() is None
    with pytest.raises(ValueError, match="no section ha"):
        member.set_role(HostRole.MASTER, 0)


# keepalived.conf


def test_the_files_of_the_two_hosts_differ_in_addresses_and_priority(pair: Pair) -> None:
    one, other = (keepalived_conf.text(pair, host, "natmirror", "/run/api.sock", "root") for host in pair.hosts)
    for lines in ("unicast_src_ip 10.10.0.1\n    unicast_peer {\n        10.10.0.2\n", "priority 110\n"):
        assert lines in one and lines not in other
    for lines in ("unicast_src_ip 10.20.0.2\n    unicast_peer {\n        10.20.0.1\n", "priority 100\n"):
        assert lines in other and lines not in one
    for text in (one, other):
        assert text.count("nopreempt") == 2
        assert "        10.10.0.100/24 dev sw0\n" in text and "        10.20.0.100/24 dev pl0\n" in text
        assert 'script "natmirror health --api /run/api.sock"\n' in text
        assert 'notify "natmirror role --api /run/api.sock"\n' in text


def test_the_host_is_found_by_its_addresses_or_its_name(pair: Pair) -> None:
    lb1, lb2 = pair.hosts
    assert keepalived_conf.choose(pair, None, {lb2.switch_side, lb2.pool_side, IPv4Address("127.0.0.1")}) is lb2
    assert keepalived_conf.choose(pair, "lb1", set()) is lb1
    with pytest.raises(HostError, match="neither lb1 nor lb2: choose one of them with --host"):
        keepalived_conf.choose(pair, None, {lb1.switch_side})
    with pytest.raises(HostError, match="the pair has no host lb3: its hosts are lb1 and lb2"):
        keepalived_conf.choose(pair, "lb3", set())


@pytest.mark.parametrize("api", ['/run/"', "/run/a\nb", "/run/{x}", "/run/$X", "/run/!", "/run/#", "/run/a b"])
def test_paths_that_keepalived_would_misread_are_refused(pair: Pair, api: str) -> None:
    with pytest.raises(HostError, match=r"keepalived\.conf cannot contain"):
        keepalived_conf.text(pair, pair.hosts[0], "natmirror", api, "root")


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keepalived.conf"
    arguments = ["keepalived", "--rules", str(EXAMPLE), "--host", "lb2", "--script-user", "daemon"]
    assert CliRunner().invoke(main, [*arguments, "-o", str(file)]).exit_code == 0
    text = file.read_text()
    assert "router_id lb2\n" in text and "script_user daemon\n" in text
    assert CliRunner().invoke(main, arguments).output == text


def test_the_errors_of_the_command(tmp_path: Path) -> None:
    alone = CliRunner().invoke(main, ["keepalived", "--rules", str(EXAMPLE.with_name("lb.yaml"))])
    assert (alone.exit_code, "expected a section ha, found none" in alone.output) == (1, True)
    nowhere = ["keepalived", "--rules", str(EXAMPLE), "--host", "lb1", "-o", str(tmp_path / "a" / "b")]
    assert "No such file" in CliRunner().invoke(main, nowhere).output
