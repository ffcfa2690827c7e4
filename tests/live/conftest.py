"""Fixtures of the live tests: the lab, and the check that nothing is left behind."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from natmirror.errors import HostError
from natmirror.lab.process import wait_for
from natmirror.lab.topology import Lab, leftovers
from tests.live.scene import CLIENTS, Scene


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for address in CLIENTS[1:]:
            lab.address("s1", "eth0", address)
        yield lab
    assert leftovers() == []


@pytest.fixture
def alone() -> Iterator[Scene]:
    """A scene in a lab for one test."""
    with Lab() as lab:
        scene = Scene(lab)
        yield scene
        scene.close()
    assert leftovers() == []


@pytest.fixture(params=["nft", "legacy"])
def iptables(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    scene = Scene(lab)
    before = scene.traces()
    yield scene
    scene.close()
    with suppress(HostError):  # once a natmirror is killed, the processes that pass its packets end by themselves
        wait_for(lambda: scene.traces() == before, "its traces to go")
    assert scene.traces() == before, "natmirror has left something behind"
