"""The traffic of a service: of its connections now, and of those that have ended."""

import pytest

from natmirror.fastpath.flow_states import State
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import CLIENT, TIMEOUTS


@pytest.mark.parametrize("fast", [False, True])
def test_the_traffic_of_a_connection_stays_when_it_has_ended(fast: bool) -> None:
    one = engine(fast=fast)
    connections = [ClientConnection(one, client=(CLIENT[0], port)) for port in (1, 2)]
    for connection in connections:
        connection.connect()
        connection.from_client("PA", b"twelve bytes")
        connection.from_backend("PA", b"five.")
        connection.from_client("A")
    [before] = one.snapshot(connection.now)["services"]
    assert before == {
        "service": "openflow",
        "flows": 2,
        "connections": 2,
        "client_packets": 8,
        "client_bytes": 24,
        "backend_packets": 4,
        "backend_bytes": 10,
    }
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.now += TIMEOUTS[State.TIME_WAIT]
    one.handle_timer(connection.now)
    assert len(one.flow_ids()) == 1
    [after] = one.snapshot(connection.now)["services"]
    assert after == {**before, "flows": 1, "client_packets": 10, "backend_packets": 5}
