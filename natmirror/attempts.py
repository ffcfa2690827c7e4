"""Which backends a client has lately tried in vain, so that its next SYN goes to another."""

from collections import OrderedDict
from collections.abc import Hashable

from natmirror.rules import Backend

ANSWER_TIMEOUT = 0.8
"""Seconds after which a SYN counts as unanswered: less than any client's first retransmission (RFC 6298 §2.1: one
second)."""
AVOID_TIMEOUT = 30.0
"""Seconds that a backend is avoided for a client that it refused or did not answer."""

_MAX_CLIENTS = 65536  # spoofed SYNs may not make this grow; the client seen longest ago goes first

_REFUSED = float("-inf")


class Attempts:
    """For each client, the backends whose answer to its SYN is still due, or was a refusal."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, dict[Backend, tuple[float, float]]] = OrderedDict()

    def tried(self, client: Hashable, backend: Backend, now: float) -> None:
        """A SYN of the client goes to ``backend``."""
        pending = self._clients.setdefault(client, {})
        self._clients.move_to_end(client)
        pending.setdefault(backend, (now, now))
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)

    def answered(self, client: Hashable, backend: Backend) -> None:
        """The backend has answered the client's SYN with a SYN-ACK."""
        pending = self._clients.get(client)
        if pending is not None and pending.pop(backend, None) is not None and not pending:
            del self._clients[client]

    def refused(self, client: Hashable, backend: Backend, now: float) -> None:
        """The backend has answered the client's SYN with a RST."""
        if (pending := self._clients.get(client)) is not None:
            pending[backend] = (_REFUSED, now)

    def forget(self, client: Hashable) -> None:
        """All backends were tried: begin again."""
        self._clients.pop(client, None)

    def to_avoid(self, client: Hashable, now: float) -> list[Backend]:
        """The backends that the client's next SYN should not go to."""
        pending = self._clients.get(client)
        if not pending:
            return []
        for backend, (_, at) in list(pending.items()):
            if now - at >= AVOID_TIMEOUT:
                del pending[backend]
        return [backend for backend, (since, _) in pending.items() if now - since >= ANSWER_TIMEOUT]
