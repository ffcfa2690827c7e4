"""The client of doctor: what it says about a backend that ends the connection, or takes no bytes."""

import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.doctor import caller


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: doctor's and the backend's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        backend, _ = listening.accept()
        with client, backend:
            yield client, backend


def test_a_reset_that_comes_before_the_bytes_is_an_end(ends: tuple[socket.socket, socket.socket]) -> None:
    client, backend = ends
    backend.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    backend.close()
    assert select.select([client], [], [], 5.0)[0]
    answer: dict[str, Any] = {"sent": 0, "size": 0, "received": 0, "unacked": False, "silent": ""}
    with pytest.raises(caller.Ended, match="a reset"):
        caller._exchange(client, b"x", answer, "", lambda piece: True)


def test_bytes_for_which_the_backend_has_no_room_are_not_acknowledged(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_ANSWER_TIMEOUT", 0.1)
    client, _ = ends
    answer: dict[str, Any] = {"sent": 0, "size": 0, "received": 0, "unacked": False, "silent": ""}
    caller._exchange(client, bytes(64 << 20), answer, "the data", lambda piece: False)
    assert (answer["unacked"], answer["silent"]) == (True, "the data")
