"""What becomes of a client's new connection: the backend that it gets, and what keeps others from it.

The engine opens connections by this, and foretells them by the same functions.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from natmirror.fastpath import ClientTable, ClientUse
from natmirror.nat.failed_attempts import Failure
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.reasons import ClientLimit
from natmirror.rules import Backend, Pool, Service, WhenNone

_Pick = Callable[[Endpoint, Collection[Backend]], Backend | None]


class Opening(StrEnum):
    """What becomes of a client's new connection."""

    TO_BACKEND = "to-backend"
    """It goes to the backend, or to the sorry server."""
    WATCHED = "watched"
    """The service has no pool, so its packets pass unchanged to the program that serves the address, and are only
    read."""
    DROPPED = "dropped"
    """No backend is open, so the SYN is dropped, and the client sends it again (``when-none: drop``)."""
    REFUSED = "refused"
    """No backend is open, so the SYN is answered with a RST (``when-none: refuse``)."""
    CLIENT_FULL = "client-full"
    """The client has as many connections as ``per-client`` allows, so the SYN is answered with a RST."""
    CLIENT_TOO_FAST = "client-too-fast"
    """The client opens connections faster than ``per-client`` allows, so the SYN is dropped, and the client sends it
    again."""
    PAST_SERVICE = "past-service"
    """The client's port has an open connection with the same backend through another service, so the SYN is
    dropped."""
    NO_CLIENT = "no-client"
    """The address is in none of the networks in ``switches``, or the rules no longer name the service, so the SYN
    passes untouched."""
    NO_ROOM = "no-room"
    """The flow table is full of open connections, so this one goes to its derived backend, but is not copied."""


_LIMITED = {
    ClientLimit.MAX_CONNECTIONS: Opening.CLIENT_FULL,
    ClientLimit.NEW_CONNECTIONS: Opening.CLIENT_TOO_FAST,
}


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

    def __init__(self, services: ServiceTable, nat: Nat, clients: ClientTable) -> None:
        self._services = services
        self._nat = nat
        self._clients = clients

    def choose(
        self, service: Service, client: Endpoint, now: float, *, again: bool = False
    ) -> tuple[Backend | None, Opening]:
        """Return the backend for a client's new connection, whose turn is over by that, and what becomes of the
        connection if there is room. ``again``: the client repeats its SYN, which has counted before."""
        if service.pool is None:
            return None, self._opening(service, client, None)
        limit = None if again else self._limit(service, client, now)
        if limit is not None:
            number = self._services.number(service)
            self._clients.refuse(number, client[0], limit, now)
            if limit is ClientLimit.MAX_CONNECTIONS:
                self._clients.spend(number, client[0], now)
            return None, _LIMITED[limit]
        self._nat.attempts.forget_old(now)
        choice = self._choice(service, service.pool, client, now, self._services.scheduler(service).pick)
        self._services.count_full(service, choice.full)
        if choice.has_tried_all:
            self._nat.attempts.forget(self._key(service, client))
        opening = self._opening(service, client, choice.backend)
        if service.per_client and opening is Opening.TO_BACKEND and not again:
            self._clients.spend(self._services.number(service), client[0], now)
        return choice.backend, opening

    def use_of(self, service: Service, client: Endpoint, now: float) -> ClientUse | None:
        """Return what a client has of a service that has limits per client; None for another service."""
        return self._clients.use(self._services.number(service), client[0], now) if service.per_client else None

    def _limit(self, service: Service, client: Endpoint, now: float) -> ClientLimit | None:
        """Return the limit that a client's new connection would exceed."""
        if service.per_client is None or client[0] not in self._services.clients:
            return None
        return self._clients.limit(self._services.number(service), client[0], now)

    def foresee(self, service: Service, client: Endpoint, now: float) -> tuple[Choice, Opening]:
        """Return what would become of a client's new connection now. Change nothing."""
        choice = Choice(None)
        if (limit := self._limit(service, client, now)) is not None:
            return choice, _LIMITED[limit]
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
