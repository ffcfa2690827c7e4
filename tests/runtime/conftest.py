"""Fixtures for the tests of the running program."""

import pytest

from tests.helpers.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
