"""What tests of the engine share: a connection in either gear."""

import pytest

from tests.helpers.client_connection import ClientConnection, engine


@pytest.fixture
def connection(fast: bool) -> ClientConnection:
    return ClientConnection(engine(fast=fast))
