"""Connections whose backend Maglev would not give."""

from functools import cache

from natmirror.engine.engine import Engine
from natmirror.net.endpoint import Endpoint
from tests.helpers.session import Session, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, at

UNMIRRORED = RULES[: RULES.index("    mirrors:")]
CLIENTS = [at(f"10.10.0.{number}", 1024 + number) for number in range(1, 41)]


def other(backend: Endpoint) -> Endpoint:
    return C2 if backend == C1 else C1


@cache
def derived(client: Endpoint = CLIENT) -> Endpoint:
    session = Session(engine(UNMIRRORED), client=client)
    session.syn()
    assert session.backend
    return session.backend


def close(session: Session) -> None:
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")


def strange_session(one: Engine) -> Session:
    """A connection that is established with the backend that Maglev would not give."""
    session = Session(one)
    one.set_share("openflow", "c1" if derived(session.client) == C1 else "c2", 0.0)
    session.connect()
    assert session.backend == other(derived(session.client))
    return session
