"""Which backends have lately refused a client or not answered it, so that its next SYN goes to another."""

from collections import OrderedDict
from collections.abc import Callable

from natmirror.rules import Backend

AVOID_TIMEOUT = 30.0
"""Seconds that a backend is avoided for a client that it refused or did not answer."""

MAX_CLIENTS = 8192
"""Spoofed SYNs may not make this grow; the client whose failure is the oldest goes first."""

Client = tuple[int, bytes]
"""A service's number and the client's address."""


class FailedAttempts:
    """For each client, the backends that have refused its SYN or left it unanswered, and since when.

    ``suspect`` is called with 1 for a client that has some, with -1 when it has none any more.
    """

    def __init__(self, suspect: Callable[[int, bytes, int], None]) -> None:
        self._clients: OrderedDict[Client, dict[Backend, float]] = OrderedDict()  # the oldest last failure first
        self._suspect = suspect

    def failed(self, client: Client, backend: Backend, at: float) -> None:
        """The backend has refused a SYN of the client, or had not answered it in time."""
        self._forget_old(at)
        if client not in self._clients:
            self._clients[client] = {}
            self._suspect(*client, 1)
        self._clients[client][backend] = at
        self._clients.move_to_end(client)
        if len(self._clients) > MAX_CLIENTS:
            self.forget(next(iter(self._clients)))

    def answered(self, client: Client, backend: Backend) -> None:
        """The backend has answered a SYN of the client with a SYN-ACK."""
        failures = self._clients.get(client)
        if failures is not None and failures.pop(backend, None) is not None and not failures:
            self.forget(client)

    def forget(self, client: Client) -> None:
        """All backends were tried: begin again."""
        if self._clients.pop(client, None) is not None:
            self._suspect(*client, -1)

    def to_avoid(self, client: Client, now: float) -> list[Backend]:
        """The backends that the client's next SYN should not go to."""
        self._forget_old(now)
        return [backend for backend, at in self._clients.get(client, {}).items() if now - at < AVOID_TIMEOUT]

    def _forget_old(self, now: float) -> None:
        while self._clients:
            client, failures = next(iter(self._clients.items()))
            if now - max(failures.values()) < AVOID_TIMEOUT:
                return
            self.forget(client)
