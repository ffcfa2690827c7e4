"""What becomes of a client's new connection: the backend that it gets, and what keeps others from it.

The engine opens connections by this, and foretells them by the same functions.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from natmirror.nat.failed_attempts import Failure
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Backend, Pool, Service, WhenNone

_Pick = Callable[[Endpoint, Collection[Backend]], Backend | None]


class Opening(StrEnum):
    """What becomes of a client's new connection."""

    TO_BACKEND = "to-backend"
    """It goes to the backend, or to the sorry server."""
    WATCHED = "watched"
    """The service has no pool: its packets pass unchanged to the program that serves the address, and are only read."""
    DROPPED = "dropped"
    """No backend is open, so the SYN is dropped, and the client sends it again (``when-none: drop``)."""
    REFUSED = "refused"
    """No backend is open, so the SYN is answered with a RST (``when-none: refuse``)."""
    PAST_SERVICE = "past-service"
    """The SYN is dropped: the client's port has an open connection with the same backend through another service."""
    NO_CLIENT = "no-client"
    """The SYN passes untouched: the address is in none of the networks in ``switches``, or the rules no longer name the
    service."""
    NO_ROOM = "no-room"
    """The flow table is full of open connections: this one is translated to its derived backend, but not copied."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend for a client's new connection, and what keeps others from it."""

    backend: Backend | None
    """None: the service has no pool, or no backend is open."""
    full: Sequence[Backend] = ()
    """The backends that have reached their limit."""
    failures: Sequence[Failure] = ()
    """The failures because of which the client avoids their backends."""
    has_tried_all: bool = False
    """Whether all open backends have failed the client, so that it avoids none of them."""


class NewConnections:
    """Decides on new connections of one engine."""

    def __init__(self, services: ServiceTable, nat: Nat) -> None:
        self._services = services
        self._nat = nat

    def choose(self, service: Service, client: Endpoint, now: float) -> tuple[Backend | None, Opening]:
        """Return the backend for a client's new connection, whose turn is over by that, and what becomes of the
        connection if there is room."""
        if service.pool is None:
            return None, self._opening(service, client, None)
        self._nat.attempts.forget_old(now)
        choice = self._choice(service, service.pool, client, now, self._services.scheduler(service).pick)
        if choice.has_tried_all:
            self._nat.attempts.forget(self._key(service, client))
        return choice.backend, self._opening(service, client, choice.backend)

    def foresee(self, service: Service, client: Endpoint, now: float) -> tuple[Choice, Opening]:
        """Return what would become of a client's new connection now. Change nothing."""
        choice = Choice(None)
        if service.pool is not None:
            choice = self._choice(service, service.pool, client, now, self._services.scheduler(service).peek)
        opening = self._opening(service, client, choice.backend)
        if opening in (Opening.TO_BACKEND, Opening.WATCHED) and not self._nat.has_room(service, client, now):
            opening = Opening.NO_ROOM
        return choice, opening

    def _choice(self, service: Service, pool: Pool, client: Endpoint, now: float, pick: _Pick) -> Choice:
        """Return the choice, for which the scheduler's ``pick`` chooses among the backends."""
        candidates, full = self._services.candidates(service, pool)
        failures = self._nat.attempts.lasting(
            self._key(service, client), now, partial(self._services.accepted, service)
        )
        if not candidates:
            return Choice(pool.sorry, full, failures)
        avoid = [failure.backend for failure in failures]
        has_tried_all = all(backend in avoid for backend in candidates)
        return Choice(pick(client, full if has_tried_all else [*avoid, *full]), full, failures, has_tried_all)

    def _opening(self, service: Service, client: Endpoint, backend: Backend | None) -> Opening:
        pool = service.pool
        if client[0] not in self._services.clients:
            return Opening.NO_CLIENT
        if pool is not None and backend is None:
            return Opening.REFUSED if pool.when_none is WhenNone.REFUSE else Opening.DROPPED
        if self._nat.is_open_elsewhere(service, endpoint_of(backend or service), client):
            return Opening.PAST_SERVICE
        if self._services.is_removed(service):
            return Opening.NO_CLIENT
        return Opening.WATCHED if pool is None else Opening.TO_BACKEND

    def _key(self, service: Service, client: Endpoint) -> tuple[int, bytes]:
        return self._services.number(service), client[0]
