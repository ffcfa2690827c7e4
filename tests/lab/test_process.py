"""Waiting for the lab's programs."""

import socket
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.lab.process import wait_accept


def test_a_socket_that_is_bound_and_does_not_listen_yet_accepts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as server:
        with pytest.raises(HostError, match="a listener on"):
            wait_accept(path, timeout=0.0)
        server.bind(str(path))
        with pytest.raises(HostError, match="a listener on"):
            wait_accept(path, timeout=0.0)
        server.listen()
        wait_accept(path)
