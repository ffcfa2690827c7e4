"""Fixtures for all tests, hypothesis profiles, and the rule that tests in network namespaces need root."""

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from natmirror.linux.systemd import take_variables
from natmirror.mirror import copy_states
from natmirror.mirror.sessions import session_states
from tests.helpers.nftables import Nft

take_variables(os.environ)  # if a service runs the tests, their natmirrors must not notify its manager

# Large blocks go back to the kernel when they are freed (M_MMAP_THRESHOLD). Otherwise glibc raises its limit for them
# to 32 MiB, and the tables of the many engines here leave a heap of gigabytes.
ctypes.CDLL(None).mallopt(-3, 256 << 10)

# fast gives the same examples on each run and machine; deep searches: pytest --hypothesis-profile=deep
settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("deep", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: it makes network namespaces and packet queues in them")
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(skip)


class _Watched(dict[Any, Any]):
    """A table of transitions that records the missing ones that it was asked for."""

    def __init__(self, table: dict[Any, Any]) -> None:
        super().__init__(table)
        self.illegal: list[Any] = []

    def __missing__(self, key: Any) -> Any:
        self.illegal.append(key)
        raise KeyError(key)


_TABLES = {
    "natmirror.mirror.copies.TRANSITIONS": _Watched(copy_states.TRANSITIONS),
    "natmirror.mirror.sessions.master_session.TRANSITIONS": _Watched(session_states.TRANSITIONS),
}


@pytest.fixture(autouse=True)
def _no_illegal_transition(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test with an illegal transition of a stream or session: the guard would hide it and end the copies."""
    for name, table in _TABLES.items():
        table.illegal.clear()
        monkeypatch.setattr(name, table)
    yield
    assert not [key for table in _TABLES.values() for key in table.illegal]


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Run a test with the C gear and without it."""
    return bool(request.param)


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch) -> Nft:
    """Record the scripts for nft, which is not run."""
    one = Nft()
    monkeypatch.setattr("natmirror.linux.nftables._run", one)
    monkeypatch.setattr("shutil.which", lambda name: name)
    return one
