"""Connections with pinned bindings: Maglev would derive another backend."""

from functools import cache

from natmirror.engine.engine import Engine
from natmirror.net.endpoint import Endpoint
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, at

UNMIRRORED = RULES[: RULES.index("    mirrors:")]
CLIENTS = [at(f"10.10.0.{number}", 1024 + number) for number in range(1, 41)]


def other(backend: Endpoint) -> Endpoint:
    return C2 if backend == C1 else C1


@cache
def derived(client: Endpoint = CLIENT) -> Endpoint:
    connection = ClientConnection(engine(UNMIRRORED), client=client)
    connection.syn()
    assert connection.backend
    return connection.backend


def close(connection: ClientConnection) -> None:
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")


def pinned_connection(one: Engine) -> ClientConnection:
    """Return an established connection with another backend than the derived one."""
    connection = ClientConnection(one)
    one.set_share("openflow", "c1" if derived(connection.client) == C1 else "c2", 0.0)
    connection.connect()
    assert connection.backend == other(derived(connection.client))
    return connection
