"""What the operator reads where the API's socket is missing, dead, forbidden, or its owner stopped."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from natmirror.api.owner import require_owner
from natmirror.errors import HostError, NoAnswerError

LISTENER = """
import socket, sys
one = socket.socket(socket.AF_UNIX)
one.bind(sys.argv[1])
one.listen()
print(1, flush=True)
input()
"""


@contextmanager
def listener(path: Path) -> Iterator[int]:
    """Have another process listen on a socket; yield its process id."""
    command = [sys.executable, "-c", LISTENER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_missing_socket_and_a_dead_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError, match="there is no such socket"):
        require_owner(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NoAnswerError, match="the process that made the socket has ended"):
        require_owner(tmp_path / "dead")


def test_a_stopped_owner_is_named_with_what_continues_it(tmp_path: Path) -> None:
    with listener(tmp_path / "api") as pid:
        require_owner(tmp_path / "api")
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with pytest.raises(HostError, match=rf"natmirror, pid {pid}, is stopped, .* kill -CONT {pid}, or restart it"):
            require_owner(tmp_path / "api")
        os.kill(pid, signal.SIGCONT)


def test_a_user_who_may_not_ask_learns_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setenv("USER", "alice")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(HostError, match="usermod -aG natmirror alice; then log in again") as found:
        require_owner(tmp_path / "hidden" / "api")
    assert not isinstance(found.value, NoAnswerError)
    tmp_path.chmod(0o700)
    (tmp_path / "api").touch()
    if os.geteuid() == 0:
        with pytest.raises(HostError, match="only root may; use sudo"):
            require_owner(tmp_path / "api")
