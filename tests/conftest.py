"""What all tests share: hypothesis profiles, and the rule that tests in network namespaces need root."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.nftables import Nft

# fast is the same on each run and each machine; deep is for searching: pytest --hypothesis-profile=deep
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


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """With the C gear, and without it."""
    return bool(request.param)


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch) -> Nft:
    """What would be fed to nft, which is not run."""
    one = Nft()
    monkeypatch.setattr("natmirror.linux.nftables._run", one)
    monkeypatch.setattr("shutil.which", lambda name: name)
    return one
