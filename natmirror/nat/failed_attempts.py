"""The backends that lately refused a client's SYN, or left it unanswered: its next SYN goes to another one.

A SYN that a backend leaves unanswered may be forged, so that the backend ignores it. Therefore it counts only until the
backend accepts a connection of any client.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from natmirror.rules import Backend

AVOID_TIMEOUT = 30.0
"""Seconds for which a client's SYNs avoid a backend that refused one, or left one unanswered."""

MAX_CLIENTS = 8192
"""Limit on clients, because of spoofed SYNs. Beyond it the client whose last failure is the oldest is forgotten."""

Client = tuple[int, bytes]
"""A service's number and the client's address."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A backend's last failure to answer a client."""

    backend: Backend
    at: float
    accepted: int | None
    """How many connections the backend had accepted when its answer was overdue; None if it refused."""


class FailedAttempts:
    """For each client, the backends that refused its SYN or left it unanswered, each with its last failure.

    It calls ``suspect`` with 1 for a client with a first such backend, and with -1 once the client has none.
    """

    def __init__(self, suspect: Callable[[int, bytes, int], None]) -> None:
        # The client with the oldest last failure comes first.
        self._clients: OrderedDict[Client, dict[Backend, Failure]] = OrderedDict()
        self._suspect = suspect

    def add(self, client: Client, backend: Backend, at: float, accepted: int | None) -> None:
        """Note that the backend refused a SYN of the client, or left it unanswered. ``accepted``: how many connections
        it has accepted, if it did not answer."""
        self.forget_old(at)
        if client not in self._clients:
            self._clients[client] = {}
            self._suspect(*client, 1)
        self._clients[client][backend] = Failure(backend, at, accepted)
        self._clients.move_to_end(client)
        if len(self._clients) > MAX_CLIENTS:
            self.forget(next(iter(self._clients)))

    def remove(self, client: Client, backend: Backend) -> None:
        """Note that the backend accepted a SYN of the client."""
        failures = self._clients.get(client)
        if failures is not None and failures.pop(backend, None) is not None and not failures:
            self.forget(client)

    def forget(self, client: Client) -> None:
        """Forget all failures of a client: it has tried every backend."""
        if self._clients.pop(client, None) is not None:
            self._suspect(*client, -1)

    def lasting(self, client: Client, now: float, accepted: Callable[[Backend], int]) -> list[Failure]:
        """Return the failures because of which the client's next SYN should not go to their backends. ``accepted``
        returns how many connections a backend has accepted by now."""
        return [
            failure
            for failure in self._clients.get(client, {}).values()
            if now - failure.at < AVOID_TIMEOUT and failure.accepted in (None, accepted(failure.backend))
        ]

    def forget_old(self, now: float) -> None:
        """Forget the clients whose failures are all too old to last."""
        while self._clients:
            client, failures = next(iter(self._clients.items()))
            if now - max(failure.at for failure in failures.values()) < AVOID_TIMEOUT:
                return
            self.forget(client)
