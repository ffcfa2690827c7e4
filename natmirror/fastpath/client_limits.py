"""How many connections of a service each client has, and how fast it opens them: see client_limits.h."""

from dataclasses import dataclass

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import IPV4
from natmirror.fastpath.rows import GearRow, ServiceRow
from natmirror.reasons import ClientLimit

_LIMITS = {lib.NM_LIMIT_CONNECTIONS: ClientLimit.MAX_CONNECTIONS, lib.NM_LIMIT_RATE: ClientLimit.NEW_CONNECTIONS}
_NUMBERS = {limit: number for number, limit in _LIMITS.items()}
_ROUNDING = 1e-9  # as in C


@dataclass(frozen=True, slots=True)
class ClientUse:
    """What a client has of a service."""

    connections: int
    """Its connections that count, half open ones too."""
    tokens: int | None
    """How many new connections it may open now; None: any number."""


@dataclass(frozen=True, slots=True)
class Limited:
    """The clients of a service that have met a limit."""

    syns: int
    """Their SYNs that were refused or dropped."""
    clients: int
    """How often a client began to be limited, or did so again after ten minutes."""
    last_client: bytes | None
    """The address of the last one; None: there was none."""
    last_at: float


class ClientTable:
    """The clients of the services that have limits per client. ``service`` is a service's number in the plan, ``now``
    as in Engine."""

    def __init__(self, gear: GearRow) -> None:
        self._gear = gear
        self._clients = lib.nm_flows_clients(gear.flows)

    def _service(self, service: int) -> ServiceRow:
        return self._gear.plan.services[service]

    def limit(self, service: int, client: bytes, now: float) -> ClientLimit | None:
        """Return the limit that a client's new connection would exceed."""
        limits = ffi.addressof(self._service(service), "limits")
        return _LIMITS.get(lib.nm_client_limit(self._clients, limits, service, IPV4, client, now))

    def spend(self, service: int, client: bytes, now: float) -> None:
        """Take a token for a client's new connection."""
        limits = ffi.addressof(self._service(service), "limits")
        lib.nm_client_spend(self._clients, limits, service, IPV4, client, now)

    def refuse(self, service: int, client: bytes, limit: ClientLimit, now: float) -> None:
        """Count a client's SYN that exceeds this limit."""
        number = _NUMBERS[limit]
        limited = ffi.addressof(self._service(service).limited[number])
        lib.nm_client_refuse(self._clients, limited, number, service, IPV4, client, now)

    def use(self, service: int, client: bytes, now: float) -> ClientUse:
        """Return what a client has of a service with limits."""
        limits = self._service(service).limits
        used = lib.nm_client_used(self._clients, ffi.addressof(limits), service, IPV4, client, now)
        tokens = max(0, int(limits.burst - used.spent + _ROUNDING)) if limits.rate else None
        return ClientUse(used.open + used.half_open, tokens)

    def limited(self, service: int, limit: ClientLimit) -> Limited:
        """Return the clients that have met this limit of a service."""
        row = self._service(service).limited[_NUMBERS[limit]]
        return Limited(row.syns, row.clients, bytes(row.client[0:4]) if row.syns else None, row.at)
