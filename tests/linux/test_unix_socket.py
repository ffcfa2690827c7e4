"""Unix sockets that are never open to others, not even for a moment."""

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.linux.unix_socket import PathSocket


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
    one = PathSocket(path, socket.SOCK_STREAM, 0o660, "serve")
    assert first == [0o660 & ~umask]
    assert mode_of(path) == 0o660
    assert mode_of(path.parent) == 0o750 & ~umask
    one.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "api.sock"
    backlog = 1 if kind == socket.SOCK_STREAM else None
    for _ in range(2):
        one = PathSocket(path, kind, 0o600, "serve", backlog=backlog)
        with pytest.raises(HostError, match="another natmirror serves"):
            PathSocket(path, kind, 0o600, "serve")
        one.close()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("mine")
    (tmp_path / "link").symlink_to(path)
    for taken in (path, tmp_path / "link"):
        with pytest.raises(HostError, match=f"cannot serve on {taken}"):
            PathSocket(taken, socket.SOCK_STREAM, 0o600, "serve")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_removed_path_is_made_again_with_its_directory_and_its_rights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, umask: int, kind: int
) -> None:
    path = tmp_path / "run" / "api.sock"
    path.parent.mkdir()
    path.parent.chmod(0o751)
    one = PathSocket(path, kind, 0o660, "serve", backlog=1 if kind == socket.SOCK_STREAM else None)
    assert not one.restore()
    shutil.rmtree(path.parent)
    assert one.restore()
    assert (mode_of(path.parent), mode_of(path)) == (0o751, 0o660)
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.connect(str(path))
    assert not one.restore()
    path.rename(path.with_name("moved"))
    assert one.restore()
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} was removed, and natmirror has made it again: have no program clean up there"
    ] * 2
    one.remove()
    one.close()
    assert not path.exists()


def test_a_path_that_cannot_be_made_again_is_reported_once_and_what_is_there_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "api.sock"
    one = PathSocket(path, socket.SOCK_DGRAM, 0o660, "serve")
    path.unlink()
    path.write_text("mine")
    assert [one.restore(), one.restore()] == [False, False]
    [record] = caplog.records
    assert record.getMessage().startswith(f"{path} was removed, and natmirror cannot make it again: Address already in")
    one.remove()
    assert path.read_text() == "mine"
    path.unlink()
    assert one.restore()
    one.close()
