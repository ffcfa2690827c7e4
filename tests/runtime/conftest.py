"""Fixtures of the running program's tests."""

import pytest

from tests.helpers.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
