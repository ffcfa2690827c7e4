"""Fixtures for the tests of health checks."""

import os
from collections.abc import Callable, Iterator

import pytest

from natmirror.lab.process import wait_for
from tests.helpers.controllers import Controller, Talk


@pytest.fixture
def controllers() -> Iterator[Callable[[Talk | None], Controller]]:
    started: list[Controller] = []

    def start(talk: Talk | None) -> Controller:
        started.append(Controller(talk))
        return started[-1]

    yield start
    for controller in started:
        controller.close()


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """Check that each test closes its descriptors and reaps its children."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    wait_for(lambda: set(os.listdir("/proc/self/fd")) <= before, "all descriptors to be closed")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
