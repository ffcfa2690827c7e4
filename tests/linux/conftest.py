"""Fixtures for tests in which a socket pair plays the kernel's part."""

import socket
from collections.abc import Iterator

import pytest

from natmirror.linux import nfqueue
from natmirror.linux.nfqueue import Queue
from tests.helpers.loop import Stage
from tests.helpers.nfqueue import Bound


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The kernel's ends of the sockets of all queues that a test makes."""
    Bound.kernels = []
    monkeypatch.setattr(nfqueue, "NetfilterQueue", Bound)
    monkeypatch.setattr(Queue, "_configure", lambda *arguments: None)
    yield Bound.kernels
    for kernel in Bound.kernels:
        kernel.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
