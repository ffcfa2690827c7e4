"""The health server answers even when no descriptors or memory are left, or its socket was removed."""

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from natmirror.ha.health_server import HealthServer
from natmirror.ha.keepalived_hooks import health_socket, report_role, role_socket
from natmirror.ha.role_server import RoleServer
from natmirror.lab.process import wait_for
from natmirror.linux import unix_socket


def ask(path: Path, client: socket.socket) -> bytes:
    client.settimeout(5.0)
    client.connect(str(path))
    return client.recv(4096)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "health"
    one = HealthServer(path, lambda: (0, "well"))
    yield path
    one.close()
    assert not path.exists()


def test_it_answers_again_and_again_when_no_descriptor_is_left(answering: Path) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        assert [ask(answering, client) for client in clients] == [b"0 well\n"] * 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.close()


def test_an_exception_in_the_health_function_costs_one_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = [MemoryError(), MemoryError()]

    def health() -> tuple[int, str]:
        if faults:
            raise faults.pop()
        return 0, "well"

    one = HealthServer(tmp_path / "health", health)
    answers = []
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            answers.append(ask(tmp_path / "health", client))
    one.close()
    assert answers == [b"", b"", b"0 well\n"]
    assert caplog.text.count("health: cannot answer") == 1


def test_a_removed_socket_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_socket, "CHECK_INTERVAL", 0.01)
    path, reports = tmp_path / "run" / "api.sock", list[int]()
    health = HealthServer(Path(health_socket(str(path))), lambda: (0, "well"))
    role = RoleServer(Path(role_socket(str(path))), lambda role, number: reports.append(number))
    shutil.rmtree(path.parent)
    wait_for(lambda: Path(health_socket(str(path))).exists() and Path(role_socket(str(path))).exists(), "the sockets")
    with socket.socket(socket.AF_UNIX) as client:
        assert ask(Path(health_socket(str(path))), client) == b"0 well\n"
    assert report_role(str(path), "master") == 0
    assert len(reports) == 1
    health.close()
    role.close()
    assert list(path.parent.iterdir()) == []
