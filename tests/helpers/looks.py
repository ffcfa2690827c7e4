"""Clients of one engine, and looks at their flows."""

from natmirror.engine.engine import Engine
from natmirror.fastpath import ServiceLook
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.support import at

FIRST = "10.10.0.11"


class Scene:
    """Clients of one engine, and looks at it, one each second."""

    def __init__(self, rules: str, *, fast: bool) -> None:
        self.engine = engine(rules, fast=fast)
        self.now = 1000.0
        self._looks = 0
        self._port = 40_000

    def client(self, address: str = FIRST, *, iss: int = ISS) -> ClientConnection:
        self._port += 1
        one = ClientConnection(self.engine, client=at(address, self._port), iss=iss)
        one.now = self.now
        return one

    def connected(self, address: str = FIRST) -> ClientConnection:
        one = self.client(address)
        one.connect()
        return one

    def look(self, *clients: ClientConnection) -> ServiceLook:
        """Let a second pass, and look; the clients' clocks go on with it."""
        self.now += 1.0
        for one in clients:
            one.now = self.now
        self._looks += 1
        return look(self.engine, self._looks, self.now)


def look(engine: Engine, number: int, now: float, most: int = 1) -> ServiceLook:
    """Look at the service openflow, slice by slice."""
    one, first = engine.begin_look(number), 0
    while (following := one.at(first, most, now)) is not None:
        first = following
    return engine.end_look(one)["openflow"]
