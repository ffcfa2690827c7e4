"""The lock of a run, under a name of the test's own; the live tests use network namespaces instead."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from natmirror.cli.commands import main
from natmirror.errors import HostError
from natmirror.linux import instance
from natmirror.linux.instance import InstanceLock, running

QUEUES = " 6653 {port} 0 2 65535 0 0 7 1\n 6655 4294960000 0 2 65535 0 0 7 1\n"


@pytest.fixture(autouse=True)
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    address = f"\0natmirror-test-{os.getpid()}"
    monkeypatch.setattr(instance, "_ADDRESS", address)
    monkeypatch.setattr(instance, "_KERNEL_QUEUES", tmp_path / "queues")
    return address


HOLDER = """
import socket, sys, time
one = socket.socket(socket.AF_UNIX)
one.bind(sys.argv[1].replace("@", "\\0"))
one.listen(1)
print("holds", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(address: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLDER, address.replace("\0", "@")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_no_natmirror_runs_before_the_lock_is_taken_and_after_it_is_released() -> None:
    assert running() is None
    one = InstanceLock()
    assert running() == f"pid {os.getpid()}"
    one.close()
    assert running() is None


def test_a_second_start_is_refused_with_the_first_ones_process_id(other: "subprocess.Popen[str]") -> None:
    with pytest.raises(HostError, match=rf"namespace, pid {other.pid} \(.* -c import socket.*\): .*; stop it"):
        InstanceLock()


def test_a_stopped_holder_is_found_and_a_killed_one_is_not(other: "subprocess.Popen[str]") -> None:
    other.send_signal(signal.SIGSTOP)
    assert running() == f"pid {other.pid}"
    other.kill()
    other.wait()
    assert running() is None


def test_a_holder_with_a_full_backlog_is_known_by_its_queue(other: "subprocess.Popen[str]", tmp_path: Path) -> None:
    for _ in range(3):
        assert running() is not None
    assert running() == "a process that does not answer"
    (tmp_path / "queues").write_text(QUEUES.format(port=other.pid))
    assert running() == f"pid {other.pid}"
    with pytest.raises(HostError, match=f"already running in this network namespace, pid {other.pid}: "):
        InstanceLock()


def test_closing_connections_makes_room_in_the_backlog() -> None:
    one = InstanceLock()
    for _ in range(3):
        for _ in range(500):
            assert running() == f"pid {os.getpid()}"
        one.close_connections()
    one.close()


def test_a_holder_that_is_not_natmirror_does_not_prevent_a_start(
    other: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(instance, "_is_natmirror", lambda pid, uid: False)
    InstanceLock().close()
    assert f"pid {other.pid} holds the lock @natmirror but is not natmirror" in caplog.text
    assert running() is None


@pytest.mark.parametrize("listens", [False, True])
def test_a_holder_that_does_not_answer_does_not_prevent_a_start(
    address: str, listens: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Any user may bind the name, without listening or with a full backlog."""
    monkeypatch.setattr(instance, "_TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(address)
        if listens:
            other.listen(0)
            client.connect(address)
        InstanceLock().close()
        assert "a process that does not answer holds the lock @natmirror but is not natmirror" in caplog.text
        (tmp_path / "queues").write_text(QUEUES.format(port=os.getpid()))
        with pytest.raises(HostError, match=f"already running in this network namespace, pid {os.getpid()}"):
            InstanceLock()


def test_a_start_waits_for_a_holder_that_is_about_to_listen(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(address)
        late = threading.Timer(0.2, other.listen)
        late.start()
        with pytest.raises(HostError, match=f"already running in this network namespace, pid {os.getpid()}"):
            InstanceLock()
        late.join()


def test_a_start_takes_the_lock_of_a_holder_that_is_about_to_end(address: str) -> None:
    other = socket.socket(socket.AF_UNIX)
    other.bind(address)
    late = threading.Timer(0.2, other.close)
    late.start()
    one = InstanceLock()
    assert running() == f"pid {os.getpid()}"
    one.close()
    late.join()


def test_a_natmirror_is_roots_or_our_own_users_or_has_the_capability() -> None:
    assert instance._is_natmirror(os.getpid(), 0)
    assert instance._is_natmirror(os.getpid(), os.geteuid())
    command = [sys.executable, "-c", "import os; os.setuid(61653); print('x', flush=True); input()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        if os.geteuid() == 0 and process.stdout.readline():
            assert not instance._is_natmirror(process.pid, 61653)
            assert instance._is_natmirror(os.getpid(), 61653), "this process has root's capabilities"
        process.kill()


@pytest.mark.parametrize(
    ("port", "shown"), [("{own}", "pid {own}"), ("4294967290", "the process bound to NFQUEUE 6653")]
)
def test_a_natmirror_without_the_lock_is_known_by_its_queue(tmp_path: Path, port: str, shown: str) -> None:
    (tmp_path / "queues").write_text(QUEUES.format(port=port.format(own=os.getpid())))
    assert running() == shown.format(own=os.getpid())


def test_cleanup_is_refused_while_natmirror_runs_unless_forced(
    other: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natmirror.linux.rights.has_net_admin", lambda: True)
    monkeypatch.setattr("natmirror.linux.nftables.remove", lambda: ["nft: table"])
    monkeypatch.setattr("natmirror.linux.iptables.cleanup", list)
    refused = CliRunner().invoke(main, ["cleanup"])
    assert refused.exit_code == 1
    assert len(refused.output.splitlines()) == 1
    assert f"natmirror is running here, pid {other.pid}: stop it" in refused.output
    deaf = CliRunner().invoke(main, ["cleanup", "--force", "--api", "/nonexistent/api.sock"])
    assert (deaf.exit_code, deaf.output.splitlines()[0]) == (1, "nft: table")
    assert f"natmirror, pid {other.pid}, may install its rules again: stop it" in deaf.output
    told = []
    monkeypatch.setattr("natmirror.api.client.send_command", lambda *arguments: told.append(arguments[0]))
    forced = CliRunner().invoke(main, ["cleanup", "--force"])
    assert (forced.exit_code, forced.output, told) == (0, "nft: table\n", ["release-kernel"])
