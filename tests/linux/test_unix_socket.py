"""Unix sockets that are never open to others, not even for a moment."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.linux import unix_socket


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_has_its_mode_from_its_first_moment(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "api.sock"
    first: list[int] = []
    chmod = Path.chmod

    def watch(path: Path, mode: int) -> None:
        first.append(mode_of(path))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", watch)
    with unix_socket.bind(path, socket.SOCK_STREAM, 0o660, "serve"):
        assert first == [0o660 & ~umask]
        assert mode_of(path) == 0o660
        assert mode_of(path.parent) == 0o750 & ~umask


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "api.sock"
    for _ in range(2):
        with unix_socket.bind(path, kind, 0o600, "serve") as bound:
            if kind == socket.SOCK_STREAM:
                bound.listen()
            with pytest.raises(HostError, match="another natmirror serves"):
                unix_socket.bind(path, kind, 0o600, "serve")


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("mine")
    (tmp_path / "link").symlink_to(path)
    for taken in (path, tmp_path / "link"):
        with pytest.raises(HostError, match=f"cannot serve on {taken}"):
            unix_socket.bind(taken, socket.SOCK_STREAM, 0o600, "serve")
    assert path.read_text() == "mine"
